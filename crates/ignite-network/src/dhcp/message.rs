//! DHCP messages in Ethernet frames (RFC 2131, options of RFC 2132 and 3442): a request in, an answer out. Pure.

use std::net::Ipv4Addr;

/// What a guest is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lease {
    /// The guest's MAC address; nobody else is answered.
    pub(crate) mac: [u8; 6],
    /// Its address and prefix length.
    pub(crate) address: (Ipv4Addr, u8),
    /// Destination, prefix length and gateway; the default route is among them.
    pub(crate) routes: Vec<(Ipv4Addr, u8, Ipv4Addr)>,
    /// Name servers.
    pub(crate) name_servers: Vec<Ipv4Addr>,
    /// Maximum transmission unit.
    pub(crate) mtu: Option<u16>,
}

/// The guest is attached as long as it runs: it asks again after half of this.
const LEASE_SECONDS: u32 = 86_400;
/// The server's own address where there is no gateway whose name it could answer in.
const OWN_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// The server's MAC address: locally administered.
const OWN_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x43];
const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// Ethernet, IPv4 without options, UDP.
const HEADERS: usize = 14 + 20 + 8;
/// Of the fixed part of a message.
const FIXED: usize = 236;
/// Least length of a message (RFC 1542 §2.1).
const MIN_MESSAGE: usize = 300;

const DISCOVER: u8 = 1;
const OFFER: u8 = 2;
const REQUEST: u8 = 3;
const ACK: u8 = 5;
const NAK: u8 = 6;
const INFORM: u8 = 8;

/// The answer to a frame; `None` where it is no question of this guest.
pub(crate) fn answer(frame: &[u8], lease: &Lease) -> Option<Vec<u8>> {
    let header = usize::from(*frame.get(14)? & 0x0f) * 4;
    let message = frame.get(14 + header + 8..)?;
    let fixed = message.get(..FIXED)?;
    let is_question = fixed[..3] == [1, 1, 6] && fixed[28..34] == lease.mac && message.get(FIXED..FIXED + 4)? == COOKIE;
    if header < 20 || !is_question {
        return None;
    }
    let options = &message[FIXED + 4..];
    let server = server_address(lease);
    let address_of = |code| option(options, code).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok()).map(Ipv4Addr::from);
    // Of a guest that has chosen another server.
    if address_of(54).is_some_and(|chosen| chosen != server) {
        return None;
    }
    let client = Ipv4Addr::new(fixed[12], fixed[13], fixed[14], fixed[15]);
    let wanted = address_of(50).unwrap_or(client);
    match option(options, 53)? {
        [DISCOVER] => Some(reply(fixed, OFFER, lease, server)),
        [REQUEST] if wanted == lease.address.0 => Some(reply(fixed, ACK, lease, server)),
        [REQUEST] => Some(reply(fixed, NAK, lease, server)),
        [INFORM] => Some(reply(fixed, ACK, lease, server)),
        _ => None,
    }
}

fn server_address(lease: &Lease) -> Ipv4Addr {
    lease.routes.iter().find(|(_, length, _)| *length == 0).map_or(OWN_ADDRESS, |(_, _, gateway)| *gateway)
}

/// The value of an option (RFC 2132 §2: code, length, value; 0 pads, 255 ends).
fn option(mut options: &[u8], wanted: u8) -> Option<&[u8]> {
    loop {
        match *options {
            [0, ref rest @ ..] => options = rest,
            [255, ..] | [] | [_] => return None,
            [code, length, ref rest @ ..] => {
                let (value, rest) = rest.split_at_checked(length.into())?;
                if code == wanted {
                    return Some(value);
                }
                options = rest;
            }
        }
    }
}

fn reply(question: &[u8], kind: u8, lease: &Lease, server: Ipv4Addr) -> Vec<u8> {
    let mut message = vec![0; FIXED];
    message[..4].copy_from_slice(&[2, 1, 6, 0]);
    // Transaction, flags and gateway of the question.
    message[4..8].copy_from_slice(&question[4..8]);
    message[10..12].copy_from_slice(&question[10..12]);
    if kind != NAK {
        message[12..16].copy_from_slice(&question[12..16]);
        message[16..20].copy_from_slice(&lease.address.0.octets());
    }
    message[28..34].copy_from_slice(&lease.mac);
    message.extend(COOKIE);
    put(&mut message, 53, &[kind]);
    put(&mut message, 54, &server.octets());
    if kind != NAK {
        put_lease(&mut message, lease);
    }
    message.push(255);
    message.resize(message.len().max(MIN_MESSAGE), 0);
    framed(&message, lease.mac, server)
}

fn put_lease(message: &mut Vec<u8>, lease: &Lease) {
    let (_, prefix) = lease.address;
    put(message, 51, &LEASE_SECONDS.to_be_bytes());
    put(message, 1, &u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0).to_be_bytes());
    let routers: Vec<u8> = lease
        .routes
        .iter()
        .filter(|(_, length, _)| *length == 0)
        .flat_map(|(_, _, gateway)| gateway.octets())
        .collect();
    if !routers.is_empty() {
        put(message, 3, &routers);
    }
    if lease.routes.iter().any(|(_, length, _)| *length != 0) {
        // Who reads this does not read option 3 (RFC 3442): so all routes are in it.
        let all = lease.routes.iter().flat_map(|(destination, length, gateway)| {
            let significant = usize::from(length.div_ceil(8).min(4));
            let mut bytes = vec![*length];
            bytes.extend(&destination.octets()[..significant]);
            bytes.extend(gateway.octets());
            bytes
        });
        put(message, 121, &all.collect::<Vec<u8>>());
    }
    let servers: Vec<u8> = lease.name_servers.iter().flat_map(Ipv4Addr::octets).collect();
    if !servers.is_empty() {
        put(message, 6, &servers);
    }
    if let Some(mtu) = lease.mtu {
        put(message, 26, &mtu.to_be_bytes());
    }
}

