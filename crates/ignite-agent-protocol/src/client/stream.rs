//! One stream: standard input with the guest's window, output with the windows granted to it.

use super::connection::{ConnectionError, OpenError, Shared as ConnectionShared};
use crate::frame::{INITIAL_WINDOW, Kind, MAX_PAYLOAD, STDERR, STDIN, STDOUT};
use crate::message::{Opened, StreamExit, StreamRequest};
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Chunks queued before small ones are joined out of order with the other channel.
const MAX_CHUNKS: usize = 64;

/// What happens on a stream.
#[derive(Debug, Clone)]
pub enum StreamEvent {
    /// Bytes of standard output (with a terminal: of everything).
    Stdout(Bytes),
    /// Bytes of standard error.
    Stderr(Bytes),
    /// No more standard output follows; standard input may still be wanted (a half-closed connection).
    StdoutEnd,
    /// The stream is over; the last event.
    Exit(StreamExit),
    /// The connection was lost; the last event.
    Lost(ConnectionError),
}

/// An open stream. It lives as long as its `output`: dropping that tells the guest to end what runs behind it.
#[derive(Debug)]
pub struct Stream {
    /// Standard input. Dropping it ends the input.
    pub stdin: StreamInput,
    /// Output and the end.
    pub output: StreamOutput,
}

impl Stream {
    pub(super) fn new(connection: Arc<ConnectionShared>, shared: Arc<Shared>) -> Stream {
        Stream {
            stdin: StreamInput { connection: connection.clone(), shared: shared.clone(), is_closed: false },
            output: StreamOutput { connection, shared, is_done: false },
        }
    }

    /// Sends a signal or a new window size.
    pub fn request(&self, request: StreamRequest) -> Result<(), ConnectionError> {
        self.output.request(request)
    }

    /// A handle for requests from elsewhere.
    pub fn requests(&self) -> StreamRequests {
        StreamRequests { connection: self.output.connection.clone(), shared: self.output.shared.clone() }
    }
}

/// Sends requests to a stream; cheap to clone, does not keep the stream open.
#[derive(Debug, Clone)]
pub struct StreamRequests {
    connection: Arc<ConnectionShared>,
    shared: Arc<Shared>,
}

impl StreamRequests {
    /// Sends a signal or a new window size; nothing happens when the stream is over.
    pub fn send(&self, request: StreamRequest) -> Result<(), ConnectionError> {
        send_request(&self.connection, &self.shared, request)
    }
}

fn send_request(connection: &ConnectionShared, shared: &Shared, request: StreamRequest) -> Result<(), ConnectionError> {
    if shared.lock().is_over() {
        return Ok(());
    }
    // Serialising these plain enums cannot fail.
    let json = serde_json::to_vec(&request).unwrap_or_default();
    connection.enqueue_frame(shared.id, Kind::Request, 0, &json)
}

/// The host's end of a stream's standard input.
#[derive(Debug)]
pub struct StreamInput {
    connection: Arc<ConnectionShared>,
    shared: Arc<Shared>,
    is_closed: bool,
}

impl StreamInput {
    /// Sends bytes, as fast as the guest takes them: waits while its window is full. Bytes written after the stream's end
    /// vanish, as into a closed pipe: `Ok(false)` says so. Not cancel-safe: part of the bytes may have been sent.
    pub async fn write(&mut self, mut bytes: Bytes) -> Result<bool, ConnectionError> {
        while !bytes.is_empty() {
            let granted = match self.take_credit(bytes.len().min(MAX_PAYLOAD)).await? {
                0 => return Ok(false),
                n => n,
            };
            let permit = self.connection.room.acquire_many(granted as u32).await;
            permit.map_err(|_| self.connection.lost())?.forget();
            self.connection.enqueue_data(self.shared.id, &bytes.split_to(granted))?;
        }
        Ok(!self.shared.lock().is_over())
    }

    /// Ends standard input; idempotent.
    pub fn close(&mut self) {
        if !std::mem::replace(&mut self.is_closed, true) && !self.shared.lock().is_over() {
            // A lost connection has ended the input already.
            let _ = self.connection.enqueue_frame(self.shared.id, Kind::Eof, STDIN, &[]);
        }
    }

    /// Waits for window and takes up to `wanted` bytes of it; 0 when the stream is over.
    async fn take_credit(&self, wanted: usize) -> Result<usize, ConnectionError> {
        loop {
            {
                let mut inner = self.shared.lock();
                match &inner.end {
                    Some(End::Lost(error)) => return Err(error.clone()),
                    Some(End::Exit(_)) => return Ok(0),
                    Some(End::Told) => return self.connection.if_lost().map_or(Ok(0), Err),
                    None if self.is_closed || inner.is_abandoned => return Ok(0),
                    None => {}
                }
                if inner.stdin_credit > 0 {
                    let taken = wanted.min(inner.stdin_credit as usize);
                    inner.stdin_credit -= taken as u32;
                    return Ok(taken);
                }
            }
            self.shared.writable.notified().await;
        }
    }
}

