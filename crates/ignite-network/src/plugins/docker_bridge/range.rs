//! Which addresses of Docker's bridge are for VMs, and the CNI network that gives them. Pure.

use super::NAME;
use super::engine::{Subnet, Told};
use crate::cni::conf::NetworkList;
use crate::mac;
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Most addresses of a subnet that are for VMs.
const MAX_ADDRESSES: u128 = 1024;
/// Of a subnet that Docker has for itself, the last one in so many.
const SHARE: u128 = 4;

/// Where VMs go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The bridge.
    pub(super) bridge: String,
    /// The first IPv4 address for VMs.
    pub(super) first: Ipv4Addr,
    /// The last one.
    pub(super) last: Ipv4Addr,
    mtu: Option<u32>,
    ranges: Vec<Range>,
    taken: Vec<Ipv4Addr>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Range {
    subnet: String,
    gateway: IpAddr,
    first: IpAddr,
    last: IpAddr,
}

/// Decides by what the engine tells and which addresses the bridge has on this host. The error is a reason, in words.
pub(super) fn place(told: Told, own: &[IpAddr]) -> Result<Place, String> {
    if own.is_empty() {
        return Err(format!("its bridge {} is not on this host, or has no address", told.bridge));
    }
    let ranges: Vec<Range> = told.subnets.iter().filter_map(|subnet| range(subnet, own)).collect();
    let of_ipv4 = ranges.iter().find_map(|range| match (range.gateway, range.first, range.last) {
        (IpAddr::V4(gateway), IpAddr::V4(first), IpAddr::V4(last)) => Some((gateway, first, last)),
        _ => None,
    });
    let Some((gateway, first, last)) = of_ipv4 else {
        let subnets: Vec<&str> = told.subnets.iter().map(|subnet| subnet.subnet.as_str()).collect();
        return Err(format!("no address of {} ({}) is left for VMs", told.bridge, subnets.join(", ")));
    };
    let of_containers = told.containers.iter().filter_map(|text| text.split('/').next()?.parse().ok());
    let taken = of_containers.chain([gateway]).collect();
    Ok(Place { bridge: told.bridge, first, last, mtu: told.mtu, ranges, taken })
}

/// The addresses of a subnet that Docker does not give, or gives last.
fn range(subnet: &Subnet, own: &[IpAddr]) -> Option<Range> {
    let all = Block::parse(&subnet.subnet)?;
    let gateway = *own.iter().find(|address| all.holds(**address))?;
    let (first, last) = all.hosts()?;
    let docker = Block::parse(&subnet.range).filter(|docker| docker.is_ipv6 == all.is_ipv6);
    let (first, last) = match docker {
        Some(docker) => {
            let before = (first, docker.first.checked_sub(1)?.min(last));
            let behind = (docker.last.checked_add(1)?.max(first), last);
            let size = |(first, last): (u128, u128)| (last + 1).saturating_sub(first);
            let larger = if size(behind) >= size(before) { behind } else { before };
            if size(larger) == 0 {
                return None;
            }
            larger
        }
        None => (last - (last - first) / SHARE, last),
    };
    let first = first.max((last + 1).saturating_sub(MAX_ADDRESSES));
    Some(Range { subnet: subnet.subnet.clone(), gateway, first: all.address(first), last: all.address(last) })
}

impl Place {
    /// Whether an address is for VMs.
    pub(super) fn holds(&self, address: Ipv4Addr) -> bool {
        (self.first..=self.last).contains(&address) && !self.taken.contains(&address)
    }

    /// Addresses for a VM in the order they are tried: the one it had, then all from one that follows from its uid, so that
    /// VMs that start at the same time seldom try the same.
    pub(super) fn candidates(&self, vm_uid: &str, had: &[String]) -> std::vec::IntoIter<Ipv4Addr> {
        let (first, size) = (self.first.to_bits(), self.last.to_bits() - self.first.to_bits() + 1);
        let mac = mac::of(vm_uid);
        let start = u32::from_be_bytes([mac[2], mac[3], mac[4], mac[5]]) % size;
        let had = had.iter().filter_map(|text| text.split('/').next()?.parse().ok());
        let all = (0..size).map(|step| Ipv4Addr::from_bits(first + (start + step) % size));
        let candidates: Vec<Ipv4Addr> = had.chain(all).filter(|address| self.holds(*address)).collect();
        candidates.into_iter()
    }

