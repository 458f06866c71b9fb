//! The seam every kind of network implements.

use crate::cni::conf::ConfProblem;
use crate::port_claims::Claim;
use async_trait::async_trait;
use ignite_api::PortMapping;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use thiserror::Error;

/// A kind of network.
#[async_trait]
pub trait Plugin: Send + Sync {
    /// Name in the plugin table and in `status.network.plugin`.
    fn name(&self) -> &'static str;
    /// Asked before the host is touched: programs present, ports free (right protocol and address), privileges.
    fn check(&self, request: &AttachRequest) -> Result<(), NetworkError>;
    /// Connects. An `Err` leaves nothing behind.
    async fn attach(&self, request: &AttachRequest) -> Result<Attachment, NetworkError>;
    /// Undoes what `attach` did for this VM, in whatever state it is, also from another process; idempotent. All errors
    /// are collected, none stops the rest.
    async fn detach(&self, request: &AttachRequest) -> Vec<NetworkError>;
}

/// Who is to be connected, and how.
#[derive(Debug, Clone)]
pub struct AttachRequest {
    /// The VM's uid.
    pub vm_uid: String,
    /// The VM's name, also its host name.
    pub hostname: String,
    /// Ports to publish.
    pub ports: Vec<PortMapping>,
    /// Run directory of this VM, where records and logs of helper processes go.
    pub run_dir: PathBuf,
    /// Directory of this VM that outlives reboots: what a network keeps there (addresses, leases) does so too.
    pub record_dir: PathBuf,
    /// Where CNI networks are configured, see [`crate::cni::conf_dirs`].
    pub cni_conf_dirs: Vec<PathBuf>,
}

/// What a VM was given.
#[derive(Debug, Default)]
pub struct Attachment {
    /// Interfaces in guest order.
    pub nics: Vec<GuestNic>,
    /// Name servers for the guest.
    pub dns_servers: Vec<String>,
    /// Search domains for the guest.
    pub dns_search: Vec<String>,
    /// Helper processes that belong to the attachment; they die with the caller's thread. One that ends while the VM runs
    /// leaves the guest without network: worth a report, no reason to stop the VM.
    pub helpers: Vec<Helper>,
    /// Host ports, held until this is dropped.
    pub(crate) _claims: Vec<Claim>,
}

/// A running helper process of an attachment, and the task that guards it, which needs the runtime that attached.
/// Dropping it ends both.
#[derive(Debug)]
pub struct Helper {
    /// The program.
    pub program: &'static str,
    /// Its pid.
    pub pid: u32,
    pub(crate) child: tokio::process::Child,
    pub(crate) log: PathBuf,
    pub(crate) guard: Option<tokio::task::JoinHandle<()>>,
}

impl Drop for Helper {
    fn drop(&mut self) {
        if let Some(guard) = &self.guard {
            guard.abort();
        }
    }
}

impl Helper {
    /// Waits until it ends and says how, with what it logged last. Cancel-safe.
    pub async fn ended(&mut self) -> String {
        let status = match self.child.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        match crate::helper_log::tail(&self.log) {
            said if said.is_empty() => status,
            said => format!("{status}: {said}"),
        }
    }
}

/// An interface as the guest will have it, and what carries its frames.
#[derive(Debug)]
pub struct GuestNic {
    /// Name in the guest.
    pub name: String,
    /// MAC address.
    pub mac: String,
    /// Addresses with prefix length.
    pub addresses: Vec<String>,
    /// Destination and gateway.
    pub routes: Vec<(String, Option<String>)>,
    /// Maximum transmission unit.
    pub mtu: Option<u32>,
    /// Carrier.
    pub backend: GuestNicBackend,
}

/// What carries a guest NIC's frames on the host.
#[derive(Debug)]
pub enum GuestNicBackend {
    /// A tap device in a network namespace; it is gone when its queue is closed.
    Tap {
        /// Device name.
        name: String,
        /// Path of the namespace.
        netns: PathBuf,
        /// Its open queue, each frame after a `virtio_net_hdr`.
        queue: OwnedFd,
    },
    /// A connected stream socket with u32 BE length-prefixed frames.
    Stream(OwnedFd),
}

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
    #[error("unknown network {0:?}; known: user, none, cni, cni:NAME[,NAME]")]
    UnknownNetwork(String),
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
