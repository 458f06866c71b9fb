//! Paths of layer entries, resolved inside the image's root.

use crate::tree::{Body, InodeId, Meta, ROOT, Tree, TreeError};

/// `PATH_MAX` of Linux, its final NUL included.
const MAX_PATH: usize = 4096;
const MAX_NAME: usize = 255;
/// Symbolic links followed in one path; the kernel follows 40, `filepath-securejoin` 255.
const MAX_LINKS_FOLLOWED: usize = 255;

/// Why a path is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PathError {
    #[error("the path leads out of the image's root")]
    Escapes,
    #[error("the path is longer than {} bytes", MAX_PATH - 1)]
    TooLong,
    #[error("a name in the path is longer than {MAX_NAME} bytes")]
    NameTooLong,
    #[error("the path contains a NUL byte")]
    Nul,
    #[error("the path goes through something that is not a directory")]
    NotADirectory,
    #[error("the path goes through more than {MAX_LINKS_FOLLOWED} symbolic links")]
    TooManyLinks,
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// The names a path is made of: `.` and empty ones left out, `..` taken back. An absolute path counts from the root.
pub(crate) fn split_path(path: &[u8]) -> Result<Vec<&[u8]>, PathError> {
    if path.len() >= MAX_PATH {
        return Err(PathError::TooLong);
    }
    if path.contains(&0) {
        return Err(PathError::Nul);
    }
    let mut names = Vec::new();
    for name in path.split(|&byte| byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => {
                names.pop().ok_or(PathError::Escapes)?;
            }
            name if name.len() > MAX_NAME => return Err(PathError::NameTooLong),
            name => names.push(name),
        }
    }
    Ok(names)
}

/// What becomes of directories on a path that do not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// They are made, by this layer.
    Make { layer: u16 },
    /// The path leads nowhere.
    Nowhere,
}

/// The directory that `names` lead to. Symbolic links are followed as if the image's root were `/`: none leads out.
pub(crate) fn resolve_dir(tree: &mut Tree, names: &[&[u8]], missing: Missing) -> Result<Option<InodeId>, PathError> {
    match walk(tree, names)? {
        Walk::Found(dir) => Ok(Some(dir)),
        Walk::Missing { mut dir, names } => match missing {
            Missing::Nowhere => Ok(None),
            Missing::Make { layer } => {
                for name in names {
                    dir = tree.add_dir(dir, &name, Meta { mode: 0o755, ..Meta::default() }, layer)?;
                }
                Ok(Some(dir))
            }
        },
    }
}

/// The inode that `names` lead to, the last symbolic link followed too; `None` where there is nothing.
fn resolve(tree: &Tree, names: &[&[u8]]) -> Option<InodeId> {
    let mut dir = ROOT;
    let mut pending: Vec<Vec<u8>> = names.iter().rev().map(|name| name.to_vec()).collect();
    let mut followed = 0;
    while let Some(name) = pending.pop() {
        match &name[..] {
            b"" | b"." => continue,
            b".." => {
                dir = tree.parent(dir);
                continue;
            }
            _ => {}
        }
        let inode = tree.entry_inode(tree.lookup(dir, &name)?);
        match tree.inode(inode).body {
            Body::Dir { .. } => dir = inode,
            Body::Symlink { .. } => {
                followed += 1;
                if followed > MAX_LINKS_FOLLOWED {
                    return None;
                }
                dir = push_target(tree, inode, dir, &mut pending);
            }
            _ if pending.is_empty() => return Some(inode),
            _ => return None,
        }
    }
    Some(dir)
}

/// What a path leads to, symbolic links followed, the last one too.
pub(crate) fn resolve_path(tree: &Tree, path: &[u8]) -> Option<InodeId> {
    resolve(tree, &split_path(path).ok()?)
}

/// The regular file that a path leads to, symbolic links followed.
pub(crate) fn find_file(tree: &Tree, path: &[u8]) -> Option<InodeId> {
    let inode = resolve_path(tree, path)?;
    matches!(tree.inode(inode).body, Body::File { .. } | Body::Sparse { .. }).then_some(inode)
}

enum Walk {
    Found(InodeId),
    /// These names do not exist yet below `dir`.
    Missing {
        dir: InodeId,
        names: Vec<Vec<u8>>,
    },
}

