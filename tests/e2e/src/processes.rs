//! What `/proc` says about processes.

use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::path::Path;

/// A process of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its pid.
    pub pid: u32,
    /// Its parent's pid.
    pub parent: u32,
    /// Its short name.
    pub name: String,
    /// Its arguments, joined by spaces.
    pub command_line: String,
}

/// All processes that are not zombies.
pub fn all() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter_map(read).collect()
}

fn read(pid: u32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (head, tail) = stat.rsplit_once(") ")?;
    let name = head.split_once('(')?.1.to_string();
    let mut fields = tail.split(' ');
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    if state == "Z" {
        return None;
    }
    let command_line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let command_line = String::from_utf8_lossy(&command_line).replace('\0', " ").trim().to_string();
    Some(Process { pid, parent, name, command_line })
}

/// Children, their children, and so on.
pub fn descendants(pid: u32) -> Vec<Process> {
    let all = all();
    let mut found: Vec<Process> = Vec::new();
    let mut parents = vec![pid];
    while let Some(parent) = parents.pop() {
        for process in all.iter().filter(|p| p.parent == parent) {
            parents.push(process.pid);
            found.push(process.clone());
        }
    }
    found
}

/// True while the process exists and is not a zombie.
pub fn is_alive(pid: u32) -> bool {
    read(pid).is_some()
}

/// Processes that hold on to something below `root`: by an argument, the environment, a working directory, an open file,
/// a mapped file, a bound Unix socket or a mount in a namespace of its own. This process and its own threads are left out.
pub fn touching(root: &Path) -> Vec<Process> {
    let own = std::process::id();
    all().into_iter().filter(|p| p.pid != own && touches(p, root)).collect()
}

fn touches(process: &Process, root: &Path) -> bool {
    let dir = Path::new("/proc").join(process.pid.to_string());
    let text = root.to_str().expect("test directories have UTF-8 names");
    let holds = |name: &str| {
        fs::read(dir.join(name)).is_ok_and(|bytes| bytes.windows(text.len()).any(|window| window == text.as_bytes()))
    };
    if holds("cmdline") || holds("environ") || holds("maps") {
        return true;
    }
    // The root of a jail: mounts that only its processes see.
    let mounts_of = |dir: &Path| fs::read_link(dir.join("ns/mnt")).ok();
    if mounts_of(&dir) != mounts_of(Path::new("/proc/self")) && holds("mountinfo") {
        return true;
    }
    let below = |link: &Path| fs::read_link(link).is_ok_and(|target| target.starts_with(root));
    if below(&dir.join("cwd")) || below(&dir.join("root")) {
        return true;
    }
    fs::read_dir(dir.join("fd")).is_ok_and(|fds| fds.flatten().any(|fd| below(&fd.path())))
}

/// Resident memory shared fairly between the processes that map it, in KiB.
pub fn proportional_set_size_kib(pid: u32) -> Option<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?.split_whitespace().next()?.parse().ok()
}

/// Sends a signal; a process that is gone already is no error.
pub fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}
