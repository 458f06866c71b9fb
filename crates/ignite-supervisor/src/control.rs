//! The control socket: one connection, one request; streams go on in frames of the agent protocol.
//!
//! ```text
//!  client                                   supervisor
//!  Control frame: ControlRequest  ------->
//!                                 <-------  Control frame: ControlReply
//!  after `Streaming` (attach, console, exec, copy, connect), on stream 1:
//!  Data(STDIN) Eof Request Close  ------->  (Close or a closed connection: the client has left)
//!                                 <-------  Data(STDOUT|STDERR) Window(STDIN) ... Close(StreamExit)
//! ```
//!
//! Output needs no `Window`: the socket itself is the back-pressure. Input does, so that a signal is never stuck behind
//! input that the program does not read.

use bytes::Bytes;
use ignite_agent_protocol::codec::{Decoder, put_frame, put_message};
use ignite_agent_protocol::frame::{self, INITIAL_WINDOW, Kind, MAX_CONTROL, MAX_PAYLOAD};
use ignite_agent_protocol::message::{Open, Opened, StreamExit, StreamRequest};
use ignite_api::Phase;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::Path;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Semaphore;

/// Stream number of a control connection's streaming part.
const STREAM: u32 = 1;

/// What may be asked of a supervisor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "camelCase")]
pub enum ControlRequest {
    /// End gracefully, killing after the grace time; answered by `Ended`.
    Stop {
        /// Absent: the VM's own stop timeout.
        grace_ms: Option<u64>,
        /// The host shuts down; absent: someone wants it stopped.
        #[serde(default)]
        is_shutdown: bool,
    },
    /// End the VMM now; answered by `Ended`.
    Kill,
    /// Send the task a signal; answered by `Done`.
    Signal {
        /// Linux signal number.
        signal: u8,
    },
    /// Answered by `Ended` when the VM has ended.
    Wait,
    /// The task's streams.
    Attach {
        /// Standard input will be sent.
        stdin: bool,
    },
    /// The serial console.
    Console,
    /// A stream of the agent.
    Open {
        /// What to open.
        open: Open,
    },
    /// An empty `Data` on STDOUT whenever a log has grown, until the VM ends.
    Follow,
    /// Stop executing the guest; answered by `Done`.
    Pause,
    /// Go on executing it; answered by `Done`.
    Resume,
}

/// What a supervisor answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "camelCase")]
pub enum ControlReply {
    /// It is done.
    Done,
    /// The stream is open.
    Streaming {
        /// What the agent said of it.
        opened: Opened,
    },
    /// The VM has ended.
    Ended {
        /// How.
        ending: Ending,
    },
    /// It is not possible now.
    Denied {
        /// Why, one line.
        reason: String,
    },
    /// It failed; for an exec, with Docker's exit code.
    Failed {
        /// Why, one line.
        message: String,
        /// 125, 126 or 127.
        exit_code: u8,
    },
}

/// How a VM ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// `Stopped` or `Failed`.
    pub phase: Phase,
    /// The task's code, 0 for a machine that powered off, 137 when killed.
    pub exit_code: u8,
    /// Why, when it is not obvious.
    pub reason: Option<String>,
}

/// What comes out of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionEvent {
    /// Standard output, or all a terminal shows.
    Stdout(Bytes),
    /// Standard error.
    Stderr(Bytes),
    /// The end, always last.
    Exit(StreamExit),
}

/// What goes into a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionCommand {
    /// Bytes for standard input.
    Stdin(Bytes),
    /// Standard input is at its end.
    CloseStdin,
    /// Signal or resize.
    Request(StreamRequest),
    /// The client leaves.
    Leave,
}

/// Connects and asks; the answer, and the connection for what follows.
pub async fn request(socket: &Path, request: &ControlRequest) -> io::Result<(ControlReply, Channel)> {
    let mut channel = Channel::new(UnixStream::connect(socket).await?);
    channel.send_message(request).await?;
    let reply = channel.receive_message().await?;
    Ok((reply, channel))
}

/// One control connection, either end.
#[derive(Debug)]
pub struct Channel {
    reader: Reader,
    writer: Writer,
}

impl Channel {
    /// Frames on this socket.
    pub fn new(stream: UnixStream) -> Channel {
        let (read, write) = stream.into_split();
        let window = Arc::new(Semaphore::new(INITIAL_WINDOW as usize));
        Channel {
            reader: Reader { half: read, decoder: Decoder::default(), window: window.clone() },
            writer: Writer { half: write, window },
        }
    }

    /// Sends a request or a reply.
    pub async fn send_message<M: Serialize>(&mut self, message: &M) -> io::Result<()> {
        self.writer.send_message(message).await
    }

    /// Waits for a request or a reply.
    pub async fn receive_message<M: DeserializeOwned>(&mut self) -> io::Result<M> {
        let mut parts = Vec::new();
        loop {
            let (header, payload) = self.reader.next_frame().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
            if header.kind != Kind::Control || parts.len() + payload.len() > MAX_CONTROL {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "not a control message"));
            }
            parts.extend_from_slice(&payload);
            if header.channel != frame::CHANNEL_MORE {
                return serde_json::from_slice(&parts).map_err(io::Error::other);
            }
        }
    }

    /// Parts the connection for the streaming that follows.
    pub fn split(self) -> (Reader, Writer) {
        (self.reader, self.writer)
    }
}

