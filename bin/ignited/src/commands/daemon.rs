//! `ignited daemon`: keeps the VMs of a directory of manifests.

use crate::keeper::{Directory, Follow, Set};
use crate::service;
use anyhow::Context as _;
use ignite::context::Context;
use ignite::report::UsageError;
use std::path::{Path, PathBuf};

const MANIFESTS: &str = "/etc/ignite/manifests";
/// Where Weave Ignite's `ignited` looked.
const OLD_MANIFESTS: &str = "/etc/firecracker/manifests";

/// Flags of `daemon`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Keeps the VMs of a directory of manifests: makes, changes, starts and stops them as the files say, and removes \
                  them when their files are gone. Files are never written. VMs that others have made are never touched; when \
                  the daemon ends, VMs go on."
)]
pub struct Args {
    /// Directory of manifests [default: /etc/ignite/manifests, else /etc/firecracker/manifests, if it exists]
    #[arg(long, value_name = "DIR")]
    pub manifests: Option<PathBuf>,
    /// Name of the set: only what it has made is changed and removed
    #[arg(long, default_value = "manifests")]
    pub name: String,
    /// How it is done.
    #[command(flatten)]
    pub service: service::Args,
}

/// Runs until a signal.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    ignite_api::names::check_vm_name(&args.name).map_err(|error| UsageError(format!("--name: {error}")))?;
    let path = match args.manifests {
        Some(path) => std::path::absolute(&path).with_context(|| format!("invalid path {}", path.display()))?,
        None => default_directory()?,
    };
    let sets = vec![Set { name: args.name, follow: Follow::Directory(Directory { path }) }];
    let link = context.settings.data_dir.join("daemon.sock");
    service::run(&args.service, sets, None, Some(link), context).await
}

fn default_directory() -> anyhow::Result<PathBuf> {
    if !Path::new(MANIFESTS).is_dir() {
        if Path::new(OLD_MANIFESTS).is_dir() {
            return Ok(PathBuf::from(OLD_MANIFESTS));
        }
        std::fs::create_dir_all(MANIFESTS).with_context(|| format!("could not make {MANIFESTS}"))?;
    }
    Ok(PathBuf::from(MANIFESTS))
}
