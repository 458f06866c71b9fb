//! passt's frames by a tap, for VMMs that know nothing else: in a user and network namespace of the VM's own, without root.
//!
//! ```text
//!  guest --vm_eth0 (tap)--> tc redirect --> relay (tap) --frames--> carry --stream--> guard --> passt
//! ```
//!
//! The namespace lasts as long as its keeper, which ends with its standard input: with the caller, however that ends.

use super::guest_side;
use crate::NetworkError;
use crate::cni::io_error;
use crate::link::{TUN_DEVICE, TUNSETIFF, TUNSETPERSIST, TapHold};
use crate::plugin::Helper;
use std::ffi::CString;
use std::fs::OpenOptions;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream as BlockingStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Interest};
use tokio::net::UnixStream;
use tokio::process::Command;

/// The guest's tap.
const TAP: &str = "vm_eth0";
/// Ours.
const RELAY: &str = "relay";
/// What the keeper is called in reports.
const PROGRAM: &str = "the keeper of the VM's network namespace";
/// File of the run directory.
const LOG_FILE: &str = "network-keeper.log";
/// How long iproute2 may take.
const DEADLINE: Duration = Duration::from_secs(30);
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Largest frame, with its length before it.
const MAX_FRAME: usize = 65_535 + 14;
/// Frames that are passed on in one write.
const BATCH: usize = 4 * MAX_FRAME;
const SETUP: &str = "set -e
for link in vm_eth0 relay; do
    echo 1 >/proc/sys/net/ipv6/conf/$link/disable_ipv6 || :
    ip link set $link mtu $1 up
    tc qdisc add dev $link ingress
done
tc filter add dev vm_eth0 parent ffff: protocol all u32 match u8 0 0 action mirred egress redirect dev relay
tc filter add dev relay parent ffff: protocol all u32 match u8 0 0 action mirred egress redirect dev vm_eth0
echo ready
exec cat >/dev/null
";

/// A tap that leads to passt.
pub(super) struct Tap {
    /// Keeps it.
    pub(super) keeper: Helper,
    /// Its queue, where that was asked for.
    pub(super) queue: Option<OwnedFd>,
    /// Its name.
    pub(super) name: String,
    /// The path of its namespace.
    pub(super) netns: PathBuf,
}

/// Whether this process may make taps in a namespace of its own: it makes one, of a moment (some milliseconds).
pub(super) fn check() -> Result<(), NetworkError> {
    let missing = |program: String, hint: String| Err(NetworkError::ProgramMissing { program, hint });
    if let Err(error) = OpenOptions::new().read(true).write(true).open(TUN_DEVICE) {
        let hint = format!("as root: modprobe tun && chmod 666 {TUN_DEVICE}; or use --network user");
        return missing(format!("a tun device that may be opened ({TUN_DEVICE}: {error})"), hint);
    }
    let is_there = |program: &&str| PATH.split(':').any(|dir| Path::new(dir).join(program).is_file());
    if let Some(program) = ["ip", "tc"].iter().find(|program| !is_there(program)) {
        let hint = "install it (apt-get install iproute2), or use --network user";
        return missing((*program).to_owned(), hint.to_owned());
    }
    let plan = Plan::new(None, TapHold::ByItsQueue);
    let mut command = std::process::Command::new("/bin/sh");
    command.args(["-c", ":"]).env_clear().current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // SAFETY: `apply` makes system calls on what `plan` has prepared: no allocation, no lock.
    unsafe { command.pre_exec(move || plan.apply()) };
    match command.status() {
        Ok(_) => Ok(()),
        Err(source) => Err(no_namespace(&source)),
    }
}

fn no_namespace(source: &io::Error) -> NetworkError {
    NetworkError::Helper {
        program: PROGRAM.into(),
        detail: format!("no user and network namespace with a tap can be made here: {source}"),
    }
}

