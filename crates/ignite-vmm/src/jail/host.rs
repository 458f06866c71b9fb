//! What the host is, as far as a jail depends on it: looked at once per start.

use super::spec::Share;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;

/// First of the uids machines run under: far above what systems and subordinate ids (`/etc/subuid`) hand out.
const FIRST_UID: u32 = 1_900_000_000;
/// `nobody`, where user ids that high do not exist (in a user namespace).
const NOBODY_UID: u32 = 65_534;
/// From this version on a user namespace counts its processes apart.
const NAMESPACED_NPROC: (u32, u32) = (5, 14);

/// The facts a plan is made of.
#[derive(Debug, Clone)]
pub(super) struct HostFacts {
    pub(super) is_root: bool,
    /// Whom a machine of root runs as.
    pub(super) own_uid: u32,
    /// Whether that uid is the machine's alone, so that limits by user are its own.
    pub(super) has_own_uid: bool,
    /// Whether processes of a user namespace are counted apart from their user's others.
    pub(super) has_namespaced_nproc: bool,
    /// What was found at each share's path, in their order.
    pub(super) found: Vec<Found>,
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    Directory,
    File,
    Link { target: PathBuf },
    Device { number: u64, mode: u32, gid: u32 },
}

impl HostFacts {
    pub(super) fn look(shares: &[Share]) -> HostFacts {
        let (own_uid, has_own_uid) = own_uid();
        HostFacts {
            is_root: rustix::process::geteuid().is_root(),
            own_uid,
            has_own_uid,
            has_namespaced_nproc: kernel_version(&rustix::system::uname().release().to_string_lossy())
                >= NAMESPACED_NPROC,
            found: shares.iter().map(look_at).collect(),
        }
    }
}

/// Whom a machine of root runs as, and whether that uid is the machine's alone.
fn own_uid() -> (u32, bool) {
    let uid = FIRST_UID.saturating_add(std::process::id());
    match has_uid(&std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default(), uid) {
        true => (uid, true),
        false => (NOBODY_UID, false),
    }
}

/// The user of this process's machines, where that is another than the caller: what they open by path must be theirs.
pub(crate) fn machine_uid() -> Option<u32> {
    rustix::process::geteuid().is_root().then(|| own_uid().0)
}

/// Whether this uid is one that some machine of root ran as.
pub(crate) fn is_machine_uid(uid: u32) -> bool {
    uid == NOBODY_UID || (FIRST_UID..FIRST_UID + (1 << 22)).contains(&uid)
}

fn look_at(share: &Share) -> Found {
    let Ok(metadata) = std::fs::symlink_metadata(&share.path) else { return Found::Nothing };
    let kind = metadata.file_type();
    match std::fs::read_link(&share.path) {
        Ok(target) => Found::Link { target },
        Err(_) if kind.is_dir() => Found::Directory,
        Err(_) if kind.is_char_device() => {
            Found::Device { number: metadata.rdev(), mode: metadata.mode(), gid: metadata.gid() }
        }
        Err(_) => Found::File,
    }
}

/// Whether a uid exists by this `/proc/self/uid_map`: lines of first inside, first outside, count.
fn has_uid(map: &str, uid: u32) -> bool {
    map.lines().any(|line| {
        let mut numbers = line.split_ascii_whitespace().filter_map(|number| number.parse::<u64>().ok());
        match (numbers.next(), numbers.next(), numbers.next()) {
            (Some(first), Some(_), Some(count)) => (first..first.saturating_add(count)).contains(&u64::from(uid)),
            _ => false,
        }
    })
}

/// `6.1.0-21-amd64` → (6, 1).
fn kernel_version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uid_maps_are_read() {
        assert!(has_uid("         0          0 4294967295\n", 1_900_000_007));
        assert!(!has_uid("0 100000 65536\n", 1_900_000_007) && has_uid("0 100000 65536\n", 65_534));
        assert!(!has_uid("", 0) && !has_uid("x y z", 0));
    }

    #[test]
    fn kernel_versions_are_compared_by_number() {
        assert!(kernel_version("6.1.0-21-amd64") > NAMESPACED_NPROC);
        assert!(kernel_version("5.4.0") < NAMESPACED_NPROC && kernel_version("5.15") > NAMESPACED_NPROC);
        assert_eq!(kernel_version("strange"), (0, 0));
    }
}
