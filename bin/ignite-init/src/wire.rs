//! The protocol over the channel: frames in, frames out, nothing that waits.

use crate::channel::Channel;
use ignite_agent_protocol::PROTOCOL_VERSION;
use ignite_agent_protocol::codec::{Assembler, Decoder, put_control, put_frame};
use ignite_agent_protocol::frame::{Header, Kind, MAX_CONTROL, MAX_PAYLOAD};
use ignite_agent_protocol::message::{GuestMessage, HostMessage};
use std::io;

/// Bytes waiting to be written above which no more output of processes is read.
const OUTBOX_BYTES: usize = 256 * 1024;
/// What a port hands over at once when there is more.
const PAGE_BYTES: usize = 4096;
/// Most reads of the channel before everything else gets its turn: a frame and a half.
const READS_AT_ONCE: usize = 24;
/// Longest line of a `Log` message, in bytes.
const LOG_BYTES: usize = 4096;

/// A frame from the host.
#[derive(Debug)]
pub enum Incoming {
    /// A control message.
    Message(HostMessage),
    /// A frame of a stream and its payload.
    Frame(Header, Vec<u8>),
}

/// The channel with what has been read and not handled, and what is still to be written.
#[derive(Debug)]
pub struct Wire {
    channel: Channel,
    decoder: Decoder,
    control: Assembler,
    outbox: Vec<u8>,
    written: usize,
    is_connected: bool,
}

impl Wire {
    /// Over an opened channel; the host may not be there yet.
    pub fn new(channel: Channel) -> Wire {
        channel.signal_connects(true);
        Wire {
            channel,
            decoder: Decoder::default(),
            control: Assembler::new(MAX_CONTROL),
            outbox: Vec::new(),
            written: 0,
            is_connected: false,
        }
    }

    /// The channel.
    pub fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Whether the host is there.
    pub fn is_connected(&self) -> bool {
        self.is_connected
    }

    /// Whether the host's coming has to be waited for by a signal and not by polling.
    pub fn waits_for_signal(&self) -> bool {
        !self.is_connected && !self.channel.is_vsock()
    }

    /// Looks whether the host has come; says Hello when it has.
    pub fn try_connect(&mut self) -> bool {
        if !self.is_connected && self.channel.try_connect() {
            self.is_connected = true;
            self.channel.signal_connects(false);
            self.send(&GuestMessage::Hello {
                protocol: PROTOCOL_VERSION,
                agent_version: env!("CARGO_PKG_VERSION").to_owned(),
                kernel_release: rustix::system::uname().release().to_string_lossy().into_owned(),
                uptime_ms: uptime_ms(),
            });
            self.flush();
        }
        self.is_connected
    }

    /// Forgets everything about a host that is gone.
    fn disconnect(&mut self) {
        self.is_connected = false;
        self.channel.disconnect();
        self.decoder = Decoder::default();
        self.control = Assembler::new(MAX_CONTROL);
        self.outbox.clear();
        self.written = 0;
        self.channel.signal_connects(true);
    }

    /// Takes over after a fork: signals of the channel come to this process.
    pub fn adopt(&self) {
        self.channel.signal_connects(!self.is_connected);
    }

    /// Queues a control message.
    pub fn send(&mut self, message: &GuestMessage) {
        if self.is_connected {
            // Serialising plain data into memory cannot fail.
            let _ = put_control(&mut self.outbox, message);
        }
    }

    /// Queues a line for the VM's log.
    pub fn log(&mut self, level: &str, text: &str) {
        let mut end = text.len().min(LOG_BYTES);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let message = text[..end].replace(['\n', '\r'], " ");
        self.send(&GuestMessage::Log { level: level.to_owned(), message });
    }

    /// Queues a frame of a stream.
    pub fn send_frame(&mut self, stream: u32, kind: Kind, channel: u8, payload: &[u8]) {
        if self.is_connected {
            put_frame(&mut self.outbox, stream, kind, channel, payload);
        }
    }

    /// Queues a message of a stream as JSON. One too long for a frame is the caller's bug; it is cut off from the host.
    pub fn send_json<T: serde::Serialize>(&mut self, stream: u32, kind: Kind, value: &T) {
        match serde_json::to_vec(value) {
            Ok(json) if json.len() <= MAX_PAYLOAD => self.send_frame(stream, kind, 0, &json),
            Ok(_) | Err(_) => self.send_frame(stream, kind, 0, b"{}"),
        }
    }

    /// Whether output of processes may be read.
    pub fn has_room(&self) -> bool {
        self.outbox.len() - self.written < OUTBOX_BYTES
    }

    /// Whether something waits to be written.
    pub fn has_outgoing(&self) -> bool {
        self.outbox.len() > self.written
    }

    /// Writes what the channel takes now.
    pub fn flush(&mut self) {
        while self.is_connected && self.has_outgoing() {
            match self.channel.write(&self.outbox[self.written..]) {
                Ok(n) => self.written += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => return self.disconnect(),
            }
        }
        if self.written == self.outbox.len() {
            self.outbox.clear();
            self.written = 0;
            if self.outbox.capacity() > 4 * OUTBOX_BYTES {
                self.outbox = Vec::new();
            }
        } else if self.written > OUTBOX_BYTES {
            self.outbox.drain(..self.written);
            self.written = 0;
        }
    }

    /// Reads what has come. After it, [`Wire::is_connected`] tells whether the host has gone; what came before is
    /// returned all the same.
    pub fn receive(&mut self) -> Vec<Incoming> {
        let mut incoming = Vec::new();
        // A port hands over a page at a time: some more reads cost less than as many rounds of the agent's loop.
        for _ in 0..READS_AT_ONCE {
            match self.channel.read(self.decoder.space()) {
                Ok(n) if n > 0 => {
                    self.decoder.filled(n);
                    match self.decode(&mut incoming) {
                        Ok(()) if n >= PAGE_BYTES => continue,
                        Ok(()) => {}
                        // A host that breaks the protocol is no host; it may connect again.
                        Err(()) => self.disconnect(),
                    }
                }
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Ok(_) | Err(_) => self.disconnect(),
            }
            break;
        }
        incoming
    }

    fn decode(&mut self, incoming: &mut Vec<Incoming>) -> Result<(), ()> {
        while let Some((header, payload)) = self.decoder.next_frame().map_err(drop)? {
            if header.kind != Kind::Control {
                incoming.push(Incoming::Frame(header, payload.to_vec()));
            } else if let Some(message) = self.control.push(header.channel, payload).map_err(drop)? {
                incoming.push(Incoming::Message(message));
            }
        }
        Ok(())
    }
}

/// Milliseconds since the kernel started.
pub fn uptime_ms() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    now.tv_sec.unsigned_abs() * 1000 + now.tv_nsec.unsigned_abs() / 1_000_000
}
