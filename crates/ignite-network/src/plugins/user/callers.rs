//! Who on the host's loopback has called the guest, by way of the gateway's address, and may therefore be answered.
//!
//! passt shows connections from the host's loopback to published UDP ports as the gateway's, and takes answers to the gateway
//! for the loopback again, as it takes everything else that is sent there. So the guest may answer, and call nobody.

use super::guest_side::GATEWAY;
use std::collections::{HashSet, VecDeque};

/// Most callers that are remembered; the eldest is forgotten first.
const MAX_CALLERS: usize = 4096;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;

/// Protocol, the guest's port and the caller's.
type Caller = (u8, u16, u16);

/// The callers of a guest.
#[derive(Debug, Default)]
pub(crate) struct Callers {
    known: HashSet<Caller>,
    order: VecDeque<Caller>,
}

impl Callers {
    /// Looks at a frame on its way to the guest.
    pub(crate) fn see(&mut self, frame: &[u8]) {
        let Some(packet) = Packet::parse(frame) else { return };
        let Some((source, destination)) = packet.ports.filter(|_| packet.source == GATEWAY.octets()) else { return };
        let caller = (packet.protocol, destination, source);
        if self.known.insert(caller) {
            self.order.push_back(caller);
            if self.order.len() > MAX_CALLERS
                && let Some(eldest) = self.order.pop_front()
            {
                self.known.remove(&eldest);
            }
        }
    }

    /// Whether the guest may send this frame: not to the gateway, or an answer to a caller.
    pub(crate) fn is_allowed(&self, frame: &[u8]) -> bool {
        let is_ipv4 = frame.get(12..14) == Some(&[8, 0]);
        match Packet::parse(frame) {
            None => !is_ipv4,
            Some(packet) if packet.destination != GATEWAY.octets() => true,
            Some(Packet { protocol: ICMP, .. }) => true,
            Some(Packet { protocol, ports: Some((source, destination)), .. }) => {
                self.known.contains(&(protocol, source, destination))
            }
            Some(_) => false,
        }
    }
}

/// What is looked at of an IPv4 packet.
struct Packet {
    protocol: u8,
    source: [u8; 4],
    destination: [u8; 4],
    /// Source and destination, of TCP and UDP in one piece.
    ports: Option<(u16, u16)>,
}

impl Packet {
    fn parse(frame: &[u8]) -> Option<Packet> {
        let packet = frame.get(14..).filter(|_| frame[12..14] == [8, 0])?;
        let header = usize::from(packet.first()? & 0x0f) * 4;
        if packet[0] >> 4 != 4 || header < 20 || packet.len() < header {
            return None;
        }
        let is_fragment = packet[6] & 0x3f != 0 || packet[7] != 0;
        let ports = packet.get(header..header + 4).filter(|_| !is_fragment && matches!(packet[9], TCP | UDP));
        Some(Packet {
            protocol: packet[9],
            source: packet[12..16].try_into().ok()?,
            destination: packet[16..20].try_into().ok()?,
            ports: ports.map(|b| (u16::from_be_bytes([b[0], b[1]]), u16::from_be_bytes([b[2], b[3]]))),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GUEST: [u8; 4] = [10, 0, 2, 15];

    fn frame(protocol: u8, source: ([u8; 4], u16), destination: ([u8; 4], u16)) -> Vec<u8> {
        let mut frame = vec![0; 42];
        frame[12..15].copy_from_slice(&[8, 0, 0x45]);
        frame[23] = protocol;
        frame[26..30].copy_from_slice(&source.0);
        frame[30..34].copy_from_slice(&destination.0);
        frame[34..36].copy_from_slice(&source.1.to_be_bytes());
        frame[36..38].copy_from_slice(&destination.1.to_be_bytes());
        frame
    }

    #[test]
    fn only_who_has_called_is_answered_at_the_gateway() {
        let gateway = GATEWAY.octets();
        let answer = |protocol| frame(protocol, (GUEST, 53), (gateway, 4000));
        let mut callers = Callers::default();
        assert!(!callers.is_allowed(&answer(UDP)) && !callers.is_allowed(&answer(TCP)));
        callers.see(&frame(UDP, ([192, 0, 2, 1], 4000), (GUEST, 53)));
        assert!(!callers.is_allowed(&answer(UDP)), "somebody else's call");
        callers.see(&frame(UDP, (gateway, 4000), (GUEST, 53)));
        assert!(callers.is_allowed(&answer(UDP)) && !callers.is_allowed(&answer(TCP)));
        assert!(!callers.is_allowed(&frame(UDP, (GUEST, 53), (gateway, 4001))), "another port");
        assert!(!callers.is_allowed(&frame(UDP, (GUEST, 54), (gateway, 4000))), "from another port");
        let mut fragment = answer(UDP);
        fragment[20] = 0x20;
        assert!(!callers.is_allowed(&fragment), "its ports may be anything");
        assert!(callers.is_allowed(&frame(TCP, (GUEST, 1), ([192, 0, 2, 1], 80))), "elsewhere");
        assert!(callers.is_allowed(&frame(ICMP, (GUEST, 0), (gateway, 0))));
        assert!(!callers.is_allowed(&frame(47, (GUEST, 0), (gateway, 0))), "another protocol");
        assert!(callers.is_allowed(&[0; 42]), "no IPv4");
        assert!(!callers.is_allowed(&frame(UDP, (GUEST, 53), (gateway, 4000))[..30]), "half a header");
    }

    #[test]
    fn the_eldest_is_forgotten() {
        let mut callers = Callers::default();
        let call = |port: u16| frame(UDP, (GATEWAY.octets(), port), (GUEST, 53));
        for port in 0..=MAX_CALLERS as u16 {
            callers.see(&call(port));
        }
        let answer = |port: u16| frame(UDP, (GUEST, 53), (GATEWAY.octets(), port));
        assert!(!callers.is_allowed(&answer(0)) && callers.is_allowed(&answer(1)));
        assert_eq!(callers.known.len(), MAX_CALLERS);
    }

    proptest! {
        #[test]
        fn no_frame_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut callers = Callers::default();
            callers.see(&bytes);
            callers.is_allowed(&bytes);
        }
    }
}
