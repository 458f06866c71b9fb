//! What the host's own network looks like, as far as a guest's depends on it.

use crate::NetworkError;
use std::ffi::CStr;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

/// The kernel's IPv4 routes.
const ROUTES: &str = "/proc/net/route";
const RESOLVER: &str = "/etc/resolv.conf";
/// The real servers where `RESOLVER` names systemd-resolved's local one.
const SYSTEMD_RESOLVER: &str = "/run/systemd/resolve/resolv.conf";
/// As in Docker, where the host has no server that a guest could reach.
const FALLBACK_SERVERS: [&str; 2] = ["8.8.8.8", "8.8.4.4"];
/// Most name servers a resolver asks (resolv.conf(5)).
const MAX_NAME_SERVERS: usize = 3;
/// Most search domains a resolver takes (resolv.conf(5)), and the longest of them.
const MAX_SEARCH_DOMAINS: usize = 6;
const MAX_DOMAIN: usize = 253;

/// The interface passt has to be told: none where there is a default route, which it finds itself; else any interface but
/// loopback, which makes published ports work on a host that is offline.
pub(crate) fn outbound_interface() -> Result<Option<String>, NetworkError> {
    let routes =
        fs::read_to_string(ROUTES).map_err(|source| NetworkError::Io { what: format!("read {ROUTES}"), source })?;
    if has_default_route(&routes) {
        return Ok(None);
    }
    let interfaces = interfaces()?;
    let chosen = interfaces.iter().find(|(_, is_up)| *is_up).or(interfaces.first());
    match chosen {
        Some((name, _)) => Ok(Some(name.clone())),
        None => Err(NetworkError::NoInterface),
    }
}

/// Interfaces of this process's network namespace but loopback, each with whether it is up. Not from `/sys`, which shows
/// the namespace it was mounted in.
fn interfaces() -> Result<Vec<(String, bool)>, NetworkError> {
    let mut found: Vec<(String, bool)> = Vec::new();
    each_interface(|entry, name| {
        let has = |flag: libc::c_int| entry.ifa_flags & flag as u32 != 0;
        if !has(libc::IFF_LOOPBACK) && !found.iter().any(|(other, _)| other == name) {
            found.push((name.to_owned(), has(libc::IFF_UP)));
        }
    })?;
    Ok(found)
}

/// Shows every address of every interface, and each interface's name.
fn each_interface(mut look: impl FnMut(&libc::ifaddrs, &str)) -> Result<(), NetworkError> {
    let mut first = std::ptr::null_mut();
    // SAFETY: the call fills `first` with a list that stays ours until freeifaddrs.
    if unsafe { libc::getifaddrs(&mut first) } < 0 {
        let source = std::io::Error::last_os_error();
        return Err(NetworkError::Io { what: "list network interfaces".into(), source });
    }
    let mut next = first;
    // SAFETY: each pointer is null or an entry of the list, which is freed only below.
    while let Some(entry) = unsafe { next.as_ref() } {
        // SAFETY: the name is a terminated string of the entry.
        look(entry, &unsafe { CStr::from_ptr(entry.ifa_name) }.to_string_lossy());
        next = entry.ifa_next;
    }
    // SAFETY: `first` is what getifaddrs gave, and nothing refers into it any more.
    unsafe { libc::freeifaddrs(first) };
    Ok(())
}

/// Addresses of an interface of this process's network namespace; none where there is no such interface.
pub(crate) fn addresses_of(interface: &str) -> Result<Vec<IpAddr>, NetworkError> {
    let mut found = Vec::new();
    each_interface(|entry, name| {
        // SAFETY: an address is null or one of the family it says, and lives as long as the entry.
        let address = unsafe { entry.ifa_addr.as_ref() };
        let Some(address) = address.filter(|_| name == interface) else { return };
        match i32::from(address.sa_family) {
            libc::AF_INET => {
                // SAFETY: see above.
                let address = unsafe { &*entry.ifa_addr.cast::<libc::sockaddr_in>() };
                found.push(Ipv4Addr::from_bits(u32::from_be(address.sin_addr.s_addr)).into());
            }
            libc::AF_INET6 => {
                // SAFETY: see above.
                let address = unsafe { &*entry.ifa_addr.cast::<libc::sockaddr_in6>() };
                found.push(Ipv6Addr::from(address.sin6_addr.s6_addr).into());
            }
            _ => {}
        }
    })?;
    Ok(found)
}

