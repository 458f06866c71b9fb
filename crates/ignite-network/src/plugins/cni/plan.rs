//! What a VM is to be attached with, and what of the result its guest is told: pure but for its last addresses.

use crate::cni::conf::NetworkList;
use crate::cni::input::Wishes;
use crate::cni::record::{self, Attached, Record};
use crate::dhcp::Lease;
use crate::plugin::{AttachRequest, GuestNic};
use crate::{mac, netns};
use std::net::Ipv4Addr;

/// Before a VM's uid in its container id.
const CONTAINER_PREFIX: &str = "ignite-";
/// What is about to be attached: interfaces `eth0`, `eth1` and so on in the order of the networks; ports are published
/// by the first network that can.
pub(super) fn plan(request: &AttachRequest, networks: Vec<NetworkList>) -> Record {
    let had = record::read_addresses(&request.record_dir);
    let publisher = networks.iter().position(|network| network.has_capability("portMappings"));
    let wanted = share_out(&request.network.ips, &networks);
    let attachments = networks
        .into_iter()
        .enumerate()
        .map(|(index, network)| Attached {
            ifname: format!("eth{index}"),
            wishes: Wishes {
                ports: if publisher == Some(index) { request.network.ports.clone() } else { Vec::new() },
                ips: match &wanted[index][..] {
                    [] => had.get(&network.name).cloned().unwrap_or_default(),
                    wanted => wanted.to_vec(),
                },
                mac: Some(match &request.network.mac {
                    Some(wanted) if index == 0 => wanted.to_ascii_lowercase(),
                    _ => mac::text(mac::of_interface(&request.vm_uid, index)),
                }),
                dns_servers: request.name_servers.clone(),
                bandwidth: request.network.bandwidth.as_ref().and_then(|limits| {
                    serde_json::to_value(limits).ok().and_then(|limits| limits.as_object().cloned())
                }),
            },
            insists: !wanted[index].is_empty(),
            network,
            result: None,
        })
        .collect();
    Record {
        vm_name: request.vm_name.clone(),
        container_id: container_id(&request.vm_uid),
        netns: netns::path_of(&request.vm_uid),
        attachments,
    }
}

/// Each address goes to the network it is of, as far as its configuration tells; else to the first.
fn share_out(ips: &[String], networks: &[NetworkList]) -> Vec<Vec<String>> {
    let mut shared = vec![Vec::new(); networks.len()];
    for ip in ips {
        let bare = ip.split('/').next().unwrap_or_default().parse().ok();
        let its = networks.iter().position(|network| bare.is_some_and(|bare| network.has_address(bare)));
        if let Some(share) = shared.get_mut(its.unwrap_or(0)) {
            share.push(ip.clone());
        }
    }
    shared
}

pub(super) fn container_id(vm_uid: &str) -> String {
    format!("{CONTAINER_PREFIX}{vm_uid}")
}

pub(super) fn vm_uid(record: &Record) -> &str {
    record.container_id.strip_prefix(CONTAINER_PREFIX).unwrap_or(&record.container_id)
}

/// The next hop of the guest's default route, which on a bridge is its host.
pub(super) fn gateway(nics: &[GuestNic]) -> Option<String> {
    let mut routes = nics.iter().flat_map(|nic| &nic.routes);
    routes.find(|(destination, _)| destination == "0.0.0.0/0").and_then(|(_, gateway)| gateway.clone())
}

/// What an interface's guest is told when it asks; `None` without an IPv4 address.
pub(super) fn lease(nic: &GuestNic, name_servers: &[String]) -> Option<Lease> {
    let of = |text: &str| {
        let (address, length) = text.split_once('/')?;
        Some((address.parse::<Ipv4Addr>().ok()?, length.parse::<u8>().ok()?))
    };
    let route = |(destination, gateway): &(String, Option<String>)| {
        let (destination, length) = of(destination)?;
        Some((destination, length, gateway.as_ref()?.parse().ok()?))
    };
    Some(Lease {
        mac: mac::wanted(Some(&nic.mac))?,
        address: nic.addresses.iter().find_map(|address| of(address))?,
        routes: nic.routes.iter().filter_map(route).collect(),
        name_servers: name_servers.iter().filter_map(|server| server.parse().ok()).collect(),
        mtu: nic.mtu.and_then(|mtu| u16::try_from(mtu).ok()),
    })
}

