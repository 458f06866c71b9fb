//! Archives of images, wherever they are: a stream, a file, a directory, a web server.

use crate::engine::Engine;
use crate::error::EngineError;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Where an archive of images is.
pub enum Archive {
    /// It comes from somewhere.
    Stream(Box<dyn Read + Send>),
    /// A file; or a directory with what an archive of its kind holds.
    Path(PathBuf),
    /// On a web server, or a registry's blob.
    Url {
        /// Its address.
        url: String,
        /// What it has to be, where that is known.
        digest: Option<String>,
    },
}

/// Most bytes of an archive that is downloaded.
const MAX_DOWNLOAD_BYTES: u64 = 1 << 40;

impl Engine {
    /// The file vanishes with whoever reads it, however that ends.
    pub(crate) async fn download(&self, url: &str, digest: Option<&str>) -> Result<Box<dyn Read + Send>, EngineError> {
        let dir = self.paths.data();
        let mut file = tempfile::tempfile_in(dir).map_err(EngineError::file("write to", dir))?;
        ignite_oci::fetch_file(url, digest, MAX_DOWNLOAD_BYTES, &mut file, &self.settings.pull)
            .await
            .map_err(|source| EngineError::Image { image: url.to_owned(), source })?;
        Ok(Box::new(file))
    }
}

/// A directory is read as the archive that it would make.
pub(crate) fn open_archive(path: &Path) -> Result<Box<dyn Read + Send>, EngineError> {
    let file = File::open(path).map_err(EngineError::file("open", path))?;
    if !file.metadata().map_err(EngineError::file("open", path))?.is_dir() {
        return Ok(Box::new(file));
    }
    let (reader, writer) = std::io::pipe().map_err(EngineError::file("read", path))?;
    let dir = path.to_owned();
    let packing = std::thread::spawn(move || {
        let mut tar = tar::Builder::new(writer);
        tar.follow_symlinks(false);
        tar.append_dir_all(".", &dir)?;
        tar.finish()
    });
    Ok(Box::new(Packed { reader, packing: Some(packing) }))
}

/// Says at the end whether all of the directory has come.
struct Packed {
    reader: std::io::PipeReader,
    packing: Option<std::thread::JoinHandle<std::io::Result<()>>>,
}

impl Read for Packed {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.reader.read(buffer)?;
        if count == 0
            && !buffer.is_empty()
            && let Some(packing) = self.packing.take()
        {
            packing.join().map_err(|_| std::io::Error::other("its reader broke"))??;
        }
        Ok(count)
    }
}
