//! Values that are kept outside of manifests: files below one directory of the host, which nobody else can read.

use crate::engine::Engine;
use crate::error::EngineError;
use crate::guest_files::hex;
use ignite_agent_protocol::message::FileToWrite;
use ignite_api::Vm;
use ignite_api::secret::ValueFrom;
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Longest secret.
const MAX_SECRET_LEN: u64 = 1 << 20;

impl Engine {
    /// The VM with the values that its environment takes from files, for whoever starts something in it; never stored.
    pub(crate) fn with_secret_env(&self, vm: &Vm) -> Result<Vm, EngineError> {
        let mut vm = vm.clone();
        for var in &mut vm.spec.env {
            if let Some(from) = var.value_from.take() {
                var.value = env_value(&self.settings.secrets_dir, &from)?;
            }
        }
        Ok(vm)
    }

    /// The files that a manifest gives.
    pub(crate) fn given_files(&self, vm: &Vm) -> Result<Vec<FileToWrite>, EngineError> {
        let one = |file: &ignite_api::secret::GuestFile| {
            let bytes = match &file.value_from {
                Some(from) => read(&self.settings.secrets_dir, &from.file)?,
                None => file.content.clone().into_bytes(),
            };
            // What cannot be read as a mode has been refused by validation.
            let mode = file.mode_bits().unwrap_or(0o600);
            Ok(FileToWrite { path: file.path.clone(), mode, uid: 0, gid: 0, contents_hex: hex(&bytes) })
        };
        vm.spec.files.iter().map(one).collect()
    }

    /// Which secrets a VM takes and when each was written last: another text means that one has changed. Absent: it takes
    /// none.
    pub fn secrets_version(&self, vm: &Vm) -> Result<Option<String>, EngineError> {
        let mut versions = Vec::new();
        for name in vm.spec.secrets() {
            let (_, metadata) = open(&self.settings.secrets_dir, name)?;
            // What cannot be a time is none.
            let nanos = i32::try_from(metadata.mtime_nsec()).unwrap_or_default();
            let time = jiff::Timestamp::new(metadata.mtime(), nanos).unwrap_or_default();
            versions.push(format!("{name} of {time}"));
        }
        Ok((!versions.is_empty()).then(|| versions.join(", ")))
    }
}

/// One newline at the end is the editor's, not the value's.
fn env_value(dir: &Path, from: &ValueFrom) -> Result<String, EngineError> {
    let refused = |reason: &str| refusal(dir, &from.file, reason.to_owned(), "let it hold one line of text");
    let mut value = String::from_utf8(read(dir, &from.file)?).map_err(|_| refused("is not UTF-8"))?;
    if value.ends_with('\n') {
        value.pop();
    }
    if value.contains('\0') || value.len() > ignite_api::validation::MAX_WORD_LEN {
        return Err(refused("is too long for a variable, or has a NUL"));
    }
    Ok(value)
}

fn read(dir: &Path, name: &str) -> Result<Vec<u8>, EngineError> {
    let (file, _) = open(dir, name)?;
    read_whole(file, dir, name)
}

/// It may grow while it is read: a part of it is never taken for the whole.
fn read_whole(file: impl Read, dir: &Path, name: &str) -> Result<Vec<u8>, EngineError> {
    let mut bytes = Vec::new();
    file.take(MAX_SECRET_LEN + 1).read_to_end(&mut bytes).map_err(EngineError::file("read", dir.join(name)))?;
    match bytes.len() as u64 > MAX_SECRET_LEN {
        true => Err(too_long(dir, name)),
        false => Ok(bytes),
    }
}

