//! What a network fails at, and what to do then.

use crate::cni::conf::ConfProblem;
use std::path::PathBuf;
use thiserror::Error;

/// What a network failed at.
#[derive(Debug, Error)]
pub enum NetworkError {
    /// A program is not installed.
    #[error("{program} is not installed")]
    ProgramMissing {
        /// The program.
        program: String,
        /// What to type.
        hint: String,
    },
    /// A host port is taken.
    #[error("host port {address}:{port}/{protocol} is already in use")]
    PortInUse {
        /// Host address.
        address: String,
        /// Host port.
        port: u16,
        /// `tcp` or `udp`.
        protocol: String,
    },
    /// A host port belongs to another VM.
    #[error("host port {address}:{port}/{protocol} is published by VM {owner:?}")]
    PortPublished {
        /// Host address.
        address: String,
        /// Host port.
        port: u16,
        /// `tcp` or `udp`.
        protocol: String,
        /// Name of the VM.
        owner: String,
    },
    /// There is no such network.
    #[error("unknown network {0:?}; known: user, none, cni, cni:NAME[,NAME], docker-bridge")]
    UnknownNetwork(String),
    /// Something was asked of a network that it does not have.
    #[error("network {network:?} cannot give a VM {what}")]
    CannotGive {
        /// The network.
        network: &'static str,
        /// What, with its field.
        what: &'static str,
    },
    /// Ports were asked of a network that leads nowhere.
    #[error("network {network:?} cannot publish host port {port}")]
    CannotPublish {
        /// The network.
        network: &'static str,
        /// The first of the ports.
        port: u16,
    },
    /// Only root may use this network.
    #[error("network {network:?} needs root")]
    NeedsRoot {
        /// The network.
        network: &'static str,
    },
    /// No CNI network has this name.
    #[error("no CNI network is called {name:?}; known: {}", known.join(", "))]
    NoSuchNetwork {
        /// The name.
        name: String,
        /// Networks there are.
        known: Vec<String>,
    },
    /// A CNI network's configuration cannot be used.
    #[error("CNI configuration {}", path.display())]
    BadNetwork {
        /// Its file.
        path: PathBuf,
        /// What is wrong.
        source: ConfProblem,
    },
    /// A CNI plugin failed.
    #[error("CNI network {network:?}: {plugin} {command} failed{}: {message}", code.map(|code| format!(" (code {code})")).unwrap_or_default())]
    CniPlugin {
        /// The network.
        network: String,
        /// The plugin.
        plugin: String,
        /// `ADD`, `CHECK`, `DEL` or `GC`.
        command: &'static str,
        /// Its error code (CNI spec 1.0.0 §5 "Error"), where it gave one.
        code: Option<i64>,
        /// What it said.
        message: String,
    },
    /// A CNI network's result makes no sense.
    #[error("CNI network {network:?}: bad result: {reason}")]
    BadResult {
        /// The network.
        network: String,
        /// What is wrong.
        reason: String,
    },
    /// Nothing is attached that could be looked at.
    #[error("the VM is not attached to a CNI network")]
    NotAttached,
    /// The network of a Pod has not been handed over.
    #[error("network \"pod\" is that of a Kubernetes Pod, and none has been prepared here")]
    NotInPod,
    /// There is no bridge of Docker's, or no place in it.
    #[error("Docker's bridge cannot be used: {reason}")]
    NoDockerBridge {
        /// Why.
        reason: String,
    },
    /// passt needs an interface besides loopback, and there is none.
    #[error("this host has no network interface besides loopback; use `--network none`")]
    NoInterface,
    /// A helper process failed.
    #[error("{program} failed: {detail}")]
    Helper {
        /// The program.
        program: String,
        /// What it said last.
        detail: String,
    },
    /// A system call failed.
    #[error("{what}")]
    Io {
        /// What was being done.
        what: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl NetworkError {
    /// The next thing to do, where there is one.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            NetworkError::ProgramMissing { hint, .. } => return Some(hint.clone()),
            NetworkError::PortInUse { .. } => "publish another host port, or see who has it: ss -ltnup",
            NetworkError::PortPublished { owner, .. } => {
                return Some(format!("publish another host port, or stop the VM that has it: ignite stop {owner}"));
            }
            NetworkError::UnknownNetwork(_) => "use --network cni, user or none",
            NetworkError::NotInPod => "in a Pod, as root: ignited pod network; elsewhere use --network user or cni",
            NetworkError::NoDockerBridge { .. } => {
                "use a network without Docker: --network cni (a bridge of its own) or --network user"
            }
            NetworkError::NeedsRoot { .. } => "run it as root, or use --network user",
            NetworkError::CannotGive { .. } => "use --network cni, as root",
            NetworkError::NoSuchNetwork { .. } => "see which there are: ignite network ls",
            NetworkError::CannotPublish { .. } => "use a network that can publish ports: --network user or cni",
            NetworkError::BadNetwork { .. }
            | NetworkError::CniPlugin { .. }
            | NetworkError::BadResult { .. }
            | NetworkError::NotAttached
            | NetworkError::NoInterface
            | NetworkError::Helper { .. }
            | NetworkError::Io { .. } => return None,
        };
        Some(text.to_owned())
    }
}
