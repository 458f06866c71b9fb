//! A DHCP server for one guest on its tap: for guests that insist on asking. What it gives is what CNI gave.
//!
//! The tap's namespace has no stack for the guest (its frames are redirected), so the server reads and writes frames.

mod message;

pub(crate) use self::message::Lease;

use crate::NetworkError;
use rustix::io::Errno;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::JoinHandle;

/// Largest request that is read: a message has at most 1500 bytes here.
const MAX_FRAME: usize = 2048;

/// A running server; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Server(JoinHandle<()>);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Opens the server's socket on a link of the calling thread's namespace. It gets IPv4 datagrams to port 67 only.
pub(crate) fn open(link: &str) -> io::Result<OwnedFd> {
    let index = rustix::net::netdevice::name_to_index(&unbound()?, link)?;
    // SAFETY: a system call on numbers; the descriptor is new and ours.
    let socket = unsafe {
        let flags = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        let fd = libc::socket(libc::AF_PACKET, flags, 0);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(fd)
    };
    attach_filter(&socket)?;
    // SAFETY: an all-zero address is a valid one; `bind` reads it, and it outlives the call.
    let bound = unsafe {
        let mut address: libc::sockaddr_ll = std::mem::zeroed();
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        address.sll_ifindex = index as i32;
        let size = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size)
    };
    if bound < 0 { Err(io::Error::last_os_error()) } else { Ok(socket) }
}

fn unbound() -> io::Result<OwnedFd> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType};
    Ok(rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?)
}

/// IPv4, UDP, destination port 67; everything else is not even copied.
fn attach_filter(socket: &OwnedFd) -> io::Result<()> {
    let step = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    use libc::{BPF_ABS, BPF_B, BPF_H, BPF_IND, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_LDX, BPF_MSH, BPF_RET};
    let mut program = [
        step(BPF_LD | BPF_H | BPF_ABS, 0, 0, 12),
        step(BPF_JMP | BPF_JEQ | BPF_K, 0, 6, 0x0800),
        step(BPF_LD | BPF_B | BPF_ABS, 0, 0, 23),
        step(BPF_JMP | BPF_JEQ | BPF_K, 0, 4, 17),
        step(BPF_LDX | BPF_B | BPF_MSH, 0, 0, 14),
        step(BPF_LD | BPF_H | BPF_IND, 0, 0, 16),
        step(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 67),
        step(BPF_RET | BPF_K, 0, 0, MAX_FRAME as u32),
        step(BPF_RET | BPF_K, 0, 0, 0),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the kernel copies the program, which outlives the call.
    let set = unsafe {
        let size = size_of::<libc::sock_fprog>() as libc::socklen_t;
        let option = (&raw const filter).cast();
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, option, size)
    };
    if set < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Answers until it is dropped.
pub(crate) fn start(socket: OwnedFd, lease: Lease) -> Result<Server, NetworkError> {
    // SAFETY: the descriptor is owned by what is registered, which is never exchanged: it stays open.
    let registered = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) };
    let failed = |source| NetworkError::Io { what: "serve DHCP".into(), source };
    let socket = registered.map_err(|error| failed(error.into()))?;
    Ok(Server(tokio::spawn(async move {
        if let Err(error) = serve(&socket, &lease).await {
            tracing::warn!("the guest gets no more leases: {error}");
        }
    })))
}

async fn serve(socket: &AsyncFd<OwnedFd>, lease: &Lease) -> io::Result<()> {
    loop {
        let mut ready = socket.readable().await?;
        let mut buffer = [MaybeUninit::<u8>::uninit(); MAX_FRAME];
        match rustix::net::recv(socket.get_ref(), &mut buffer, rustix::net::RecvFlags::empty()) {
            Ok(((frame, _), _)) => {
                if let Some(answer) = message::answer(frame, lease) {
                    // One that does not fit into the queue now is asked for again.
                    let _ = rustix::io::write(socket.get_ref(), &answer);
                }
            }
            Err(Errno::AGAIN) => ready.clear_ready(),
            Err(Errno::INTR | Errno::NETDOWN) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}
