//! Holds published host ports that no process of ours listens on, because the kernel translates them.
//!
//! As long as a claim is held, neither another VM nor a server of the host can be given the port; the kernel lets go of
//! it when the process dies.

use crate::NetworkError;
use ignite_api::PortMapping;
use ignite_api::ports::Protocol;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

/// A held port.
#[derive(Debug)]
pub(crate) struct Claim {
    _socket: OwnedFd,
}

/// Claims all ports, or none.
pub(crate) fn claim(ports: &[PortMapping]) -> Result<Vec<Claim>, NetworkError> {
    ports.iter().map(claim_one).collect()
}

fn claim_one(port: &PortMapping) -> Result<Claim, NetworkError> {
    if port.host_port == 0 || port.vm_port == 0 {
        return Err(NetworkError::CannotPublish { network: "cni", port: port.host_port });
    }
    let address = port.bind_address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let wanted = SocketAddr::new(address, port.host_port);
    let (protocol, bound) = match port.protocol {
        Protocol::Tcp => ("tcp", bind(wanted, SocketType::STREAM).or_else(|error| bind_in_time_wait(wanted, error))),
        Protocol::Udp => ("udp", bind(wanted, SocketType::DGRAM)),
    };
    match bound {
        Ok(socket) => Ok(Claim { _socket: socket }),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(NetworkError::PortInUse {
            address: address.to_string(),
            port: port.host_port,
            protocol: protocol.to_owned(),
        }),
        Err(source) => Err(NetworkError::Io { what: format!("publish host port {wanted}/{protocol}"), source }),
    }
}

/// Bound, but not listening: a connection that is not translated is refused, as if nobody held the port.
fn bind(wanted: SocketAddr, kind: SocketType) -> io::Result<OwnedFd> {
    let family = if wanted.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
    if wanted.is_ipv6() {
        rustix::net::sockopt::set_ipv6_v6only(&socket, true)?;
    }
    rustix::net::bind(&socket, &wanted)?;
    Ok(socket)
}

/// Connections that ended in the last minute are in the way of a plain bind, not of one that listens.
fn bind_in_time_wait(wanted: SocketAddr, error: io::Error) -> io::Result<OwnedFd> {
    if error.kind() != io::ErrorKind::AddrInUse {
        return Err(error);
    }
    TcpListener::bind(wanted).map(OwnedFd::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;
    use std::time::{Duration, Instant};

    fn free_port() -> u16 {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
    }

    fn ports(spec: &str) -> Vec<PortMapping> {
        ignite_api::ports::parse_ports(spec).unwrap()
    }

    #[test]
    fn a_claimed_port_is_taken_for_everybody_and_answers_nobody() {
        // A port that was free may be somebody's before it is claimed.
        let claim_free = || {
            let number = free_port();
            claim(&ports(&format!("127.0.0.1:{number}:80"))).ok().map(|held| (number, held))
        };
        let (number, held) = (0..50).find_map(|_| claim_free()).expect("a free port");
        assert_eq!(TcpListener::bind(("127.0.0.1", number)).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let again = claim(&ports(&format!("{number}:80"))).unwrap_err();
        assert_eq!(again.to_string(), format!("host port 0.0.0.0:{number}/tcp is already in use"));
        assert_eq!(TcpStream::connect(("127.0.0.1", number)).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        claim(&ports(&format!("127.0.0.1:{number}:80/udp"))).expect("the other protocol is free");
        drop(held);
        // A program that another test is just starting has the socket until it is executed.
        let deadline = Instant::now() + Duration::from_secs(10);
        while let Err(error) = claim(&ports(&format!("127.0.0.1:{number}:80"))) {
            assert!(Instant::now() < deadline, "free again: {error}");
        }
    }

    #[test]
    fn a_port_of_a_connection_that_just_ended_can_be_claimed() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let number = listener.local_addr().unwrap().port();
        let client = TcpStream::connect(("127.0.0.1", number)).unwrap();
        let (server, _) = listener.accept().unwrap();
        drop((server, listener));
        drop(client);
        claim(&ports(&format!("127.0.0.1:{number}:80"))).unwrap();
    }

    #[test]
    fn ipv6_addresses_are_their_own() {
        if TcpListener::bind("[::1]:0").is_err() {
            return;
        }
        let number = free_port();
        let _six = claim(&ports(&format!("[::1]:{number}:80"))).unwrap();
        claim(&ports(&format!("127.0.0.1:{number}:80"))).unwrap();
    }
}
