//! `ignite image save`.

use crate::context::Context;
use crate::report::UsageError;
use crate::signals::interruptible;
use anyhow::Context as _;
use ignite_engine::ArchiveCompression;
use std::ffi::OsStr;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

/// Flags of `image save`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write to a file [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Compress it [default: as the file's name says: .gz, .tgz, .zst, .tzst; else none]
    #[arg(long, value_enum, value_name = "HOW")]
    pub compress: Option<Compress>,
    /// Names or ids
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<String>,
}

/// `--compress`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Compress {
    /// As it is; its layers mostly are compressed
    None,
    /// gzip
    Gzip,
    /// Zstandard
    Zstd,
}

impl Compress {
    fn of(path: Option<&Path>) -> Compress {
        match path.and_then(Path::extension).and_then(OsStr::to_str) {
            Some("gz" | "tgz") => Compress::Gzip,
            Some("zst" | "tzst") => Compress::Zstd,
            _ => Compress::None,
        }
    }
}

impl From<Compress> for ArchiveCompression {
    fn from(how: Compress) -> ArchiveCompression {
        match how {
            Compress::None => ArchiveCompression::None,
            Compress::Gzip => ArchiveCompression::Gzip,
            Compress::Zstd => ArchiveCompression::Zstd,
        }
    }
}

/// Writes an archive that is an OCI layout and that `docker load` reads, too.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    let engine = context.engine()?;
    let uids = args.images.iter().map(|query| engine.find_image(query)).collect::<Result<Vec<_>, _>>()?;
    let compression = args.compress.unwrap_or_else(|| Compress::of(args.output.as_deref())).into();
    let Some(path) = args.output else {
        if std::io::stdout().is_terminal() {
            return Err(UsageError("an archive is nothing for a terminal; use --output FILE or a pipe".into()).into());
        }
        interruptible(engine.save_images(&uids, Box::new(std::io::BufWriter::new(std::io::stdout())), compression))
            .await?;
        return Ok(0);
    };
    // Under its name only when it is whole.
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).map_or(PathBuf::from("."), PathBuf::from);
    let failed = || format!("could not write {}", path.display());
    let mut file = tempfile::Builder::new().prefix(".ignite-save-").tempfile_in(&dir).with_context(failed)?;
    let out: Box<dyn Write + Send> = Box::new(std::io::BufWriter::new(file.as_file().try_clone()?));
    interruptible(engine.save_images(&uids, out, compression)).await?;
    file.flush().with_context(failed)?;
    file.as_file().sync_all().with_context(failed)?;
    file.persist(&path).map_err(|error| error.error).with_context(failed)?;
    Ok(0)
}