    /// The network, for CNI's plugins: Docker's bridge is used and not changed, and Docker masquerades.
    pub(super) fn network(&self) -> NetworkList {
        let ranges: Vec<Value> = self
            .ranges
            .iter()
            .map(|range| {
                json!([{"subnet": range.subnet, "rangeStart": range.first, "rangeEnd": range.last, "gateway": range.gateway}])
            })
            .collect();
        let everywhere = |range: &Range| if range.gateway.is_ipv4() { "0.0.0.0/0" } else { "::/0" };
        let routes: Vec<Value> = self.ranges.iter().map(|range| json!({"dst": everywhere(range)})).collect();
        let mut bridge = json!({
            "type": "bridge", "bridge": self.bridge, "hairpinMode": true,
            "ipam": {"type": "host-local", "ranges": ranges, "routes": routes},
        });
        if let Some(mtu) = self.mtu {
            bridge["mtu"] = mtu.into();
        }
        let plugins =
            [bridge, json!({"type": "portmap", "capabilities": {"portMappings": true}}), json!({"type": "firewall"})];
        NetworkList {
            cni_version: "0.4.0".into(),
            name: NAME.into(),
            disable_check: false,
            disable_gc: false,
            plugins: plugins.into_iter().filter_map(|plugin| plugin.as_object().cloned()).collect(),
        }
    }
}

/// A block of addresses, as numbers.
#[derive(Debug, Clone, Copy)]
struct Block {
    is_ipv6: bool,
    first: u128,
    last: u128,
}

impl Block {
    fn parse(text: &str) -> Option<Block> {
        let (address, length) = text.split_once('/')?;
        let (bits, width, is_ipv6) = match address.parse().ok()? {
            IpAddr::V4(address) => (u128::from(address.to_bits()), 32, false),
            IpAddr::V6(address) => (address.to_bits(), 128, true),
        };
        let length: u32 = length.parse().ok().filter(|length| (1..=width).contains(length))?;
        let rest = (1_u128 << (width - length)) - 1;
        Some(Block { is_ipv6, first: bits & !rest, last: bits | rest })
    }

    fn holds(self, address: IpAddr) -> bool {
        let bits = match address {
            IpAddr::V4(address) => u128::from(address.to_bits()),
            IpAddr::V6(address) => address.to_bits(),
        };
        address.is_ipv6() == self.is_ipv6 && (self.first..=self.last).contains(&bits)
    }

    /// Without the subnet's own address and, of IPv4, that of broadcast.
    fn hosts(self) -> Option<(u128, u128)> {
        let last = if self.is_ipv6 { self.last } else { self.last.checked_sub(1)? };
        (self.first < last).then_some((self.first + 1, last))
    }

