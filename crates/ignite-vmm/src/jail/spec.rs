//! What is to be jailed, and what it may see: plain data.

use super::cgroup::Limits;
use crate::boot_spec::IsolationWanted;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};

/// A program and its jail.
#[derive(Debug, Clone)]
pub struct JailSpec {
    /// Names its control group; at most 64 of `[a-z0-9-]`, unique on the host.
    pub id: String,
    /// Absolute path of the program. It is shared with the jail at the same path, links resolved.
    pub program: PathBuf,
    /// Its arguments, without its own name.
    pub arguments: Vec<String>,
    /// Descriptors it inherits under their own numbers. None of the first three.
    pub inherited: Vec<RawFd>,
    /// Those of `inherited` that it opens again through `/proc/self/fd`, for reading.
    pub reopened: Vec<RawFd>,
    /// Becomes its standard input and output; absent: `/dev/null`.
    pub stdio: Option<RawFd>,
    /// How it is isolated.
    pub isolation: IsolationWanted,
    /// The run directory: holds the record of control groups, and the (empty) place where the jail's root is mounted.
    pub run_dir: PathBuf,
    /// What of the host it sees.
    pub shares: Vec<Share>,
    /// Its network.
    pub network: Network,
    /// What it may take.
    pub limits: Limits,
}

/// The network of a jail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Network {
    /// One of its own, without an interface.
    Own,
    /// One that was made for this machine, by its path. Without root it has to belong to a user namespace of the caller's.
    Machines(PathBuf),
    /// The caller's: for a VMM that must open a tap by name.
    Callers,
}

/// Something of the host in the jail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// Absolute path on the host. What does not exist is not shared.
    pub path: PathBuf,
    /// Absolute path in the jail.
    pub at: PathBuf,
    /// What may be done with it.
    pub access: ShareAccess,
}

/// What may be done with a [`Share`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShareAccess {
    /// Read.
    Read,
    /// Read, map and execute.
    Execute,
    /// Read and write; below a directory also make and remove.
    Write,
    /// A device node that it opens. Root's machines get a node of their own, as the host's may not be theirs to open.
    Device,
}

impl Share {
    /// The same path in the jail as outside.
    pub fn same(path: impl Into<PathBuf>, access: ShareAccess) -> Share {
        let path = path.into();
        Share { at: path.clone(), path, access }
    }
}

/// Where programs find their libraries.
const LIBRARY_DIRS: [&str; 7] =
    ["/usr/lib", "/usr/lib64", "/usr/lib32", "/lib", "/lib64", "/usr/local/lib", "/nix/store"];
/// What the dynamic linker reads.
const LINKER_CACHE: &str = "/etc/ld.so.cache";

/// What a dynamically linked program needs to start.
pub fn system_libraries() -> Vec<Share> {
    let mut shares: Vec<Share> = LIBRARY_DIRS.iter().map(|dir| Share::same(*dir, ShareAccess::Execute)).collect();
    shares.push(Share::same(Path::new(LINKER_CACHE), ShareAccess::Read));
    shares
}
