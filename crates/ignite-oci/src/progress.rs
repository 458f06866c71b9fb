//! What is told about a fetch while it runs.

use std::time::Duration;

/// Something that happened during a fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProgressEvent {
    /// The source is asked what the name means.
    Resolving {
        /// The source, as the user may write it.
        reference: String,
    },
    /// An archive is being read; sent every few MiB.
    Reading {
        /// Decompressed bytes read so far.
        bytes: u64,
    },
    /// A layer's transfer begins.
    LayerStarted {
        /// Digest of the blob.
        digest: String,
        /// Its bytes, compressed.
        size: u64,
    },
    /// More of a layer is here.
    LayerProgress {
        /// Digest of the blob.
        digest: String,
        /// Bytes present so far, counting what an earlier download left; may fall when a transfer starts over.
        bytes: u64,
    },
    /// A layer is complete and verified.
    LayerDone {
        /// Digest of the blob.
        digest: String,
        /// True when it was in the store already.
        reused: bool,
    },
    /// A request failed and is made again after a pause.
    Retrying {
        /// What failed, and how.
        reason: String,
        /// Number of this retry, from 1.
        attempt: u32,
        /// Pause before it.
        after: Duration,
    },
}

/// A listener to a fetch. Called from several threads; must not block.
pub trait Progress: Send + Sync {
    /// Takes note of `event`.
    fn event(&self, event: ProgressEvent);
}

/// Nobody listens.
impl Progress for () {
    fn event(&self, _event: ProgressEvent) {}
}