    fn address(self, bits: u128) -> IpAddr {
        if self.is_ipv6 { Ipv6Addr::from_bits(bits).into() } else { Ipv4Addr::from_bits(bits as u32).into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn told(subnets: &[(&str, &str)]) -> Told {
        let subnet = |(subnet, range): &(&str, &str)| Subnet { subnet: (*subnet).into(), range: (*range).into() };
        Told {
            bridge: "docker0".into(),
            mtu: Some(1450),
            subnets: subnets.iter().map(subnet).collect(),
            containers: vec!["172.17.0.2/16".into()],
        }
    }

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn vms_get_what_docker_gives_last_or_never() {
        for (subnet, range, gateway, expected) in [
            ("172.17.0.0/16", "", "172.17.0.1", Some(("172.17.251.255", "172.17.255.254"))),
            ("192.168.9.0/24", "", "192.168.9.1", Some(("192.168.9.191", "192.168.9.254"))),
            ("192.168.9.0/24", "192.168.9.128/25", "192.168.9.1", Some(("192.168.9.1", "192.168.9.127"))),
            ("192.168.9.0/24", "192.168.9.0/25", "192.168.9.1", Some(("192.168.9.128", "192.168.9.254"))),
            ("192.168.9.0/24", "192.168.9.0/24", "192.168.9.1", None),
            ("192.168.9.0/30", "", "192.168.9.1", Some(("192.168.9.2", "192.168.9.2"))),
            ("192.168.9.0/32", "", "192.168.9.0", None),
            ("nonsense", "", "192.168.9.1", None),
        ] {
            let place = place(told(&[(subnet, range)]), &addresses(&[gateway])).ok();
            let shown = place.map(|place| (place.first.to_string(), place.last.to_string()));
            assert_eq!(shown, expected.map(|(first, last)| (first.to_owned(), last.to_owned())), "{subnet} {range}");
        }
    }

    #[test]
    fn a_bridge_of_another_host_is_refused() {
        assert!(place(told(&[("172.17.0.0/16", "")]), &[]).unwrap_err().contains("not on this host"));
        assert!(
            place(told(&[("172.17.0.0/16", "")]), &addresses(&["10.0.0.1"])).unwrap_err().contains("172.17.0.0/16")
        );
    }

    #[test]
    fn a_vm_asks_first_for_the_address_it_had_and_never_for_a_containers() {
        let mut told = told(&[("172.17.0.0/29", "")]);
        told.containers.push("172.17.0.5/29".into());
        let place = place(told, &addresses(&["172.17.0.1"])).unwrap();
        assert_eq!((place.first.to_string(), place.last.to_string()), ("172.17.0.5".into(), "172.17.0.6".into()));
        let candidates: Vec<_> = place.candidates("4f1c", &["172.17.0.6/29".into(), "172.17.0.9/29".into()]).collect();
        assert_eq!(candidates, [Ipv4Addr::new(172, 17, 0, 6); 2]);
    }

    #[test]
    fn the_network_is_this() {
        let place = place(
            told(&[("172.17.0.0/16", "172.17.0.0/17"), ("fd00:d::/64", "")]),
            &addresses(&["172.17.0.1", "fd00:d::1"]),
        );
        insta::assert_snapshot!(
            serde_json::to_string(&place.unwrap().network().plugins[0]).unwrap(),
            @r#"{"bridge":"docker0","hairpinMode":true,"ipam":{"ranges":[[{"gateway":"172.17.0.1","rangeEnd":"172.17.255.254","rangeStart":"172.17.251.255","subnet":"172.17.0.0/16"}],[{"gateway":"fd00:d::1","rangeEnd":"fd00:d::ffff:ffff:ffff:ffff","rangeStart":"fd00:d::ffff:ffff:ffff:fc00","subnet":"fd00:d::/64"}]],"routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0"}],"type":"host-local"},"mtu":1450,"type":"bridge"}"#
        );
    }

    proptest! {
        #[test]
        fn no_subnet_makes_it_panic(subnet in "[0-9a-f:.]{1,20}/[0-9]{1,3}", range in "[0-9.]{1,15}/[0-9]{1,2}") {
            let _ = place(told(&[(&subnet, &range)]), &addresses(&["172.17.0.1", "::1"]));
        }

        #[test]
        fn the_addresses_are_of_the_subnet_and_not_dockers(length in 8_u32..30, range_length in 8_u32..32, bits in any::<u32>()) {
            let subnet = format!("10.1.2.3/{length}");
            let range = format!("{}/{range_length}", Ipv4Addr::from_bits(0x0a00_0000 | bits >> 8));
            let block = Block::parse(&subnet).unwrap();
            let gateway = block.address(block.first + 1);
            if let Ok(place) = place(told(&[(&subnet, &range)]), &[gateway]) {
                let docker = Block::parse(&range).unwrap();
                for address in [place.first, place.last] {
                    prop_assert!(block.holds(address.into()));
                    prop_assert!(!docker.holds(address.into()));
                }
                prop_assert!(place.first <= place.last);
                prop_assert!(!place.holds(gateway.to_string().parse().unwrap()));
            }
        }
    }
}
