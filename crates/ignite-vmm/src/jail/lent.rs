//! The record of files that belong to a machine's user while it runs, for whoever comes after a lender that was killed.

use super::host::is_machine_uid;
use serde::{Deserialize, Serialize};
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

/// Name of the record in a run directory.
const RECORD: &str = "lent.json";

/// A file that was given to a machine's user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lent {
    pub(crate) path: PathBuf,
    pub(crate) uid: u32,
}

/// Records what is about to be lent.
pub(crate) fn record(run_dir: &Path, lent: &[Lent]) -> io::Result<()> {
    let (path, new) = (run_dir.join(RECORD), run_dir.join(".lent.json.new"));
    std::fs::write(&new, serde_json::to_vec(lent)?)?;
    std::fs::rename(new, path)
}

/// Takes back what a machine of this run directory still has; nothing to do is no error. To be called once it has ended.
pub(super) fn take_back(run_dir: &Path) -> io::Result<()> {
    let path = run_dir.join(RECORD);
    let bytes = match std::fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    // A record that is not whole was never renamed into place: what cannot be read is not ours.
    let lent: Vec<Lent> = serde_json::from_slice(&bytes)?;
    let mut first = Ok(());
    for lent in lent.iter().filter(|lent| is_machine_uid(lent.uid)) {
        let result = take_back_one(lent).map_err(|error| {
            io::Error::new(error.kind(), format!("take back {} from user {}: {error}", lent.path.display(), lent.uid))
        });
        first = first.and(result);
    }
    first?;
    std::fs::remove_file(path)
}

fn take_back_one(lent: &Lent) -> io::Result<()> {
    let mut options = OpenOptions::new();
    // A fifo in its place must not hang, nor a link lead elsewhere.
    let file = match options.read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW).open(&lent.path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    let metadata = file.metadata()?;
    // It may be another machine's by now.
    if metadata.is_file() && metadata.uid() == lent.uid { fchown(&file, Some(0), None) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jail::machine_uid;
    use std::fs::File;

    #[test]
    #[allow(clippy::print_stderr, reason = "a skipped test says why")]
    fn a_killed_lenders_files_are_taken_back_and_others_are_left_alone() {
        if !rustix::process::geteuid().is_root() {
            return eprintln!("SKIPPED: only root gives files away");
        }
        let dir = tempfile::tempdir().unwrap();
        let uid = machine_uid().unwrap();
        let file = |name: &str, owner: u32| {
            let path = dir.path().join(name);
            fchown(File::create(&path).unwrap(), Some(owner), None).unwrap();
            path
        };
        let (lent, anothers) = (file("lent", uid), file("anothers", uid - 1));
        let (users, link) = (file("users", 1000), dir.path().join("link"));
        std::os::unix::fs::symlink(file("behind", uid), &link).unwrap();
        let of = |path: &Path, uid| Lent { path: path.to_owned(), uid };
        let all = [of(&lent, uid), of(&anothers, uid), of(&users, 1000), of(&dir.path().join("gone"), uid)];
        record(dir.path(), &all).unwrap();
        take_back(dir.path()).unwrap();
        let owner = |path: &Path| std::fs::symlink_metadata(path).unwrap().uid();
        assert_eq!((owner(&lent), owner(&anothers), owner(&users)), (0, uid - 1, 1000));
        take_back(dir.path()).unwrap();
        record(dir.path(), &[of(&link, uid)]).unwrap();
        assert!(take_back(dir.path()).is_err());
        assert_eq!(owner(&dir.path().join("behind")), uid);
        std::fs::write(dir.path().join(RECORD), "{").unwrap();
        assert!(take_back(dir.path()).is_err());
    }
}
