//! Finds devices, and waits for those that are still being probed by listening to the kernel's uevents.

use crate::error::{Doing, SetupError};
use crate::spawn::owned;
use ignite_agent_protocol::SERIAL_PORT_NAME;
use ignite_agent_protocol::message::Disk;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long a device may take to appear. An emulated guest on a busy host is slow.
const DEADLINE: Duration = Duration::from_secs(60);
/// Bytes of queued uevents; losing some is harmless, each only makes us look again.
static RECEIVE_BUFFER: libc::c_int = 128 * 1024;

/// The kernel's device events, from the moment it was opened.
#[derive(Debug)]
pub struct Uevents {
    socket: OwnedFd,
}

impl Uevents {
    /// Starts to listen.
    pub fn open() -> Result<Uevents, SetupError> {
        let doing = || "listen for device events".to_owned();
        let flags = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: makes a descriptor.
        let socket =
            owned(unsafe { libc::socket(libc::AF_NETLINK, flags, libc::NETLINK_KOBJECT_UEVENT) }).doing(doing)?;
        // SAFETY: the address is fully initialised and its length is given.
        let bound = unsafe {
            let mut address: libc::sockaddr_nl = std::mem::zeroed();
            address.nl_family = libc::AF_NETLINK as u16;
            address.nl_groups = 1;
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_RCVBUFFORCE,
                (&raw const RECEIVE_BUFFER).cast(),
                size_of::<libc::c_int>() as u32,
            );
            libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size_of::<libc::sockaddr_nl>() as u32)
        };
        if bound != 0 {
            return Err(std::io::Error::last_os_error()).doing(doing);
        }
        Ok(Uevents { socket })
    }

    /// Calls `find` now and after every device event until it answers, or the deadline passes.
    pub fn wait_for<T>(&self, what: &str, mut find: impl FnMut() -> Option<T>) -> Result<T, SetupError> {
        let start = Instant::now();
        loop {
            if let Some(found) = find() {
                return Ok(found);
            }
            let left = DEADLINE.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Err(SetupError::Missing { what: what.to_owned(), seconds: DEADLINE.as_secs() });
            }
            self.wait(left);
        }
    }

    /// Waits for an event and throws away all that are queued.
    fn wait(&self, timeout: Duration) {
        let mut poll = libc::pollfd { fd: self.socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let mut event = [0u8; 4096];
        // SAFETY: both buffers live through the calls.
        unsafe {
            libc::poll(&mut poll, 1, timeout.as_millis().try_into().unwrap_or(i32::MAX));
            while libc::recv(self.socket.as_raw_fd(), event.as_mut_ptr().cast(), event.len(), 0) > 0 {}
        }
    }
}

/// What can carry the agent channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChannelDevice {
    /// A virtio-serial port's device file.
    Serial(PathBuf),
    /// A virtio socket device.
    Vsock,
}

/// The device of the agent channel, if it is there yet.
pub fn find_channel() -> Option<ChannelDevice> {
    let ports = fs::read_dir("/sys/class/virtio-ports").into_iter().flatten().flatten();
    for port in ports {
        let name = fs::read_to_string(port.path().join("name")).unwrap_or_default();
        let device = PathBuf::from("/dev").join(port.file_name());
        if name.trim_end() == SERIAL_PORT_NAME && device.exists() {
            return Some(ChannelDevice::Serial(device));
        }
    }
    let has_vsock = fs::read_dir("/sys/bus/virtio/devices").into_iter().flatten().flatten().any(|device| {
        // Virtio device type 19 with a driver bound to it.
        let kind = fs::read_to_string(device.path().join("device")).unwrap_or_default();
        kind.trim() == "0x0013" && device.path().join("driver").exists()
    });
    has_vsock.then_some(ChannelDevice::Vsock)
}

/// The device file of a disk, if it is there yet.
pub fn find_disk(disk: &Disk) -> Option<PathBuf> {
    let name = match disk {
        Disk::Serial(serial) => {
            let blocks = fs::read_dir("/sys/block").into_iter().flatten().flatten();
            blocks
                .map(|block| block.file_name())
                .find(|name| {
                    let path = PathBuf::from("/sys/block").join(name).join("serial");
                    fs::read_to_string(path).is_ok_and(|found| found.trim() == serial)
                })?
                .into_string()
                .ok()?
        }
        Disk::Index(index) => virtio_disk_name(*index),
        Disk::Pmem(index) => format!("pmem{index}"),
    };
    let device = PathBuf::from("/dev").join(&name);
    device.exists().then_some(device)
}

/// The kernel's name of the n-th virtio disk: `vda` … `vdz`, `vdaa` …
fn virtio_disk_name(index: u32) -> String {
    let mut letters = Vec::new();
    let mut rest = u64::from(index) + 1;
    while rest > 0 {
        rest -= 1;
        letters.push(b'a' + (rest % 26) as u8);
        rest /= 26;
    }
    let letters = letters.iter().rev().map(|&letter| char::from(letter)).collect::<String>();
    format!("vd{letters}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_are_lettered_as_the_kernel_does() {
        for (index, name) in
            [(0, "vda"), (1, "vdb"), (25, "vdz"), (26, "vdaa"), (27, "vdab"), (701, "vdzz"), (702, "vdaaa")]
        {
            assert_eq!(virtio_disk_name(index), name);
        }
        virtio_disk_name(u32::MAX);
    }
}
