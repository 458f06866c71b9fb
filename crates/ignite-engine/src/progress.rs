//! What long work tells whoever watches it.

use std::sync::Arc;

/// Something that happened in long work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProgressEvent {
    /// A part of the work begins: `resolve`, `pull`, `base disk`, `kernel`, `boot`.
    Phase(&'static str),
    /// It is done.
    PhaseDone(&'static str),
    /// More of a layer is here.
    Layer {
        /// Digest of the blob.
        digest: String,
        /// Bytes present.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// A layer is complete.
    LayerDone {
        /// Digest of the blob.
        digest: String,
    },
    /// More of the current phase is done.
    Bytes {
        /// Bytes so far.
        done: u64,
        /// Bytes in all, where that is known.
        total: Option<u64>,
    },
    /// Something failed and is tried again.
    Retry {
        /// Why.
        reason: String,
        /// Number of this retry, from 1.
        attempt: u32,
    },
    /// One line for the user.
    Note(String),
}

/// A listener. Called from several threads; must not block.
pub trait Progress: Send + Sync {
    /// Takes note of `event`.
    fn event(&self, event: ProgressEvent);
}

/// Nobody listens.
impl Progress for () {
    fn event(&self, _event: ProgressEvent) {}
}

/// Tells an engine's listener of a fetch.
pub(crate) struct FetchProgress {
    listener: Arc<dyn Progress>,
    sizes: std::sync::Mutex<std::collections::HashMap<String, u64>>,
}

impl FetchProgress {
    pub(crate) fn new(listener: Arc<dyn Progress>) -> Arc<FetchProgress> {
        Arc::new(FetchProgress { listener, sizes: std::sync::Mutex::default() })
    }

    fn total(&self, digest: &str, started: Option<u64>) -> u64 {
        let mut sizes = self.sizes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(size) = started {
            sizes.insert(digest.to_owned(), size);
        }
        sizes.get(digest).copied().unwrap_or(0)
    }
}

impl ignite_oci::Progress for FetchProgress {
    fn event(&self, event: ignite_oci::ProgressEvent) {
        use ignite_oci::ProgressEvent as Oci;
        self.listener.event(match event {
            Oci::Resolving { .. } => ProgressEvent::Phase("pull"),
            Oci::Reading { bytes } => ProgressEvent::Bytes { done: bytes, total: None },
            Oci::LayerStarted { digest, size } => {
                let total = self.total(&digest, Some(size));
                ProgressEvent::Layer { digest, done: 0, total }
            }
            Oci::LayerProgress { digest, bytes } => {
                let total = self.total(&digest, None);
                ProgressEvent::Layer { digest, done: bytes, total }
            }
            Oci::LayerDone { digest, .. } => ProgressEvent::LayerDone { digest },
            Oci::Retrying { reason, attempt, .. } => ProgressEvent::Retry { reason, attempt },
        });
    }
}
