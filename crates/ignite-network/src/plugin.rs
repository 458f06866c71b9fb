//! The seam every kind of network implements.

use crate::NetworkError;
use crate::names::PeerWatch;
use crate::port_claims::Claim;
use async_trait::async_trait;
use ignite_api::network::NetworkSpec;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// A kind of network.
#[async_trait]
pub trait Plugin: Send + Sync {
    /// Name in the plugin table and in `status.network.plugin`.
    fn name(&self) -> &'static str;
    /// What it can hand over here, preferred first; empty: VMs get no interface.
    fn carriers(&self) -> &'static [Carrier];
    /// Why [`Carrier::Tap`] is not among them, where this host is the reason.
    fn why_no_tap(&self) -> Option<String> {
        None
    }
    /// Whether it keeps this VM's traffic to `bandwidth`; where not, its VMM has to.
    fn limits_traffic(&self, _request: &AttachRequest) -> bool {
        false
    }
    /// Asked before the host is touched: programs present, ports free (right protocol and address), privileges.
    fn check(&self, request: &AttachRequest) -> Result<(), NetworkError>;
    /// Connects. An `Err` leaves nothing behind.
    async fn attach(&self, request: &AttachRequest) -> Result<Attachment, NetworkError>;
    /// Undoes what `attach` did for this VM, in whatever state it is, also from another process; idempotent. All errors
    /// are collected, none stops the rest.
    async fn detach(&self, request: &AttachRequest) -> Vec<NetworkError>;
}

/// Who is to be connected, and how.
#[derive(Debug, Clone, Default)]
pub struct AttachRequest {
    /// The VM's uid.
    pub vm_uid: String,
    /// The VM's name.
    pub vm_name: String,
    /// Names by which VMs of the same network find it.
    pub names: Vec<String>,
    /// What its owner wants: ports, addresses and so on. The mode has been decided by now.
    pub network: NetworkSpec,
    /// Interfaces whose guest asks by DHCP.
    pub dhcp: Vec<String>,
    /// What of [`Plugin::carriers`] is to be handed over; absent: the first.
    pub carrier: Option<Carrier>,
    /// Name servers its owner wants; empty: the network's.
    pub name_servers: Vec<String>,
    /// Run directory of this VM, where records and logs of helper processes go.
    pub run_dir: PathBuf,
    /// Directory of this VM that outlives reboots: what a network keeps there (addresses, leases) does so too.
    pub record_dir: PathBuf,
    /// Directory of the store in which VMs of a network find one another, see [`crate::names`].
    pub names_dir: PathBuf,
    /// Where CNI networks are configured, see [`crate::cni::conf_dirs`].
    pub cni_conf_dirs: Vec<PathBuf>,
    /// Where the host's Docker engine listens, if there is one.
    pub docker_socket: PathBuf,
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
    /// At which address the guest reaches its host, where it does.
    pub host_address: Option<String>,
    /// Who else is in its networks, where VMs of a network reach one another.
    pub peers: Option<PeerWatch>,
    /// Helper processes that belong to the attachment; they die with the caller's thread. One that ends while the VM runs
    /// leaves the guest without network: worth a report, no reason to stop the VM.
    pub helpers: Vec<Helper>,
    /// Host ports, held until this is dropped.
    pub(crate) _claims: Vec<Claim>,
    /// Servers of guests that ask, ended when this is dropped.
    pub(crate) _dhcp: Vec<crate::dhcp::Server>,
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

/// A kind of [`GuestNicBackend`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// An open queue of a tap.
    TapQueue,
    /// A tap that waits for someone to open it by its name.
    Tap,
    /// A stream socket.
    Stream,
}

/// What carries a guest NIC's frames on the host.
#[derive(Debug)]
pub enum GuestNicBackend {
    /// The open queue of a tap device, each frame after a `virtio_net_hdr`; the device is gone when it is closed.
    TapQueue(OwnedFd),
    /// A tap device (`IFF_VNET_HDR`) that nobody has open; it is gone with its network namespace.
    Tap {
        /// Device name.
        name: String,
        /// Path of the namespace.
        netns: PathBuf,
    },
    /// A connected stream socket with u32 BE length-prefixed frames.
    Stream(OwnedFd),
}
