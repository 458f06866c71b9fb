//! What makes the network of a VM, and the names it knows, invalid.

use super::{Check, FieldProblem, MAX_ITEMS, MAX_PORTS, quoted};
use crate::network::{Bandwidth, DnsConfig, HOST_GATEWAY, HostAlias, INTERFACE_ANNOTATION, InterfaceKind, NetworkSpec};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Most addresses asked for: one per family and network.
const MAX_IPS: usize = 16;
/// Most further names of a VM.
const MAX_ALIASES: usize = 32;
/// What resolv.conf(5) allows.
const MAX_NAMESERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;
const MAX_OPTIONS: usize = 32;
/// Longest name (RFC 1035).
const MAX_NAME_LEN: usize = 253;
/// What tc can count, in bits per second; more is no limit.
const MAX_RATE: u64 = 1 << 42;
/// What tc can count, in bits.
const MAX_BURST: u64 = (u32::MAX as u64) * 8;

const NAME_REASON: &str = "must be letters, digits, '-', '_' and '.', and begin with a letter or digit";
const IP_REASON: &str = "must be an address, such as 10.61.0.7 or 10.61.0.7/16";

impl Check {
    pub(super) fn network(&mut self, path: &str, network: &NetworkSpec) {
        if let Some(mode) = &network.mode {
            self.mode(format!("{path}.mode"), mode);
        }
        if self.at_most(MAX_IPS, format!("{path}.ips"), network.ips.len()) {
            for (index, ip) in network.ips.iter().enumerate() {
                self.invalid_unless(is_interface_ip(ip), format!("{path}.ips[{index}]"), quoted(ip), IP_REASON);
            }
        }
        if let Some(mac) = &network.mac {
            let reason = "must be six hexadecimal octets such as 02:00:00:00:00:01, and no multicast address";
            self.invalid_unless(is_unicast_mac(mac), format!("{path}.mac"), quoted(mac), reason);
        }
        if self.at_most(MAX_ALIASES, format!("{path}.aliases"), network.aliases.len()) {
            self.names(&format!("{path}.aliases"), &network.aliases);
        }
        if let Some(bandwidth) = &network.bandwidth {
            self.bandwidth(&format!("{path}.bandwidth"), bandwidth);
        }
        self.ports(path, network);
    }

    fn ports(&mut self, path: &str, network: &NetworkSpec) {
        if !self.at_most(MAX_PORTS, format!("{path}.ports"), network.ports.len()) {
            return;
        }
        for (index, port) in network.ports.iter().enumerate() {
            for (field, number) in [("hostPort", port.host_port), ("vmPort", port.vm_port)] {
                let at = format!("{path}.ports[{index}].{field}");
                self.invalid_unless(number != 0, at, number.to_string(), "must be between 1 and 65535");
            }
        }
        if let Err(conflict) = crate::ports::check_conflicts(&network.ports) {
            self.push(format!("{path}.ports[{}]", conflict.index), FieldProblem::Duplicate(conflict.to_string()));
        }
    }

    fn bandwidth(&mut self, path: &str, bandwidth: &Bandwidth) {
        let Bandwidth { ingress_rate, ingress_burst, egress_rate, egress_burst } = *bandwidth;
        for (direction, rate, burst) in
            [("ingress", ingress_rate, ingress_burst), ("egress", egress_rate, egress_burst)]
        {
            // The plugin refuses one without the other.
            let is_whole = (rate == 0) == (burst == 0) && rate <= MAX_RATE && burst <= MAX_BURST;
            let reason =
                format!("{direction}Rate and {direction}Burst are given together, burst at most {MAX_BURST} bits");
            self.invalid_unless(is_whole, path, format!("{rate} and {burst}"), reason);
        }
    }

    pub(super) fn host_aliases(&mut self, path: &str, aliases: &[HostAlias]) {
        if !self.at_most(MAX_ITEMS, path, aliases.len()) {
            return;
        }
        for (index, alias) in aliases.iter().enumerate() {
            let is_ip = alias.ip == HOST_GATEWAY || alias.ip.parse::<IpAddr>().is_ok();
            let reason = "must be an address, or host-gateway";
            self.invalid_unless(is_ip, format!("{path}[{index}].ip"), quoted(&alias.ip), reason);
            let names = format!("{path}[{index}].hostnames");
            if alias.hostnames.is_empty() {
                self.required(&names, "at least one name");
            }
            if self.at_most(MAX_ALIASES, &names, alias.hostnames.len()) {
                self.names(&names, &alias.hostnames);
            }
        }
    }

    pub(super) fn dns_config(&mut self, path: &str, dns: &DnsConfig) {
        let servers = format!("{path}.nameservers");
        if self.at_most(MAX_NAMESERVERS, &servers, dns.nameservers.len()) {
            for (index, server) in dns.nameservers.iter().enumerate() {
                let is_ip = server.parse::<IpAddr>().is_ok();
                self.invalid_unless(is_ip, format!("{servers}[{index}]"), quoted(server), "must be an address");
            }
        }
        if self.at_most(MAX_SEARCHES, format!("{path}.searches"), dns.searches.len()) {
            for (index, domain) in dns.searches.iter().enumerate() {
                // Docker's way of saying that there shall be none.
                let is_domain = domain == "." || is_name(domain.strip_suffix('.').unwrap_or(domain));
                self.invalid_unless(is_domain, format!("{path}.searches[{index}]"), quoted(domain), NAME_REASON);
            }
        }
        if self.at_most(MAX_OPTIONS, format!("{path}.options"), dns.options.len()) {
            for (index, option) in dns.options.iter().enumerate() {
                let is_option = is_name(&option.name)
                    && option.value.as_ref().is_none_or(|value| value.bytes().all(|b| b.is_ascii_graphic()));
                let reason = "must be an option of resolv.conf(5), such as ndots:2";
                self.invalid_unless(is_option, format!("{path}.options[{index}]"), quoted(&option.to_string()), reason);
            }
        }
    }

