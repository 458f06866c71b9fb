//! `pod`: the interface of the network namespace we are in, which is a Kubernetes Pod's, with the guest in its place.
//!
//! ```text
//!  prepare   with CAP_NET_ADMIN, before:   eth0 -> tap that its VMM's user may open -> record
//!  attach    without any right:            record -> the tap's queue
//! ```
//!
//! Nothing is detached: the namespace, and all in it, is gone with the Pod. From `prepare` on the address is the guest's.

use crate::NetworkError;
use crate::link::{self, Dhcp, Interface, TapHold};
use crate::plugin::{AttachRequest, Attachment, Carrier, GuestNic, GuestNicBackend, Plugin};
use crate::{cni::io_error, host_network};
use async_trait::async_trait;
use std::path::{Path, PathBuf};

/// Mode of this network.
pub const NAME: &str = "pod";
/// A Pod's interface, as the kubelet's CNI networks call it.
const IFNAME: &str = "eth0";
/// Largest record that is read.
const MAX_RECORD_LEN: u64 = 64 << 10;

/// The plugin.
#[derive(Debug, Clone, Copy, Default)]
pub struct PodNetwork;

/// Hands the interface of this process's namespace over to a tap that `owner` may open; what an earlier call has left is
/// undone first. Needs `CAP_NET_ADMIN`. `names_dir` as in [`AttachRequest`].
pub async fn prepare(names_dir: &Path, owner: Option<u32>) -> Result<(), NetworkError> {
    let record = record_path(names_dir);
    let interface = tokio::task::spawn_blocking(move || {
        link::release(IFNAME)?;
        let (interface, _) = link::take_over(IFNAME, Dhcp::PassedOn, TapHold::ByItsName)?;
        if let Some(owner) = owner {
            link::give_tap(&link::tap_name(IFNAME), owner)?;
        }
        Ok::<_, NetworkError>(interface)
    });
    let interface = interface.await.map_err(|error| io_error("prepare", &record)(std::io::Error::other(error)))??;
    let text = serde_json::to_vec(&interface).unwrap_or_default();
    let dir = record.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(dir).map_err(io_error("make", dir))?;
    let draft = record.with_extension("new");
    std::fs::write(&draft, text).map_err(io_error("write", &draft))?;
    std::fs::rename(&draft, &record).map_err(io_error("write", &record))
}

fn record_path(names_dir: &Path) -> PathBuf {
    names_dir.with_file_name("pod-network.json")
}

fn recorded(names_dir: &Path) -> Result<Interface, NetworkError> {
    use std::io::Read;
    let path = record_path(names_dir);
    let mut text = Vec::new();
    let read = std::fs::File::open(&path).and_then(|file| file.take(MAX_RECORD_LEN).read_to_end(&mut text));
    match read {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(NetworkError::NotInPod),
        other => other.map_err(io_error("read", &path))?,
    };
    serde_json::from_slice(&text).map_err(|error| io_error("read", &path)(error.into()))
}

#[async_trait]
impl Plugin for PodNetwork {
    fn name(&self) -> &'static str {
        NAME
    }

    fn carriers(&self) -> &'static [Carrier] {
        &[Carrier::TapQueue]
    }

    fn check(&self, request: &AttachRequest) -> Result<(), NetworkError> {
        let wanted = &request.network;
        let what = match () {
            () if !wanted.ips.is_empty() => "an address (ips): it has its Pod's",
            () if wanted.mac.is_some() => "a MAC address (mac): it has its Pod's",
            // Ports are the Pod's own: there is no host between, and nothing to publish.
            () => return recorded(&request.names_dir).map(drop),
        };
        Err(NetworkError::CannotGive { network: NAME, what })
    }

    async fn attach(&self, request: &AttachRequest) -> Result<Attachment, NetworkError> {
        self.check(request)?;
        let Interface { mac, mtu, addresses, routes } = recorded(&request.names_dir)?;
        let queue = link::open_own_tap(&link::tap_name(IFNAME))?;
        let backend = GuestNicBackend::TapQueue(queue);
        Ok(Attachment {
            nics: vec![GuestNic { name: IFNAME.to_owned(), mac, addresses, routes, mtu, backend }],
            dns_servers: host_network::name_servers(),
            dns_search: host_network::search_domains(),
            ..Attachment::default()
        })
    }

    async fn detach(&self, _: &AttachRequest) -> Vec<NetworkError> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_a_cluster_gives_is_refused_and_what_is_missing_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let mut request = AttachRequest { names_dir: dir.path().join("network"), ..AttachRequest::default() };
        let error = PodNetwork.check(&request).unwrap_err();
        assert!(error.hint().is_some_and(|hint| hint.contains("ignited pod network")), "{error}");
        request.network.mac = Some("02:00:00:00:00:01".to_owned());
        assert!(matches!(PodNetwork.check(&request), Err(NetworkError::CannotGive { network: "pod", .. })));
    }

    #[test]
    fn a_record_that_is_nonsense_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let names_dir = dir.path().join("network");
        std::fs::write(record_path(&names_dir), b"{").unwrap();
        assert!(matches!(recorded(&names_dir), Err(NetworkError::Io { .. })));
    }
}
