//! The log of a task's streams: JSON lines in the shape of Docker's `json-file` driver.
//!
//! ```json
//! {"log":"hello\n","stream":"stdout","time":"2026-01-02T03:04:05.678Z"}
//! {"hex":"fffe0a","stream":"stderr","time":"2026-01-02T03:04:05.679Z"}
//! ```
//!
//! Bytes that are not UTF-8 stand in `hex`, so nothing is lost.

use crate::error::SupervisorError;
use crate::rotate::{MAX_LOG_BYTES, RotatingFile};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Where an entry came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogStream {
    /// Standard output, or all a terminal shows.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One write of the task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Which stream.
    pub stream: LogStream,
    /// When the host saw it.
    pub time: Timestamp,
    /// What was written.
    pub bytes: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    log: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hex: Option<String>,
    stream: LogStream,
    time: Timestamp,
}

impl Entry {
    /// The entry's line, newline included.
    pub fn encode(&self) -> Vec<u8> {
        let (log, hex) = match std::str::from_utf8(&self.bytes) {
            Ok(text) => (Some(text.to_owned()), None),
            Err(_) => (None, Some(self.bytes.iter().map(|byte| format!("{byte:02x}")).collect())),
        };
        let line = Line { log, hex, stream: self.stream, time: self.time };
        // A struct of strings always has a JSON form.
        let mut bytes = serde_json::to_vec(&line).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// Reads a line; `None` for one that a crash cut short.
    pub fn decode(line: &[u8]) -> Option<Entry> {
        let line: Line = serde_json::from_slice(line).ok()?;
        let bytes = match (line.log, line.hex) {
            (Some(text), _) => text.into_bytes(),
            (None, Some(hex)) => decode_hex(&hex)?,
            (None, None) => return None,
        };
        Some(Entry { stream: line.stream, time: line.time, bytes })
    }
}

fn decode_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text.chars().map(|c| c.to_digit(16).map(|d| d as u8)).collect();
    let digits = digits.filter(|d| d.len() % 2 == 0)?;
    Some(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

/// The log being written.
#[derive(Debug)]
pub struct TaskLog {
    file: RotatingFile,
}

impl TaskLog {
    /// Opens the log for appending.
    pub fn open(path: &Path) -> Result<TaskLog, SupervisorError> {
        Ok(TaskLog { file: RotatingFile::open(path, MAX_LOG_BYTES)? })
    }

    /// Appends what the task wrote just now.
    pub fn append(&mut self, stream: LogStream, bytes: &[u8]) -> Result<(), SupervisorError> {
        self.file.append(&Entry { stream, time: Timestamp::now(), bytes: bytes.to_vec() }.encode())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_survive_their_line() {
        for bytes in [&b"hello\n"[..], b"", b"\xff\x00\xfe", "\u{1f525} \"quoted\" \r\n".as_bytes()] {
            for stream in [LogStream::Stdout, LogStream::Stderr] {
                let entry = Entry { stream, time: Timestamp::UNIX_EPOCH, bytes: bytes.to_vec() };
                assert_eq!(Entry::decode(&entry.encode()), Some(entry));
            }
        }
    }

    #[test]
    fn a_cut_or_foreign_line_is_no_entry() {
        let whole = Entry { stream: LogStream::Stdout, time: Timestamp::UNIX_EPOCH, bytes: b"x".to_vec() }.encode();
        for line in
            [&whole[..whole.len() / 2], b"", b"{}", br#"{"hex":"abc","stream":"stdout","time":"1970-01-01T00:00:00Z"}"#]
        {
            assert_eq!(Entry::decode(line), None, "{:?}", String::from_utf8_lossy(line));
        }
    }
}
