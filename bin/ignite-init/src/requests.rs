//! Starts what an `Open` asks for.

use crate::error::LaunchError;
use crate::spawn::owned;
use crate::streams::Stream;
use crate::{copy_in, copy_out, launch, spawn, usage};
use ignite_agent_protocol::message::{FileStat, Open, Opened, StreamExit};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

/// What became of an `Open`.
#[derive(Debug)]
pub enum Started {
    /// Something runs. Without `opened`, the answer follows later.
    Stream {
        /// The stream.
        stream: Stream,
        /// The answer.
        opened: Option<Opened>,
    },
    /// It is done already.
    Answer(Opened),
}

/// Starts it on stream `id`.
pub fn start(id: u32, open: Open) -> Result<Started, StreamExit> {
    let failed = |message: String| StreamExit::Failed { code: 125, message };
    let of_child = |child: Result<spawn::Child, LaunchError>, tells_pid: bool| {
        let child = child.map_err(|e| StreamExit::Failed { code: e.exit_code(), message: e.to_string() })?;
        let pid = u32::try_from(child.pid).ok().filter(|_| tells_pid);
        let opened = Some(Opened { pid, ..Opened::default() });
        Ok(Started::Stream { stream: Stream::of_child(id, child), opened })
    };
    match open {
        Open::Exec(process) => {
            let launch = launch::plan(&process, &spawn::facts());
            of_child(launch.and_then(|launch| spawn::start(&launch)), true)
        }
        Open::CopyOut { path, follow } => {
            let source = copy_out::Source::open(&path, follow).map_err(|e| failed(format!("{path}: {e}")))?;
            of_child(spawn::fork_worker(source.fd(), |_, output| copy_out::run(source, output)), false)
        }
        Open::CopyIn { path, keep_owner } => {
            let target = copy_in::Target::open(&path, keep_owner).map_err(|e| failed(format!("{path}: {e}")))?;
            of_child(spawn::fork_worker(target.fd(), |input, _| copy_in::run(&target, input)), false)
        }
        Open::Connect { port } => {
            let socket = connect(port).map_err(|e| failed(format!("connect to port {port}: {e}")))?;
            let stream = Stream::of_connection(id, socket).map_err(|e| failed(e.to_string()))?;
            Ok(Started::Stream { stream, opened: None })
        }
        Open::Stat { path } => {
            let stat = stat(&path).map_err(|e| failed(format!("{path}: {e}")))?;
            Ok(Started::Answer(Opened { stat: Some(stat), ..Opened::default() }))
        }
        Open::Usage => {
            let usage = usage::read().map_err(|e| failed(format!("read /proc: {e}")))?;
            Ok(Started::Answer(Opened { usage: Some(usage), ..Opened::default() }))
        }
    }
}

fn connect(port: u16) -> io::Result<OwnedFd> {
    let flags = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: makes a descriptor.
    let socket = owned(unsafe { libc::socket(libc::AF_INET, flags, 0) })?;
    let address = libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(Ipv4Addr::LOCALHOST).to_be() },
        sin_zero: [0; 8],
    };
    // SAFETY: the address is initialised and its length is given.
    let connected = unsafe {
        libc::connect(socket.as_raw_fd(), (&raw const address).cast(), size_of::<libc::sockaddr_in>() as u32)
    };
    match io::Error::last_os_error() {
        e if connected != 0 && e.raw_os_error() != Some(libc::EINPROGRESS) => Err(e),
        _ => Ok(socket),
    }
}

fn stat(path: &str) -> io::Result<FileStat> {
    let found = std::fs::symlink_metadata(path)?;
    let link_target = match found.is_symlink() {
        true => Some(std::fs::read_link(path)?.to_string_lossy().into_owned()),
        false => None,
    };
    Ok(FileStat { mode: found.mode(), size: found.len(), link_target })
}
