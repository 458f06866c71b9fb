//! Whether somebody on a bridge has an address: the ARP probes of RFC 5227, few and quick, because the bridge is this host's.

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use std::io;
use std::mem::MaybeUninit;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// How often it is asked, and how long an answer may take.
const PROBES: usize = 2;
const WAIT: Duration = Duration::from_millis(100);
/// An ARP packet in an Ethernet frame.
const ARP_FRAME: usize = 42;

/// Asks on a bridge of this host. Blocks, for 200 ms where nobody answers.
pub(super) fn is_answered(bridge: &str, address: Ipv4Addr) -> io::Result<bool> {
    let (socket, mac) = open(bridge)?;
    let question = question(mac, address);
    for _ in 0..PROBES {
        match rustix::io::write(&socket, &question) {
            // Without carrier or switched off there is nobody.
            Ok(_) | Err(Errno::NETDOWN | Errno::NOBUFS) => {}
            Err(errno) => return Err(errno.into()),
        }
        let end = Instant::now() + WAIT;
        while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            let timeout = Timespec { tv_sec: 0, tv_nsec: left.subsec_nanos().into() };
            match rustix::event::poll(&mut [PollFd::new(&socket, PollFlags::IN)], Some(&timeout)) {
                Ok(0) | Err(Errno::INTR) => continue,
                Ok(_) => {}
                Err(errno) => return Err(errno.into()),
            }
            let mut buffer = [MaybeUninit::<u8>::uninit(); 128];
            match rustix::net::recv(&socket, &mut buffer, rustix::net::RecvFlags::DONTWAIT) {
                Ok(((frame, _), _)) if is_from(frame, address) => return Ok(true),
                Ok(_) | Err(Errno::AGAIN | Errno::INTR | Errno::NETDOWN) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
    Ok(false)
}

/// A socket for ARP on the bridge, and the bridge's MAC address.
fn open(bridge: &str) -> io::Result<(OwnedFd, [u8; 6])> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType};
    let unbound = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    let index = rustix::net::netdevice::name_to_index(&unbound, bridge)?;
    // SAFETY: a system call on numbers; the descriptor is new and ours.
    let socket = unsafe {
        let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(fd)
    };
    // SAFETY: an all-zero address is a valid one; `bind` reads it and `getsockname` writes at most its size into it.
    let (done, address) = unsafe {
        let mut address: libc::sockaddr_ll = std::mem::zeroed();
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = (libc::ETH_P_ARP as u16).to_be();
        address.sll_ifindex = index as i32;
        let mut size = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        let bound = libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size);
        let named = libc::getsockname(socket.as_raw_fd(), (&raw mut address).cast(), &mut size);
        (bound | named, address)
    };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    let mac = address.sll_addr;
    Ok((socket, [mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]]))
}

/// Who has the address? Asked by nobody (sender 0.0.0.0), so that no table is changed by it.
fn question(mac: [u8; 6], address: Ipv4Addr) -> Vec<u8> {
    let mut frame = Vec::with_capacity(ARP_FRAME);
    frame.extend([0xff; 6]);
    frame.extend(mac);
    frame.extend([0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(mac);
    frame.extend([0; 4]);
    frame.extend([0; 6]);
    frame.extend(address.octets());
    frame
}

/// Whether an ARP packet, question or answer, comes from the address's owner.
fn is_from(frame: &[u8], address: Ipv4Addr) -> bool {
    frame.len() >= ARP_FRAME && frame[12..14] == [8, 6] && frame[28..32] == address.octets()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_owner_of_an_address_speaks_from_it() {
        let address = Ipv4Addr::new(172, 17, 255, 9);
        let mut frame = question([2, 0, 0, 0, 0, 1], address);
        assert_eq!(frame.len(), ARP_FRAME);
        assert!(!is_from(&frame, address), "it is the question");
        frame[28..32].copy_from_slice(&address.octets());
        assert!(is_from(&frame, address));
        assert!(!is_from(&frame[..41], address));
    }
}
