//! Stands between guest and passt, and lets no frame through that leads to the host's own loopback.
//!
//! passt opens a connection to whatever address a frame names. An ordinary guest keeps 127.0.0.0/8 to itself, but its root
//! may not, and what listens on the host's loopback often trusts everyone who can reach it. Everything that is not
//! IPv4 or ARP is dropped as well: passt is told to speak nothing else.

use super::callers::Callers;
use std::io;
use std::os::unix::net::UnixStream as BlockingStream;
use std::sync::{Mutex, PoisonError};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

/// Bytes of the length before each frame.
const PREFIX: usize = 4;
/// Largest frame QEMU sends (its `NET_BUFSIZE`).
const MAX_FRAME: usize = 4096 + 65_536;
/// Room for a largest frame, and for many small ones to be passed on at once.
const BUFFER: usize = 2 * (PREFIX + MAX_FRAME);

/// What the gateway's address leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loopback {
    /// Nothing: passt is told so.
    Closed,
    /// The host's loopback, for passt: the guest may answer those who call it from there, see `callers`.
    MayCall,
}

/// Starts the relay, and returns the guest's end. It ends, and closes passt's end, when either side closes.
pub(crate) fn start(passt: UnixStream, loopback: Loopback) -> io::Result<(BlockingStream, JoinHandle<()>)> {
    let (guest_end, own_end) = BlockingStream::pair()?;
    own_end.set_nonblocking(true)?;
    let guest = UnixStream::from_std(own_end)?;
    Ok((guest_end, tokio::spawn(relay(guest, passt, loopback))))
}

async fn relay(guest: UnixStream, passt: UnixStream, loopback: Loopback) {
    let (mut from_guest, mut to_guest) = guest.into_split();
    let (from_passt, mut to_passt) = passt.into_split();
    let mut from_passt = BufReader::with_capacity(BUFFER, from_passt);
    // A side that is gone ends both directions; how it went is nothing to tell.
    match loopback {
        Loopback::Closed => tokio::select! {
            _ = pass_allowed(&mut from_guest, &mut to_passt, is_allowed) => {}
            _ = tokio::io::copy_buf(&mut from_passt, &mut to_guest) => {}
        },
        Loopback::MayCall => {
            let callers = Mutex::new(Callers::default());
            let known = || callers.lock().unwrap_or_else(PoisonError::into_inner);
            tokio::select! {
                _ = pass_allowed(&mut from_guest, &mut to_passt, |frame| is_allowed(frame) && known().is_allowed(frame)) => {}
                _ = pass_allowed(&mut from_passt, &mut to_guest, |frame| {
                    known().see(frame);
                    true
                }) => {}
            }
        }
    }
}

/// Passes frames on, those that follow each other in one write.
async fn pass_allowed(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    is_allowed: impl Fn(&[u8]) -> bool,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    let mut filled = 0;
    loop {
        let length = from.read(&mut buffer[filled..]).await?;
        if length == 0 {
            return Ok(());
        }
        filled += length;
        let (allowed, consumed) = sift(&buffer[..filled], &is_allowed)?;
        for run in allowed {
            to.write_all(&buffer[run]).await?;
        }
        buffer.copy_within(consumed..filled, 0);
        filled -= consumed;
    }
}

/// The runs of allowed frames among the complete ones, and where the first incomplete one begins.
fn sift(bytes: &[u8], is_allowed: impl Fn(&[u8]) -> bool) -> io::Result<(Vec<std::ops::Range<usize>>, usize)> {
    let mut runs: Vec<std::ops::Range<usize>> = Vec::new();
    let mut start = 0;
    while let Some((prefix, rest)) = bytes[start..].split_first_chunk::<PREFIX>() {
        let length = u32::from_be_bytes(*prefix) as usize;
        if length > MAX_FRAME {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "frame is too long"));
        }
        let Some(frame) = rest.get(..length) else { break };
        let end = start + PREFIX + length;
        if is_allowed(frame) {
            match runs.last_mut() {
                Some(last) if last.end == start => last.end = end,
                Some(_) | None => runs.push(start..end),
            }
        }
        start = end;
    }
    Ok((runs, start))
}