/// The receiving half of a control connection.
#[derive(Debug)]
pub struct Reader {
    half: OwnedReadHalf,
    decoder: Decoder,
    /// Bytes of standard input the supervisor takes; a closed one ends writers that wait.
    window: Arc<Semaphore>,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.window.close();
    }
}

impl Reader {
    /// The client's side: what came out of the stream; `None` when the supervisor has gone without an `Exit`.
    /// Cancel-safe.
    pub async fn next_event(&mut self) -> io::Result<Option<SessionEvent>> {
        while let Some((header, payload)) = self.next_frame().await? {
            match (header.kind, header.channel) {
                (Kind::Data, frame::STDERR) => return Ok(Some(SessionEvent::Stderr(payload))),
                (Kind::Data, _) => return Ok(Some(SessionEvent::Stdout(payload))),
                (Kind::Close, _) => {
                    let exit = serde_json::from_slice(&payload).map_err(io::Error::other)?;
                    return Ok(Some(SessionEvent::Exit(exit)));
                }
                (Kind::Window, frame::STDIN) => {
                    let granted = payload.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
                    let room = (INITIAL_WINDOW as usize).saturating_sub(self.window.available_permits());
                    self.window.add_permits(room.min(granted as usize));
                }
                _ => {}
            }
        }
        Ok(None)
    }

    /// The supervisor's side: what the client wants; a closed connection is `Leave`. Cancel-safe.
    pub async fn next_command(&mut self) -> SessionCommand {
        let Ok(Some((header, payload))) = self.next_frame().await else { return SessionCommand::Leave };
        match header.kind {
            Kind::Data => SessionCommand::Stdin(payload),
            Kind::Eof => SessionCommand::CloseStdin,
            Kind::Request => serde_json::from_slice(&payload).map_or(SessionCommand::Leave, SessionCommand::Request),
            Kind::Close | Kind::Control | Kind::Open | Kind::Opened | Kind::Window => SessionCommand::Leave,
        }
    }

    async fn next_frame(&mut self) -> io::Result<Option<(frame::Header, Bytes)>> {
        loop {
            let next = self.decoder.next_frame().map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
            if let Some((header, payload)) = next {
                return Ok(Some((header, Bytes::copy_from_slice(payload))));
            }
            match self.half.read(self.decoder.space()).await? {
                0 if self.decoder.has_partial_frame() => return Err(io::ErrorKind::UnexpectedEof.into()),
                0 => return Ok(None),
                count => self.decoder.filled(count),
            }
        }
    }
}

/// The sending half of a control connection.
#[derive(Debug)]
pub struct Writer {
    half: OwnedWriteHalf,
    window: Arc<Semaphore>,
}

impl Writer {
    /// Sends a request or a reply.
    pub async fn send_message<M: Serialize>(&mut self, message: &M) -> io::Result<()> {
        let mut out = Vec::new();
        put_message(&mut out, frame::CONTROL_STREAM, Kind::Control, &serde_json::to_vec(message)?);
        self.half.write_all(&out).await
    }

    /// The client's side.
    pub async fn send_command(&mut self, command: &SessionCommand) -> io::Result<()> {
        match command {
            SessionCommand::Stdin(bytes) => {
                for chunk in bytes.chunks(MAX_PAYLOAD) {
                    let room = self.window.acquire_many(chunk.len() as u32).await;
                    room.map_err(|_| io::ErrorKind::BrokenPipe)?.forget();
                    self.send_frame(Kind::Data, frame::STDIN, chunk).await?;
                }
                Ok(())
            }
            SessionCommand::CloseStdin => self.send_frame(Kind::Eof, frame::STDIN, &[]).await,
            SessionCommand::Request(request) => self.send_frame(Kind::Request, 0, &serde_json::to_vec(request)?).await,
            SessionCommand::Leave => self.send_frame(Kind::Close, 0, &[]).await,
        }
    }

    /// The supervisor's side.
    pub async fn send_event(&mut self, event: &SessionEvent) -> io::Result<()> {
        match event {
            SessionEvent::Stdout(bytes) => self.send_data(frame::STDOUT, bytes).await,
            SessionEvent::Stderr(bytes) => self.send_data(frame::STDERR, bytes).await,
            SessionEvent::Exit(exit) => self.send_frame(Kind::Close, 0, &serde_json::to_vec(exit)?).await,
        }
    }

    /// The supervisor's side: so many bytes of standard input have been taken.
    pub async fn grant(&mut self, count: u32) -> io::Result<()> {
        self.send_frame(Kind::Window, frame::STDIN, &count.to_le_bytes()).await
    }

    async fn send_data(&mut self, channel: u8, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return self.send_frame(Kind::Data, channel, bytes).await;
        }
        for chunk in bytes.chunks(MAX_PAYLOAD) {
            self.send_frame(Kind::Data, channel, chunk).await?;
        }
        Ok(())
    }

    async fn send_frame(&mut self, kind: Kind, channel: u8, payload: &[u8]) -> io::Result<()> {
        let mut out = Vec::with_capacity(frame::HEADER_LEN + payload.len());
        put_frame(&mut out, STREAM, kind, channel, payload);
        self.half.write_all(&out).await
    }
}
