//! How a VM is connected and what names it knows: fields of its `spec`, under the names CNI and Kubernetes' Pod have for them.

use crate::meta::null_is_default;
use crate::ports::PortMapping;
use serde::{Deserialize, Serialize};

/// In the place of an address of [`HostAlias`]: the address at which the guest reaches its host, as Docker writes it.
pub const HOST_GATEWAY: &str = "host-gateway";

/// Networking wanted.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct NetworkSpec {
    /// Published ports.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub ports: Vec<PortMapping>,
    /// *Extension.* `user`, `none` or `cni[:NAME[,NAME…]]`; absent: chosen by what the host allows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// *Extension.* Addresses wanted, with or without prefix length; CNI networks only.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub ips: Vec<String>,
    /// *Extension.* MAC address of the first interface; absent: one made from the VM's uid, so that it stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// *Extension.* Further names by which VMs of the same network find this one.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub aliases: Vec<String>,
    /// *Extension.* Limits of the traffic, for CNI networks with the `bandwidth` capability.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<Bandwidth>,
}

/// Limits of the traffic, as CNI's capability `bandwidth` has them: bits per second, and bits. Absent or 0: no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Bandwidth {
    /// Rate towards the VM, in bits per second.
    #[serde(skip_serializing_if = "is_zero")]
    pub ingress_rate: u64,
    /// What may exceed it for a moment, in bits.
    #[serde(skip_serializing_if = "is_zero")]
    pub ingress_burst: u64,
    /// Rate from the VM, in bits per second.
    #[serde(skip_serializing_if = "is_zero")]
    pub egress_rate: u64,
    /// What may exceed it for a moment, in bits.
    #[serde(skip_serializing_if = "is_zero")]
    pub egress_burst: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A line of the guest's `/etc/hosts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostAlias {
    /// An address, or [`HOST_GATEWAY`].
    pub ip: String,
    /// Its names.
    pub hostnames: Vec<String>,
}

/// How the guest resolves names. What is absent or empty is the network's own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DnsConfig {
    /// Addresses of name servers, at most 3.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub nameservers: Vec<String>,
    /// Search domains.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub searches: Vec<String>,
    /// Options of resolv.conf(5).
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub options: Vec<DnsOption>,
}

/// An option of resolv.conf(5): `name`, or `name:value`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DnsOption {
    /// Such as `ndots`.
    pub name: String,
    /// Such as `2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

impl DnsOption {
    /// Reads `name` or `name:value`.
    pub fn parse(text: &str) -> DnsOption {
        match text.split_once(':') {
            Some((name, value)) => DnsOption { name: name.to_owned(), value: Some(value.to_owned()) },
            None => DnsOption { name: text.to_owned(), value: None },
        }
    }
}

impl std::fmt::Display for DnsOption {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)?;
        match &self.value {
            Some(value) => write!(f, ":{value}"),
            None => Ok(()),
        }
    }
}

/// Prefix of the annotations that say how an interface reaches its guest, as Weave Ignite has them.
pub const INTERFACE_ANNOTATION: &str = "ignite.weave.works/interface/";

/// How an interface reaches its guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InterfaceKind {
    /// `tc-redirect`: its frames, and the agent sets its address.
    TcRedirect,
    /// `dhcp-bridge`: so too, and a guest that asks by DHCP is answered.
    DhcpBridge,
}

impl InterfaceKind {
    /// Reads an annotation's value.
    pub fn parse(text: &str) -> Option<InterfaceKind> {
        match text {
            "tc-redirect" => Some(InterfaceKind::TcRedirect),
            "dhcp-bridge" => Some(InterfaceKind::DhcpBridge),
            _ => None,
        }
    }
}

/// The interfaces whose guests ask by DHCP, by the annotations of their VM.
pub fn dhcp_interfaces(annotations: &std::collections::BTreeMap<String, String>) -> Vec<String> {
    let interfaces = annotations.iter().filter_map(|(key, value)| {
        let interface = key.strip_prefix(INTERFACE_ANNOTATION)?;
        (InterfaceKind::parse(value) == Some(InterfaceKind::DhcpBridge)).then(|| interface.to_owned())
    });
    interfaces.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_say_which_interfaces_ask_by_dhcp() {
        let annotation = |interface: &str, kind: &str| (format!("{INTERFACE_ANNOTATION}{interface}"), kind.to_owned());
        let annotations = [
            annotation("eth0", "tc-redirect"),
            annotation("eth1", "dhcp-bridge"),
            ("other".to_owned(), "dhcp-bridge".to_owned()),
        ];
        assert_eq!(dhcp_interfaces(&annotations.into()), ["eth1"]);
    }

    #[test]
    fn options_are_read_as_they_are_written() {
        for text in ["ndots:2", "rotate", "a:b:c"] {
            assert_eq!(DnsOption::parse(text).to_string(), text);
        }
    }
}