/// Whether a guest may send this Ethernet frame.
fn is_allowed(frame: &[u8]) -> bool {
    match frame.get(12..14) {
        Some([0x08, 0x06]) => true,
        // The destination's first octet, of a whole IPv4 header. 0.0.0.0/8 means this host, just as 127.0.0.0/8 does.
        Some([0x08, 0x00]) => frame.len() >= 34 && !matches!(frame[30], 0 | 127),
        Some(_) | None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ipv4(destination: [u8; 4]) -> Vec<u8> {
        let mut frame = vec![0; 40];
        frame[12..14].copy_from_slice(&[8, 0]);
        frame[30..34].copy_from_slice(&destination);
        frame
    }

    fn framed(frame: &[u8]) -> Vec<u8> {
        let mut bytes = (frame.len() as u32).to_be_bytes().to_vec();
        bytes.extend(frame);
        bytes
    }

    #[test]
    fn loopback_and_what_passt_does_not_speak_stay_with_the_guest() {
        let mut arp = vec![0; 42];
        arp[12..14].copy_from_slice(&[8, 6]);
        let mut ipv6 = vec![0; 60];
        ipv6[12..14].copy_from_slice(&[0x86, 0xdd]);
        for (frame, expected) in [
            (ipv4([192, 0, 2, 1]), true),
            (ipv4([10, 0, 2, 3]), true),
            (ipv4([127, 0, 0, 1]), false),
            (ipv4([127, 255, 1, 2]), false),
            (ipv4([0, 0, 0, 0]), false),
            (ipv4([192, 0, 2, 1])[..33].to_vec(), false),
            (arp, true),
            (ipv6, false),
            (Vec::new(), false),
        ] {
            assert_eq!(is_allowed(&frame), expected, "{frame:?}");
        }
    }

    #[test]
    fn a_frame_beyond_all_measure_ends_the_relay() {
        assert!(sift(&[0xff; 8], is_allowed).is_err());
    }

    #[tokio::test]
    async fn a_side_that_closes_closes_the_other() {
        let (near, far) = UnixStream::pair().unwrap();
        let (guest, task) = start(far, Loopback::Closed).unwrap();
        drop(guest);
        task.await.unwrap();
        let mut near = near;
        assert_eq!(near.read(&mut [0]).await.unwrap(), 0);
    }

    proptest! {
        #[test]
        fn exactly_the_allowed_frames_pass_however_they_are_cut(
            destinations in proptest::collection::vec((any::<[u8; 4]>(), any::<bool>()), 0..20),
            cuts in proptest::collection::vec(1_usize..50, 1..50),
        ) {
            let (mut sent, mut expected) = (Vec::new(), Vec::new());
            for (destination, is_loopback) in destinations {
                let frame = ipv4(if is_loopback { [127, 0, 0, 1] } else { destination });
                sent.extend(framed(&frame));
                if is_allowed(&frame) {
                    expected.extend(framed(&frame));
                }
            }
            let mut reader = in_pieces(&sent, &cuts);
            let mut received = Vec::new();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(pass_allowed(&mut reader, &mut received, is_allowed)).unwrap();
            prop_assert_eq!(received, expected);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = sift(&bytes, is_allowed);
            is_allowed(&bytes);
        }
    }

    /// `sent` in pieces of these sizes, again and again.
    fn in_pieces(sent: &[u8], cuts: &[usize]) -> impl AsyncRead + Unpin {
        let (mut pieces, mut rest) = (std::collections::VecDeque::new(), sent);
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, tail) = rest.split_at((*cut).min(rest.len()));
            pieces.push_back(piece.to_vec());
            rest = tail;
        }
        Pieces(pieces)
    }

    struct Pieces(std::collections::VecDeque<Vec<u8>>);

    impl AsyncRead for Pieces {
        fn poll_read(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            buffer: &mut tokio::io::ReadBuf<'_>,
        ) -> std::task::Poll<io::Result<()>> {
            if let Some(piece) = self.0.pop_front() {
                buffer.put_slice(&piece);
            }
            std::task::Poll::Ready(Ok(()))
        }
    }
}
