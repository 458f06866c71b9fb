//! A layer read ahead by a thread of its own, so that inflating one buffer overlaps with writing another.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Scope;

use crate::LayerSource;

const BUFFER: usize = 256 << 10;
/// Buffers in flight for one layer: 2 MiB.
const DEPTH: usize = 8;

/// The stream of one layer; a thread of `scope` fills it.
pub(crate) struct Prefetched {
    filled: Receiver<io::Result<Vec<u8>>>,
    /// Where used buffers go to be filled again.
    empty: SyncSender<Vec<u8>>,
    current: Vec<u8>,
    at: usize,
    is_at_end: bool,
}

impl Prefetched {
    /// Opens the layer and begins to read it. The thread ends with the stream, with an error, or soon after this
    /// reader is dropped.
    pub fn start<'scope>(scope: &'scope Scope<'scope, '_>, layer: &'scope dyn LayerSource) -> io::Result<Prefetched> {
        let stream = layer.open()?;
        let (send_filled, filled) = sync_channel(DEPTH);
        let (empty, take_empty) = sync_channel(DEPTH + 2);
        std::thread::Builder::new()
            .name("layer-reader".to_owned())
            .spawn_scoped(scope, move || fill(stream, &send_filled, &take_empty))?;
        Ok(Prefetched { filled, empty, current: Vec::new(), at: 0, is_at_end: false })
    }
}

impl Read for Prefetched {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.at == self.current.len() {
            if self.is_at_end || out.is_empty() {
                return Ok(0);
            }
            let used = std::mem::take(&mut self.current);
            self.at = 0;
            if used.capacity() > 0 {
                // A full or closed queue only costs the buffer.
                let _ = self.empty.try_send(used);
            }
            match self.filled.recv() {
                Ok(Ok(buffer)) => self.current = buffer,
                Ok(Err(error)) => {
                    self.is_at_end = true;
                    return Err(error);
                }
                Err(_) => self.is_at_end = true,
            }
        }
        let now = out.len().min(self.current.len() - self.at);
        out[..now].copy_from_slice(&self.current[self.at..self.at + now]);
        self.at += now;
        Ok(now)
    }
}

fn fill(mut stream: Box<dyn Read + Send>, filled: &SyncSender<io::Result<Vec<u8>>>, empty: &Receiver<Vec<u8>>) {
    loop {
        let mut buffer = empty.try_recv().unwrap_or_default();
        buffer.resize(BUFFER, 0);
        let mut len = 0;
        let mut failed = None;
        while len < BUFFER {
            match stream.read(&mut buffer[len..]) {
                Ok(0) => break,
                Ok(read) => len += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        buffer.truncate(len);
        // A receiver that is gone has given up on the layer.
        if len > 0 && filled.send(Ok(buffer)).is_err() {
            return;
        }
        if let Some(error) = failed {
            let _ = filled.send(Err(error));
            return;
        }
        if len < BUFFER {
            return;
        }
    }
}