fn walk(tree: &Tree, names: &[&[u8]]) -> Result<Walk, PathError> {
    let mut dir = ROOT;
    // The usual case: directories all the way, nothing copied.
    let mut at = 0;
    while let Some(name) = names.get(at) {
        match tree.lookup(dir, name).map(|entry| tree.entry_inode(entry)) {
            Some(inode) if tree.is_dir(inode) => dir = inode,
            _ => break,
        }
        at += 1;
    }
    let mut pending: Vec<Vec<u8>> = names[at..].iter().rev().map(|name| name.to_vec()).collect();
    let mut missing: Vec<Vec<u8>> = Vec::new();
    let mut followed = 0;
    while let Some(name) = pending.pop() {
        match &name[..] {
            b"" | b"." => continue,
            b".." => {
                // Below a directory that does not exist, `..` is taken back by name, as `filepath-securejoin` does.
                if missing.pop().is_none() {
                    dir = tree.parent(dir);
                }
                continue;
            }
            name if name.len() > MAX_NAME => return Err(PathError::NameTooLong),
            _ if !missing.is_empty() => {
                missing.push(name);
                continue;
            }
            _ => {}
        }
        match tree.lookup(dir, &name).map(|entry| tree.entry_inode(entry)) {
            None => missing.push(name),
            Some(inode) => match tree.inode(inode).body {
                Body::Dir { .. } => dir = inode,
                Body::Symlink { .. } => {
                    followed += 1;
                    if followed > MAX_LINKS_FOLLOWED {
                        return Err(PathError::TooManyLinks);
                    }
                    dir = push_target(tree, inode, dir, &mut pending);
                }
                _ => return Err(PathError::NotADirectory),
            },
        }
    }
    Ok(if missing.is_empty() { Walk::Found(dir) } else { Walk::Missing { dir, names: missing } })
}

/// Puts the names of a link's target before those still to go, and tells where they count from.
fn push_target(tree: &Tree, link: InodeId, dir: InodeId, pending: &mut Vec<Vec<u8>>) -> InodeId {
    let target = tree.symlink_target(tree.inode(link).body);
    pending.extend(target.split(|&byte| byte == b'/').rev().map(<[u8]>::to_vec));
    if target.starts_with(b"/") { ROOT } else { dir }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names(path: &str) -> Vec<&[u8]> {
        split_path(path.as_bytes()).unwrap()
    }

    #[test]
    fn paths_are_cleaned_and_never_leave_the_root() {
        assert_eq!(names("./a//b/./c/"), [b"a", b"b", b"c"]);
        assert_eq!(names("/etc/../usr"), [b"usr"]);
        assert_eq!(names("./"), [] as [&[u8]; 0]);
        for path in ["..", "a/../../b", "/../etc/passwd", "./../x"] {
            assert_eq!(split_path(path.as_bytes()), Err(PathError::Escapes), "{path}");
        }
        assert_eq!(split_path(&[b'a'; 5000]), Err(PathError::TooLong));
        assert_eq!(split_path(&[b'a'; 256]), Err(PathError::NameTooLong));
        assert_eq!(split_path(b"a\0b"), Err(PathError::Nul));
    }

    #[test]
    fn links_are_followed_inside_the_root_only() {
        let meta = Meta::default();
        let mut tree = Tree::new(meta);
        let c = tree.add_dir(ROOT, b"c", meta, 0).unwrap();
        tree.add_symlink(ROOT, b"abs", b"/c", meta, 0).unwrap();
        tree.add_symlink(ROOT, b"up", b"../../../../c", meta, 0).unwrap();
        tree.add_symlink(ROOT, b"new", b"/x/y/../z", meta, 0).unwrap();
        tree.add_symlink(ROOT, b"loop", b"loop", meta, 0).unwrap();
        tree.add_leaf(c, b"f", Body::Fifo, meta, 0).unwrap();
        let mut dir = |path: &str, missing| resolve_dir(&mut tree, &names(path), missing);
        assert_eq!(dir("abs", Missing::Nowhere), Ok(Some(c)));
        assert_eq!(dir("up", Missing::Nowhere), Ok(Some(c)));
        assert_eq!(dir("new", Missing::Nowhere), Ok(None));
        assert_eq!(dir("loop", Missing::Nowhere), Err(PathError::TooManyLinks));
        assert_eq!(dir("c/f/x", Missing::Nowhere), Err(PathError::NotADirectory));
        let made = dir("new", Missing::Make { layer: 1 }).unwrap().unwrap();
        assert_eq!(resolve(&tree, &names("x/z")), Some(made));
        assert_eq!(resolve(&tree, &names("x/y")), None);
        assert!(resolve(&tree, &names("abs/f")).is_some() && resolve(&tree, &names("loop")).is_none());
    }

    proptest! {
        #[test]
        fn no_path_panics_or_escapes(paths in prop::collection::vec("(/|\\.\\./|a/|b/|c/|l/|\\.){0,12}", 1..8)) {
            let meta = Meta::default();
            let mut tree = Tree::new(meta);
            for (layer, pair) in paths.chunks(2).enumerate() {
                let target = pair.get(1).map_or("x", |target| target);
                if let Ok(names) = split_path(pair[0].as_bytes()) {
                    let _ = resolve(&tree, &names);
                    if let Ok(Some(dir)) = resolve_dir(&mut tree, &names, Missing::Make { layer: layer as u16 }) {
                        prop_assert!(tree.is_dir(dir));
                        if tree.lookup(dir, b"l").is_none() && !target.is_empty() {
                            tree.add_symlink(dir, b"l", target.as_bytes(), meta, 0).unwrap();
                        }
                    }
                }
            }
        }
    }
}
