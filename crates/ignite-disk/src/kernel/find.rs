//! Where a kernel and its modules are, in an image or on a host.

use std::cmp::Ordering;
use std::fs;
use std::path::{Path, PathBuf};

use crate::DiskError;
use crate::tree::{Body, InodeId};

use super::tree_files::KernelFiles;

/// Names a kernel has in `/boot`, the better ones first: unpacked before packed.
const NAMES: [&str; 4] = ["vmlinux", "Image", "vmlinuz", "bzImage"];

/// The kernel image in a package's or an OCI image's `/boot`.
pub(super) fn in_tree(files: &KernelFiles, from: &Path) -> Result<InodeId, DiskError> {
    let missing = |reason: &str| DiskError::NoKernel { path: from.into(), reason: reason.to_owned() };
    let boot = files.find(b"boot").ok_or_else(|| missing("it has no /boot"))?;
    let names: Vec<String> =
        files.tree.children(boot).map(|entry| String::from_utf8_lossy(files.tree.name(entry)).into_owned()).collect();
    ranked(&names)
        .into_iter()
        .filter_map(|name| files.find(format!("boot/{name}").as_bytes()))
        .find(|&file| matches!(files.tree.inode(file).body, Body::File { .. } | Body::Sparse { .. }))
        .ok_or_else(|| missing("its /boot has no vmlinux, Image, vmlinuz or bzImage"))
}

/// `lib/modules/<release>` in a package or an OCI image, if it has modules at all.
pub(super) fn modules_in_tree(files: &KernelFiles, release: &str, from: &Path) -> Result<Option<InodeId>, DiskError> {
    for root in ["lib/modules", "usr/lib/modules"] {
        if let Some(found) = files.find(format!("{root}/{release}").as_bytes()) {
            return Ok(Some(found));
        }
        if let Some(other) = files
            .find(root.as_bytes())
            .and_then(|root| files.tree.children(root).find(|&entry| files.tree.is_dir(files.tree.entry_inode(entry))))
        {
            let other = files.tree.name(other).escape_ascii();
            let reason = format!("its kernel is {release}, and its modules are for {other}");
            return Err(DiskError::BadKernel { path: from.into(), reason });
        }
    }
    Ok(None)
}

/// A kernel of the host.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct HostKernel {
    pub image: PathBuf,
    pub release: String,
}

/// The kernel of `release`, or the newest.
pub(super) fn in_host_boot(boot_dir: &Path, release: Option<&str>) -> Result<HostKernel, DiskError> {
    let unreadable = |source| DiskError::ReadFile { path: boot_dir.into(), source };
    let mut found = Vec::new();
    for entry in fs::read_dir(boot_dir).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        let Some(name) = name.to_str() else { continue };
        let kernel = NAMES.iter().enumerate().find_map(|(rank, prefix)| {
            let release = name.strip_prefix(prefix)?.strip_prefix('-')?;
            release.starts_with(|first: char| first.is_ascii_digit()).then(|| (release.to_owned(), rank))
        });
        if let Some((name_release, rank)) = kernel
            && release.is_none_or(|wanted| wanted == name_release)
            && boot_dir.join(name).is_file()
        {
            found.push((name_release, rank, boot_dir.join(name)));
        }
    }
    let best = found.into_iter().max_by(|a, b| compare_versions(&a.0, &b.0).then(b.1.cmp(&a.1)));
    best.map(|(release, _, image)| HostKernel { image, release }).ok_or_else(|| DiskError::NoKernel {
        path: boot_dir.into(),
        reason: match release {
            Some(release) => format!("there is no vmlinuz-{release}"),
            None => "there is no vmlinuz-<release>".to_owned(),
        },
    })
}

/// Kernel names of a `/boot`, best first: without a version, then the newest, unpacked before packed.
fn ranked(names: &[String]) -> Vec<&str> {
    let mut found: Vec<(&str, &str, usize)> = names
        .iter()
        .filter_map(|name| {
            let (rank, rest) =
                NAMES.iter().enumerate().find_map(|(rank, prefix)| Some((rank, name.strip_prefix(prefix)?)))?;
            (rest.is_empty() || rest.starts_with(['-', '.'])).then_some((name.as_str(), rest, rank))
        })
        .collect();
    found.sort_by(|a, b| {
        b.1.is_empty().cmp(&a.1.is_empty()).then_with(|| compare_versions(b.1, a.1)).then(a.2.cmp(&b.2))
    });
    found.into_iter().map(|(name, ..)| name).collect()
}

/// Orders versions as people do: runs of digits by value, all else by letter.
fn compare_versions(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    loop {
        let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (a_digits, b_digits) = (digits(a), digits(b));
        if a_digits > 0 && b_digits > 0 {
            let number = |text: &[u8]| {
                let zeros = text.iter().take_while(|&&byte| byte == b'0').count();
                text[zeros..].to_vec()
            };
            let (x, y) = (number(&a[..a_digits]), number(&b[..b_digits]));
            let order = x.len().cmp(&y.len()).then(x.cmp(&y));
            if order != Ordering::Equal {
                return order;
            }
            (a, b) = (&a[a_digits..], &b[b_digits..]);
            continue;
        }
        match (a.split_first(), b.split_first()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some((x, a_rest)), Some((y, b_rest))) => {
                if x != y {
                    return x.cmp(y);
                }
                (a, b) = (a_rest, b_rest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_kernel_is_the_best() {
        let names: Vec<String> =
            ["config-6.9", "vmlinuz-6.9.1", "vmlinuz-6.10.0", "vmlinux-6.10.0", "System.map", "vmlinuz"]
                .map(String::from)
                .into();
        assert_eq!(ranked(&names), ["vmlinuz", "vmlinux-6.10.0", "vmlinuz-6.10.0", "vmlinuz-6.9.1"]);
        assert_eq!(compare_versions("6.1.0-9-amd64", "6.1.0-56-amd64"), Ordering::Less);
        assert_eq!(compare_versions("6.1", "6.1.0"), Ordering::Less);
    }

    #[test]
    fn a_host_kernel_is_found_by_release() {
        let boot = tempfile::tempdir().unwrap();
        for name in
            ["vmlinuz-5.10.0-8-amd64", "vmlinuz-6.1.0-9-amd64", "vmlinuz-6.1.0-56-amd64", "vmlinuz-old", "config-7"]
        {
            fs::write(boot.path().join(name), b"").unwrap();
        }
        let release = |wanted| in_host_boot(boot.path(), wanted).map(|kernel| kernel.release);
        assert_eq!(release(None).unwrap(), "6.1.0-56-amd64");
        assert_eq!(release(Some("5.10.0-8-amd64")).unwrap(), "5.10.0-8-amd64");
        assert!(matches!(release(Some("4.19")), Err(DiskError::NoKernel { .. })));
    }
}
