//! Imports that were not to be finished: told to stop, and nothing of them left.

use crate::engine::Engine;
use crate::error::EngineError;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What the imports of one engine share; clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Imports {
    have_begun: Arc<AtomicBool>,
    are_cancelled: Arc<AtomicBool>,
}

impl Imports {
    /// From now on there may be something to undo.
    pub(crate) fn begin(&self) {
        self.have_begun.store(true, Ordering::Relaxed);
    }

    /// A stream that fails as soon as the import is cancelled: what a thread reads cannot be dropped from outside.
    pub(crate) fn watch(&self, stream: Box<dyn Read + Send>) -> Box<dyn Read + Send> {
        Box::new(Watched { stream, imports: self.clone() })
    }
}

struct Watched {
    stream: Box<dyn Read + Send>,
    imports: Imports,
}

impl Read for Watched {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.imports.are_cancelled.load(Ordering::Relaxed) {
            return Err(io::Error::other("the import was cancelled"));
        }
        self.stream.read(buffer)
    }
}

impl Engine {
    /// Tells the threads of this engine's imports to stop; no import succeeds any more.
    pub fn cancel_imports(&self) {
        self.imports.are_cancelled.store(true, Ordering::Relaxed);
    }

    /// Frees what cancelled imports had brought: blobs, half a blob, half a base disk. A crash leaves them, for the next
    /// import to go on with; somebody who says "stop" wants nothing of it.
    ///
    /// Blocks. Whole blobs stay while another process imports, which may need them; the next prune finds them.
    pub fn undo_imports(&self) -> Result<(), EngineError> {
        if self.imports.have_begun.load(Ordering::Relaxed) {
            self.free_unreferenced()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cancelled_stream_ends_with_an_error_and_not_early() {
        let imports = Imports::default();
        let mut stream = imports.watch(Box::new(&b"abcdef"[..]));
        let mut half = [0; 3];
        stream.read_exact(&mut half).unwrap();
        imports.are_cancelled.store(true, Ordering::Relaxed);
        assert!(stream.read(&mut half).unwrap_err().to_string().contains("cancelled"));
    }
}
