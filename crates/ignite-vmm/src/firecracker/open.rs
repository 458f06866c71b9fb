//! Makes ready what Firecracker will open by path, with the caller's rights.

use super::fifo::Fifo;
use super::translate::Paths;
use super::{in_memory, lock};
use crate::boot_spec::{BootSpec, CpuTemplate, Drive, IsolationWanted};
use crate::host_files::{open_boot_file, open_drive};
use crate::jail;
use crate::jail::lent::Lent;
use crate::machine::VmmError;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, chown, fchown};
use std::path::{Path, PathBuf};

/// Directory of the run directory that Firecracker writes to.
const DIRECTORY: &str = "firecracker";
/// Longest path of a Unix socket (`sun_path` without its final zero).
const MAX_SOCKET_PATH: usize = 107;
/// Longest CPU template; those of Firecracker's own repository have a few KiB.
const MAX_TEMPLATE_LEN: u64 = 1 << 20;

/// What one Firecracker works with. Dropping it gives the drives back to their owner and lets them go.
#[derive(Debug)]
pub(super) struct Opened {
    /// Kernel and initramfs, inherited under their own numbers.
    pub(super) boot_files: [OwnedFd; 2],
    /// The template of what the guest sees of the processor, inherited, too.
    pub(super) cpu_template: Option<OwnedFd>,
    pub(super) drives: Vec<OpenDrive>,
    /// Where it makes its sockets.
    pub(super) directory: PathBuf,
    /// Where it says what happens, and what it counts.
    pub(super) log: Fifo,
    pub(super) metrics: Fifo,
}

/// A drive that is locked for its machine.
#[derive(Debug)]
pub(super) struct OpenDrive {
    /// Its real path.
    pub(super) path: PathBuf,
    pub(super) is_read_only: bool,
    file: File,
    /// It was made the machine's own.
    is_lent: bool,
}

impl Opened {
    pub(super) fn api_socket(&self) -> PathBuf {
        self.directory.join("api")
    }

    pub(super) fn vsock(&self) -> PathBuf {
        self.directory.join("vsock")
    }

    /// Firecracker has opened what it writes to, or never will.
    pub(super) fn let_go_of_streams(&mut self) {
        self.log.let_go();
        self.metrics.let_go();
    }

    /// The paths that the configuration names.
    pub(super) fn paths(&self) -> Paths {
        let by_number = |fd: &OwnedFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
        Paths {
            kernel: by_number(&self.boot_files[0]),
            initramfs: by_number(&self.boot_files[1]),
            drives: self.drives.iter().map(|drive| drive.path.display().to_string()).collect(),
            cpu_template: self.cpu_template.as_ref().map(by_number),
            vsock: self.vsock().display().to_string(),
        }
    }
}

impl Drop for OpenDrive {
    fn drop(&mut self) {
        if self.is_lent {
            // An image that stays with its last user is taken over by the next start.
            let _ = fchown(&self.file, Some(0), None);
        }
    }
}

/// Opens, locks and lends everything; an error leaves nothing lent.
pub(super) fn open(spec: &BootSpec, run_dir: &Path) -> Result<Opened, VmmError> {
    let boot_files = [open_boot_file(&spec.kernel)?, open_boot_file(&spec.initramfs)?];
    let cpu_template = match &spec.cpu_template {
        Some(CpuTemplate::File(path)) => Some(read_template(path)?),
        Some(CpuTemplate::Named(_)) | None => None,
    };
    let borrower = borrower(spec);
    if let Some(uid) = borrower {
        // All of them: what is not lent keeps its owner, and what is not there is told below.
        let paths = spec.drives.iter().filter_map(|drive| std::fs::canonicalize(&drive.path).ok());
        let lent: Vec<Lent> = paths.map(|path| Lent { path, uid }).collect();
        jail::lent::record(run_dir, &lent).map_err(|source| VmmError::Open { path: run_dir.to_owned(), source })?;
    }
    let drives = spec.drives.iter().map(|drive| lend(drive, borrower)).collect::<Result<_, _>>()?;
    let directory = run_dir.join(DIRECTORY);
    let failed = |source| VmmError::Open { path: run_dir.join(DIRECTORY), source };
    if directory.as_os_str().len() + "/vsock".len() > MAX_SOCKET_PATH {
        let reason = "too long for the path of a socket: use a shorter run directory";
        return Err(failed(io::Error::new(io::ErrorKind::InvalidFilename, reason)));
    }
    make_directory(&directory, borrower).map_err(failed)?;
    let fifo = |name: &str| Fifo::make(directory.join(name), borrower).map_err(failed);
    let (log, metrics) = (fifo("log")?, fifo("metrics")?);
    Ok(Opened { boot_files, cpu_template, drives, directory, log, metrics })
}

/// A copy of a template in memory. What is in it, Firecracker judges.
fn read_template(path: &Path) -> Result<OwnedFd, VmmError> {
    let failed = |source| VmmError::Open { path: path.to_owned(), source };
    // A fifo in its place must not hang the start.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(failed)?;
    let invalid = |reason: String| failed(io::Error::new(io::ErrorKind::InvalidData, reason));
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(invalid("not a regular file".to_owned()));
    }
    let mut text = String::new();
    file.take(MAX_TEMPLATE_LEN + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_TEMPLATE_LEN {
        return Err(invalid(format!("a CPU template has at most {MAX_TEMPLATE_LEN} bytes")));
    }
    match serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&text) {
        Ok(_) => in_memory(&text).map_err(failed),
        Err(error) => Err(invalid(format!("a CPU template is an object in JSON: {error}"))),
    }
}

/// The user its machine runs as, where that is not the caller.
fn borrower(spec: &BootSpec) -> Option<u32> {
    match spec.isolation {
        IsolationWanted::None => None,
        IsolationWanted::BestEffort | IsolationWanted::Strict => jail::machine_uid(),
    }
}

fn lend(drive: &Drive, borrower: Option<u32>) -> Result<OpenDrive, VmmError> {
    let failed = |source| VmmError::Open { path: drive.path.clone(), source };
    let (file, is_block_device) = open_drive(drive)?;
    lock::lock(&file, drive.is_read_only).map_err(|error| VmmError::BootFailed {
        vmm: "firecracker",
        detail: format!("{}: {error}", drive.path.display()),
    })?;
    let path = std::fs::canonicalize(&drive.path).map_err(failed)?;
    let mut opened = OpenDrive { path, is_read_only: drive.is_read_only, file, is_lent: false };
    let Some(uid) = borrower else { return Ok(opened) };
    let metadata = opened.file.metadata().map_err(failed)?;
    if drive.is_read_only && !is_block_device && metadata.mode() & 0o004 != 0 {
        return Ok(opened);
    }
    // The host's device nodes and other users' files are not given away.
    if is_block_device || (metadata.uid() != 0 && !jail::is_machine_uid(metadata.uid())) {
        let kind = if is_block_device { "the block device" } else { "another user's" };
        return Err(VmmError::Unsupported {
            what: format!("Firecracker runs as a user of its own, who may not open {kind} {}", drive.path.display()),
            hint: "use QEMU for it (--vmm qemu), or go without isolation (--isolation none)".to_owned(),
        });
    }
    fchown(&opened.file, Some(uid), None).map_err(failed)?;
    opened.is_lent = true;
    Ok(opened)
}

fn make_directory(directory: &Path, borrower: Option<u32>) -> io::Result<()> {
    // What an earlier boot of this run has left.
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    DirBuilder::new().mode(0o700).create(directory)?;
    chown(directory, borrower, None)
}