impl Drop for StreamInput {
    fn drop(&mut self) {
        self.close();
    }
}

/// The host's end of a stream's output.
#[derive(Debug)]
pub struct StreamOutput {
    connection: Arc<ConnectionShared>,
    shared: Arc<Shared>,
    is_done: bool,
}

impl StreamOutput {
    /// The next event; `None` after the last. Cancel-safe. What it hands out is granted to the guest again.
    pub async fn recv(&mut self) -> Option<StreamEvent> {
        while !self.is_done {
            if let Some(event) = self.take_event() {
                return Some(event);
            }
            self.shared.readable.notified().await;
        }
        None
    }

    /// Sends a signal or a new window size; nothing happens when the stream is over.
    pub fn request(&self, request: StreamRequest) -> Result<(), ConnectionError> {
        send_request(&self.connection, &self.shared, request)
    }

    fn take_event(&mut self) -> Option<StreamEvent> {
        let mut inner = self.shared.lock();
        match inner.queue.pop_front() {
            Some(Chunk::Data(channel, bytes)) => {
                let lane = &mut inner.lanes[lane_index(channel)];
                lane.consumed += bytes.len() as u32;
                let grant = if lane.consumed >= INITIAL_WINDOW / 2 { std::mem::take(&mut lane.consumed) } else { 0 };
                lane.window += grant;
                drop(inner);
                if grant > 0 {
                    // When the connection is lost the next event says so.
                    let _ = self.connection.enqueue_frame(self.shared.id, Kind::Window, channel, &grant.to_le_bytes());
                }
                let bytes = bytes.freeze();
                Some(if channel == STDERR { StreamEvent::Stderr(bytes) } else { StreamEvent::Stdout(bytes) })
            }
            Some(Chunk::StdoutEnd) => Some(StreamEvent::StdoutEnd),
            None => {
                let last = match inner.end.take()? {
                    End::Exit(exit) => StreamEvent::Exit(exit),
                    End::Lost(error) => StreamEvent::Lost(error),
                    End::Told => return None,
                };
                inner.end = Some(End::Told);
                self.is_done = true;
                Some(last)
            }
        }
    }
}

impl Drop for StreamOutput {
    fn drop(&mut self) {
        let must_tell = {
            let mut inner = self.shared.lock();
            inner.is_abandoned = true;
            inner.queue.clear();
            !inner.is_over()
        };
        self.shared.writable.notify_one();
        if must_tell {
            // The number stays taken until the guest's own Close: what it had sent before is not mistaken for another's.
            let _ = self.connection.enqueue_frame(self.shared.id, Kind::Close, 0, &[]);
        }
    }
}

/// What the connection's task and the two halves share.
#[derive(Debug)]
pub(super) struct Shared {
    id: u32,
    inner: Mutex<Inner>,
    readable: Notify,
    writable: Notify,
}

#[derive(Debug)]
struct Inner {
    is_open: bool,
    opened: Option<Opened>,
    /// The output half is gone: what still arrives is counted and thrown away.
    is_abandoned: bool,
    queue: VecDeque<Chunk>,
    lanes: [Lane; 2],
    end: Option<End>,
    stdin_credit: u32,
}

/// Receiving side of one output channel.
#[derive(Debug)]
struct Lane {
    /// Bytes the guest may still send.
    window: u32,
    /// Bytes handed to the consumer and not yet granted again.
    consumed: u32,
    is_ended: bool,
}

#[derive(Debug)]
enum Chunk {
    Data(u8, BytesMut),
    StdoutEnd,
}

#[derive(Debug)]
enum End {
    Exit(StreamExit),
    Lost(ConnectionError),
    /// The consumer knows.
    Told,
}

fn lane_index(channel: u8) -> usize {
    usize::from(channel == STDERR)
}

impl Inner {
    fn is_over(&self) -> bool {
        self.end.is_some()
    }
}

impl Shared {
    pub(super) fn opened(id: u32) -> Shared {
        Self::new(id, true)
    }

    pub(super) fn opening(id: u32) -> Shared {
        Self::new(id, false)
    }

