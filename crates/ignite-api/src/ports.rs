//! Published ports, in Docker's syntax.

use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// A host port that leads to a guest port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
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
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}