/// An option; a value that is too long for one is left out.
fn put(message: &mut Vec<u8>, code: u8, value: &[u8]) {
    if let Ok(length) = u8::try_from(value.len()) {
        message.extend([code, length]);
        message.extend(value);
    }
}

/// The message in a datagram from port 67 to port 68 of everybody, to the guest's MAC address.
fn framed(message: &[u8], mac: [u8; 6], server: Ipv4Addr) -> Vec<u8> {
    let length = |of: usize| u16::try_from(of).unwrap_or(u16::MAX).to_be_bytes();
    let mut frame = Vec::with_capacity(HEADERS + message.len());
    frame.extend(mac);
    frame.extend(OWN_MAC);
    frame.extend([8, 0]);
    frame.extend([0x45, 0]);
    frame.extend(length(28 + message.len()));
    frame.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    frame.extend(server.octets());
    frame.extend([255; 4]);
    let sum: u32 = frame[14..34].chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    frame[24..26].copy_from_slice(&(!(folded as u16)).to_be_bytes());
    frame.extend([0, 67, 0, 68]);
    frame.extend(length(8 + message.len()));
    // No checksum, as UDP over IPv4 allows.
    frame.extend([0, 0]);
    frame.extend(message);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

    fn lease() -> Lease {
        Lease {
            mac: MAC,
            address: (Ipv4Addr::new(10, 61, 0, 2), 16),
            routes: vec![(Ipv4Addr::UNSPECIFIED, 0, Ipv4Addr::new(10, 61, 0, 1))],
            name_servers: vec![Ipv4Addr::new(192, 0, 2, 53)],
            mtu: Some(1400),
        }
    }

    fn question(mac: [u8; 6], options: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; HEADERS];
        frame[12..15].copy_from_slice(&[8, 0, 0x45]);
        let mut message = vec![0; FIXED];
        message[..3].copy_from_slice(&[1, 1, 6]);
        message[4..8].copy_from_slice(&[1, 2, 3, 4]);
        message[28..34].copy_from_slice(&mac);
        frame.extend(message);
        frame.extend(COOKIE);
        frame.extend(options);
        frame
    }

    fn options_of(answer: &[u8]) -> &[u8] {
        &answer[HEADERS + FIXED + 4..]
    }

    #[test]
    fn an_offer_has_what_cni_gave() {
        let offer = answer(&question(MAC, &[53, 1, DISCOVER, 255]), &lease()).unwrap();
        assert_eq!((&offer[..6], &offer[26..30], &offer[34..38]), (&MAC[..], &[10, 61, 0, 1][..], &[0, 67, 0, 68][..]));
        assert_eq!(offer[HEADERS + 4..HEADERS + 8], [1, 2, 3, 4]);
        assert_eq!(offer[HEADERS + 16..HEADERS + 20], [10, 61, 0, 2]);
        let expected: [(u8, &[u8]); 7] = [
            (53, &[OFFER]),
            (54, &[10, 61, 0, 1]),
            (1, &[255, 255, 0, 0]),
            (3, &[10, 61, 0, 1]),
            (6, &[192, 0, 2, 53]),
            (26, &[5, 120]),
            (51, &[0, 1, 0x51, 0x80]),
        ];
        for (code, value) in expected {
            assert_eq!(option(options_of(&offer), code), Some(value), "{code}");
        }
        assert_eq!(option(options_of(&offer), 121), None);
    }

    #[test]
    fn a_request_is_granted_for_the_address_that_is_its_and_for_no_other() {
        let kind =
            |options: &[u8]| answer(&question(MAC, options), &lease()).map(|a| option(options_of(&a), 53).unwrap()[0]);
        assert_eq!(kind(&[53, 1, REQUEST, 50, 4, 10, 61, 0, 2, 54, 4, 10, 61, 0, 1, 255]), Some(ACK));
        assert_eq!(kind(&[53, 1, REQUEST, 50, 4, 10, 61, 0, 3, 255]), Some(NAK));
        assert_eq!(kind(&[53, 1, REQUEST, 50, 4, 10, 61, 0, 2, 54, 4, 10, 0, 0, 9, 255]), None, "another server's");
        assert_eq!(kind(&[53, 1, INFORM, 255]), Some(ACK));
        for silent in [&[53, 1, 7, 255][..], &[255], &[], &[53, 9, 1]] {
            assert_eq!(kind(silent), None, "{silent:?}");
        }
        assert_eq!(answer(&question([2, 0, 0, 0, 0, 9], &[53, 1, DISCOVER, 255]), &lease()), None, "somebody else");
    }

    #[test]
    fn further_routes_come_with_the_default_one() {
        let mut lease = lease();
        lease.routes.push((Ipv4Addr::new(10, 200, 0, 0), 12, Ipv4Addr::new(10, 61, 0, 9)));
        let offer = answer(&question(MAC, &[53, 1, DISCOVER, 255]), &lease).unwrap();
        let expected = [0, 10, 61, 0, 1, 12, 10, 200, 10, 61, 0, 9];
        assert_eq!(option(options_of(&offer), 121), Some(&expected[..]));
        lease.routes.clear();
        let offer = answer(&question(MAC, &[53, 1, DISCOVER, 255]), &lease).unwrap();
        assert_eq!(option(options_of(&offer), 54), Some(&OWN_ADDRESS.octets()[..]));
    }

    proptest! {
        #[test]
        fn no_frame_makes_it_panic(frame in proptest::collection::vec(any::<u8>(), 0..400), options in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = answer(&frame, &lease());
            let _ = answer(&question(MAC, &options), &lease());
        }
    }
}