/// Opens it as the kernel resolves it inside the directory: neither `..` nor a link leads out.
fn open(dir: &Path, name: &str) -> Result<(File, std::fs::Metadata), EngineError> {
    let refused = |reason: String, hint: &str| refusal(dir, name, reason, hint);
    let cannot = |error: Errno| match error {
        Errno::NOENT | Errno::NOTDIR => {
            refused("does not exist".to_owned(), "write it with mode 0600, or set IGNITE_SECRETS_DIR")
        }
        Errno::XDEV | Errno::LOOP => {
            refused("leads out of the directory of secrets".to_owned(), "keep the file itself there")
        }
        error => refused(format!("cannot be opened: {error}"), "let the user of ignite read it"),
    };
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let root: OwnedFd = rustix::fs::open(dir, flags | OFlags::DIRECTORY, Mode::empty()).map_err(cannot)?;
    let inside = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    // Not to hang on a pipe.
    let file = openat2(&root, name, flags | OFlags::NONBLOCK, Mode::empty(), inside).map_err(cannot)?;
    let file = File::from(file);
    let metadata = file.metadata().map_err(EngineError::file("look at", dir.join(name)))?;
    if !metadata.is_file() {
        return Err(refused("is no regular file".to_owned(), "name a file"));
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        let path = dir.join(name);
        let hint = format!("chmod 600 {}", path.display());
        return Err(refused(format!("has mode {mode:04o}: others can read or write it"), &hint));
    }
    let owner = metadata.uid();
    if owner != 0 && owner != rustix::process::geteuid().as_raw() {
        return Err(refused(format!("belongs to the user {owner}"), "let it belong to root or to the user of ignite"));
    }
    if metadata.len() > MAX_SECRET_LEN {
        return Err(too_long(dir, name));
    }
    Ok((file, metadata))
}

fn too_long(dir: &Path, name: &str) -> EngineError {
    refusal(dir, name, "is longer than 1 MB".to_owned(), "use a volume")
}

fn refusal(dir: &Path, name: &str, reason: String, hint: &str) -> EngineError {
    EngineError::Secret { path: dir.join(name), reason, hint: hint.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn write(path: &Path, mode: u32, bytes: &[u8]) {
        std::fs::write(path, bytes).expect("file");
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("mode");
    }

    #[test]
    fn only_what_is_private_and_inside_is_read() {
        let around = tempfile::tempdir().expect("a directory");
        let dir = around.path().join("secrets");
        std::fs::create_dir_all(dir.join("db")).expect("directory");
        write(&dir.join("db/password"), 0o600, b"s3cret\n\n");
        write(&dir.join("bytes"), 0o400, &[0xff, 0]);
        write(&dir.join("open"), 0o640, b"s3cret");
        write(&around.path().join("outside"), 0o600, b"s3cret");
        symlink("db/password", dir.join("inside")).expect("link");
        symlink("../outside", dir.join("out")).expect("link");
        symlink(around.path().join("outside"), dir.join("absolute")).expect("link");
        std::fs::File::create(dir.join("big")).and_then(|file| file.set_len(MAX_SECRET_LEN + 1)).expect("sparse");
        std::fs::set_permissions(dir.join("big"), std::fs::Permissions::from_mode(0o600)).expect("mode");
        rustix::fs::mknodat(rustix::fs::CWD, dir.join("pipe"), rustix::fs::FileType::Fifo, Mode::RUSR, 0)
            .expect("pipe");
        for (name, expected) in [
            ("db/password", Ok("s3cret\n")),
            ("inside", Ok("s3cret\n")),
            ("bytes", Err("is not UTF-8")),
            ("open", Err("has mode 0640: others can read or write it")),
            ("missing", Err("does not exist")),
            ("db", Err("is no regular file")),
            ("pipe", Err("is no regular file")),
            ("out", Err("leads out of the directory of secrets")),
            ("absolute", Err("leads out of the directory of secrets")),
            ("../outside", Err("leads out of the directory of secrets")),
            ("big", Err("is longer than 1 MB")),
        ] {
            let found = env_value(&dir, &ValueFrom { file: name.to_owned() });
            match (found, expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{name}"),
                (Err(error), Err(reason)) => {
                    let text = error.to_string();
                    assert!(text.contains(reason) && text.contains(name) && !text.contains("s3cret"), "{text}");
                    assert!(error.hint().is_some(), "{text}");
                }
                (found, _) => panic!("{name}: {found:?}"),
            }
        }
        assert_eq!(read(&dir, "bytes").expect("bytes"), [0xff, 0]);
    }

    #[test]
    fn what_grows_while_it_is_read_is_refused_not_cut() {
        let whole = |len| read_whole(std::io::repeat(b'x').take(len), Path::new("/dir"), "key");
        assert_eq!(whole(MAX_SECRET_LEN).expect("the longest").len() as u64, MAX_SECRET_LEN);
        assert!(whole(MAX_SECRET_LEN + 1).unwrap_err().to_string().contains("is longer than 1 MB"));
    }
}
