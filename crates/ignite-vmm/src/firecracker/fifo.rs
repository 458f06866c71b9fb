//! A pipe with a name, that Firecracker opens to write: what a guest can make it say must not fill the disk.

use rustix::fs::{CWD, FileType, Mode, mknodat};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, chown};
use std::path::{Path, PathBuf};

/// Such a pipe and our ends of it.
#[derive(Debug)]
pub(super) struct Fifo {
    path: PathBuf,
    reading: Option<File>,
    /// So that the pipe is not at its end before Firecracker has opened it.
    writing: Option<File>,
}

impl Fifo {
    /// Makes it, for `writer` where that is not the caller.
    pub(super) fn make(path: PathBuf, writer: Option<u32>) -> io::Result<Fifo> {
        mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0)?;
        chown(&path, writer, None)?;
        let end = |options: &mut OpenOptions| options.custom_flags(libc::O_NONBLOCK).open(&path);
        let reading = Some(end(OpenOptions::new().read(true))?);
        let writing = Some(end(OpenOptions::new().write(true))?);
        Ok(Fifo { path, reading, writing })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The end to read; it is taken once.
    pub(super) fn reading(&mut self) -> io::Result<File> {
        self.reading.take().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// From now on its end is Firecracker's.
    pub(super) fn let_go(&mut self) {
        self.writing = None;
    }
}
