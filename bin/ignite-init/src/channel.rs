//! The byte stream to the host: a virtio-serial port, or a connection accepted on a virtio socket.

use crate::devices::ChannelDevice;
use crate::spawn::owned;
use ignite_agent_protocol::VSOCK_PORT;
use rustix::fs::{Mode, OFlags};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// One end of the stream; non-blocking.
#[derive(Debug)]
pub enum Channel {
    /// The port's device file. It stays open while the host is away.
    Serial {
        /// The device.
        port: OwnedFd,
    },
    /// A virtio socket.
    Vsock {
        /// Where the host connects.
        listener: OwnedFd,
        /// The host's connection, while there is one.
        connection: Option<OwnedFd>,
    },
}

impl Channel {
    /// Opens the port, or starts to listen.
    pub fn open(device: &ChannelDevice) -> io::Result<Channel> {
        match device {
            ChannelDevice::Serial(path) => {
                let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
                Ok(Channel::Serial { port: rustix::fs::open(path, flags, Mode::empty())? })
            }
            ChannelDevice::Vsock => Ok(Channel::Vsock { listener: listen()?, connection: None }),
        }
    }

    /// Whether the VMM offers a virtio socket only: Firecracker, which ends on reset and not on power-off.
    pub fn is_vsock(&self) -> bool {
        matches!(self, Channel::Vsock { .. })
    }

    /// What to poll: the stream, or where the host will connect.
    pub fn fd(&self) -> RawFd {
        match self {
            Channel::Serial { port } => port.as_raw_fd(),
            Channel::Vsock { connection: Some(connection), .. } => connection.as_raw_fd(),
            Channel::Vsock { listener, connection: None } => listener.as_raw_fd(),
        }
    }

    /// Tries to get the host's connection, without waiting.
    pub fn try_connect(&mut self) -> bool {
        match self {
            Channel::Serial { port } => {
                let mut poll = libc::pollfd { fd: port.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
                // SAFETY: one initialised entry.
                unsafe { libc::poll(&mut poll, 1, 0) };
                poll.revents & libc::POLLHUP == 0
            }
            Channel::Vsock { connection: Some(_), .. } => true,
            Channel::Vsock { listener, connection } => {
                let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
                // SAFETY: no address is asked for.
                let fd =
                    unsafe { libc::accept4(listener.as_raw_fd(), std::ptr::null_mut(), std::ptr::null_mut(), flags) };
                *connection = owned(fd).ok();
                connection.is_some()
            }
        }
    }

    /// The host is gone: forgets its connection.
    pub fn disconnect(&mut self) {
        if let Channel::Vsock { connection, .. } = self {
            *connection = None;
        }
    }

    /// Has SIGIO sent to this process when the host connects to a port; a port can be polled for leaving only. Off while
    /// connected, because each arrival of data would raise it, too.
    pub fn signal_connects(&self, is_wanted: bool) {
        if let Channel::Serial { port } = self {
            // SAFETY: flags of an own descriptor.
            unsafe {
                let fd = port.as_raw_fd();
                libc::fcntl(fd, libc::F_SETOWN, libc::getpid());
                let flags = libc::fcntl(fd, libc::F_GETFL);
                let flags = if is_wanted { flags | libc::O_ASYNC } else { flags & !libc::O_ASYNC };
                libc::fcntl(fd, libc::F_SETFL, flags);
            }
        }
    }

    /// Reads; `Ok(0)` means that the host is gone.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        // SAFETY: the buffer lives through the call.
        let n = unsafe { libc::read(self.fd(), buffer.as_mut_ptr().cast(), buffer.len()) };
        usize::try_from(n).map_err(|_| io::Error::last_os_error())
    }

    /// Writes what fits.
    pub fn write(&self, buffer: &[u8]) -> io::Result<usize> {
        // SAFETY: the buffer lives through the call.
        let n = unsafe { libc::write(self.fd(), buffer.as_ptr().cast(), buffer.len()) };
        usize::try_from(n).map_err(|_| io::Error::last_os_error())
    }
}

fn listen() -> io::Result<OwnedFd> {
    let flags = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: makes a descriptor.
    let socket = owned(unsafe { libc::socket(libc::AF_VSOCK, flags, 0) })?;
    // SAFETY: the address is fully initialised and its length is given.
    let listening = unsafe {
        let mut address: libc::sockaddr_vm = std::mem::zeroed();
        address.svm_family = libc::AF_VSOCK as u16;
        address.svm_port = VSOCK_PORT;
        address.svm_cid = libc::VMADDR_CID_ANY;
        let length = size_of::<libc::sockaddr_vm>() as u32;
        match libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) {
            0 => libc::listen(socket.as_raw_fd(), 4),
            error => error,
        }
    };
    if listening == 0 { Ok(socket) } else { Err(io::Error::last_os_error()) }
}
