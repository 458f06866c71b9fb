//! Published ports, in Docker's syntax.

use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// A host port that leads to a guest port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PortMapping {
    /// Host address; absent: every address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bind_address: Option<IpAddr>,
    /// Host port.
    pub host_port: u16,
    /// Guest port.
    pub vm_port: u16,
    /// Transport; TCP by default.
    #[serde(default)]
    pub protocol: Protocol,
}

/// Transport of a published port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

/// A text that does not publish ports.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid port {spec:?}: {reason}")]
pub struct InvalidPort {
    /// The text, at most 64 characters of it.
    pub spec: String,
    /// What is wrong with it.
    pub reason: PortProblem,
}

/// What is wrong with a port specification.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PortProblem {
    /// The shape is not `[ip:]hostPort:vmPort[/proto]`.
    #[error("[IP:]HOST_PORT:VM_PORT[/tcp|udp] is expected")]
    Shape,
    /// The host port is missing or no port or range of ports.
    #[error("invalid host port: {0:?}")]
    HostPort(String),
    /// The guest port is missing or no port or range of ports.
    #[error("invalid VM port: {0:?}")]
    VmPort(String),
    /// The address is no IPv4 address, nor an IPv6 address in brackets.
    #[error("invalid IP address: {0:?}")]
    Address(String),
    /// The transport is neither `tcp` nor `udp`.
    #[error("invalid protocol: {0:?}; it is tcp or udp")]
    Protocol(String),
    /// Two ranges of different length.
    #[error("the range has {host} host ports, but {vm} VM ports")]
    RangeLength {
        /// Ports on the host's side.
        host: u32,
        /// Ports on the guest's side.
        vm: u32,
    },
}

/// Two mappings that want the same host port.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{second} wants the same host port as {first}")]
pub struct PortConflict {
    /// The mapping that comes first.
    pub first: PortMapping,
    /// The one that conflicts with it.
    pub second: PortMapping,
    /// Position of the second.
    pub index: usize,
}

impl PortMapping {
    /// True when both cannot be bound at once: the same transport and host port, on addresses that overlap.
    ///
    /// No address is every address of both families; `0.0.0.0` and `::` are every address of their own.
    pub fn overlaps(&self, other: &PortMapping) -> bool {
        let addresses_overlap = match (self.bind_address, other.bind_address) {
            (None, _) | (_, None) => true,
            (Some(a), Some(b)) => a == b || (a.is_ipv4() == b.is_ipv4() && (a.is_unspecified() || b.is_unspecified())),
        };
        self.protocol == other.protocol && self.host_port == other.host_port && addresses_overlap
    }
}

/// Reads `[ip:]hostPort:vmPort[/proto]`; both ports may be ranges of the same length, which give one mapping each.
///
/// The host port is mandatory, an IPv6 address stands in brackets: `8080:80`, `127.0.0.1:53:53/udp`,
/// `[::1]:8000-8009:80-89`.
pub fn parse_ports(spec: &str) -> Result<Vec<PortMapping>, InvalidPort> {
    parse(spec).map_err(|reason| InvalidPort { spec: shorten(spec), reason })
}

fn parse(spec: &str) -> Result<Vec<PortMapping>, PortProblem> {
    let (rest, protocol) = match spec.split_once('/') {
        Some((rest, protocol)) => (rest, protocol.parse()?),
        None => (spec, Protocol::Tcp),
    };
    let (address, ports) = split_address(rest)?;
    let (host, vm) = match ports.split_once(':') {
        Some((_, vm)) if vm.contains(':') => return Err(PortProblem::Shape),
        Some(sides) => sides,
        None => ("", ports),
    };
    let vm_range = parse_range(vm).ok_or_else(|| PortProblem::VmPort(shorten(vm)))?;
    let host_range = parse_range(host).ok_or_else(|| PortProblem::HostPort(shorten(host)))?;
    let length = |(first, last): (u16, u16)| u32::from(last - first) + 1;
    if length(host_range) != length(vm_range) {
        return Err(PortProblem::RangeLength { host: length(host_range), vm: length(vm_range) });
    }
    let pairs = (host_range.0..=host_range.1).zip(vm_range.0..=vm_range.1);
    Ok(pairs.map(|(host_port, vm_port)| PortMapping { bind_address: address, host_port, vm_port, protocol }).collect())
}

