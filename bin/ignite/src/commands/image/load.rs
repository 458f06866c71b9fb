//! `ignite image load`.

use crate::commands::print_line;
use crate::context::Context;
use crate::report;
use crate::signals::interruptible;
use anyhow::Context as _;
use std::path::PathBuf;

/// Flags of `image load`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Read from a file [default: standard input]
    #[arg(short, long, value_name = "FILE")]
    pub input: Option<PathBuf>,
}

/// Imports every image of an archive and prints their ids.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    let path = args.input.map(|path| std::env::current_dir().map(|dir| dir.join(path))).transpose()?;
    let archive: Box<dyn std::io::Read + Send> = match &path {
        Some(path) => {
            Box::new(std::fs::File::open(path).with_context(|| format!("could not open archive {}", path.display()))?)
        }
        None => Box::new(std::io::stdin()),
    };
    let progress = context.progress();
    let images = interruptible(context.engine()?.load_images(archive, path, progress.listener())).await?;
    progress.finish();
    for image in images {
        if !context.is_quiet() {
            report::note(&format!("Loaded image {}", image.metadata.name));
        }
        if let Some(uid) = &image.metadata.uid {
            print_line(uid)?;
        }
    }
    Ok(0)
}
