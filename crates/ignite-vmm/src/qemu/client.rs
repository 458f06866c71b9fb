//! QEMU's control channel (QMP): commands with deadlines, and what its events told.

use crate::foreign_text::plain;
use crate::machine::VmmError;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io;
use std::os::unix::net::UnixStream as BlockingStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Longest line QEMU may send: nothing that it is asked, and no event, takes more than a few hundred bytes.
const MAX_LINE: usize = 64 * 1024;
/// How long a command may take: they are answered by a loop that is idle, on a host that may not be.
const COMMAND_DEADLINE: Duration = Duration::from_secs(30);
/// How long its stream is read once QEMU has ended: whoever else holds it open is none of ours.
const END_DEADLINE: Duration = Duration::from_secs(2);

/// What one line of QMP says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// An answer to the command with this id.
    Reply { id: u64, result: Result<(), String> },
    /// Something that happened.
    Event(Event),
    /// The greeting, an event that decides nothing, or nothing QMP knows.
    Ignored,
}

/// Events that decide how a machine ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    Shutdown(Reason),
    Panicked,
}

/// `ShutdownCause` of QAPI, as far as it is told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    GuestShutdown,
    GuestReset,
    GuestPanic,
    Quit,
    Signal,
    Other,
}

/// What QEMU told about the end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) shutdown: Option<Reason>,
    pub(crate) is_panicked: bool,
}

/// A client of one QEMU.
#[derive(Debug)]
pub(crate) struct Client {
    writer: OwnedWriteHalf,
    shared: Arc<Mutex<Shared>>,
    reader: Option<JoinHandle<()>>,
    next_id: u64,
}

#[derive(Debug, Default)]
struct Shared {
    told: Told,
    pending: HashMap<u64, oneshot::Sender<Result<(), String>>>,
    is_closed: bool,
}

impl Client {
    /// Takes QMP over on a connected stream.
    pub(crate) fn new(stream: BlockingStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let (reader, writer) = UnixStream::from_std(stream)?.into_split();
        let shared = Arc::<Mutex<Shared>>::default();
        let reader = tokio::spawn(read(BufReader::new(reader), shared.clone()));
        Ok(Client { writer, shared, reader: Some(reader), next_id: 1 })
    }

    /// Enables commands and starts the virtual CPUs; returns when QEMU says they run.
    pub(crate) async fn start(&mut self) -> Result<(), VmmError> {
        // Both are sent at once: QEMU reads them when it is ready, and its greeting is nothing to wait for.
        let negotiated = self.send("qmp_capabilities").await?;
        let started = self.send("cont").await?;
        answer("qmp_capabilities", negotiated).await?;
        answer("cont", started).await
    }

    /// Runs a command that takes no arguments and returns nothing.
    pub(crate) async fn execute(&mut self, command: &'static str) -> Result<(), VmmError> {
        let reply = self.send(command).await?;
        answer(command, reply).await
    }

    async fn send(&mut self, command: &'static str) -> Result<oneshot::Receiver<Result<(), String>>, VmmError> {
        let id = self.next_id;
        self.next_id += 1;
        let (sender, receiver) = oneshot::channel();
        {
            let mut shared = lock(&self.shared);
            if shared.is_closed {
                return Err(failed(command, "QEMU has closed its control channel"));
            }
            shared.pending.insert(id, sender);
        }
        let mut line = json!({ "execute": command, "id": id }).to_string();
        line.push('\n');
        let written = tokio::time::timeout(COMMAND_DEADLINE, self.writer.write_all(line.as_bytes())).await;
        match written {
            Ok(Ok(())) => Ok(receiver),
            Ok(Err(error)) => Err(failed(command, error)),
            Err(_) => Err(deadline()),
        }
    }

    /// Everything that was told, once QEMU has ended and its stream is read to the end. Cancel-safe.
    pub(crate) async fn told(&mut self) -> Told {
        if let Some(reader) = &mut self.reader {
            // An error is a panic of the reader, or the deadline; what it had heard by then still counts.
            let _ = tokio::time::timeout(END_DEADLINE, &mut *reader).await;
            reader.abort();
            self.reader = None;
        }
        lock(&self.shared).told
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(reader) = &self.reader {
            reader.abort();
        }
    }
}

async fn answer(command: &'static str, reply: oneshot::Receiver<Result<(), String>>) -> Result<(), VmmError> {
    match tokio::time::timeout(COMMAND_DEADLINE, reply).await {
        Ok(Ok(result)) => result.map_err(|error| failed(command, error)),
        Ok(Err(_)) => Err(failed(command, "QEMU has closed its control channel")),
        Err(_) => Err(deadline()),
    }
}

fn failed(command: &str, detail: impl ToString) -> VmmError {
    VmmError::Control { vmm: "qemu", request: command.to_owned(), detail: detail.to_string() }
}

fn deadline() -> VmmError {
    VmmError::Deadline { what: "QEMU's answer to a command", seconds: COMMAND_DEADLINE.as_secs() }
}

