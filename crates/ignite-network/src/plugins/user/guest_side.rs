//! The guest's side of passt's network: its fixed addresses, its MAC, and the question that tells that passt is ready.

use crate::NetworkError;
use crate::plugin::Helper;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream as BlockingStream;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// The guest.
pub(crate) const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
/// Of its network.
pub(crate) const PREFIX_LENGTH: u8 = 24;
/// passt.
pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
/// passt's forwarder of DNS.
pub(crate) const NAME_SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);
/// passt's MAC address.
pub(crate) const GATEWAY_MAC: &str = "02:00:0a:00:02:02";
/// The largest passt can do: it moves whole segments, so each byte less costs throughput.
pub(crate) const MTU: u32 = 65_520;

/// How long passt may take to start; 15 ms on an idle host.
const START_DEADLINE: Duration = Duration::from_secs(30);
/// Largest frame that is read past while waiting for the answer.
const MAX_FRAME: u32 = 65_536 + 64;
/// An ARP packet in an Ethernet frame.
const ARP_FRAME: usize = 42;

/// Returns the socket when passt serves it: asks for the gateway's MAC address as the guest would, and waits for the
/// answer. passt answers once it has bound every port and dropped its privileges; if it fails it closes the socket.
pub(crate) async fn wait_until_served(
    socket: BlockingStream,
    mac: [u8; 6],
    helper: &mut Helper,
) -> Result<UnixStream, NetworkError> {
    let failed = |source| NetworkError::Io { what: "talk to passt".into(), source };
    socket.set_nonblocking(true).map_err(failed)?;
    let mut stream = UnixStream::from_std(socket).map_err(failed)?;
    match tokio::time::timeout(START_DEADLINE, ask(&mut stream, mac)).await {
        Ok(Ok(())) => {}
        Ok(Err(_)) => {
            return Err(NetworkError::Helper { program: helper.program.into(), detail: helper.ended().await });
        }
        Err(_) => {
            let detail = format!("it did not answer within {} s", START_DEADLINE.as_secs());
            return Err(NetworkError::Helper { program: helper.program.into(), detail });
        }
    }
    Ok(stream)
}

async fn ask(stream: &mut UnixStream, mac: [u8; 6]) -> io::Result<()> {
    stream.write_all(&framed_request(mac)).await?;
    loop {
        let length = stream.read_u32().await?;
        if length > MAX_FRAME {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut frame = vec![0; length as usize];
        stream.read_exact(&mut frame).await?;
        if is_answer(&frame) {
            return Ok(());
        }
        // Whatever came before it (somebody connected to a published port) is sent again by its sender.
    }
}

/// An ARP request (RFC 826) for the gateway, in Ethernet, preceded by its length.
fn framed_request(mac: [u8; 6]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(4 + ARP_FRAME);
    bytes.extend((ARP_FRAME as u32).to_be_bytes());
    bytes.extend([0xff; 6]);
    bytes.extend(mac);
    bytes.extend(0x0806_u16.to_be_bytes());
    // Ethernet, IPv4, their address lengths, request.
    bytes.extend([0, 1, 8, 0, 6, 4, 0, 1]);
    bytes.extend(mac);
    bytes.extend(ADDRESS.octets());
    bytes.extend([0; 6]);
    bytes.extend(GATEWAY.octets());
    bytes
}

fn is_answer(frame: &[u8]) -> bool {
    frame.len() >= ARP_FRAME && frame[12..14] == [8, 6] && frame[20..22] == [0, 2] && frame[28..32] == GATEWAY.octets()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_answer_is_told_from_other_frames() {
        let mut answer = framed_request([2; 6])[4..].to_vec();
        assert!(!is_answer(&answer), "it is the question");
        answer[21] = 2;
        assert!(!is_answer(&answer), "somebody else's");
        answer[28..32].copy_from_slice(&GATEWAY.octets());
        assert!(is_answer(&answer));
        assert!(!is_answer(&answer[..41]));
    }

    proptest! {
        #[test]
        fn no_frame_makes_it_panic(frame in proptest::collection::vec(any::<u8>(), 0..128)) {
            is_answer(&frame);
        }
    }
}
