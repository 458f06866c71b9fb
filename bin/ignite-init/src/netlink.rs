//! Encodes the few rtnetlink requests a guest needs; pure.

use std::net::IpAddr;

/// `struct nlmsghdr`.
const HEADER_LEN: usize = 16;
const NLMSG_ERROR: u16 = 2;
const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_REPLACE: u16 = 0x100;
const NLM_F_CREATE: u16 = 0x400;

const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFF_UP: u32 = 1;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_FLAGS: u16 = 8;
/// No duplicate address detection: the address is this guest's by construction, and is used at once.
const IFA_F_NODAD: u32 = 2;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_BOOT: u8 = 3;
const RT_SCOPE_UNIVERSE: u8 = 0;
const RT_SCOPE_LINK: u8 = 253;
const RTN_UNICAST: u8 = 1;
const RTNH_F_ONLINK: u32 = 4;

/// An address and the length of its network's prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefixed {
    /// The address.
    pub address: IpAddr,
    /// Bits of the network.
    pub prefix_len: u8,
}

impl Prefixed {
    /// Reads `10.0.0.2/16`; without a slash the prefix is the whole address.
    pub fn parse(text: &str) -> Option<Prefixed> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address.parse().ok()?, Some(prefix)),
            None => (text.parse().ok()?, None),
        };
        let most = if matches!(address, IpAddr::V4(_)) { 32 } else { 128 };
        let prefix_len = prefix.map_or(Some(most), |prefix| prefix.parse().ok())?;
        (prefix_len <= most).then_some(Prefixed { address, prefix_len })
    }

    /// Whether `address` is in this network.
    pub fn contains(&self, address: IpAddr) -> bool {
        let bits = |address: IpAddr| match address {
            IpAddr::V4(v4) => u128::from(u32::from(v4)) << 96,
            IpAddr::V6(v6) => u128::from(v6),
        };
        let mask = if self.prefix_len == 0 { 0 } else { u128::MAX << (128 - u32::from(self.prefix_len)) };
        self.address.is_ipv4() == address.is_ipv4() && (bits(self.address) ^ bits(address)) & mask == 0
    }
}

/// A request, to be sent as one datagram.
#[derive(Debug)]
pub struct Request(Vec<u8>);

