//! How the guest is connected: what its network is asked for, and what the guest is told of it, at first and later.

use crate::error::SupervisorError;
use crate::launch::{Launch, LaunchNetwork};
use ignite_agent_protocol::message::{Configure, Dns, HostsEntry, Interface, Route};
use ignite_api::network::HOST_GATEWAY;
use ignite_network::{AttachRequest, Attachment, Carrier, GuestNic, Peer, PeerWatch, Plugin};
use ignite_store::Paths;
use ignite_vmm::Capabilities;

/// The kinds of carrier of a network as VMMs call them.
pub fn carriers(plugin: &dyn Plugin) -> Vec<ignite_vmm::Carrier> {
    plugin.carriers().iter().map(|carrier| vmm_carrier(*carrier)).collect()
}

fn vmm_carrier(carrier: Carrier) -> ignite_vmm::Carrier {
    match carrier {
        Carrier::TapQueue => ignite_vmm::Carrier::TapQueue,
        Carrier::Tap => ignite_vmm::Carrier::Tap,
        Carrier::Stream => ignite_vmm::Carrier::Stream,
    }
}

/// What the network is to hand over: the first that the VMM takes.
pub fn carrier_for(plugin: &dyn Plugin, capabilities: &Capabilities) -> Option<Carrier> {
    plugin.carriers().iter().copied().find(|carrier| capabilities.carriers.contains(&vmm_carrier(*carrier)))
}

/// What is asked of the network.
pub fn attach_request(launch: &Launch, carrier: Option<Carrier>) -> AttachRequest {
    let paths = Paths::new(&launch.data_dir, &launch.run_dir);
    AttachRequest {
        vm_uid: launch.uid.to_string(),
        vm_name: launch.name.clone(),
        names: launch.network.names.clone(),
        network: launch.network.spec.clone(),
        dhcp: launch.network.dhcp.clone(),
        carrier,
        name_servers: launch.configure.dns.as_ref().map(|dns| dns.servers.clone()).unwrap_or_default(),
        run_dir: paths.run_vm(&launch.uid),
        record_dir: paths.vm(&launch.uid),
        names_dir: paths.run_networks(),
        cni_conf_dirs: ignite_network::cni::conf_dirs(&launch.data_dir),
        docker_socket: launch.network.docker_socket.clone(),
    }
}

/// Completes a guest's configuration with what only the attached network knows: interfaces, name servers where its owner
/// has named none, and names.
pub fn fill_in(
    configure: &mut Configure,
    network: &LaunchNetwork,
    attachment: &Attachment,
) -> Result<(), SupervisorError> {
    configure.interfaces = attachment.nics.iter().map(interface).collect();
    let wanted = configure.dns.take().unwrap_or_default();
    configure.dns = dns(wanted, attachment);
    for alias in &network.host_aliases {
        let address = match alias.ip.as_str() {
            HOST_GATEWAY => attachment.host_address.clone().ok_or(SupervisorError::NoHostGateway)?,
            address => address.to_owned(),
        };
        configure.hosts.push(HostsEntry { address, names: alias.hostnames.clone() });
    }
    configure.peers = attachment.peers.as_ref().map(|watch| hosts_of(watch.peers())).unwrap_or_default();
    Ok(())
}

/// What its owner wants, and the network's own where nothing is wanted; none where neither has name servers.
fn dns(wanted: Dns, attachment: &Attachment) -> Option<Dns> {
    let or = |wanted: Vec<String>, own: &[String]| if wanted.is_empty() { own.to_vec() } else { wanted };
    // Docker's way of saying that there shall be no search domain.
    let search = match &wanted.search[..] {
        [only] if only == "." => Vec::new(),
        _ => or(wanted.search, &attachment.dns_search),
    };
    let servers = or(wanted.servers, &attachment.dns_servers);
    if servers.is_empty() { None } else { Some(Dns { servers, search, options: wanted.options }) }
}

fn interface(nic: &GuestNic) -> Interface {
    let route = |(destination, gateway): &(String, Option<String>)| Route {
        destination: destination.clone(),
        gateway: gateway.clone(),
    };
    Interface {
        mac: nic.mac.clone(),
        name: nic.name.clone(),
        addresses: nic.addresses.clone(),
        routes: nic.routes.iter().map(route).collect(),
        mtu: nic.mtu,
    }
}

fn hosts_of(peers: &[Peer]) -> Vec<HostsEntry> {
    let entry = |peer: &Peer| HostsEntry { address: peer.address.clone(), names: peer.names.clone() };
    peers.iter().map(entry).collect()
}

/// The names of the guest's networks, once they have changed; never, where there are none. Cancel-safe.
pub async fn changed_peers(followed: &mut Option<PeerWatch>) -> Vec<HostsEntry> {
    let Some(watch) = followed else { return std::future::pending().await };
    match watch.changed().await.map(hosts_of) {
        Ok(peers) => peers,
        Err(error) => {
            tracing::warn!("the names of the guest's networks are not followed any more: {error}");
            *followed = None;
            std::future::pending().await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    fn attachment() -> Attachment {
        let mut attachment = Attachment::default();
        attachment.dns_servers = all(&["10.0.0.1"]);
        attachment.dns_search = all(&["lan"]);
        attachment
    }

    #[test]
    fn what_the_owner_wants_of_dns_comes_before_what_the_network_has() {
        let wanted = |servers: &[&str], search: &[&str]| Dns {
            servers: all(servers),
            search: all(search),
            options: all(&["ndots:2"]),
        };
        for (asked, expected) in [
            (wanted(&[], &[]), wanted(&["10.0.0.1"], &["lan"])),
            (wanted(&["192.0.2.1"], &[]), wanted(&["192.0.2.1"], &["lan"])),
            (wanted(&[], &["a"]), wanted(&["10.0.0.1"], &["a"])),
            (wanted(&[], &["."]), wanted(&["10.0.0.1"], &[])),
        ] {
            assert_eq!(dns(asked, &attachment()), Some(expected));
        }
        assert_eq!(dns(Dns::default(), &Attachment::default()), None);
    }
}
