//! passt's process: its arguments (pure) and how it is started.

use super::guard::Loopback;
use super::guest_side;
use crate::NetworkError;
use crate::plugin::{AttachRequest, Helper};
use ignite_api::PortMapping;
use ignite_api::ports::Protocol;
use std::fs::OpenOptions;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::Path;
use std::process::Stdio;
use tokio::process::Command;

/// Name of the program.
pub(crate) const PROGRAM: &str = "passt";
/// File of the run directory.
const LOG_FILE: &str = "passt.log";
/// Most bytes of the log: a guest can make passt talk for ever.
const MAX_LOG_BYTES: u64 = 1024 * 1024;

/// First of the uids that root's helpers run under: far above what systems and subordinate ids (`/etc/subuid`) hand out.
const FIRST_UID: u32 = 1_800_000_000;

/// Starts passt and returns the guest's end of its socket. The process dies with the last copy of that end.
pub(crate) fn spawn(
    program: &Path,
    interface: Option<&str>,
    request: &AttachRequest,
    loopback: Loopback,
) -> Result<(Helper, BlockingStream), NetworkError> {
    let log = request.run_dir.join(LOG_FILE);
    let log_failed = |source| NetworkError::Io { what: format!("create {}", log.display()), source };
    let log_file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&log)
        .map_err(log_failed)?;
    let start_failed = |source| NetworkError::Io { what: format!("start {}", program.display()), source };
    let (socket, far_socket) = BlockingStream::pair().map_err(start_failed)?;
    let inherited = far_socket.as_raw_fd();
    let mut command = Command::new(program);
    command
        .args(arguments(inherited, interface, own_user(), &request.network.ports, loopback))
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log_file)
        .kill_on_drop(true);
    // SAFETY: `prepare` makes system calls on numbers only: no allocation, no lock.
    unsafe { command.pre_exec(move || prepare(inherited)) };
    let child = command.spawn().map_err(start_failed)?;
    let pid = child.id().unwrap_or_default();
    Ok((Helper { program: PROGRAM, pid, child, log, guard: None }, socket))
}

/// Runs between fork and exec: system calls only.
fn prepare(inherited: RawFd) -> io::Result<()> {
    let log_limit = libc::rlimit { rlim_cur: MAX_LOG_BYTES, rlim_max: MAX_LOG_BYTES };
    // SAFETY: plain system calls on numbers and one structure that outlives its call; the process has one thread.
    unsafe {
        libc::setsid();
        if libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) < 0
            || libc::fcntl(inherited, libc::F_SETFD, 0) < 0
            // The log is all it writes to disk. Beyond the limit a write fails, and no signal ends the process.
            || libc::setrlimit(libc::RLIMIT_FSIZE, &log_limit) < 0
            || libc::signal(libc::SIGXFSZ, libc::SIG_IGN) == libc::SIG_ERR
            // Cleared when passt gives up root; the closed socket ends it then.
            || libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) < 0
        {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Whom root's passt becomes once it has bound its ports: a user of this VM's own, so that one VM's helper cannot touch
/// another's. `None`: passt does as it likes, which for root is `nobody`.
fn own_user() -> Option<u32> {
    let user = FIRST_UID + std::process::id();
    let has = |map: &str| std::fs::read_to_string(map).is_ok_and(|text| is_mapped(&text, user));
    (rustix::process::geteuid().is_root() && has("/proc/self/uid_map") && has("/proc/self/gid_map")).then_some(user)
}

/// Whether an id exists in a user namespace with this map (user_namespaces(7): first inside, first outside, length).
fn is_mapped(map: &str, id: u32) -> bool {
    map.lines().any(|line| {
        let numbers: Vec<u64> = line.split_ascii_whitespace().map_while(|word| word.parse().ok()).collect();
        matches!(numbers[..], [first, _, length] if (first..first.saturating_add(length)).contains(&id.into()))
    })
}

/// passt's arguments (passt(1), of 2023 and later).
fn arguments(
    socket: RawFd,
    interface: Option<&str>,
    user: Option<u32>,
    ports: &[PortMapping],
    loopback: Loopback,
) -> Vec<String> {
    let mut arguments: Vec<String> = [
        "--foreground",
        "--quiet",
        "--fd",
        &socket.to_string(),
        "--ipv4-only",
        "--address",
        &guest_side::ADDRESS.to_string(),
        "--netmask",
        &guest_side::PREFIX_LENGTH.to_string(),
        "--gateway",
        &guest_side::GATEWAY.to_string(),
        "--mac-addr",
        guest_side::GATEWAY_MAC,
        "--mtu",
        &guest_side::MTU.to_string(),
        "--dns-forward",
        &guest_side::NAME_SERVER.to_string(),
    ]
    .map(str::to_owned)
    .into();
    // Where it is left out, `guard` does it.
    if loopback == Loopback::Closed {
        arguments.push("--no-map-gw".to_owned());
    }
    if let Some(interface) = interface {
        arguments.extend(["--interface".to_owned(), interface.to_owned()]);
    }
    if let Some(user) = user {
        arguments.extend(["--runas".to_owned(), format!("{user}:{user}")]);
    }
    for port in ports {
        let option = match port.protocol {
            Protocol::Tcp => "--tcp-ports",
            Protocol::Udp => "--udp-ports",
        };
        let address = port.bind_address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        arguments.extend([option.to_owned(), format!("{address}/{}:{}", port.host_port, port.vm_port)]);
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(bind_address: Option<&str>, host_port: u16, vm_port: u16, protocol: Protocol) -> PortMapping {
        PortMapping { bind_address: bind_address.and_then(|text| text.parse().ok()), host_port, vm_port, protocol }
    }

    #[test]
    fn ports_are_published_where_and_how_they_were_asked_for() {
        let ports = [port(None, 8080, 80, Protocol::Tcp), port(Some("127.0.0.1"), 5353, 53, Protocol::Udp)];
        let said = arguments(7, None, None, &ports, Loopback::MayCall).join(" ");
        assert!(said.ends_with("--tcp-ports 0.0.0.0/8080:80 --udp-ports 127.0.0.1/5353:53"), "{said}");
    }

    #[test]
    fn an_id_exists_where_it_is_mapped() {
        assert!(is_mapped("         0          0 4294967295\n", FIRST_UID));
        assert!(!is_mapped("         0     100000      65536\n", FIRST_UID));
        assert!(!is_mapped("", FIRST_UID));
        assert!(!is_mapped("0 x\n18446744073709551615 1 1\n", FIRST_UID));
    }

    #[test]
    fn the_gateway_never_leads_to_the_hosts_loopback() {
        assert!(arguments(7, None, None, &[], Loopback::Closed).iter().any(|argument| argument == "--no-map-gw"));
    }

    #[test]
    fn the_arguments_are_these() {
        insta::assert_snapshot!(
            arguments(7, Some("eth9"), Some(1_800_000_042), &[], Loopback::Closed).join(" "),
            @"--foreground --quiet --fd 7 --ipv4-only --address 10.0.2.15 --netmask 24 --gateway 10.0.2.2 --mac-addr 02:00:0a:00:02:02 --mtu 65520 --dns-forward 10.0.2.3 --no-map-gw --interface eth9 --runas 1800000042:1800000042"
        );
    }
}