/// The host's own IPv4 address, at which its servers answer: the one it would use towards others.
pub(crate) fn own_address() -> Option<Ipv4Addr> {
    let towards_others = || -> std::io::Result<IpAddr> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        // Nothing is sent: the kernel looks up the route, here to an address for documentation (RFC 5737).
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        Ok(socket.local_addr()?.ip())
    };
    match towards_others() {
        Ok(IpAddr::V4(address)) if !address.is_loopback() && !address.is_unspecified() => Some(address),
        _ => None,
    }
}

/// Whether a route leads everywhere: destination and mask (fields 2 and 8) are zero.
fn has_default_route(routes: &str) -> bool {
    routes.lines().skip(1).any(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        fields.get(1) == Some(&"00000000") && fields.get(7) == Some(&"00000000")
    })
}

/// The host's own search domains; empty when they cannot be read.
pub(crate) fn search_domains() -> Vec<String> {
    parse_search_domains(&fs::read_to_string(RESOLVER).unwrap_or_default())
}

/// The host's name servers that a guest can reach: not those on the host's loopback.
pub(crate) fn name_servers() -> Vec<String> {
    let servers = [RESOLVER, SYSTEMD_RESOLVER]
        .map(|path| parse_name_servers(&fs::read_to_string(path).unwrap_or_default()))
        .into_iter()
        .find(|servers| !servers.is_empty());
    servers.unwrap_or_else(|| FALLBACK_SERVERS.map(str::to_owned).to_vec())
}

fn parse_name_servers(text: &str) -> Vec<String> {
    let addresses = text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        if words.next() != Some("nameserver") { None } else { words.next()?.parse::<IpAddr>().ok() }
    });
    addresses
        .filter(|address| !address.is_loopback())
        .take(MAX_NAME_SERVERS)
        .map(|address| address.to_string())
        .collect()
}

/// The last `search` or `domain` line counts (resolv.conf(5)).
fn parse_search_domains(text: &str) -> Vec<String> {
    let mut domains = Vec::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        if matches!(words.next(), Some("search" | "domain")) {
            domains = words.filter(|word| is_domain(word)).take(MAX_SEARCH_DOMAINS).map(str::to_owned).collect();
        }
    }
    domains
}

fn is_domain(word: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    word != "." && word.len() <= MAX_DOMAIN && word.bytes().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEADER: &str = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";

    #[test]
    fn a_default_route_is_one_that_leads_everywhere() {
        let subnet = "eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
        let default = "eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n";
        let half = "tun0\t00000000\t010200C0\t0003\t0\t0\t0\t00000080\t0\t0\t0\n";
        assert!(!has_default_route(HEADER));
        assert!(!has_default_route(&format!("{HEADER}{subnet}{half}")));
        assert!(has_default_route(&format!("{HEADER}{subnet}{default}")));
    }

    #[test]
    fn the_last_search_line_counts() {
        let text = "nameserver 192.0.2.1\nsearch a.example\nsearch b.example c.example bad;domain .\n";
        assert_eq!(parse_search_domains(text), ["b.example", "c.example"]);
        assert_eq!(parse_search_domains(&format!("search {}", "d ".repeat(9))).len(), MAX_SEARCH_DOMAINS);
        assert!(parse_search_domains("# search x\n").is_empty());
    }

    #[test]
    fn servers_on_loopback_are_no_use_to_a_guest() {
        let text = "nameserver 127.0.0.53\nnameserver ::1\nnameserver 192.0.2.1\n#nameserver 192.0.2.9\nnameserver x\nnameserver fd00::1\n";
        assert_eq!(parse_name_servers(text), ["192.0.2.1", "fd00::1"]);
        assert!(parse_name_servers("").is_empty());
    }

    proptest! {
        #[test]
        fn no_text_makes_them_panic(text in ".*") {
            has_default_route(&text);
            parse_search_domains(&text);
            parse_name_servers(&text);
        }
    }
}
