//! The serial console: always read, kept in a bounded log, shown to whoever is attached.

use crate::control::SessionEvent;
use crate::error::SupervisorError;
use crate::fanout::Fanout;
use crate::rotate::{MAX_LOG_BYTES, RotatingFile};
use bytes::Bytes;
use ignite_vmm::machine::Console as ConsoleStream;
use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncReadExt, AsyncWriteExt, WriteHalf};
use tokio::sync::Notify;

/// Bytes kept in memory for error messages.
const TAIL_BYTES: usize = 2048;

/// A VM's console, across the boots of its life.
#[derive(Debug, Clone)]
pub struct Console {
    /// Whoever is attached; one that does not keep up loses output, the guest never waits.
    pub listeners: Fanout,
    tail: Arc<Mutex<VecDeque<u8>>>,
    log: Arc<Mutex<RotatingFile>>,
    /// Woken whenever a log has grown.
    pub grown: Arc<Notify>,
}

impl Console {
    /// Opens the console's log.
    pub fn open(log: &Path, grown: Arc<Notify>) -> Result<Console, SupervisorError> {
        Ok(Console {
            listeners: Fanout::default(),
            tail: Arc::default(),
            log: Arc::new(Mutex::new(RotatingFile::open(log, MAX_LOG_BYTES)?)),
            grown,
        })
    }

    /// Reads a machine's console until it closes; what is typed goes to the returned half.
    pub fn pump(&self, stream: ConsoleStream) -> (tokio::task::JoinHandle<()>, WriteHalf<ConsoleStream>) {
        let (mut read, write) = tokio::io::split(stream);
        let console = self.clone();
        let task = tokio::spawn(async move {
            let mut buffer = vec![0; 4096];
            while let Ok(count) = read.read(&mut buffer).await {
                if count == 0 {
                    break;
                }
                console.take(&buffer[..count]);
            }
        });
        (task, write)
    }

    /// The last lines, made safe to print in a message.
    pub fn tail(&self) -> String {
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes: Vec<u8> = tail.iter().copied().collect();
        last_lines(&bytes)
    }

    fn take(&self, bytes: &[u8]) {
        {
            let mut tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
            tail.extend(bytes);
            let excess = tail.len().saturating_sub(TAIL_BYTES);
            tail.drain(..excess);
        }
        let logged = self.log.lock().unwrap_or_else(PoisonError::into_inner).append(bytes);
        if let Err(error) = logged {
            // The guest's console must not end a VM whose host disk is full.
            tracing::warn!("{}", error.chain());
        }
        self.listeners.offer(&SessionEvent::Stdout(Bytes::copy_from_slice(bytes)));
        self.grown.notify_waiters();
    }
}

/// Types into a console.
pub async fn write_console(console: &mut WriteHalf<ConsoleStream>, bytes: &[u8]) -> std::io::Result<()> {
    console.write_all(bytes).await?;
    console.flush().await
}

fn last_lines(bytes: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(bytes)
        .chars()
        .map(|c| {
            if c == '\n' {
                '\n'
            } else if c.is_control() {
                ' '
            } else {
                c
            }
        })
        .collect();
    let mut lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).rev().take(4).collect();
    lines.reverse();
    if lines.is_empty() { "(nothing)".to_owned() } else { lines.join(" | ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_is_a_few_lines_without_control_characters() {
        assert_eq!(last_lines(b""), "(nothing)");
        assert_eq!(last_lines(b"a\r\n\x1b[31mb\n\n"), "a | [31mb");
        assert_eq!(last_lines(b"1\n2\n3\n4\n5\n"), "2 | 3 | 4 | 5");
    }

    #[tokio::test]
    async fn what_the_guest_prints_is_logged_kept_and_shown() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("console.log");
        let console = Console::open(&path, Arc::default()).expect("open");
        let mut listener = console.listeners.listen();
        let (host, mut guest) = tokio::io::duplex(64);
        let (task, mut input) = console.pump(Box::new(host));
        guest.write_all(b"booting\n").await.expect("print");
        write_console(&mut input, b"ls\n").await.expect("type");
        let mut typed = [0; 3];
        guest.read_exact(&mut typed).await.expect("read");
        assert_eq!(&typed, b"ls\n");
        drop(guest);
        task.await.expect("pump");
        assert_eq!(listener.recv().await, Some(SessionEvent::Stdout(Bytes::from_static(b"booting\n"))));
        assert_eq!(std::fs::read(&path).expect("log"), b"booting\n");
        assert_eq!(console.tail(), "booting");
    }
}