fn split_address(rest: &str) -> Result<(Option<IpAddr>, &str), PortProblem> {
    let invalid = |text: &str| PortProblem::Address(shorten(text));
    if let Some(after) = rest.strip_prefix('[') {
        let (address, after) = after.split_once(']').ok_or_else(|| invalid(rest))?;
        let ports = after.strip_prefix(':').ok_or(PortProblem::Shape)?;
        let address: std::net::Ipv6Addr = address.parse().map_err(|_| invalid(address))?;
        return Ok((Some(address.into()), ports));
    }
    if rest.bytes().filter(|b| *b == b':').count() < 2 {
        return Ok((None, rest));
    }
    match rest.split_once(':') {
        Some(("", ports)) => Ok((None, ports)),
        Some((address, ports)) => {
            let address: std::net::Ipv4Addr = address.parse().map_err(|_| invalid(address))?;
            Ok((Some(address.into()), ports))
        }
        None => Ok((None, rest)),
    }
}

/// First and last port, first ≤ last, none of them 0.
fn parse_range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (parse_port(first)?, parse_port(last)?),
        None => (parse_port(text)?, parse_port(text)?),
    };
    (first <= last).then_some((first, last))
}

fn parse_port(text: &str) -> Option<u16> {
    let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|port| is_number && *port != 0)
}

fn shorten(text: &str) -> String {
    text.chars().take(64).collect()
}

/// The first two mappings that want the same host port, if any do.
pub fn check_conflicts(ports: &[PortMapping]) -> Result<(), PortConflict> {
    let mut by_port = std::collections::HashMap::<(u16, Protocol), Vec<&PortMapping>>::new();
    for (index, second) in ports.iter().enumerate() {
        let same_port = by_port.entry((second.host_port, second.protocol)).or_default();
        if let Some(first) = same_port.iter().find(|first| first.overlaps(second)) {
            return Err(PortConflict { first: (*first).clone(), second: second.clone(), index });
        }
        same_port.push(second);
    }
    Ok(())
}

impl std::str::FromStr for Protocol {
    type Err = PortProblem;
    fn from_str(text: &str) -> Result<Protocol, PortProblem> {
        match text.to_ascii_lowercase().as_str() {
            "tcp" => Ok(Protocol::Tcp),
            "udp" => Ok(Protocol::Udp),
            _ => Err(PortProblem::Protocol(shorten(text))),
        }
    }
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        })
    }
}