    fn new(id: u32, is_open: bool) -> Shared {
        let lane = || Lane { window: INITIAL_WINDOW, consumed: 0, is_ended: false };
        let inner = Inner {
            is_open,
            opened: None,
            is_abandoned: false,
            queue: VecDeque::new(),
            lanes: [lane(), lane()],
            end: None,
            stdin_credit: INITIAL_WINDOW,
        };
        Shared { id, inner: Mutex::new(inner), readable: Notify::new(), writable: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn id(&self) -> u32 {
        self.id
    }

    pub(super) async fn wait_opened(&self) -> Result<Opened, OpenError> {
        loop {
            {
                let mut inner = self.lock();
                if let Some(opened) = inner.opened.take() {
                    // Output that came with the answer is still to be seen by the consumer.
                    self.readable.notify_one();
                    return Ok(opened);
                }
                match &inner.end {
                    Some(End::Exit(exit)) => return Err(OpenError::Refused(exit.clone())),
                    Some(End::Lost(error)) => return Err(error.clone().into()),
                    Some(End::Told) | None => {}
                }
            }
            self.readable.notified().await;
        }
    }

    /// The guest's answer; false when there was one already.
    pub(super) fn set_opened(&self, opened: Opened) -> bool {
        let mut inner = self.lock();
        if std::mem::replace(&mut inner.is_open, true) {
            return false;
        }
        inner.opened = Some(opened);
        drop(inner);
        self.readable.notify_one();
        true
    }

    pub(super) fn push_data(&self, channel: u8, bytes: BytesMut) -> Result<(), ConnectionError> {
        let length = bytes.len() as u32;
        let mut inner = self.lock();
        self.check_output(&inner, Kind::Data, channel)?;
        let lane = &mut inner.lanes[lane_index(channel)];
        if length > lane.window {
            return Err(ConnectionError::WindowExceeded { stream: self.id, excess: length - lane.window });
        }
        lane.window -= length;
        if bytes.is_empty() {
            return Ok(());
        }
        if inner.is_abandoned {
            // Not granted again: an abandoned stream is cut off by its window.
            return Ok(());
        }
        inner.queue_data(channel, bytes);
        drop(inner);
        self.readable.notify_one();
        Ok(())
    }

    pub(super) fn push_end(&self, channel: u8) -> Result<(), ConnectionError> {
        let mut inner = self.lock();
        self.check_output(&inner, Kind::Eof, channel)?;
        inner.lanes[lane_index(channel)].is_ended = true;
        if channel == STDOUT && !inner.is_abandoned {
            inner.queue.push_back(Chunk::StdoutEnd);
            drop(inner);
            self.readable.notify_one();
        }
        Ok(())
    }

    /// A guest sends output only on an opened stream, on an output channel, before its end.
    fn check_output(&self, inner: &Inner, kind: Kind, channel: u8) -> Result<(), ConnectionError> {
        let is_expected =
            inner.is_open && matches!(channel, STDOUT | STDERR) && !inner.lanes[lane_index(channel)].is_ended;
        if is_expected { Ok(()) } else { Err(ConnectionError::Unexpected { kind, stream: self.id, channel }) }
    }

    pub(super) fn grant(&self, channel: u8, payload: &[u8]) -> Result<(), ConnectionError> {
        if channel != STDIN {
            return Err(ConnectionError::Unexpected { kind: Kind::Window, stream: self.id, channel });
        }
        let impossible = ConnectionError::WindowGrant { stream: self.id };
        let Ok(grant) = payload.try_into().map(u32::from_le_bytes) else { return Err(impossible) };
        let mut inner = self.lock();
        match inner.stdin_credit.checked_add(grant) {
            Some(credit) if credit <= INITIAL_WINDOW => inner.stdin_credit = credit,
            _ => return Err(impossible),
        }
        drop(inner);
        self.writable.notify_one();
        Ok(())
    }

    pub(super) fn exit(&self, exit: StreamExit) {
        self.finish(End::Exit(exit));
    }

    pub(super) fn lose(&self, error: ConnectionError) {
        self.finish(End::Lost(error));
    }

    fn finish(&self, end: End) {
        self.lock().end.get_or_insert(end);
        self.readable.notify_one();
        self.writable.notify_one();
    }
}

impl Inner {
    /// Queues a chunk. Small chunks are joined, so that a queue's memory is near the bytes in it: a window of one-byte
    /// frames costs no more than one of large ones.
    fn queue_data(&mut self, channel: u8, bytes: BytesMut) {
        let joined_limit = if self.queue.len() < MAX_CHUNKS { MAX_PAYLOAD } else { usize::MAX };
        let reach = if self.queue.len() < MAX_CHUNKS { 1 } else { MAX_CHUNKS };
        let found = self.queue.iter_mut().rev().take(reach).find_map(|chunk| match chunk {
            Chunk::Data(of, queued) if *of == channel => Some(queued),
            Chunk::Data(..) | Chunk::StdoutEnd => None,
        });
        match found {
            Some(queued) if queued.len() + bytes.len() <= joined_limit => queued.extend_from_slice(&bytes),
            _ => self.queue.push_back(Chunk::Data(channel, bytes)),
        }
    }
}
