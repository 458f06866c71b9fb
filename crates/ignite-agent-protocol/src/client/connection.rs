//! One connection: the task that reads and writes it, and the handle to it.

use super::stream::{Shared as StreamShared, Stream};
use crate::codec::{Assembler, Decoder, MessageError, put_control, put_frame, put_message};
use crate::frame::{
    CONTROL_STREAM, FIRST_OPEN_STREAM, FrameError, Header, Kind, MAX_CONTROL, MAX_GUEST_CONTROL, MAX_OPEN, MAX_STREAMS,
    TASK_STREAM,
};
use crate::message::{GuestMessage, HostMessage, Open, Opened, StreamExit};
use bytes::BytesMut;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Notify, Semaphore, mpsc};

/// Control messages waiting for [`ControlEvents::recv`].
const EVENT_QUEUE: usize = 64;
/// Bytes of standard input, of all streams together, waiting to be written.
pub(super) const OUTBOX_DATA_BYTES: usize = 1024 * 1024;
/// Bytes of everything else waiting to be written; a guest that reads nothing while it sends reaches it.
const OUTBOX_OTHER_BYTES: usize = 2 * MAX_CONTROL;

/// Why a connection is over.
#[derive(Debug, Clone, Error)]
pub enum ConnectionError {
    /// The peer closed the stream.
    #[error("the guest closed the agent channel")]
    PeerClosed,
    /// The peer closed the stream inside a frame.
    #[error("the agent channel ended inside a frame")]
    Truncated,
    /// This side called [`Connection::close`], or dropped every handle.
    #[error("the agent connection was closed")]
    Closed,
    /// Reading failed.
    #[error("read from the agent channel")]
    Read(#[source] Arc<std::io::Error>),
    /// Writing failed.
    #[error("write to the agent channel")]
    Write(#[source] Arc<std::io::Error>),
    /// The peer sent something that is no frame.
    #[error("agent channel: not a frame")]
    Frame(#[source] Arc<FrameError>),
    /// A frame's message is too long or not what its kind says.
    #[error("agent channel: bad message in a {kind:?} frame of stream {stream}")]
    Message {
        /// Kind of the frame.
        kind: Kind,
        /// Stream of the frame.
        stream: u32,
        /// What is wrong.
        #[source]
        source: Arc<MessageError>,
    },
    /// A frame of a kind, or on a channel, that a guest does not send.
    #[error("agent channel: unexpected {kind:?} frame on stream {stream}, channel {channel}")]
    Unexpected {
        /// Kind of the frame.
        kind: Kind,
        /// Stream of the frame.
        stream: u32,
        /// Channel of the frame.
        channel: u8,
    },
    /// More data than this side had granted.
    #[error("agent channel: stream {stream} sent {excess} bytes past its window")]
    WindowExceeded {
        /// The stream.
        stream: u32,
        /// Bytes past the window.
        excess: u32,
    },
    /// A window grant that is malformed, or larger than any window.
    #[error("agent channel: impossible window grant on stream {stream}")]
    WindowGrant {
        /// The stream.
        stream: u32,
    },
    /// More control messages than anyone reads.
    #[error("agent channel: the guest floods the host with control messages")]
    Flood,
    /// The guest does not read what is sent to it.
    #[error("agent channel: the guest does not read; {0} bytes are waiting")]
    Backlog(usize),
}

/// Why nothing could be opened.
#[derive(Debug, Clone, Error)]
pub enum OpenError {
    /// The guest could not do it: Docker's code and a line saying why (untrusted text), or how it already ended.
    #[error("{}", describe_refusal(.0))]
    Refused(StreamExit),
    /// [`MAX_STREAMS`] are open.
    #[error("{MAX_STREAMS} streams are open already")]
    TooManyStreams,
    /// The request is longer than [`MAX_OPEN`].
    #[error("the request of {0} bytes exceeds the limit of {MAX_OPEN}")]
    TooLong(usize),
    /// The connection is over.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
}

fn describe_refusal(exit: &StreamExit) -> String {
    match exit {
        StreamExit::Failed { message, .. } => message.clone(),
        StreamExit::Exited { code } => format!("ended with code {code} before it was opened"),
        StreamExit::Signaled { signal } => format!("killed by signal {signal} before it was opened"),
    }
}

/// Handle to a connection; cheap to clone. The connection ends when every handle and every stream has been dropped.
#[derive(Debug, Clone)]
pub struct Connection {
    shared: Arc<Shared>,
}

/// Control messages from the guest, in order.
#[derive(Debug)]
pub struct ControlEvents {
    receiver: mpsc::Receiver<GuestMessage>,
}

impl ControlEvents {
    /// The next message; `None` when the connection is over ([`Connection::lost`] says why). Cancel-safe. Somebody has
    /// to keep receiving: `Log` lines are dropped while the queue is half full, and a flood ends the connection.
    pub async fn recv(&mut self) -> Option<GuestMessage> {
        self.receiver.recv().await
    }
}

/// A batch of whole frames to write.
#[derive(Debug)]
struct Outgoing {
    bytes: Vec<u8>,
    /// Room in the outbox that this data occupies; 0 for everything that is not data.
    data_len: u32,
}

/// What the handles, the streams and the task share.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    outbox: mpsc::UnboundedSender<Outgoing>,
    /// Room for data in the outbox, in bytes; see [`OUTBOX_DATA_BYTES`].
    pub(super) room: Semaphore,
    other_bytes: AtomicUsize,
    stop: Arc<Notify>,
}

#[derive(Debug)]
struct State {
    streams: HashMap<u32, Arc<StreamShared>>,
    next_stream: u32,
    task: Option<Arc<StreamShared>>,
    lost: Option<ConnectionError>,
}

impl Connection {
    /// Starts the task that owns `stream`; call it inside a tokio runtime.
    pub fn start<S>(stream: S) -> (Connection, ControlEvents)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (outbox, outgoing) = mpsc::unbounded_channel();
        let (events, receiver) = mpsc::channel(EVENT_QUEUE);
        let task = Arc::new(StreamShared::opened(TASK_STREAM));
        let state = State {
            streams: HashMap::from([(TASK_STREAM, task.clone())]),
            next_stream: FIRST_OPEN_STREAM,
            task: Some(task),
            lost: None,
        };
        let stop = Arc::new(Notify::new());
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            outbox,
            room: Semaphore::new(OUTBOX_DATA_BYTES),
            other_bytes: AtomicUsize::new(0),
            stop: stop.clone(),
        });
        tokio::spawn(run(stream, Arc::downgrade(&shared), outgoing, events, stop));
        (Connection { shared }, ControlEvents { receiver })
    }

    /// Queues a control message; never waits. An error means the connection is over.
    pub fn send(&self, message: &HostMessage) -> Result<(), ConnectionError> {
        let mut bytes = Vec::new();
        put_control(&mut bytes, message).map_err(|e| ConnectionError::Message {
            kind: Kind::Control,
            stream: CONTROL_STREAM,
            source: Arc::new(MessageError::Json(e)),
        })?;
        if bytes.len() > MAX_CONTROL {
            return Err(ConnectionError::Message {
                kind: Kind::Control,
                stream: CONTROL_STREAM,
                source: Arc::new(MessageError::TooLong(MAX_CONTROL)),
            });
        }
        self.shared.enqueue(bytes)
    }

    /// The stream that carries the task's standard streams; `None` when it has been taken. What the task writes before
    /// is kept, up to the stream's window.
    pub fn task_stream(&self) -> Option<Stream> {
        let task = self.shared.lock().task.take()?;
        Some(Stream::new(self.shared.clone(), task))
    }

    /// Asks the guest to start something and waits for its answer. Has no deadline of its own; when the future is dropped
    /// the guest is told to close the stream.
    pub async fn open(&self, open: &Open) -> Result<(Opened, Stream), OpenError> {
        let json = serde_json::to_vec(open).map_err(|e| ConnectionError::Message {
            kind: Kind::Open,
            stream: CONTROL_STREAM,
            source: Arc::new(MessageError::Json(e)),
        })?;
        if json.len() > MAX_OPEN {
            return Err(OpenError::TooLong(json.len()));
        }
        let opening = self.shared.register()?;
        let mut bytes = Vec::with_capacity(json.len() + 64);
        put_message(&mut bytes, opening.id(), Kind::Open, &json);
        // From here the stream's drop tells the guest.
        let stream = Stream::new(self.shared.clone(), opening.clone());
        self.shared.enqueue(bytes)?;
        let opened = opening.wait_opened().await?;
        Ok((opened, stream))
    }

    /// Why the connection is over; `None` while it lives.
    pub fn lost(&self) -> Option<ConnectionError> {
        self.shared.if_lost()
    }

    /// Ends the connection now: streams end with [`ConnectionError::Closed`].
    pub fn close(&self) {
        self.shared.stop.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn register(&self) -> Result<Arc<StreamShared>, OpenError> {
        let mut state = self.lock();
        if let Some(lost) = &state.lost {
            return Err(lost.clone().into());
        }
        // The task's stream does not count: it is not opened.
        if state.streams.len() > MAX_STREAMS {
            return Err(OpenError::TooManyStreams);
        }
        let mut id = state.next_stream;
        while state.streams.contains_key(&id) || id < FIRST_OPEN_STREAM {
            id = id.wrapping_add(1);
        }
        state.next_stream = id.wrapping_add(1);
        let stream = Arc::new(StreamShared::opening(id));
        state.streams.insert(id, stream.clone());
        Ok(stream)
    }

    /// Queues whole frames that are not data.
    pub(super) fn enqueue(&self, bytes: Vec<u8>) -> Result<(), ConnectionError> {
        let waiting = self.other_bytes.fetch_add(bytes.len(), Ordering::Relaxed) + bytes.len();
        if waiting > OUTBOX_OTHER_BYTES {
            self.fail(ConnectionError::Backlog(waiting));
            self.stop.notify_one();
        }
        self.push(Outgoing { bytes, data_len: 0 })
    }

    /// Queues one frame.
    pub(super) fn enqueue_frame(
        &self,
        stream: u32,
        kind: Kind,
        channel: u8,
        payload: &[u8],
    ) -> Result<(), ConnectionError> {
        let mut bytes = Vec::with_capacity(crate::frame::HEADER_LEN + payload.len());
        put_frame(&mut bytes, stream, kind, channel, payload);
        self.enqueue(bytes)
    }

    /// Queues a data frame whose room has been acquired, and forgotten, by the caller.
    pub(super) fn enqueue_data(&self, stream: u32, payload: &[u8]) -> Result<(), ConnectionError> {
        let mut bytes = Vec::with_capacity(crate::frame::HEADER_LEN + payload.len());
        put_frame(&mut bytes, stream, Kind::Data, crate::frame::STDIN, payload);
        self.push(Outgoing { bytes, data_len: payload.len() as u32 })
    }

    fn push(&self, outgoing: Outgoing) -> Result<(), ConnectionError> {
        if let Some(lost) = &self.lock().lost {
            return Err(lost.clone());
        }
        self.outbox.send(outgoing).map_err(|_| ConnectionError::Closed)
    }

    fn written(&self, outgoing: &Outgoing) {
        if outgoing.data_len == 0 {
            self.other_bytes.fetch_sub(outgoing.bytes.len(), Ordering::Relaxed);
        } else {
            self.room.add_permits(outgoing.data_len as usize);
        }
    }

    /// The error that ended the connection, for streams that wait.
    pub(super) fn lost(&self) -> ConnectionError {
        self.if_lost().unwrap_or(ConnectionError::Closed)
    }

    pub(super) fn if_lost(&self) -> Option<ConnectionError> {
        self.lock().lost.clone()
    }

    /// Ends everything; the first cause stays.
    fn fail(&self, error: ConnectionError) {
        let streams: Vec<_> = {
            let mut state = self.lock();
            state.lost.get_or_insert(error.clone());
            state.streams.drain().map(|(_, stream)| stream).collect()
        };
        self.room.close();
        for stream in streams {
            stream.lose(error.clone());
        }
    }

    /// Acts on one frame from the guest.
    fn receive(
        &self,
        header: Header,
        payload: &[u8],
        control: &mut Assembler,
        events: &mpsc::Sender<GuestMessage>,
    ) -> Result<(), ConnectionError> {
        let Header { stream, kind, channel, .. } = header;
        let bad_message = |source| ConnectionError::Message { kind, stream, source: Arc::new(source) };
        let unexpected = || ConnectionError::Unexpected { kind, stream, channel };
        if kind == Kind::Control {
            if stream != CONTROL_STREAM {
                return Err(unexpected());
            }
            return match control.push(channel, payload).map_err(bad_message)? {
                Some(message) => {
                    if matches!(message, GuestMessage::Exiting { .. } | GuestMessage::ConfigureFailed { .. }) {
                        let mut bytes = Vec::new();
                        put_control(&mut bytes, &HostMessage::Goodbye).map_err(|e| bad_message(e.into()))?;
                        self.enqueue(bytes)?;
                    }
                    deliver(message, events)
                }
                None => Ok(()),
            };
        }
        // A stream this side has closed, or never opened: the guest may still have been sending.
        let Some(found) = self.lock().streams.get(&stream).cloned() else { return Ok(()) };
        match kind {
            Kind::Opened => {
                let opened = serde_json::from_slice(payload).map_err(|e| bad_message(e.into()))?;
                if found.set_opened(opened) { Ok(()) } else { Err(unexpected()) }
            }
            Kind::Data => found.push_data(channel, BytesMut::from(payload)),
            Kind::Eof => found.push_end(channel),
            Kind::Window => found.grant(channel, payload),
            Kind::Close => {
                let exit = serde_json::from_slice(payload).map_err(|e| bad_message(e.into()))?;
                self.lock().streams.remove(&stream);
                found.exit(exit);
                Ok(())
            }
            Kind::Control | Kind::Open | Kind::Request => Err(unexpected()),
        }
    }
}