impl std::fmt::Display for PortMapping {
    /// As Docker's and Weave Ignite's `ps` print it: `0.0.0.0:8080->80/tcp`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.bind_address {
            None => f.write_str("0.0.0.0")?,
            Some(IpAddr::V4(address)) => write!(f, "{address}")?,
            Some(IpAddr::V6(address)) => write!(f, "[{address}]")?,
        }
        write!(f, ":{}->{}/{}", self.host_port, self.vm_port, self.protocol)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(spec: &str) -> Result<String, String> {
        parse_ports(spec)
            .map(|ports| ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn specifications_are_read_as_docker_reads_them() {
        for (spec, expected) in [
            ("8080:80", "0.0.0.0:8080->80/tcp"),
            ("53:53/udp", "0.0.0.0:53->53/udp"),
            ("53:53/UDP", "0.0.0.0:53->53/udp"),
            ("127.0.0.1:8080:80", "127.0.0.1:8080->80/tcp"),
            (":8080:80", "0.0.0.0:8080->80/tcp"),
            ("[::1]:8080:80", "[::1]:8080->80/tcp"),
            ("[::]:53:53/udp", "[::]:53->53/udp"),
            ("8000-8002:80-82", "0.0.0.0:8000->80/tcp, 0.0.0.0:8001->81/tcp, 0.0.0.0:8002->82/tcp"),
            ("65535-65535:1-1", "0.0.0.0:65535->1/tcp"),
        ] {
            assert_eq!(shown(spec).as_deref(), Ok(expected), "{spec}");
        }
    }

    #[test]
    fn what_publishes_nothing_is_refused_with_its_reason() {
        for (spec, reason) in [
            ("", "invalid VM port: \"\""),
            ("22", "invalid host port: \"\""),
            (":22", "invalid host port: \"\""),
            ("0.0.0.0::80", "invalid host port: \"\""),
            ("80:", "invalid VM port: \"\""),
            ("0:80", "invalid host port: \"0\""),
            ("80:0", "invalid VM port: \"0\""),
            ("65536:80", "invalid host port: \"65536\""),
            ("+80:80", "invalid host port: \"+80\""),
            ("a:80", "invalid host port: \"a\""),
            ("90-80:80-90", "invalid host port: \"90-80\""),
            ("1-2-3:1-3", "invalid host port: \"1-2-3\""),
            ("8000-8009:80", "10 host ports, but 1 VM ports"),
            ("80:80/sctp", "invalid protocol: \"sctp\""),
            ("80:80/", "invalid protocol: \"\""),
            ("1.2.3:80:80", "invalid IP address: \"1.2.3\""),
            ("localhost:80:80", "invalid IP address: \"localhost\""),
            ("[1.2.3.4]:80:80", "invalid IP address: \"1.2.3.4\""),
            ("[::1:80:80", "invalid IP address"),
            ("[::1]80:80", "is expected"),
            ("::1:80:80", "is expected"),
            ("1.2.3.4:80:80:80", "is expected"),
        ] {
            let error = shown(spec).expect_err(spec);
            assert!(error.contains(reason), "{spec}: {error}");
        }
    }

    #[test]
    fn mappings_conflict_when_their_addresses_overlap() {
        for (a, b, conflict) in [
            ("80:80", "80:81", true),
            ("80:80", "127.0.0.1:80:80", true),
            ("80:80", "[::1]:80:80", true),
            ("0.0.0.0:80:80", "127.0.0.1:80:80", true),
            ("[::]:80:80", "[::1]:80:80", true),
            ("127.0.0.1:80:80", "127.0.0.1:80:81", true),
            ("0.0.0.0:80:80", "[::]:80:80", false),
            ("127.0.0.1:80:80", "127.0.0.2:80:80", false),
            ("80:80", "80:80/udp", false),
            ("80:80", "81:80", false),
            ("80-90:80-90", "85:1", true),
        ] {
            for (first, second) in [(a, b), (b, a)] {
                let ports = [parse_ports(first).unwrap(), parse_ports(second).unwrap()].concat();
                assert_eq!(check_conflicts(&ports).is_err(), conflict, "{first} {second}");
            }
        }
    }

    #[test]
    fn a_conflict_names_both_mappings() {
        let ports = [parse_ports("80:80").unwrap(), parse_ports("127.0.0.1:80:8080").unwrap()].concat();
        let conflict = check_conflicts(&ports).unwrap_err();
        assert_eq!(conflict.index, 1);
        assert_eq!(conflict.to_string(), "127.0.0.1:80->8080/tcp wants the same host port as 0.0.0.0:80->80/tcp");
    }

    #[test]
    fn json_has_weave_ignites_field_names() {
        let json = r#"{"bindAddress":"10.0.0.2","hostPort":8443,"vmPort":443,"protocol":"tcp"}"#;
        let port: PortMapping = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string(&port).unwrap(), json);
        let short: PortMapping = serde_json::from_str(r#"{"hostPort":1,"vmPort":2}"#).unwrap();
        assert_eq!(short.to_string(), "0.0.0.0:1->2/tcp");
    }

    proptest! {
        #[test]
        fn foreign_texts_never_panic(spec in "\\PC{0,40}|[0-9.:\\[\\]/tcpud-]{0,40}") {
            let _ = parse_ports(&spec);
        }

        #[test]
        fn a_range_gives_one_mapping_per_port(first in 1_u16..60000, length in 0_u16..100, vm in 1_u16..60000) {
            let spec = format!("{first}-{}:{vm}-{}", first + length, vm + length);
            prop_assert_eq!(parse_ports(&spec).unwrap().len(), usize::from(length) + 1);
        }
    }
}
