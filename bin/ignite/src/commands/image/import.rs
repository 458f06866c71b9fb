//! `ignite image import`.

use crate::commands::print_line;
use crate::commands::pull_source::Runtime;
use crate::commands::vm_flags::PullFlag;
use crate::context::Context;
use crate::signals::interruptible;
use ignite_api::ImageSource;
use ignite_api::reference::InvalidReference;
use ignite_engine::{ImportImage, Platform};

/// Flags of `image import`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name it gets here [default: by its source]
    #[arg(short, long)]
    pub name: Option<String>,
    /// When to fetch it
    #[arg(long, value_enum, value_name = "WHEN", default_value = "always")]
    pub pull: PullFlag,
    /// Where a bare reference is pulled from [default: registry]
    #[arg(long, value_enum, value_name = "SOURCE")]
    pub runtime: Option<Runtime>,
    /// What it is to be made for: OS/ARCHITECTURE[/VARIANT] [default: this host's]
    #[arg(long, value_name = "PLATFORM")]
    pub platform: Option<Platform>,
    /// Where it comes from: a reference in a registry, docker-daemon:REF, containerd:REF, oci:PATH[:TAG],
    /// oci-archive:PATH[:TAG], docker-archive:PATH[:REF], or - for an archive on standard input
    #[arg(value_parser = parse_source)]
    pub source: Named,
}

/// A source, and how it was written.
#[derive(Debug, Clone)]
pub struct Named {
    text: String,
    source: ImageSource,
}

fn parse_source(text: &str) -> Result<Named, String> {
    let source = text.parse().map_err(|error: InvalidReference| error.to_string())?;
    Ok(Named { text: text.to_owned(), source })
}

/// Prints the image's id.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    let runtime = args.runtime.unwrap_or(context.settings.runtime);
    let Named { text, source } = args.source;
    let source = runtime.apply_to_argument(&text, source).resolve_path(&std::env::current_dir()?);
    let stdin: Option<Box<dyn std::io::Read + Send>> =
        if source.is_stdin() { Some(Box::new(std::io::stdin())) } else { None };
    let request = ImportImage { source, pull: args.pull.into(), name: args.name, platform: args.platform, stdin };
    let progress = context.progress();
    let image = interruptible(context.engine()?.import_image(request, progress.listener())).await?;
    progress.finish();
    let size = image.status.oci_source.map(|source| format!(" ({})", source.size.human())).unwrap_or_default();
    context.note(&format!("Imported image {}{size}", image.metadata.name));
    if let Some(uid) = &image.metadata.uid {
        print_line(uid)?;
    }
    Ok(0)
}
