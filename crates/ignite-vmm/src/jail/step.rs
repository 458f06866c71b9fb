//! One thing done in the child before it becomes the program.

use std::ffi::CString;
use std::fmt;

/// A step, with everything it needs: the child allocates nothing. Paths without a leading `/` are in the new root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// A namespace (`CLONE_NEW…`).
    Unshare(i32),
    /// A network namespace that is there already.
    EnterNetwork {
        path: CString,
    },
    /// Mounts of the host and of the child no longer follow each other.
    PrivateMounts,
    /// An empty root in memory, entered.
    EmptyRoot {
        at: CString,
    },
    Directory(CString),
    File(CString),
    Link {
        target: CString,
        at: CString,
    },
    /// A part of the host, without set-uid programs.
    Bind {
        from: CString,
        at: CString,
        is_read_only: bool,
        is_device: bool,
    },
    /// A character device of its own.
    Device {
        at: CString,
        number: u64,
    },
    /// Its processes, and nothing else of the kernel.
    Proc,
    /// The new root takes the place of the old one, which is gone; nothing can be written into it.
    EnterRoot,
    Limit {
        resource: u32,
        value: u64,
    },
    /// No capability can be had any more.
    EmptyBoundingSet,
    User {
        uid: u32,
        group: Option<u32>,
    },
    NoCapabilities,
    NoNewPrivileges,
    /// Lets a device node of the new root through Landlock.
    AllowDevice {
        ruleset: i32,
        at: CString,
    },
    Landlock {
        ruleset: i32,
    },
    Seccomp,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |path: &CString| path.to_string_lossy().into_owned();
        match self {
            Step::Unshare(flag) => write!(f, "unshare {}", namespace_name(*flag)),
            Step::EnterNetwork { path } => write!(f, "enter the network {}", shown(path)),
            Step::PrivateMounts => f.write_str("make mounts private"),
            Step::EmptyRoot { at } => write!(f, "mount an empty root on {}", shown(at)),
            Step::Directory(path) => write!(f, "make the directory {}", shown(path)),
            Step::File(path) => write!(f, "make the file {}", shown(path)),
            Step::Link { target, at } => write!(f, "link {} to {}", shown(at), shown(target)),
            Step::Bind { from, at, is_read_only, is_device } => {
                let how = if *is_read_only { ", read-only" } else { "" };
                let device = if *is_device { ", a device" } else { "" };
                write!(f, "bind {} on {}{how}{device}", shown(from), shown(at))
            }
            Step::Device { at, number } => {
                write!(f, "make the device {} ({}:{})", shown(at), libc::major(*number), libc::minor(*number))
            }
            Step::Proc => f.write_str("mount proc"),
            Step::EnterRoot => f.write_str("enter the root"),
            Step::Limit { resource, value } => write!(f, "limit {} to {value}", resource_name(*resource)),
            Step::EmptyBoundingSet => f.write_str("empty the capability bounding set"),
            Step::User { uid, group: None } => write!(f, "become user {uid}"),
            Step::User { uid, group: Some(group) } => write!(f, "become user {uid} in group {group}"),
            Step::NoCapabilities => f.write_str("drop all capabilities"),
            Step::NoNewPrivileges => f.write_str("no new privileges"),
            Step::AllowDevice { at, .. } => write!(f, "let {} through landlock", shown(at)),
            Step::Landlock { .. } => f.write_str("landlock"),
            Step::Seccomp => f.write_str("seccomp"),
        }
    }
}

fn namespace_name(flag: i32) -> &'static str {
    match flag {
        libc::CLONE_NEWNET => "network",
        libc::CLONE_NEWIPC => "ipc",
        libc::CLONE_NEWUTS => "uts",
        libc::CLONE_NEWCGROUP => "cgroup",
        libc::CLONE_NEWNS => "mounts",
        _ => "another namespace",
    }
}

fn resource_name(resource: u32) -> &'static str {
    match resource {
        libc::RLIMIT_CORE => "core",
        libc::RLIMIT_NOFILE => "nofile",
        libc::RLIMIT_NPROC => "nproc",
        libc::RLIMIT_DATA => "data",
        libc::RLIMIT_MEMLOCK => "memlock",
        _ => "another resource",
    }
}
