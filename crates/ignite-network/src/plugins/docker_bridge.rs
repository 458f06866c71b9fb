//! `docker-bridge`: a VM beside the containers of this host's Docker engine, in the network they have by default.
//!
//! ```text
//!  engine's socket -> bridge, subnet, Docker's own range -> a CNI network of that bridge -> as `cni` from there
//! ```
//!
//! Docker gives no addresses away, so the VM's comes from where Docker takes none: outside the range it was configured to
//! keep to, else the far end of the subnet, and only if nobody answers there. See `docs/adr/docker-bridge.md`.

mod engine;
mod probe;
mod range;

use self::range::Place;
use crate::NetworkError;
use crate::cni::conf::NetworkList;
use crate::cni::record;
use crate::plugin::{AttachRequest, Attachment, Carrier, Plugin};
use crate::plugins::cni::CniNetwork;
use async_trait::async_trait;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

/// Its name in the plugin table, and as a CNI network.
pub const NAME: &str = "docker-bridge";
/// Where host-local keeps its leases unless it is told otherwise.
const LEASES: &str = "/var/lib/cni/networks";
/// Most addresses that are tried when others take, or have, them.
const MAX_TRIES: usize = 32;

/// The plugin.
#[derive(Debug, Clone, Default)]
pub struct DockerBridge {
    cni: CniNetwork,
}

impl DockerBridge {
    /// Docker's network as it is at this moment, by the engine that listens on this socket. Blocks, for seconds at most.
    pub fn network(socket: &Path) -> Result<NetworkList, NetworkError> {
        find(socket).map(|place| place.network())
    }
}

#[async_trait]
impl Plugin for DockerBridge {
    fn name(&self) -> &'static str {
        NAME
    }

    fn carriers(&self) -> &'static [Carrier] {
        self.cni.carriers()
    }

    fn check(&self, request: &AttachRequest) -> Result<(), NetworkError> {
        if !rustix::process::geteuid().is_root() {
            return Err(NetworkError::NeedsRoot { network: NAME });
        }
        let place = find(&request.docker_socket)?;
        check_wishes(&place, request)?;
        self.cni.check_for(request, &[place.network()])
    }

    async fn attach(&self, request: &AttachRequest) -> Result<Attachment, NetworkError> {
        let socket = request.docker_socket.clone();
        let place = in_background(move || find(&socket)).await??;
        check_wishes(&place, request)?;
        let network = place.network();
        if !request.network.ips.is_empty() {
            return self.cni.attach_to(request, || Ok(vec![network])).await;
        }
        let had = record::read_addresses(&request.record_dir).remove(NAME).unwrap_or_default();
        let mut candidates = place.candidates(&request.vm_uid, &had);
        for _ in 0..MAX_TRIES {
            let (bridge, free) = (place.bridge.clone(), move |address: Ipv4Addr| is_leased(address));
            let (rest, found) = in_background(move || first_free(&bridge, candidates, free)).await?;
            candidates = rest;
            let Some(address) = found? else { break };
            let mut asking = request.clone();
            asking.network.ips = vec![address.to_string()];
            match self.cni.attach_to(&asking, || Ok(vec![network.clone()])).await {
                // Another VM has been faster.
                Err(NetworkError::CniPlugin { .. }) if is_leased(address) => {}
                result => return result,
            }
        }
        let reason = format!("no address from {} to {} is free", place.first, place.last);
        Err(NetworkError::NoDockerBridge { reason })
    }

    async fn detach(&self, request: &AttachRequest) -> Vec<NetworkError> {
        self.cni.detach(request).await
    }
}

/// Asks the engine, and looks whether its bridge is one of this host's.
fn find(socket: &Path) -> Result<Place, NetworkError> {
    let refused = |reason| NetworkError::NoDockerBridge { reason };
    let told = engine::ask(socket).map_err(refused)?;
    let own = crate::host_network::addresses_of(&told.bridge)?;
    range::place(told, &own).map_err(refused)
}

/// An address of one's own has to be one that Docker does not give away.
fn check_wishes(place: &Place, request: &AttachRequest) -> Result<(), NetworkError> {
    for wanted in &request.network.ips {
        let bare = wanted.split('/').next().unwrap_or_default().parse::<IpAddr>();
        if let Ok(IpAddr::V4(address)) = bare
            && !place.holds(address)
        {
            let reason = format!("{address} is not from {} to {}, which Docker leaves to VMs", place.first, place.last);
            return Err(NetworkError::NoDockerBridge { reason });
        }
    }
    Ok(())
}

fn is_leased(address: Ipv4Addr) -> bool {
    PathBuf::from(LEASES).join(NAME).join(address.to_string()).exists()
}

type Candidates = std::vec::IntoIter<Ipv4Addr>;

/// The first candidate that is no VM's and at which nobody answers; and those behind it.
fn first_free(
    bridge: &str,
    mut candidates: Candidates,
    is_taken: impl Fn(Ipv4Addr) -> bool,
) -> (Candidates, Result<Option<Ipv4Addr>, NetworkError>) {
    let failed = |source| NetworkError::Io { what: format!("look who is on {bridge}"), source };
    let found = loop {
        let Some(address) = candidates.next() else { break Ok(None) };
        if is_taken(address) {
            continue;
        }
        match probe::is_answered(bridge, address) {
            Ok(true) => tracing::info!("{address} of {bridge} has somebody"),
            Ok(false) => break Ok(Some(address)),
            Err(error) => break Err(failed(error)),
        }
    };
    (candidates, found)
}

async fn in_background<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, NetworkError> {
    let failed =
        |error| NetworkError::Io { what: "look at Docker's bridge".into(), source: std::io::Error::other(error) };
    tokio::task::spawn_blocking(work).await.map_err(failed)
}