    pub(super) fn interface_annotations(&mut self, path: &str, annotations: &BTreeMap<String, String>) {
        for (key, value) in annotations.iter().filter(|(key, _)| key.starts_with(INTERFACE_ANNOTATION)) {
            let is_kind = InterfaceKind::parse(value).is_some();
            let reason = "must be tc-redirect or dhcp-bridge";
            self.invalid_unless(is_kind, format!("{path}[{key}]"), quoted(value), reason);
        }
    }

    fn names(&mut self, path: &str, names: &[String]) {
        for (index, name) in names.iter().enumerate() {
            self.invalid_unless(is_name(name), format!("{path}[{index}]"), quoted(name), NAME_REASON);
        }
    }
}

/// A name as Docker's users write them: with underscores, too.
fn is_name(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    name.len() <= MAX_NAME_LEN
        && name.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric() || first == b'_')
        && name.bytes().all(is_allowed)
        && !name.contains("..")
        && !name.ends_with('.')
}

fn is_interface_ip(text: &str) -> bool {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let Ok(address) = address.parse::<IpAddr>() else { return false };
    let most = if address.is_ipv4() { 32 } else { 128 };
    let is_prefix = |prefix: &str| prefix.parse::<u8>().is_ok_and(|prefix| prefix <= most);
    prefix.is_none_or(is_prefix) && !address.is_unspecified() && !address.is_loopback() && !address.is_multicast()
}

fn is_unicast_mac(text: &str) -> bool {
    let octets: Option<Vec<u8>> = text
        .split(':')
        .map(|octet| {
            let is_octet = octet.len() == 2 && octet.bytes().all(|digit| digit.is_ascii_hexdigit());
            if is_octet { u8::from_str_radix(octet, 16).ok() } else { None }
        })
        .collect();
    octets.is_some_and(|octets| octets.len() == 6 && octets[0] & 1 == 0 && octets.iter().any(|octet| *octet != 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::DnsOption;

    #[test]
    fn addresses_are_those_an_interface_can_have() {
        for good in ["10.61.0.7", "10.61.0.7/16", "fd00::7/64", "fd00::7"] {
            assert!(is_interface_ip(good), "{good}");
        }
        for bad in
            ["", "10.61.0", "10.61.0.7/33", "fd00::/129", "10.61.0.7/", "127.0.0.1", "0.0.0.0", "224.0.0.1", "web"]
        {
            assert!(!is_interface_ip(bad), "{bad}");
        }
    }

    #[test]
    fn a_mac_is_six_octets_of_one_station() {
        assert!(is_unicast_mac("02:00:0a:ff:01:10"));
        for bad in [
            "",
            "01:00:5e:00:00:01",
            "00:00:00:00:00:00",
            "2:0:0:0:0:1",
            "02:00:00:00:00",
            "02-00-00-00-00-01",
            "02:00:00:00:00:+1",
        ] {
            assert!(!is_unicast_mac(bad), "{bad}");
        }
    }

    #[test]
    fn names_are_words_with_dots() {
        for good in ["db", "my_db", "DB.lan", "_tcp.x", "1a"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", ".a", "a.", "a..b", "a b", "a\n", "-a", "ä"] {
            assert!(!is_name(bad), "{bad}");
        }
    }

    #[test]
    fn everything_that_is_wrong_is_named() {
        let mut check = Check::default();
        let bandwidth = Bandwidth { ingress_rate: 8, ..Bandwidth::default() };
        let network = NetworkSpec {
            ips: vec!["x".into()],
            mac: Some("ff:ff:ff:ff:ff:ff".into()),
            aliases: vec!["a b".into()],
            bandwidth: Some(bandwidth),
            ..NetworkSpec::default()
        };
        check.network("n", &network);
        let alias = |ip: &str, names: &[&str]| HostAlias {
            ip: ip.into(),
            hostnames: names.iter().map(|name| (*name).to_owned()).collect(),
        };
        check.host_aliases("h", &[alias(HOST_GATEWAY, &["host"]), alias("x", &[]), alias("::1", &["a\nb"])]);
        check.dns_config(
            "d",
            &DnsConfig {
                nameservers: vec!["a".into()],
                searches: vec![".".into(), "a b".into()],
                options: vec![DnsOption::parse("ndots:2"), DnsOption::parse("a:b c")],
            },
        );
        let paths: Vec<&str> = check.errors.iter().map(|error| error.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "n.ips[0]",
                "n.mac",
                "n.aliases[0]",
                "n.bandwidth",
                "h[1].ip",
                "h[1].hostnames",
                "h[2].hostnames[0]",
                "d.nameservers[0]",
                "d.searches[1]",
                "d.options[1]",
            ]
        );
    }
}
