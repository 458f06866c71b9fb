//! What has to be ready before a VM of a set is started: `spec.dependsOn`.

use crate::meta::null_is_default;
use serde::{Deserialize, Serialize};

/// Most VMs that one depends on.
pub const MAX_DEPENDENCIES: usize = 64;

/// A VM of the same set that has to be ready first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Dependency {
    /// Its name.
    pub name: String,
    /// What is asked of it besides `ready`.
    #[serde(default, skip_serializing_if = "Condition::is_started", deserialize_with = "null_is_default")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<Condition>"))]
    pub condition: Condition,
    /// What is asked of it besides that it runs.
    #[serde(default, skip_serializing_if = "Readiness::is_empty", deserialize_with = "null_is_default")]
    pub ready: Readiness,
}

/// What is asked of a VM that another depends on, also under Compose's names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Condition {
    /// It runs.
    #[default]
    #[serde(alias = "service_started")]
    Started,
    /// It is healthy, as its health check says.
    #[serde(alias = "service_healthy")]
    Healthy,
}

impl Condition {
    fn is_started(&self) -> bool {
        *self == Condition::Started
    }
}

/// What makes a VM ready, under the names of Kubernetes' probes; both may be given. Without either, a VM is ready when its
/// agent answers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Readiness {
    /// A port on its loopback accepts connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_socket: Option<TcpSocketAction>,
    /// A command in it ends with 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exec: Option<ExecAction>,
}

impl Readiness {
    /// Nothing is asked but that the agent answers.
    pub fn is_empty(&self) -> bool {
        self.tcp_socket.is_none() && self.exec.is_none()
    }
}

/// A TCP port of the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TcpSocketAction {
    /// On the guest's loopback.
    pub port: u16,
}

/// A command in the guest.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExecAction {
    /// Program and arguments; no shell is involved.
    pub command: Vec<String>,
}
