//! Writes the files of a commit into a directory: regular files only, bounded, complete or not at all.

use crate::commit::CommitId;
use crate::program::Git;
use crate::{GitError, SubPath};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Most files that a commit may hold below the wanted directory.
const MAX_FILES: usize = 20_000;
/// Most bytes of all of them.
const MAX_BYTES: u64 = 256 << 20;

/// Writes the directory `path` of a commit to `target`, which must not exist, by way of a sibling that is renamed.
///
/// Symbolic links become files that hold their target (`core.symlinks=false`), submodules empty directories.
pub(crate) async fn materialise(
    git: &Git<'_>,
    commit: &CommitId,
    path: &SubPath,
    target: &Path,
) -> Result<(), GitError> {
    let tree = tree_of(git, commit, path).await?;
    check_size(git, commit, &tree).await?;
    let io = |action, path: &Path| {
        let path = path.to_owned();
        move |source| GitError::Io { action, path, source }
    };
    let parent = target.parent().unwrap_or(Path::new("/"));
    let staging =
        tempfile::Builder::new().prefix(".new-").tempdir_in(parent).map_err(io("make a directory in", parent))?;
    let index = git.git_dir.join("ignite-index");
    let _ = fs::remove_file(&index);
    let variables = [("GIT_INDEX_FILE", index.as_os_str()), ("GIT_WORK_TREE", staging.path().as_os_str())];
    let written = async {
        git.must_with("read-tree", [&tree], &variables, b"").await?;
        git.must_with("checkout-index", ["--all", "--force", "--quiet"], &variables, b"").await
    };
    let written = written.await;
    let _ = fs::remove_file(&index);
    written?;
    fs::rename(staging.path(), target).map_err(io("make", target))?;
    // Its name is the target's now.
    let _ = staging.keep();
    Ok(())
}

async fn tree_of(git: &Git<'_>, commit: &CommitId, path: &SubPath) -> Result<String, GitError> {
    let name = format!("{commit}:{}", path.as_str());
    let found = git.run("rev-parse", ["--verify", "--quiet", "--end-of-options", &name], &[], b"").await?;
    let missing = || GitError::PathMissing { commit: commit.short().to_owned(), path: path.as_str().to_owned() };
    if !found.status.success() {
        return Err(missing());
    }
    let tree = found.text();
    let kind = git.must("cat-file", ["-t", &tree]).await?;
    if kind.text() == "tree" { Ok(tree) } else { Err(missing()) }
}

async fn check_size(git: &Git<'_>, commit: &CommitId, tree: &str) -> Result<(), GitError> {
    let too_large = |limit: String| GitError::TooLarge { commit: commit.short().to_owned(), limit };
    let listed = match git.must("ls-tree", ["-r", "-l", "-z", tree]).await {
        // A listing beyond the limit of what is read is of a tree beyond the limit of what is taken.
        Err(GitError::Failed { detail, .. }) if detail.contains("it writes more than") => {
            return Err(too_large(format!("{MAX_FILES} files")));
        }
        listed => listed?,
    };
    let (files, bytes) = totals(&listed.output);
    if files > MAX_FILES {
        return Err(too_large(format!("{MAX_FILES} files")));
    }
    if bytes > MAX_BYTES {
        return Err(too_large(format!("{} MiB", MAX_BYTES >> 20)));
    }
    Ok(())
}

/// Files and their bytes in a listing of git-ls-tree(1): `MODE TYPE OBJECT SIZE\tNAME\0`.
fn totals(listing: &[u8]) -> (usize, u64) {
    let entries = listing.split(|byte| *byte == 0).filter(|entry| !entry.is_empty());
    entries.fold((0, 0), |(files, bytes), entry| {
        let before_name = entry.split(|byte| *byte == b'\t').next().unwrap_or_default();
        let size = OsStr::from_bytes(before_name)
            .to_string_lossy()
            .split_ascii_whitespace()
            .nth(3)
            .and_then(|s| s.parse().ok());
        (files + 1, bytes.saturating_add(size.unwrap_or(0)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_is_added_up() {
        let listing =
            b"100644 blob aaaa      12\ta file\x00120000 blob bbbb       3\tlink\x00160000 commit cccc       -\tsub\0";
        assert_eq!(totals(listing), (3, 15));
        assert_eq!(totals(b""), (0, 0));
        assert_eq!(totals(b"\xff\xff\t\0"), (1, 0));
    }
}
