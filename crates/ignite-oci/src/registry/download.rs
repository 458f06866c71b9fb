//! Bringing one blob from a registry into the store: continued where it was cut, hashed on the way.

use super::client::RegistryClient;
use super::retry::Retries;
use crate::digest::Digest;
use crate::document::Descriptor;
use crate::partial::{Acquired, PartialBlob};
use crate::{ContentStore, OciError, Progress, ProgressEvent};
use reqwest::header::CONTENT_RANGE;
use reqwest::{Response, StatusCode};
use tokio::sync::{mpsc, oneshot};

/// Pieces on their way from the network to the disk: what bounds the memory of a download.
const CHUNKS_IN_FLIGHT: usize = 8;
/// So much must have come for earlier failures to be forgotten.
const PROGRESS_BYTES: u64 = 64 << 10;

/// Makes sure that the store has `blob`. Of several tasks and processes one downloads, the others wait for it.
pub(crate) async fn download_blob(
    client: &RegistryClient,
    store: &ContentStore,
    blob: &Descriptor,
    progress: &dyn Progress,
) -> Result<(), OciError> {
    let digest = blob.parsed_digest()?;
    let acquired = {
        let (store, digest) = (store.clone(), digest.clone());
        wait_on_thread(move || PartialBlob::acquire(&store, &digest)).await??
    };
    let partial = match acquired {
        Acquired::Present(size) if size == blob.size => {
            progress.event(ProgressEvent::LayerDone { digest: blob.digest.clone(), reused: true });
            return Ok(());
        }
        // Verified content has one size only: the manifest lies.
        Acquired::Present(actual) => {
            return Err(OciError::SizeMismatch { what: format!("blob {digest}"), expected: blob.size, actual });
        }
        Acquired::Missing(partial) => partial,
    };
    let (mut partial, is_old) = {
        let size = blob.size;
        let mut partial = partial;
        on_worker(move || {
            partial.resume(size)?;
            let is_old = partial.written() > 0;
            Ok((partial, is_old))
        })
        .await?
    };
    progress.event(ProgressEvent::LayerStarted { digest: blob.digest.clone(), size: blob.size });
    let what = format!("blob {digest} of {}", client.endpoint().image());
    let mut trusts_rest = is_old;
    loop {
        partial = transfer_all(client, partial, blob, &digest, progress).await?;
        if trusts_rest && partial.verify(&what).is_err() {
            // What an earlier process left may have been damaged by a crash: only a whole download proves a lie.
            trusts_rest = false;
            partial.restart()?;
            continue;
        }
        break;
    }
    on_worker(move || partial.settle(&what)).await?;
    progress.event(ProgressEvent::LayerDone { digest: blob.digest.clone(), reused: false });
    Ok(())
}

/// Requests, and requests again, until all bytes are there.
async fn transfer_all(
    client: &RegistryClient,
    mut partial: PartialBlob,
    blob: &Descriptor,
    digest: &Digest,
    progress: &dyn Progress,
) -> Result<PartialBlob, OciError> {
    let mut retries = Retries::new(client.options());
    while partial.written() < blob.size {
        let before = partial.written();
        progress.event(ProgressEvent::LayerProgress { digest: blob.digest.clone(), bytes: before });
        let error = match client.blob(digest, before).await {
            Ok(response) => {
                let (returned, result) = transfer(client, partial, response, blob, progress).await?;
                partial = returned;
                match result {
                    Ok(()) => continue,
                    Err(error @ (OciError::SizeMismatch { .. } | OciError::InvalidAnswer { .. })) => {
                        partial.discard()?;
                        return Err(error);
                    }
                    Err(error) => error,
                }
            }
            Err(error) => {
                if matches!(error, OciError::Status { status: 416, .. }) {
                    partial.restart()?;
                }
                error
            }
        };
        if partial.written() >= before + PROGRESS_BYTES {
            retries.reset();
        }
        retries.after(error, progress).await?;
    }
    Ok(partial)
}

/// Writes one answer's body behind what is there. The outer error is one of the disk, the inner of the network.
async fn transfer(
    client: &RegistryClient,
    mut partial: PartialBlob,
    mut response: Response,
    blob: &Descriptor,
    progress: &dyn Progress,
) -> Result<(PartialBlob, Result<(), OciError>), OciError> {
    let offset = partial.written();
    let what = format!("blob {}", blob.digest);
    let registry = client.endpoint().registry.clone();
    match response.status() {
        StatusCode::PARTIAL_CONTENT => {
            let range = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
            if range.and_then(parse_range_start) != Some(offset) {
                let reason = format!("bytes from {offset} were asked for, another range came");
                return Ok((partial, Err(OciError::InvalidAnswer { registry, what, reason })));
            }
        }
        // The server does not know ranges: all of it comes again.
        _ => partial.restart()?,
    }
    let mut received = partial.written();
    let (sender, mut receiver) = mpsc::channel::<bytes::Bytes>(CHUNKS_IN_FLIGHT);
    let writer = tokio::task::spawn_blocking(move || {
        while let Some(chunk) = receiver.blocking_recv() {
            partial.write(&chunk)?;
        }
        Ok::<_, OciError>(partial)
    });
    let result = loop {
        match client.next_chunk(&mut response, &what).await {
            Err(error) => break Err(error),
            Ok(None) if received < blob.size => {
                break Err(OciError::CutShort { registry, what, received, expected: blob.size });
            }
            Ok(None) => break Ok(()),
            Ok(Some(chunk)) => {
                received += chunk.len() as u64;
                if received > blob.size {
                    break Err(OciError::SizeMismatch { what, expected: blob.size, actual: received });
                }
                if sender.send(chunk).await.is_err() {
                    // The writer failed: its own error is told below.
                    break Ok(());
                }
                progress.event(ProgressEvent::LayerProgress { digest: blob.digest.clone(), bytes: received });
            }
        }
    };
    drop(sender);
    let partial = writer.await.map_err(|_| OciError::WorkerLost)??;
    Ok((partial, result))
}

/// `bytes 5-9/10` starts at 5 (RFC 9110 §14.4).
fn parse_range_start(value: &str) -> Option<u64> {
    value.trim().strip_prefix("bytes")?.trim_start().split('-').next()?.trim().parse().ok()
}

/// Runs file work among the runtime's blocking threads.
async fn on_worker<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, OciError> + Send + 'static,
) -> Result<T, OciError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| OciError::WorkerLost)?
}

/// Waits for a lock on a thread of its own: other than the runtime's, it does not keep the program from ending.
pub(crate) async fn wait_on_thread<T: Send + 'static>(
    wait: impl FnOnce() -> T + Send + 'static,
) -> Result<T, OciError> {
    let (sender, receiver) = oneshot::channel();
    let spawned = std::thread::Builder::new().name("blob-lock".to_owned()).spawn(move || {
        // Nobody waits any more when the fetch was cancelled; the lock is let go by the drop.
        let _ = sender.send(wait());
    });
    spawned.map_err(|_| OciError::WorkerLost)?;
    receiver.await.map_err(|_| OciError::WorkerLost)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn range_starts_are_read() {
        for (value, start) in [
            ("bytes 5-9/10", Some(5)),
            ("bytes 0-0/*", Some(0)),
            ("bytes */10", None),
            ("items 5-9/10", None),
            ("", None),
        ] {
            assert_eq!(parse_range_start(value), start, "{value}");
        }
    }

    proptest! {
        #[test]
        fn foreign_ranges_never_panic(value in "\\PC{0,30}") {
            let _ = parse_range_start(&value);
        }
    }
}
