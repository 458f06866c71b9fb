//! `ignite image load`.

use crate::commands::print_line;
use crate::context::Context;
use crate::report::UsageError;
use crate::signals::interruptible;
use ignite_engine::Archive;

/// Flags of `image load`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Read from a file, from a directory with what an archive holds, or from an https URL, which may be a registry's blob
    /// [default: standard input]
    #[arg(short, long, value_name = "FILE|DIR|URL")]
    pub input: Option<String>,
    /// What the file at the URL has to be: sha256:… or sha512:…
    #[arg(long, value_name = "DIGEST", requires = "input")]
    pub digest: Option<String>,
    /// Only the images that have these names in the archive
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
}

/// Imports the images of an archive and prints their ids.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    let from = match args.input {
        Some(url) if url.starts_with("https://") || url.starts_with("http://") => {
            Archive::Url { url, digest: args.digest }
        }
        Some(_) if args.digest.is_some() => return Err(UsageError("--digest is for a URL".into()).into()),
        Some(path) if path != "-" => Archive::Path(std::env::current_dir()?.join(path)),
        Some(_) | None => Archive::Stream(Box::new(std::io::stdin())),
    };
    let progress = context.progress();
    let images = interruptible(context.engine()?.load_images(from, args.names, progress.listener())).await?;
    progress.finish();
    for image in images {
        context.note(&format!("Loaded image {}", image.metadata.name));
        if let Some(uid) = &image.metadata.uid {
            print_line(uid)?;
        }
    }
    Ok(0)
}
