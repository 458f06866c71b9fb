//! A log file of bounded size: when it is full it becomes `<name>.1`, and a new one begins.

use crate::error::SupervisorError;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Bytes of one file; a log keeps at most two.
pub const MAX_LOG_BYTES: u64 = 16 << 20;

/// An append-only file that starts anew when it is full.
#[derive(Debug)]
pub struct RotatingFile {
    path: PathBuf,
    file: File,
    length: u64,
    limit: u64,
}

impl RotatingFile {
    /// Opens for appending, mode 0600.
    pub fn open(path: &Path, limit: u64) -> Result<RotatingFile, SupervisorError> {
        let failed = |source| SupervisorError::Log { path: path.to_owned(), source };
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        Ok(RotatingFile { path: path.to_owned(), file, length, limit })
    }

    /// Appends a whole record; it is never cut by a rotation.
    pub fn append(&mut self, record: &[u8]) -> Result<(), SupervisorError> {
        let failed = |source| SupervisorError::Log { path: self.path.clone(), source };
        if self.length > 0 && self.length + record.len() as u64 > self.limit {
            std::fs::rename(&self.path, rotated(&self.path)).map_err(failed)?;
            self.file = OpenOptions::new().append(true).create(true).mode(0o600).open(&self.path).map_err(failed)?;
            self.length = 0;
        }
        self.file.write_all(record).map_err(failed)?;
        self.length += record.len() as u64;
        Ok(())
    }
}

/// Where the older half of a log is.
pub fn rotated(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_log_moves_aside_and_no_record_is_cut() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("log");
        let mut log = RotatingFile::open(&path, 10).expect("open");
        for record in ["aaaa\n", "bbbb\n", "cccc\n"] {
            log.append(record.as_bytes()).expect("append");
        }
        assert_eq!(std::fs::read_to_string(rotated(&path)).expect("old"), "aaaa\nbbbb\n");
        assert_eq!(std::fs::read_to_string(&path).expect("new"), "cccc\n");
    }

    #[test]
    fn reopening_appends() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("log");
        for _ in 0..2 {
            RotatingFile::open(&path, 100).and_then(|mut log| log.append(b"x\n")).expect("append");
        }
        assert_eq!(std::fs::read(&path).expect("log"), b"x\nx\n");
    }
}
