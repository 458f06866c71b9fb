//! What a host must not have once all its VMs are gone.

use crate::processes;
use std::collections::BTreeSet;
use std::fs;
use std::ops::Range;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Paths below a data directory.
#[derive(Debug, Clone, Default)]
pub struct Listing(BTreeSet<PathBuf>);

impl Listing {
    /// What is there now.
    pub fn of(dir: &Path) -> Listing {
        let mut paths = BTreeSet::new();
        walk(dir, &mut |path| {
            paths.insert(path.strip_prefix(dir).expect("below the directory").to_path_buf());
        });
        Listing(paths)
    }
}

/// Everything that is left, one line each. `before` is what the data directory held when the test began; images and
/// kernels that were imported since are no leak, VMs and half-made objects are.
pub fn of(root: &Path, data: &Path, run: &Path, before: &Listing) -> Vec<String> {
    let mut left = Vec::new();
    for process in processes::touching(root) {
        left.push(format!("process {}: {} ({})", process.pid, process.name, process.command_line));
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let root_text = root.to_str().expect("test directories have UTF-8 names");
    left.extend(mounts.lines().filter(|line| line.contains(root_text)).map(|line| format!("mount: {line}")));
    walk(run, &mut |path| {
        if !is_empty_directory_of_all_vms(path, run) {
            left.push(format!("run file: {}", path.display()));
        }
    });
    let now = Listing::of(data);
    for path in now.0.difference(&before.0) {
        let full = data.join(path);
        // The store's index of names stays, whether it has any or not.
        if path.starts_with("vm/.names") || path == Path::new("vm/.names.lock") {
            continue;
        }
        let is_socket = fs::symlink_metadata(&full).is_ok_and(|m| m.file_type().is_socket());
        if is_socket || path.starts_with("vm") && path != Path::new("vm") || is_half_made(path) {
            left.push(format!("file: {}", full.display()));
        }
    }
    left.extend(groups_of(data, Path::new(CGROUPS)));
    left.extend(lent_files(root));
    left
}

/// Uids that machines of root run as (`ignite_vmm::jail`): one per supervisor, by its pid.
const MACHINE_UIDS: Range<u32> = 1_900_000_000..1_900_000_000 + (1 << 22);

/// Files that still belong to the user of a machine that is gone.
fn lent_files(root: &Path) -> Vec<String> {
    let mut left = Vec::new();
    walk(root, &mut |path| {
        let owner = fs::symlink_metadata(path).map_or(0, |meta| meta.uid());
        if MACHINE_UIDS.contains(&owner) {
            left.push(format!("file of a machine's user {owner}: {}", path.display()));
        }
    });
    left
}

/// Where control groups are, of v1 and v2.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Control groups of VMs that a data directory has ever had: its events name them all. Others' groups are not ours.
fn groups_of(data: &Path, cgroups: &Path) -> Vec<String> {
    let events = ["events.log.1", "events.log"].map(|log| fs::read_to_string(data.join(log)).unwrap_or_default());
    let names: BTreeSet<String> = events
        .iter()
        .flat_map(|log| log.lines())
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter_map(|event| event["uid"].as_str().map(|uid| format!("ignite-{uid}")))
        .collect();
    let mut left = Vec::new();
    if !names.is_empty() {
        walk(cgroups, &mut |path| {
            if path.file_name().and_then(|name| name.to_str()).is_some_and(|name| names.contains(name)) {
                left.push(format!("control group: {}", path.display()));
            }
        });
    }
    left
}

/// `run/vm` itself may stay.
fn is_empty_directory_of_all_vms(path: &Path, run: &Path) -> bool {
    path == run.join("vm")
}

/// Temporary and partial files by their usual names. A lock file is not one: it may be kept, empty and unlocked.
fn is_half_made(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let is_temporary = [".tmp", "tmp-", ".partial", ".part", ".making", ".new"].iter().any(|mark| name.contains(mark));
    is_temporary && !name.ends_with(".lock")
}

/// Disk space of everything below `dir`, holes not counted.
pub(crate) fn used_bytes(dir: &Path) -> u64 {
    let mut blocks = 0;
    walk(dir, &mut |path| blocks += fs::symlink_metadata(path).map_or(0, |meta| meta.blocks()));
    blocks * 512
}

fn walk(dir: &Path, visit: &mut impl FnMut(&Path)) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        visit(&entry.path());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), visit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;
    use std::process::Command;

    #[test]
    fn every_kind_of_leak_is_found() {
        let root = tempfile::tempdir().expect("a directory");
        let (data, run) = (root.path().join("data"), root.path().join("run"));
        fs::create_dir_all(data.join("vm")).expect("a directory");
        fs::create_dir_all(run.join("vm")).expect("a directory");
        let before = Listing::of(&data);
        assert_eq!(of(root.path(), &data, &run, &before), Vec::<String>::new());

        fs::create_dir(data.join("vm/0123")).expect("a directory");
        fs::write(data.join("base.tmp123"), "").expect("a file");
        let _socket = UnixListener::bind(run.join("control.sock")).expect("a socket");
        let (ours, others) = (root.path().join("cgroup/memory/ignite-00ab"), root.path().join("cgroup/ignite-00cd"));
        fs::create_dir_all(&ours).expect("a directory");
        fs::create_dir_all(&others).expect("a directory");
        fs::write(data.join("events.log"), "{\"uid\":\"00ab\"}\nno JSON\n").expect("a file");
        let groups = groups_of(&data, &root.path().join("cgroup"));
        assert_eq!(groups, [format!("control group: {}", ours.display())]);
        let is_root = rustix::process::geteuid().is_root();
        if is_root {
            std::os::unix::fs::chown(data.join("events.log"), Some(MACHINE_UIDS.start + 7), None)
                .expect("give it away");
        }
        let mut child = Command::new("sleep").arg("1000").current_dir(&data).spawn().expect("a process");
        let left = of(root.path(), &data, &run, &before).join("\n");
        child.kill().expect("kill it");
        child.wait().expect("reap it");
        for mark in ["vm/0123", "base.tmp123", "control.sock", "sleep 1000"] {
            assert!(left.contains(mark), "{mark} was not found: {left}");
        }
        assert!(!is_root || left.contains("user 1900000007: "), "{left}");
    }

    #[test]
    fn a_mount_that_only_a_process_sees_is_found() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let root = tempfile::tempdir().expect("a directory");
        let script = "mount --bind \"$1\" /mnt && exec sleep 1001";
        let mut jail = Command::new("unshare");
        jail.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]).arg(root.path());
        let mut jail = jail.current_dir("/").spawn().expect("a process");
        let is_found = || processes::touching(root.path()).iter().any(|process| process.command_line == "sleep 1001");
        let found = (0..500).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            is_found()
        });
        jail.kill().expect("kill it");
        jail.wait().expect("reap it");
        assert!(found);
        assert_eq!(processes::touching(root.path()), Vec::new());
    }
}
