//! `spec.copyFiles`: files of the host that a guest has before anything runs in it.

use crate::error::EngineError;
use ignite_agent_protocol::message::FileToWrite;
use ignite_api::vm::FileMapping;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Bytes of all files together: they travel in one message, in hexadecimal.
const MAX_TOTAL_BYTES: u64 = 4 << 20;
/// Files of all mappings together.
const MAX_FILES: usize = 10_000;
/// Deepest directory below a mapping.
const MAX_DEPTH: usize = 64;

/// Reads what the mappings name: files as they are, directories with all that is in them; symbolic links are followed.
/// Modes and owners are kept. Blocks; small files only.
pub(crate) fn read_copy_files(mappings: &[FileMapping]) -> Result<Vec<FileToWrite>, EngineError> {
    let mut reader = Reader::default();
    for mapping in mappings {
        reader.read(Path::new(&mapping.host_path), &mapping.vm_path, 0)?;
    }
    Ok(reader.files)
}

#[derive(Default)]
struct Reader {
    files: Vec<FileToWrite>,
    total: u64,
}

impl Reader {
    fn read(&mut self, host: &Path, guest: &str, depth: usize) -> Result<(), EngineError> {
        let metadata = std::fs::metadata(host).map_err(EngineError::file("read", host))?;
        if metadata.is_dir() {
            if depth >= MAX_DEPTH {
                return Err(refused(host, "its directories are too deep, or a link leads back into them"));
            }
            let mut entries: Vec<PathBuf> = std::fs::read_dir(host)
                .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect())
                .map_err(EngineError::file("list", host))?;
            entries.sort();
            for entry in entries {
                let name = entry.file_name().and_then(|name| name.to_str());
                let name = name.ok_or_else(|| refused(&entry, "its name is not UTF-8"))?.to_owned();
                self.read(&entry, &format!("{}/{name}", guest.trim_end_matches('/')), depth + 1)?;
            }
            return Ok(());
        }
        if !metadata.is_file() {
            return Err(refused(host, "it is neither a file nor a directory"));
        }
        self.total = self.total.saturating_add(metadata.len());
        if self.total > MAX_TOTAL_BYTES || self.files.len() >= MAX_FILES {
            return Err(refused(
                host,
                "with it the files exceed 4 MB or 10,000 in all; use `ignite cp` once the VM runs",
            ));
        }
        let bytes = std::fs::read(host).map_err(EngineError::file("read", host))?;
        self.files.push(FileToWrite {
            path: guest.to_owned(),
            mode: metadata.mode() & 0o7777,
            uid: metadata.uid(),
            gid: metadata.gid(),
            contents_hex: hex(&bytes),
        });
        Ok(())
    }
}

fn refused(path: &Path, reason: &str) -> EngineError {
    EngineError::Invalid(format!("spec.copyFiles: {}: {reason}", path.display()))
}

/// Bytes as a message carries them.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(host: &Path, guest: &str) -> FileMapping {
        FileMapping { host_path: host.to_string_lossy().into_owned(), vm_path: guest.to_owned() }
    }

    #[test]
    fn files_and_directories_are_read_with_their_modes() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(dir.path().join("sub")).expect("directory");
        std::fs::write(dir.path().join("a"), [0x00, 0xff]).expect("file");
        std::fs::write(dir.path().join("sub/b"), "b").expect("file");
        std::fs::set_permissions(dir.path().join("a"), std::fs::Permissions::from_mode(0o4750)).expect("mode");
        std::os::unix::fs::symlink("a", dir.path().join("link")).expect("link");
        let files = read_copy_files(&[mapping(dir.path(), "/etc/app/")]).expect("read");
        let seen: Vec<_> = files.iter().map(|f| (f.path.as_str(), f.mode, f.contents_hex.as_str())).collect();
        assert_eq!(seen[0], ("/etc/app/a", 0o4750, "00ff"));
        assert_eq!(seen[1], ("/etc/app/link", 0o4750, "00ff"));
        assert_eq!((seen[2].0, seen[2].2), ("/etc/app/sub/b", "62"));
    }

    #[test]
    fn what_cannot_be_sent_is_refused_by_name() {
        let dir = tempfile::tempdir().expect("a directory");
        let big = dir.path().join("big");
        std::fs::File::create(&big).and_then(|file| file.set_len(MAX_TOTAL_BYTES + 1)).expect("sparse");
        let looped = dir.path().join("loop");
        std::fs::create_dir(&looped).expect("directory");
        std::os::unix::fs::symlink(&looped, looped.join("again")).expect("link");
        for (path, said) in [(&big, "ignite cp"), (&looped, "loop"), (&dir.path().join("none"), "none")] {
            let error = read_copy_files(&[mapping(path, "/x")]).expect_err("refused").to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
