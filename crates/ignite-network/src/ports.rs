//! Whether host ports can be published, by binding them for a moment.

use crate::NetworkError;
use ignite_api::PortMapping;
use ignite_api::ports::Protocol;
use std::io;
use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};

/// Checks that each port is free for its protocol on its address, and asked for once. Another process may still take one
/// before it is really bound.
pub(crate) fn check_free(ports: &[PortMapping]) -> Result<(), NetworkError> {
    // All are held until the last is checked, so that a port which is asked for twice is found as well.
    let mut held = Vec::with_capacity(ports.len());
    for port in ports {
        held.push(bind(port)?);
    }
    Ok(())
}

/// Keeps a port until it is dropped.
#[derive(Debug)]
enum Held {
    Tcp { _listener: TcpListener },
    Udp { _socket: UdpSocket },
}

fn bind(port: &PortMapping) -> Result<Held, NetworkError> {
    let address = match port.bind_address {
        None => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Some(IpAddr::V4(address)) => address.into(),
        Some(IpAddr::V6(_)) => return Err(NetworkError::CannotPublish { network: "user", port: port.host_port }),
    };
    if port.host_port == 0 || port.vm_port == 0 {
        return Err(NetworkError::CannotPublish { network: "user", port: port.host_port });
    }
    let wanted = (address, port.host_port);
    let (name, bound) = match port.protocol {
        Protocol::Tcp => ("tcp", TcpListener::bind(wanted).map(|listener| Held::Tcp { _listener: listener })),
        Protocol::Udp => ("udp", UdpSocket::bind(wanted).map(|socket| Held::Udp { _socket: socket })),
    };
    bound.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => {
            NetworkError::PortInUse { address: address.to_string(), port: port.host_port, protocol: name.to_owned() }
        }
        _ => NetworkError::Io { what: format!("publish host port {address}:{}/{name}", port.host_port), source },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(address: &str, host_port: u16, protocol: Protocol) -> PortMapping {
        PortMapping { bind_address: address.parse().ok(), host_port, vm_port: 80, protocol }
    }

    #[test]
    fn a_taken_port_is_named_with_address_and_protocol() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let number = listener.local_addr().unwrap().port();
        let error = check_free(&[port("127.0.0.1", number, Protocol::Tcp)]).unwrap_err();
        assert_eq!(error.to_string(), format!("host port 127.0.0.1:{number}/tcp is already in use"));
        let everywhere = PortMapping { bind_address: None, ..port("", number, Protocol::Tcp) };
        assert!(matches!(check_free(&[everywhere]), Err(NetworkError::PortInUse { .. })));
    }

    #[test]
    fn the_other_protocol_and_another_address_are_free() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let number = listener.local_addr().unwrap().port();
        check_free(&[port("127.0.0.1", number, Protocol::Udp), port("127.0.0.2", number, Protocol::Tcp)]).unwrap();
        check_free(&[port("127.0.0.1", number, Protocol::Udp)]).expect("the check itself keeps nothing");
    }

    #[test]
    fn a_port_asked_for_twice_is_refused() {
        let free = UdpSocket::bind("127.0.0.1:0").unwrap();
        let number = free.local_addr().unwrap().port();
        drop(free);
        let twice = [port("127.0.0.1", number, Protocol::Udp), port("127.0.0.1", number, Protocol::Udp)];
        assert!(matches!(check_free(&twice), Err(NetworkError::PortInUse { .. })));
    }

    #[test]
    fn what_cannot_be_published_is_refused() {
        for refused in [port("::1", 8080, Protocol::Tcp), port("127.0.0.1", 0, Protocol::Tcp)] {
            assert!(matches!(check_free(&[refused]), Err(NetworkError::CannotPublish { .. })));
        }
    }

    #[test]
    fn an_address_of_another_host_is_an_error_that_names_it() {
        let error = check_free(&[port("203.0.113.7", 8080, Protocol::Tcp)]).unwrap_err();
        assert!(error.to_string().contains("203.0.113.7:8080/tcp"), "{error}");
    }
}
