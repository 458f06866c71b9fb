//! `ignite image save`.

use crate::context::Context;
use crate::report::UsageError;
use crate::signals::interruptible;
use anyhow::Context as _;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;

/// Flags of `image save`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write to a file [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Names or ids
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<String>,
}

/// Writes an archive that is an OCI layout and that `docker load` reads, too.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    let engine = context.engine()?;
    let uids = args.images.iter().map(|query| engine.find_image(query)).collect::<Result<Vec<_>, _>>()?;
    let Some(path) = args.output else {
        if std::io::stdout().is_terminal() {
            return Err(UsageError("an archive is nothing for a terminal; use --output FILE or a pipe".into()).into());
        }
        interruptible(engine.save_images(&uids, Box::new(std::io::BufWriter::new(std::io::stdout())))).await?;
        return Ok(0);
    };
    // Under its name only when it is whole.
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).map_or(PathBuf::from("."), PathBuf::from);
    let failed = || format!("could not write {}", path.display());
    let mut file = tempfile::Builder::new().prefix(".ignite-save-").tempfile_in(&dir).with_context(failed)?;
    let out: Box<dyn Write + Send> = Box::new(std::io::BufWriter::new(file.as_file().try_clone()?));
    interruptible(engine.save_images(&uids, out)).await?;
    file.flush().with_context(failed)?;
    file.as_file().sync_all().with_context(failed)?;
    file.persist(&path).map_err(|error| error.error).with_context(failed)?;
    Ok(0)
}