/// A guest has one default route per family: that of its first network which has one.
pub(super) fn keep_first_default_routes(nics: &mut [GuestNic]) {
    for default in ["0.0.0.0/0", "::/0"] {
        let mut is_taken = false;
        for nic in nics.iter_mut() {
            nic.routes.retain(|(destination, _)| destination != default || !is_taken);
            is_taken |= nic.routes.iter().any(|(destination, _)| destination == default);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cni::conf_dir;
    use crate::plugin::GuestNicBackend;
    use crate::plugins::cni::tests::request;
    use std::fs::File;

    #[test]
    fn the_first_network_that_can_publishes_the_ports() {
        let dir = tempfile::tempdir().unwrap();
        let plain = NetworkList::parse(br#"{"cniVersion":"1.0.0","name":"plain","type":"ptp"}"#).unwrap();
        let ours = NetworkList::parse(conf_dir::DEFAULT_NETWORK.as_bytes()).unwrap();
        let planned = plan(&request("8080:80", dir.path()), vec![plain, ours]);
        let shown: Vec<(&str, usize)> =
            planned.attachments.iter().map(|one| (one.ifname.as_str(), one.wishes.ports.len())).collect();
        assert_eq!(shown, [("eth0", 0), ("eth1", 1)]);
        let macs: Vec<_> = planned.attachments.iter().map(|one| one.wishes.mac.clone().unwrap()).collect();
        assert_ne!(macs[0], macs[1]);
        assert!(planned.attachments.iter().all(|one| one.wishes.ips.is_empty()));
    }

    #[test]
    fn an_address_goes_to_the_network_it_is_of() {
        let dir = tempfile::tempdir().unwrap();
        let plain = NetworkList::parse(
            br#"{"cniVersion":"1.0.0","name":"plain","type":"ptp","ipam":{"type":"host-local","ranges":[[{"subnet":"fd62::/64"}]]}}"#,
        )
        .unwrap();
        let ours = NetworkList::parse(conf_dir::DEFAULT_NETWORK.as_bytes()).unwrap();
        let mut wanting = request("", dir.path());
        wanting.network.ips = ["10.61.0.9", "fd62::9/64", "192.0.2.1"].map(str::to_owned).to_vec();
        wanting.network.mac = Some("02:00:00:00:00:0A".into());
        let planned = plan(&wanting, vec![plain, ours]);
        let ips: Vec<_> = planned.attachments.iter().map(|one| (one.wishes.ips.clone(), one.insists)).collect();
        assert_eq!(ips[0], (vec!["fd62::9/64".to_owned(), "192.0.2.1".to_owned()], true));
        assert_eq!(ips[1], (vec!["10.61.0.9".to_owned()], true));
        assert_eq!(planned.attachments[0].wishes.mac.as_deref(), Some("02:00:00:00:00:0a"));
    }

    #[test]
    fn only_the_first_default_route_is_kept() {
        let route = |text: &str| (text.to_owned(), Some("10.1.0.1".to_owned()));
        let nic = |routes: &[&str]| GuestNic {
            name: "eth".into(),
            mac: String::new(),
            addresses: Vec::new(),
            routes: routes.iter().map(|text| route(text)).collect(),
            mtu: None,
            backend: GuestNicBackend::Stream(File::open("/dev/null").unwrap().into()),
        };
        let mut nics = [nic(&["10.9.0.0/16"]), nic(&["0.0.0.0/0"]), nic(&["0.0.0.0/0", "::/0", "10.8.0.0/16"])];
        keep_first_default_routes(&mut nics);
        let left: Vec<usize> = nics.iter().map(|nic| nic.routes.len()).collect();
        assert_eq!(left, [1, 1, 2]);
    }
}