/// Makes the namespace and the tap, and carries its frames to and from the socket.
pub(super) async fn start(socket: OwnedFd, hold: TapHold, run_dir: &Path) -> Result<Tap, NetworkError> {
    let failed = |source| NetworkError::Io { what: "make the VM's tap".into(), source };
    let log = run_dir.join(LOG_FILE);
    let mut options = OpenOptions::new();
    options.create(true).write(true).truncate(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    let log_file = options.open(&log).map_err(io_error("create", &log))?;
    let (own, theirs) = BlockingStream::pair().map_err(failed)?;
    let plan = Plan::new(Some(theirs.as_raw_fd()), hold);
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", SETUP, "sh", &guest_side::MTU.to_string()])
        .env_clear()
        .env("PATH", PATH)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log_file)
        .kill_on_drop(true);
    // SAFETY: `apply` makes system calls on what `plan` has prepared: no allocation, no lock.
    unsafe { command.pre_exec(move || plan.apply()) };
    let mut child = command.spawn().map_err(|source| no_namespace(&source))?;
    drop(theirs);
    let pid = child.id().unwrap_or_default();
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let mut keeper = Helper { program: PROGRAM, pid, child, log, guard: None };
    let mut said = String::new();
    let ready = async {
        match stdout {
            Some(stdout) => BufReader::new(stdout).read_line(&mut said).await,
            None => Ok(0),
        }
    };
    let is_read = tokio::time::timeout(DEADLINE, ready).await;
    if said != "ready\n" {
        drop(stdin);
        let detail = match is_read {
            Ok(_) => keeper.ended().await,
            Err(_) => format!("iproute2 did not end within {} s", DEADLINE.as_secs()),
        };
        return Err(NetworkError::Helper { program: PROGRAM.into(), detail });
    }
    let mut received = receive(&own).map_err(failed)?.into_iter();
    let relay = received.next().ok_or_else(|| failed(io::ErrorKind::UnexpectedEof.into()))?;
    let stream = BlockingStream::from(socket);
    stream.set_nonblocking(true).map_err(failed)?;
    let stream = UnixStream::from_std(stream).map_err(failed)?;
    // SAFETY: the descriptor is owned by what is registered, which is never exchanged: it stays open.
    let relay = unsafe { AsyncFd::register_with_interest(relay, Interest::READABLE) };
    let relay = relay.map_err(|error| failed(error.into()))?;
    keeper.guard = Some(tokio::spawn(async move {
        // Closed with this task: the keeper's end.
        let _stdin = stdin;
        carry(&relay, stream).await;
    }));
    Ok(Tap { keeper, queue: received.next(), name: TAP.into(), netns: PathBuf::from(format!("/proc/{pid}/ns/net")) })
}

/// What the child does before it becomes the keeper, prepared so that it only makes system calls.
struct Plan {
    /// Where the queues are sent; absent: they are closed.
    socket: Option<RawFd>,
    hold: TapHold,
    maps: [(CString, String); 3],
    device: CString,
    parent: libc::pid_t,
}

impl Plan {
    fn new(socket: Option<RawFd>, hold: TapHold) -> Plan {
        let path = |text: &str| CString::new(text).unwrap_or_default();
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        Plan {
            socket,
            hold,
            maps: [
                (path("/proc/self/setgroups"), "deny".into()),
                (path("/proc/self/uid_map"), format!("0 {uid} 1")),
                (path("/proc/self/gid_map"), format!("0 {gid} 1")),
            ],
            device: path(TUN_DEVICE),
            // SAFETY: takes and returns a number.
            parent: unsafe { libc::getpid() },
        }
    }

    /// Runs between fork and exec: system calls only.
    fn apply(&self) -> io::Result<()> {
        // SAFETY: plain system calls on numbers and on structures that outlive them; the process has one thread.
        unsafe {
            libc::setsid();
            checked(libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNET))?;
            for (path, text) in &self.maps {
                let fd = checked(libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC))?;
                let written = libc::write(fd, text.as_ptr().cast(), text.len());
                libc::close(fd);
                checked(written as libc::c_int)?;
            }
            // After the change of credentials, which clears it.
            checked(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
            if libc::getppid() != self.parent {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
            let relay = self.open(RELAY, 0)?;
            let tap = self.open(TAP, libc::IFF_VNET_HDR)?;
            match (self.socket, self.hold) {
                (None, _) => Ok(()),
                (Some(socket), TapHold::ByItsQueue) => send(socket, &[relay, tap]),
                (Some(socket), TapHold::ByItsName) => {
                    checked(libc::ioctl(tap, TUNSETPERSIST as _, 1))?;
                    libc::close(tap);
                    send(socket, &[relay])
                }
            }
        }
    }

