//! Which hosts are spoken to without a proxy: `NO_PROXY`, as container tools written in Go read it
//! (golang.org/x/net/http/httpproxy, `Config.NoProxy`).

use super::endpoint::is_loopback;
use std::net::IpAddr;

/// The exceptions of a `NO_PROXY` list; loopback is always one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct DirectHosts {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    hosts: Hosts,
    /// Of all ports when `None`.
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Hosts {
    All,
    Network(Network),
    /// This name, and those below it.
    Domain(String),
    /// Those below this name (`.example.com`).
    Below(String),
}

impl DirectHosts {
    /// Parses entries separated by commas: `*`, an address, a network, a name (with those below it), `.name` or `*.name`
    /// (those below it only), each but `*` and a network with an optional port.
    pub(super) fn parse(list: &str) -> DirectHosts {
        let entries = list.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        DirectHosts { rules: entries.filter_map(parse_rule).collect() }
    }

    /// True when `host` (a name, or an address with brackets or without) is asked at `port` without a proxy.
    pub(super) fn holds(&self, host: &str, port: u16) -> bool {
        let host = bare(host).trim_end_matches('.').to_ascii_lowercase();
        let address: Option<IpAddr> = host.parse().ok();
        let matches = |rule: &Rule| {
            rule.port.is_none_or(|wanted| wanted == port)
                && match &rule.hosts {
                    Hosts::All => true,
                    Hosts::Network(network) => address.is_some_and(|address| network.holds(address)),
                    Hosts::Domain(name) => host == *name || is_below(&host, name),
                    Hosts::Below(name) => is_below(&host, name),
                }
        };
        is_loopback(&host) || self.rules.iter().any(matches)
    }
}

fn is_below(host: &str, name: &str) -> bool {
    host.strip_suffix(name).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
}

fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

fn parse_rule(entry: &str) -> Option<Rule> {
    let hosts = |hosts| Some(Rule { hosts, port: None });
    if entry == "*" {
        return hosts(Hosts::All);
    }
    if let Some(network) = Network::parse(bare(entry)) {
        return hosts(Hosts::Network(network));
    }
    let (name, port) = match entry.rsplit_once(':') {
        Some((name, port)) => (name, Some(port.parse().ok()?)),
        None => (entry, None),
    };
    let name = bare(name).trim_end_matches('.').to_ascii_lowercase();
    let hosts = match Network::parse(&name) {
        Some(network) => Hosts::Network(network),
        None => match name.strip_prefix('*').unwrap_or(&name).strip_prefix('.') {
            Some(below) => Hosts::Below(below.to_owned()),
            None => Hosts::Domain(name),
        },
    };
    let is_empty = matches!(&hosts, Hosts::Domain(name) | Hosts::Below(name) if name.is_empty());
    (!is_empty).then_some(Rule { hosts, port })
}

/// An address with how many of its bits count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Network {
    address: IpAddr,
    prefix: u32,
}

impl Network {
    /// Parses `10.0.0.0/8`, `fd00::/8`, or an address alone.
    pub(super) fn parse(text: &str) -> Option<Network> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix.parse::<u32>().ok()?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.unwrap_or(bits);
        (prefix <= bits).then_some(Network { address, prefix })
    }

    pub(super) fn holds(self, address: IpAddr) -> bool {
        // What is left of the bits that count must be equal; nothing counts of `/0`.
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                (own.to_bits() ^ other.to_bits()).checked_shr(32 - self.prefix).unwrap_or(0) == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                (own.to_bits() ^ other.to_bits()).checked_shr(128 - self.prefix).unwrap_or(0) == 0
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hosts_are_excepted_as_other_tools_except_them() {
        for (list, host, port, direct) in [
            ("", "reg.lan", 443, false),
            ("", "localhost", 443, true),
            ("", "127.3.0.1", 80, true),
            ("", "[::1]", 5000, true),
            ("*", "reg.lan", 443, true),
            ("other.lan, reg.lan", "reg.lan", 443, true),
            ("REG.lan", "reg.LAN", 443, true),
            ("reg.lan", "reg.lan.", 443, true),
            ("reg.lan", "a.reg.lan", 443, true),
            ("reg.lan", "areg.lan", 443, false),
            ("reg.lan", "reg.lan.evil", 443, false),
            (".reg.lan", "reg.lan", 443, false),
            (".reg.lan", "a.reg.lan", 443, true),
            ("*.reg.lan", "a.b.reg.lan", 443, true),
            ("*.reg.lan", "reg.lan", 443, false),
            (".reg.lan", ".reg.lan", 443, false),
            ("reg.lan:5000", "reg.lan", 5000, true),
            ("reg.lan:5000", "reg.lan", 443, false),
            (".lan:443", "reg.lan", 443, true),
            ("reg.lan:http", "reg.lan", 80, false),
            ("10.0.0.0/8", "10.200.3.4", 443, true),
            ("10.0.0.0/8", "11.0.0.1", 443, false),
            ("10.0.0.0/8", "10.lan", 443, false),
            ("0.0.0.0/0", "11.0.0.1", 443, true),
            ("10.1.2.3", "10.1.2.3", 443, true),
            ("10.1.2.3:5000", "10.1.2.3", 443, false),
            ("10.1.2.3:5000", "10.1.2.3", 5000, true),
            ("fd00::/8", "[fd12::1]", 443, true),
            ("fd00::/8", "fe80::1", 443, false),
            ("::/0", "10.0.0.1", 443, false),
            ("[fd00::1]:5000", "[fd00::1]", 5000, true),
            ("[fd00::1]:5000", "[fd00::1]", 443, false),
            ("[fd00::1]", "[fd00::1]", 443, true),
            ("10.0.0.0/33,:80,.,*.", "10.0.0.1", 80, false),
        ] {
            assert_eq!(DirectHosts::parse(list).holds(host, port), direct, "{list:?} {host} {port}");
        }
    }

    proptest! {
        #[test]
        fn foreign_lists_never_panic(list in "\\PC{0,40}", host in "\\PC{0,20}", port: u16) {
            let _ = DirectHosts::parse(&list).holds(&host, port);
        }
    }
}
