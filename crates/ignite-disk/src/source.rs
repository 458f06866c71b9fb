//! The seam through which layers reach this crate: a named, reopenable, decompressed tar stream.

use std::io::{self, Read};

/// One image layer, bottom to top, as a tar stream that is already decompressed.
///
/// A stream is read to its end, past the end-of-archive blocks, so that a source which verifies a digest sees every
/// byte; an error it returns at the end fails the whole import.
pub trait LayerSource: Sync {
    /// Opens the stream from its start; may be called several times, also from another thread.
    fn open(&self) -> io::Result<Box<dyn Read + Send>>;

    /// What error messages call this layer, such as its digest or its position.
    fn name(&self) -> String;
}
