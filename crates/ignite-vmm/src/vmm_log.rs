//! What a VMM says on its standard error, or logs: kept within bounds, because a guest can make it talk for ever.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::task::JoinHandle;

/// Bytes of it that are written; what comes later is read and dropped.
const MAX_LOG: usize = 64 * 1024;
/// Bytes of the end that are kept to be told.
const MAX_TAIL: usize = 4 * 1024;
/// Lines that are told.
const TOLD_LINES: usize = 4;
/// How long it is read once the VMM has ended: whoever else holds it open is none of ours.
const END_DEADLINE: Duration = Duration::from_secs(2);

/// The reader of one such stream.
#[derive(Debug)]
pub(crate) struct VmmLog {
    tail: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl VmmLog {
    /// Follows `stream` until its end, into the file at `log`.
    pub(crate) fn follow(stream: File, log: &Path) -> io::Result<Self> {
        let log = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(log)?;
        let stream = pipe::Receiver::from_owned_fd(OwnedFd::from(stream))?;
        let tail = Arc::<Mutex<Vec<u8>>>::default();
        let reader = tokio::spawn(read(stream, log, tail.clone()));
        Ok(VmmLog { tail, reader: Some(reader) })
    }

    /// The last lines, once it is at its end. Cancel-safe.
    pub(crate) async fn last_words(&mut self) -> String {
        if let Some(reader) = &mut self.reader {
            // An error is a panic of the reader, or the deadline; what it had read by then still counts.
            let _ = tokio::time::timeout(END_DEADLINE, &mut *reader).await;
            reader.abort();
            self.reader = None;
        }
        last_lines(&self.tail.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for VmmLog {
    fn drop(&mut self) {
        if let Some(reader) = &self.reader {
            reader.abort();
        }
    }
}

async fn read(mut stream: pipe::Receiver, mut log: File, tail: Arc<Mutex<Vec<u8>>>) {
    let mut room = MAX_LOG;
    let mut buffer = [0; 2048];
    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
        let logged = length.min(room);
        room -= logged;
        // A full disk must not stop the reader: the VMM would block on a full pipe.
        let _ = log.write_all(&buffer[..logged]);
        let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
        tail.extend_from_slice(&buffer[..length]);
        let surplus = tail.len().saturating_sub(MAX_TAIL);
        tail.drain(..surplus);
    }
}

/// The last lines on one line, without QEMU's own name and without control characters.
fn last_lines(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<&str> = text.lines().map(without_name).filter(|line| !line.is_empty()).collect();
    let told = lines[lines.len().saturating_sub(TOLD_LINES)..].join("; ");
    told.chars().filter(|character| !character.is_control()).collect()
}

fn without_name(line: &str) -> &str {
    match line.trim().split_once(": ") {
        Some((name, rest)) if name.starts_with("qemu-system-") || name.contains("/qemu-system-") => rest.trim(),
        _ => line.trim(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_last_lines_are_told_plainly() {
        for (said, told) in [
            ("", ""),
            ("qemu-system-x86_64: -bios x: not found\n", "-bios x: not found"),
            ("/opt/bin/qemu-system-x86_64: a\n\nb\x1b[31m\n", "a; b[31m"),
            ("1\n2\n3\n4\n5\n", "2; 3; 4; 5"),
        ] {
            assert_eq!(last_lines(said.as_bytes()), told);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_leak_control_characters(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            assert!(!last_lines(&bytes).chars().any(char::is_control));
        }
    }
}