fn deliver(message: GuestMessage, events: &mpsc::Sender<GuestMessage>) -> Result<(), ConnectionError> {
    if matches!(message, GuestMessage::Log { .. }) && events.capacity() < EVENT_QUEUE / 2 {
        return Ok(());
    }
    match events.try_send(message) {
        // Nobody listens for control messages any more; streams may still be in use.
        Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
        Err(mpsc::error::TrySendError::Full(_)) => Err(ConnectionError::Flood),
    }
}

/// The connection's task: reads and writes until either ends, then ends every stream.
async fn run<S>(
    stream: S,
    shared: Weak<Shared>,
    outgoing: mpsc::UnboundedReceiver<Outgoing>,
    events: mpsc::Sender<GuestMessage>,
    stop: Arc<Notify>,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (reader, writer) = tokio::io::split(stream);
    let error = tokio::select! {
        error = read(reader, &shared, &events) => error,
        error = write(writer, &shared, outgoing) => error,
        () = stop.notified() => ConnectionError::Closed,
    };
    tracing::debug!(%error, "agent connection is over");
    if let Some(shared) = shared.upgrade() {
        shared.fail(error);
    }
    // `events` is dropped here, after the cause has been stored.
}

async fn read(
    mut reader: impl AsyncRead + Unpin,
    shared: &Weak<Shared>,
    events: &mpsc::Sender<GuestMessage>,
) -> ConnectionError {
    let mut decoder = Decoder::default();
    let mut control = Assembler::new(MAX_GUEST_CONTROL);
    loop {
        match reader.read(decoder.space()).await {
            Ok(0) if decoder.has_partial_frame() => return ConnectionError::Truncated,
            Ok(0) => return ConnectionError::PeerClosed,
            Ok(n) => decoder.filled(n),
            Err(e) => return ConnectionError::Read(Arc::new(e)),
        }
        let Some(shared) = shared.upgrade() else { return ConnectionError::Closed };
        loop {
            match decoder.next_frame() {
                Ok(None) => break,
                Ok(Some((header, payload))) => {
                    if let Err(error) = shared.receive(header, payload, &mut control, events) {
                        return error;
                    }
                }
                Err(e) => return ConnectionError::Frame(Arc::new(e)),
            }
        }
    }
}

async fn write(
    mut writer: impl AsyncWrite + Unpin,
    shared: &Weak<Shared>,
    mut outgoing: mpsc::UnboundedReceiver<Outgoing>,
) -> ConnectionError {
    loop {
        let Some(next) = outgoing.recv().await else { return ConnectionError::Closed };
        if let Err(e) = writer.write_all(&next.bytes).await {
            return ConnectionError::Write(Arc::new(e));
        }
        if let Some(shared) = shared.upgrade() {
            shared.written(&next);
        }
        if outgoing.is_empty()
            && let Err(e) = writer.flush().await
        {
            return ConnectionError::Write(Arc::new(e));
        }
    }
}
