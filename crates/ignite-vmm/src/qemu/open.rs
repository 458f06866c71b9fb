//! Opens, with the caller's rights, everything QEMU will use: it gets descriptors, never a path.

use super::translate::{Descriptors, DriveDescriptor};
use crate::boot_spec::{BootSpec, NicBackend};
use crate::host_files::{MAX_INTERFACE_NAME, check_tap, open_boot_file, open_drive, open_error, stream_pair};
use crate::machine::VmmError;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

/// The tun driver's device.
const TUN_DEVICE: &str = "/dev/net/tun";
/// `_IOW('T', 202, int)` (`linux/if_tun.h`).
const TUNSETIFF: libc::c_ulong = 0x4004_54ca;

/// What QEMU inherits, and our ends of its streams.
#[derive(Debug)]
pub(crate) struct Opened {
    /// QEMU's; to be dropped once it has been started.
    pub(crate) inherited: Vec<OwnedFd>,
    /// The numbers of `inherited`, which are also QEMU's.
    pub(crate) numbers: Descriptors,
    /// Our end of QMP.
    pub(crate) qmp: UnixStream,
    /// Our end of the agent channel.
    pub(crate) agent: UnixStream,
    /// Our end of the console.
    pub(crate) console: UnixStream,
}

/// Opens kernel, initramfs, drives and NICs. Blocks on the file system only.
pub(crate) fn open(spec: &BootSpec) -> Result<Opened, VmmError> {
    let mut inherited = Vec::new();
    let mut numbers = Descriptors {
        kernel: keep(&mut inherited, open_boot_file(&spec.kernel)?),
        initramfs: keep(&mut inherited, open_boot_file(&spec.initramfs)?),
        ..Descriptors::default()
    };
    for drive in &spec.drives {
        let (file, is_block_device) = open_drive(drive)?;
        numbers.drives.push(DriveDescriptor { fd: keep(&mut inherited, file), is_block_device });
    }
    for nic in &spec.nics {
        let fd = match &nic.backend {
            NicBackend::Tap { name, netns: None } => open_tap(name)?,
            NicBackend::Tap { name, netns: Some(netns) } => {
                let reason = "QEMU takes a tap of another namespace as its queue";
                return Err(open_error(&netns.join(name), io::Error::new(io::ErrorKind::Unsupported, reason)));
            }
            NicBackend::TapQueue(fd) | NicBackend::Stream(fd) => {
                fd.try_clone().map_err(|source| open_error(Path::new("network"), source))?
            }
        };
        numbers.nics.push(keep(&mut inherited, fd));
    }
    let (qmp, far_qmp) = stream_pair()?;
    let (agent, far_agent) = stream_pair()?;
    let (console, far_console) = stream_pair()?;
    numbers.qmp = keep(&mut inherited, far_qmp);
    numbers.agent = keep(&mut inherited, far_agent);
    numbers.console = keep(&mut inherited, far_console);
    Ok(Opened { inherited, numbers, qmp, agent, console })
}

fn keep(inherited: &mut Vec<OwnedFd>, fd: impl Into<OwnedFd>) -> RawFd {
    let fd = fd.into();
    let number = fd.as_raw_fd();
    inherited.push(fd);
    number
}

/// `struct ifreq` as `TUNSETIFF` reads it.
#[repr(C)]
struct TapRequest {
    name: [u8; MAX_INTERFACE_NAME + 1],
    flags: libc::c_short,
    padding: [u8; 22],
}

/// Joins an existing tap of the caller's network namespace.
fn open_tap(name: &str) -> Result<OwnedFd, VmmError> {
    check_tap(name)?;
    let failed = |source| open_error(&Path::new("tap").join(name), source);
    let device =
        OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(TUN_DEVICE).map_err(failed)?;
    let mut request = TapRequest {
        name: [0; MAX_INTERFACE_NAME + 1],
        flags: (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as libc::c_short,
        padding: [0; 22],
    };
    request.name[..name.len()].copy_from_slice(name.as_bytes());
    // SAFETY: `request` has the size and layout of the `struct ifreq` that TUNSETIFF reads and writes, and outlives the call.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), TUNSETIFF as _, &mut request) };
    if result < 0 {
        return Err(failed(io::Error::last_os_error()));
    }
    Ok(device.into())
}
