//! Everything `stat`, `readlink`, `listxattr` and `read` tell of a directory tree, one line per name.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use sha2::{Digest, Sha256};

/// Path to what is there; the root is the empty path.
pub type Listing = BTreeMap<Vec<u8>, Facts>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    pub mode: u32,
    pub owner: (u32, u32),
    pub mtime: (i64, i64),
    pub device: u64,
    pub links: u64,
    pub size: u64,
    pub content: String,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The first path with the same inode.
    pub same_as: Vec<u8>,
}

pub fn list(root: &Path) -> Listing {
    let mut listing = Listing::new();
    let mut first_names = HashMap::new();
    visit(root, Path::new(""), &mut listing, &mut first_names);
    listing
}

fn visit(root: &Path, path: &Path, listing: &mut Listing, first_names: &mut HashMap<u64, Vec<u8>>) {
    let full = if path.as_os_str().is_empty() { root.to_owned() } else { root.join(path) };
    let stat = fs::symlink_metadata(&full).unwrap();
    let name = path.as_os_str().as_bytes().to_vec();
    let kind = stat.mode() & libc::S_IFMT;
    let content = match kind {
        libc::S_IFREG => hex::encode(Sha256::digest(fs::read(&full).unwrap())),
        libc::S_IFLNK => format!("{:?}", fs::read_link(&full).unwrap()),
        _ => String::new(),
    };
    let is_dir = kind == libc::S_IFDIR;
    let facts = Facts {
        mode: stat.mode(),
        owner: (stat.uid(), stat.gid()),
        mtime: (stat.mtime(), stat.mtime_nsec()),
        device: stat.rdev(),
        links: stat.nlink(),
        size: if is_dir { 0 } else { stat.size() },
        content,
        xattrs: xattrs(&full),
        same_as: first_names.entry(stat.ino()).or_insert_with(|| name.clone()).clone(),
    };
    listing.insert(name, facts);
    if is_dir {
        let mut names: Vec<_> = fs::read_dir(&full).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        for name in names {
            visit(root, &path.join(name), listing, first_names);
        }
    }
}

fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0; 64 << 10];
    let len = rustix::fs::llistxattr(path, &mut names[..]).unwrap_or(0);
    names[..len]
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let mut value = vec![0; 64 << 10];
            let len = rustix::fs::lgetxattr(path, OsStr::from_bytes(name), &mut value[..]).unwrap();
            value.truncate(len);
            (name.to_vec(), value)
        })
        .collect()
}

/// Lists what is in an ext4 image: mounts it read-only where only a thread of its own sees it.
pub fn list_image(image: &Path, mount_point: &Path) -> Listing {
    fs::create_dir_all(mount_point).unwrap();
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                // SAFETY: only this thread's view of mounts changes, and it ends here.
                unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }.unwrap();
                super::run("mount", &["--make-rprivate".as_ref(), "/".as_ref()]);
                let args = ["-t", "ext4", "-o", "loop,ro"].map(OsStr::new);
                let output = super::run("mount", &[&args[..], &[image.as_os_str(), mount_point.as_os_str()]].concat());
                assert!(output.status.success(), "mount: {}", String::from_utf8_lossy(&output.stderr));
                let listing = list(mount_point);
                super::run("umount", &[mount_point.as_os_str()]);
                listing
            })
            .join()
            .unwrap()
    })
}

/// The lines in which two listings differ, for a person to read.
pub fn differences(left: &Listing, right: &Listing) -> Vec<String> {
    let names: std::collections::BTreeSet<_> = left.keys().chain(right.keys()).collect();
    names
        .into_iter()
        .filter(|name| left.get(*name) != right.get(*name))
        .map(|name| format!("{}:\n  {:?}\n  {:?}", name.escape_ascii(), left.get(name), right.get(name)))
        .collect()
}