impl Request {
    fn new(kind: u16, flags: u16, sequence: u32) -> Request {
        let mut bytes = vec![0; HEADER_LEN];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(flags | NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
        bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        Request(bytes)
    }

    fn attribute(mut self, kind: u16, value: &[u8]) -> Request {
        self.0.extend_from_slice(&((4 + value.len()) as u16).to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    fn finish(mut self) -> Request {
        let length = self.0.len() as u32;
        self.0[0..4].copy_from_slice(&length.to_ne_bytes());
        self
    }

    /// The bytes to send.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Brings a link up.
    pub fn link_up(sequence: u32, index: u32) -> Request {
        Self::link(sequence, index, IFF_UP, IFF_UP).finish()
    }

    /// Renames a link that is down.
    pub fn link_name(sequence: u32, index: u32, name: &str) -> Request {
        let zero_ended: Vec<u8> = name.bytes().chain([0]).collect();
        Self::link(sequence, index, 0, 0).attribute(IFLA_IFNAME, &zero_ended).finish()
    }

    /// Sets a link's maximum transmission unit.
    pub fn link_mtu(sequence: u32, index: u32, mtu: u32) -> Request {
        Self::link(sequence, index, 0, 0).attribute(IFLA_MTU, &mtu.to_ne_bytes()).finish()
    }

    /// `struct ifinfomsg`.
    fn link(sequence: u32, index: u32, flags: u32, change: u32) -> Request {
        let mut request = Self::new(RTM_NEWLINK, 0, sequence);
        request.0.extend_from_slice(&[0; 4]);
        request.0.extend_from_slice(&index.to_ne_bytes());
        request.0.extend_from_slice(&flags.to_ne_bytes());
        request.0.extend_from_slice(&change.to_ne_bytes());
        request
    }

    /// Adds an address to a link; it being there already is no error.
    pub fn address(sequence: u32, index: u32, address: Prefixed) -> Request {
        let mut request = Self::new(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, sequence);
        // `struct ifaddrmsg`
        request.0.extend_from_slice(&[family(address.address), address.prefix_len, 0, RT_SCOPE_UNIVERSE]);
        request.0.extend_from_slice(&index.to_ne_bytes());
        match address.address {
            IpAddr::V4(v4) => {
                let request = request.attribute(IFA_LOCAL, &v4.octets()).attribute(IFA_ADDRESS, &v4.octets());
                if address.prefix_len >= 31 {
                    return request.finish();
                }
                let broadcast = u32::from(v4) | (u32::MAX >> address.prefix_len);
                request.attribute(IFA_BROADCAST, &broadcast.to_be_bytes()).finish()
            }
            IpAddr::V6(v6) => {
                request.attribute(IFA_ADDRESS, &v6.octets()).attribute(IFA_FLAGS, &IFA_F_NODAD.to_ne_bytes()).finish()
            }
        }
    }

    /// Adds a route out of a link. `is_onlink`: the gateway is reachable though no address of the link says so.
    pub fn route(
        sequence: u32,
        index: u32,
        destination: Prefixed,
        gateway: Option<IpAddr>,
        is_onlink: bool,
    ) -> Request {
        let mut request = Self::new(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, sequence);
        let scope = match (gateway, destination.address) {
            (None, IpAddr::V4(_)) => RT_SCOPE_LINK,
            (Some(_), _) | (None, IpAddr::V6(_)) => RT_SCOPE_UNIVERSE,
        };
        let family = family(destination.address);
        // `struct rtmsg`
        request.0.extend_from_slice(&[family, destination.prefix_len, 0, 0]);
        request.0.extend_from_slice(&[RT_TABLE_MAIN, RTPROT_BOOT, scope, RTN_UNICAST]);
        let flags = if is_onlink { RTNH_F_ONLINK } else { 0 };
        request.0.extend_from_slice(&flags.to_ne_bytes());
        if destination.prefix_len > 0 {
            request = request.attribute(RTA_DST, &octets(destination.address));
        }
        if let Some(gateway) = gateway {
            request = request.attribute(RTA_GATEWAY, &octets(gateway));
        }
        request.attribute(RTA_OIF, &index.to_ne_bytes()).finish()
    }
}

/// The errno of an acknowledgement (0: done); `None` when the datagram is something else.
pub fn parse_ack(datagram: &[u8], sequence: u32) -> Option<i32> {
    let word = |at: usize| datagram.get(at..at + 4)?.try_into().ok();
    let kind = u16::from_ne_bytes(datagram.get(4..6)?.try_into().ok()?);
    let of = u32::from_ne_bytes(word(8)?);
    let error = i32::from_ne_bytes(word(HEADER_LEN)?);
    (kind == NLMSG_ERROR && of == sequence).then(|| error.saturating_neg())
}

fn family(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => libc::AF_INET as u8,
        IpAddr::V6(_) => libc::AF_INET6 as u8,
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefixed(text: &str) -> Prefixed {
        Prefixed::parse(text).unwrap()
    }

    #[test]
    fn addresses_are_parsed_with_their_prefix() {
        assert_eq!(prefixed("10.0.0.2/16").prefix_len, 16);
        assert_eq!(prefixed("10.0.0.2").prefix_len, 32);
        assert_eq!(prefixed("fd00::2/64").prefix_len, 64);
        for bad in ["", "/", "10.0.0.2/33", "fd00::/129", "10.0.0/8", "x/1", "10.0.0.1/-1"] {
            assert_eq!(Prefixed::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn networks_contain_their_addresses_only() {
        let table = [
            ("10.1.0.0/16", "10.1.255.1", true),
            ("10.1.0.0/16", "10.2.0.1", false),
            ("0.0.0.0/0", "1.2.3.4", true),
            ("10.0.0.2/32", "10.0.0.1", false),
            ("fd00::1/64", "fd00::ffff", true),
            ("fd00::1/64", "fd00:0:0:1::1", false),
            ("0.0.0.0/0", "::1", false),
        ];
        for (network, address, expected) in table {
            assert_eq!(prefixed(network).contains(address.parse().unwrap()), expected, "{network} {address}");
        }
    }

    #[test]
    fn requests_are_what_iproute2_sends() {
        // `ip addr add 10.61.0.2/16 dev <index 2>`, as strace shows it, sequence 7.
        #[rustfmt::skip]
        let address = [
            48, 0, 0, 0, 20, 0, 5, 5, 7, 0, 0, 0, 0, 0, 0, 0,
            2, 16, 0, 0, 2, 0, 0, 0,
            8, 0, 2, 0, 10, 61, 0, 2, 8, 0, 1, 0, 10, 61, 0, 2, 8, 0, 4, 0, 10, 61, 255, 255,
        ];
        assert_eq!(Request::address(7, 2, prefixed("10.61.0.2/16")).as_bytes(), address);
        #[rustfmt::skip]
        let route = [
            44, 0, 0, 0, 24, 0, 5, 5, 8, 0, 0, 0, 0, 0, 0, 0,
            2, 0, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0,
            8, 0, 5, 0, 10, 61, 0, 1, 8, 0, 4, 0, 2, 0, 0, 0,
        ];
        let gateway = Some("10.61.0.1".parse().unwrap());
        assert_eq!(Request::route(8, 2, prefixed("0.0.0.0/0"), gateway, false).as_bytes(), route);
        #[rustfmt::skip]
        let name = [
            44, 0, 0, 0, 16, 0, 5, 0, 9, 0, 0, 0, 0, 0, 0, 0,
            0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            9, 0, 3, 0, b'e', b't', b'h', b'0', 0, 0, 0, 0,
        ];
        assert_eq!(Request::link_name(9, 3, "eth0").as_bytes(), name);
    }

    #[test]
    fn acknowledgements_carry_an_errno() {
        let mut ack = vec![0; 36];
        ack[4] = NLMSG_ERROR as u8;
        ack[8] = 5;
        assert_eq!(parse_ack(&ack, 5), Some(0));
        ack[16..20].copy_from_slice(&(-17i32).to_ne_bytes());
        assert_eq!(parse_ack(&ack, 5), Some(17));
        assert_eq!(parse_ack(&ack, 6), None);
        assert_eq!(parse_ack(&ack[..10], 5), None);
    }
}