    /// # Safety
    /// Makes system calls only.
    unsafe fn open(&self, name: &str, flags: libc::c_int) -> io::Result<RawFd> {
        // SAFETY: an all-zero request is a valid one; TUNSETIFF reads and writes it, and it outlives the call.
        unsafe {
            let fd = checked(libc::open(self.device.as_ptr(), libc::O_RDWR | libc::O_NONBLOCK | libc::O_CLOEXEC))?;
            let mut request: libc::ifreq = std::mem::zeroed();
            for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
                *to = from as libc::c_char;
            }
            request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI | flags) as libc::c_short;
            checked(libc::ioctl(fd, TUNSETIFF as _, &mut request))?;
            Ok(fd)
        }
    }
}

fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Room for two descriptors' message (`CMSG_SPACE(8)`), aligned as `cmsghdr`.
#[repr(align(8))]
struct Control([u8; 32]);

/// Sends descriptors with one byte (unix(7), `SCM_RIGHTS`). System calls only.
fn send(socket: RawFd, descriptors: &[RawFd]) -> io::Result<()> {
    let mut byte = [0_u8];
    let mut control = Control([0; 32]);
    let size = std::mem::size_of_val(descriptors) as libc::c_uint;
    // SAFETY: the message refers to structures that outlive the call; the control buffer has room for two descriptors.
    unsafe {
        let mut part = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(size) as _;
        let header = libc::CMSG_FIRSTHDR(&message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(size) as _;
        std::ptr::copy_nonoverlapping(descriptors.as_ptr().cast::<u8>(), libc::CMSG_DATA(header), size as usize);
        checked(libc::sendmsg(socket, &message, libc::MSG_NOSIGNAL) as libc::c_int)?;
    }
    Ok(())
}

fn receive(socket: &BlockingStream) -> io::Result<Vec<OwnedFd>> {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut control, flags)?;
    let rights = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    Ok(rights.flatten().collect())
}

/// Until the socket's other side closes.
async fn carry(relay: &AsyncFd<OwnedFd>, stream: UnixStream) {
    let (mut from_passt, mut to_passt) = stream.into_split();
    // How a side went is nothing to tell.
    tokio::select! {
        _ = to_guest(&mut from_passt, relay) => {}
        _ = from_guest(relay, &mut to_passt) => {}
    }
}

async fn to_guest(from: &mut (impl tokio::io::AsyncRead + Unpin), relay: &AsyncFd<OwnedFd>) -> io::Result<()> {
    let mut from = BufReader::with_capacity(BATCH, from);
    let mut frame = vec![0; MAX_FRAME];
    loop {
        let length = from.read_u32().await? as usize;
        let frame = frame.get_mut(..length).ok_or(io::ErrorKind::InvalidData)?;
        from.read_exact(frame).await?;
        // A frame that does not fit is lost, as on every wire.
        let _ = rustix::io::write(relay.get_ref(), frame);
    }
}

async fn from_guest(relay: &AsyncFd<OwnedFd>, to: &mut (impl tokio::io::AsyncWrite + Unpin)) -> io::Result<()> {
    let mut buffer = vec![0; BATCH];
    loop {
        let mut ready = relay.readable().await?;
        let mut filled = 0;
        while filled + 4 + MAX_FRAME <= buffer.len() {
            match rustix::io::read(relay.get_ref(), &mut buffer[filled + 4..filled + 4 + MAX_FRAME]) {
                Ok(0) => return Ok(()),
                Ok(length) => {
                    buffer[filled..filled + 4].copy_from_slice(&(length as u32).to_be_bytes());
                    filled += 4 + length;
                }
                Err(rustix::io::Errno::AGAIN) => {
                    ready.clear_ready();
                    break;
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        to.write_all(&buffer[..filled]).await?;
    }
}
