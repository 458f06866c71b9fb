//! `ignited operator render`: what the operator would make, without a cluster.

use super::pod_flags::PodFlags;
use anyhow::Context as _;
use ignite_operator::objects::VirtualMachine;
use ignite_operator::{crd, pod, wish};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Largest manifest that is read.
const MAX_MANIFEST_BYTES: u64 = 1 << 20;

/// Flags of `render`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Manifest of one VM, as YAML or JSON; -: standard input
    #[arg(short, long, value_name = "FILE")]
    pub file: PathBuf,
    #[command(flatten)]
    pub pods: PodFlags,
}

/// Prints the Pod.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let object = read(&args.file)?;
    let wish = wish::wish_of(&object.metadata, &object.spec)?;
    let pod = serde_json::to_value(pod::pod_for(&object, &wish, &args.pods.options())?)?;
    ignite::commands::print(&crd::to_yaml(&[pod]))?;
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<VirtualMachine> {
    let mut text = String::new();
    let shown = || format!("could not read {}", path.display());
    let file: Box<dyn Read> = match path.to_str() {
        Some("-") => Box::new(std::io::stdin()),
        _ => Box::new(std::fs::File::open(path).with_context(shown)?),
    };
    file.take(MAX_MANIFEST_BYTES).read_to_string(&mut text).with_context(shown)?;
    ignite_operator::objects::parse_vm(&text).with_context(shown)
}