/// Reads until the end, an error or a line beyond all measure; after it every command fails at once.
async fn read(mut stream: impl AsyncBufRead + Unpin, shared: Arc<Mutex<Shared>>) {
    let mut line = Vec::new();
    while let Ok(true) = read_line(&mut stream, &mut line).await {
        match parse(&line) {
            Message::Reply { id, result } => {
                if let Some(waiting) = lock(&shared).pending.remove(&id) {
                    // Whoever asked may have given up.
                    let _ = waiting.send(result);
                }
            }
            Message::Event(Event::Shutdown(reason)) => lock(&shared).told.shutdown = Some(reason),
            Message::Event(Event::Panicked) => lock(&shared).told.is_panicked = true,
            Message::Ignored => {}
        }
    }
    let mut shared = lock(&shared);
    shared.is_closed = true;
    shared.pending.clear();
}

/// Reads one line into `line`; `false` at the end of the stream.
async fn read_line(stream: &mut (impl AsyncBufRead + Unpin), line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    let length = stream.take(MAX_LINE as u64).read_until(b'\n', line).await?;
    if length == MAX_LINE && line.last() != Some(&b'\n') {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "line is too long"));
    }
    Ok(length > 0)
}

/// Says what a line means (QEMU QMP spec, "Protocol Specification"). Anything else means nothing.
pub(crate) fn parse(line: &[u8]) -> Message {
    let Ok(value) = serde_json::from_slice::<Value>(line) else {
        return Message::Ignored;
    };
    if let Some(event) = value.get("event").and_then(Value::as_str) {
        return match event {
            "SHUTDOWN" => {
                let reason = value.pointer("/data/reason").and_then(Value::as_str).unwrap_or_default();
                Message::Event(Event::Shutdown(parse_reason(reason)))
            }
            "GUEST_PANICKED" => Message::Event(Event::Panicked),
            _ => Message::Ignored,
        };
    }
    let Some(id) = value.get("id").and_then(Value::as_u64) else {
        return Message::Ignored;
    };
    let result = match value.get("error") {
        Some(error) => Err(plain(error.get("desc").and_then(Value::as_str).unwrap_or("unknown error"))),
        None => Ok(()),
    };
    Message::Reply { id, result }
}

fn parse_reason(reason: &str) -> Reason {
    match reason {
        "guest-shutdown" => Reason::GuestShutdown,
        "guest-reset" => Reason::GuestReset,
        "guest-panic" => Reason::GuestPanic,
        "host-qmp-quit" => Reason::Quit,
        "host-signal" => Reason::Signal,
        _ => Reason::Other,
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_are_understood() {
        let shutdown = |reason| Message::Event(Event::Shutdown(reason));
        for (line, expected) in [
            (
                r#"{"QMP":{"version":{"qemu":{"micro":22,"minor":2,"major":7}},"capabilities":["oob"]}}"#,
                Message::Ignored,
            ),
            (r#"{"return":{},"id":3}"#, Message::Reply { id: 3, result: Ok(()) }),
            (
                r#"{"id":4,"error":{"class":"GenericError","desc":"no"}}"#,
                Message::Reply { id: 4, result: Err("no".into()) },
            ),
            (r#"{"id":4,"error":7}"#, Message::Reply { id: 4, result: Err("unknown error".into()) }),
            (
                r#"{"event":"SHUTDOWN","data":{"guest":true,"reason":"guest-reset"},"timestamp":{}}"#,
                shutdown(Reason::GuestReset),
            ),
            (r#"{"event":"SHUTDOWN","data":{"reason":"guest-shutdown"}}"#, shutdown(Reason::GuestShutdown)),
            (r#"{"event":"SHUTDOWN","data":{"reason":"host-qmp-quit"}}"#, shutdown(Reason::Quit)),
            (r#"{"event":"SHUTDOWN"}"#, shutdown(Reason::Other)),
            (r#"{"event":"GUEST_PANICKED","data":{"action":"poweroff"}}"#, Message::Event(Event::Panicked)),
            (r#"{"event":"RTC_CHANGE","data":{"offset":1}}"#, Message::Ignored),
            (r#"{"return":{}}"#, Message::Ignored),
            ("[1,2]", Message::Ignored),
            ("", Message::Ignored),
        ] {
            assert_eq!(parse(line.as_bytes()), expected, "{line}");
        }
    }

    proptest! {
        #[test]
        fn no_line_makes_it_panic(line in proptest::collection::vec(any::<u8>(), 0..512)) {
            parse(&line);
        }

        #[test]
        fn no_json_makes_it_panic(event in ".*", reason in ".*", id in any::<i64>()) {
            parse(json!({ "event": event, "data": { "reason": reason } }).to_string().as_bytes());
            parse(json!({ "id": id, "error": { "desc": reason } }).to_string().as_bytes());
        }
    }

    #[tokio::test]
    async fn a_line_beyond_all_measure_ends_the_channel() {
        let endless = BufReader::new(tokio::io::repeat(b'x'));
        let shared = Arc::<Mutex<Shared>>::default();
        read(endless, shared.clone()).await;
        assert!(lock(&shared).is_closed);
    }
}
