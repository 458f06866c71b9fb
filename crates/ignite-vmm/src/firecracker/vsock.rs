//! The agent's stream through Firecracker's virtio socket.
//!
//! ```text
//!  supervisor <-> duplex <-> carry <-> Unix socket <-> Firecracker <-> guest's port
//!                               "CONNECT 1024\n" -> , <- "OK <port>\n"      (Firecracker docs/vsock.md)
//! ```

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

/// Port on which the guest's agent listens. The same as `ignite_agent_protocol::VSOCK_PORT`.
const AGENT_PORT: u32 = 1024;
/// Bytes in flight each way.
const BUFFER: usize = 64 * 1024;
/// Longest answer to `CONNECT`: `OK`, a port of ten digits, and the line's end.
const MAX_ANSWER: usize = 16;
/// Time between two knocks. Firecracker hangs up while nobody listens in the guest, and nothing tells when somebody does.
const KNOCK_INTERVAL: Duration = Duration::from_millis(10);

/// The agent's stream, and the task behind it, which ends when either side does.
pub(crate) fn open(socket: PathBuf) -> (DuplexStream, JoinHandle<()>) {
    let (near, far) = tokio::io::duplex(BUFFER);
    (near, tokio::spawn(carry(socket, far)))
}

async fn carry(socket: PathBuf, mut far: DuplexStream) {
    let mut stream = loop {
        match knock(&socket).await {
            Ok(stream) => break stream,
            // The guest is not up yet, or the VMM is gone: whoever owns the machine sees which, and has a deadline.
            Err(_) => tokio::time::sleep(KNOCK_INTERVAL).await,
        }
    };
    // Either side may hang up; the other is told by the end of its stream.
    let _ = tokio::io::copy_bidirectional_with_sizes(&mut far, &mut stream, BUFFER, BUFFER).await;
}

async fn knock(socket: &Path) -> io::Result<UnixStream> {
    let mut stream = UnixStream::connect(socket).await?;
    greet(&mut stream).await?;
    Ok(stream)
}

/// Asks for the agent's port. Reads byte by byte: what follows the line is the agent's.
async fn greet(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<()> {
    stream.write_all(format!("CONNECT {AGENT_PORT}\n").as_bytes()).await?;
    let mut answer = Vec::with_capacity(MAX_ANSWER);
    while answer.last() != Some(&b'\n') {
        if answer.len() == MAX_ANSWER {
            return Err(io::ErrorKind::InvalidData.into());
        }
        answer.push(stream.read_u8().await?);
    }
    if answer.starts_with(b"OK ") { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokio::net::UnixListener;

    #[tokio::test]
    async fn it_knocks_until_the_guest_listens_and_then_carries_bytes_both_ways() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("vsock");
        let (mut near, task) = open(path.clone());
        let listener = UnixListener::bind(&path).unwrap();
        let mut order = [0; 13];
        // Nobody listens in the guest yet: hung up without an answer.
        let (mut early, _) = listener.accept().await.unwrap();
        early.read_exact(&mut order).await.unwrap();
        drop(early);
        let (mut peer, _) = listener.accept().await.unwrap();
        peer.read_exact(&mut order).await.unwrap();
        assert_eq!(&order, b"CONNECT 1024\n");
        peer.write_all(b"OK 1073741824\nhello").await.unwrap();
        let mut said = [0; 5];
        near.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"hello");
        near.write_all(b"world").await.unwrap();
        peer.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"world");
        drop(peer);
        assert_eq!(near.read(&mut said).await.unwrap(), 0, "the end of one side is the end of the other");
        drop(near);
        task.await.unwrap();
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic_or_read_without_end(answer in proptest::collection::vec(any::<u8>(), 0..64)) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let (mut ours, mut theirs) = tokio::io::duplex(256);
                theirs.write_all(&answer).await.unwrap();
                drop(theirs);
                let _ = greet(&mut ours).await;
            });
        }
    }
}
