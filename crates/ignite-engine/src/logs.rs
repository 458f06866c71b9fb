//! `logs`: what a task wrote, or a machine's console showed, from the first byte kept to now, and on if asked.

use crate::engine::Engine;
use crate::error::EngineError;
use ignite_api::Uid;
use ignite_supervisor::control::{ControlReply, ControlRequest, Reader, SessionEvent, Writer};
use ignite_supervisor::rotate::rotated;
use ignite_supervisor::task_log;
use jiff::Timestamp;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// What to read.
#[derive(Debug, Clone, Default)]
pub struct LogOptions {
    /// Go on until the VM ends.
    pub follow: bool,
    /// Only the last so many entries of what is there.
    pub tail: Option<usize>,
    /// The serial console instead of the task's streams. A machine has no task: its console is read in any case.
    pub console: bool,
}

/// Where an entry came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogStream {
    /// The task's standard output.
    Stdout,
    /// The task's standard error.
    Stderr,
    /// The serial console.
    Console,
}

/// A piece of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Which stream.
    pub stream: LogStream,
    /// When it was written; the console's log does not say.
    pub time: Option<Timestamp>,
    /// What was written.
    pub bytes: Vec<u8>,
}

/// Reads a log.
#[derive(Debug)]
pub struct LogReader {
    path: PathBuf,
    is_console: bool,
    queue: VecDeque<LogEntry>,
    file: Option<BufReader<File>>,
    partial: Vec<u8>,
    /// Both halves: without the sending one the supervisor would see us leave.
    follow: Option<(Reader, Writer)>,
}

impl Engine {
    /// Opens a VM's log. A VM that never ran has an empty one.
    pub async fn logs(&self, uid: &Uid, options: LogOptions) -> Result<LogReader, EngineError> {
        let vm = self.inspect(uid).await?;
        let is_console = options.console || vm.status.role.as_deref() == Some("machine");
        let path = if is_console { self.paths.vm_console_log(uid) } else { self.paths.vm_task_log(uid) };
        // Subscribed before the file is read: what comes in between wakes us.
        let follow = match options.follow && vm.status.phase.is_live() {
            true => match self.ask(&vm, uid, &ControlRequest::Follow).await {
                Ok((ControlReply::Streaming { .. }, channel)) => Some(channel.split()),
                Ok((other, _)) => {
                    self.expect_done(&vm, other)?;
                    None
                }
                Err(EngineError::Control { .. }) => None,
                Err(error) => return Err(error),
            },
            false => None,
        };
        let mut reader =
            LogReader { path, is_console, queue: VecDeque::new(), file: None, partial: Vec::new(), follow };
        reader.read_kept(options.tail)?;
        Ok(reader)
    }
}

impl LogReader {
    /// The next entry; `None` at the end. When following, waits for more until the VM ends.
    pub async fn next(&mut self) -> Result<Option<LogEntry>, EngineError> {
        loop {
            if let Some(entry) = self.queue.pop_front() {
                return Ok(Some(entry));
            }
            let Some((follow, _)) = &mut self.follow else { return Ok(None) };
            let has_ended = match follow.next_event().await {
                Ok(Some(SessionEvent::Stdout(_) | SessionEvent::Stderr(_))) => false,
                Ok(Some(SessionEvent::Exit(_)) | None) | Err(_) => true,
            };
            if has_ended {
                self.follow = None;
            }
            self.read_more(None)?;
        }
    }

    /// What has been kept, the older file first.
    fn read_kept(&mut self, tail: Option<usize>) -> Result<(), EngineError> {
        if let Some(mut old) = open(&rotated(&self.path))? {
            self.drain(&mut old, tail)?;
        }
        self.read_more(tail)
    }

    /// Reads what the file has now; follows it when it was moved aside.
    fn read_more(&mut self, tail: Option<usize>) -> Result<(), EngineError> {
        loop {
            if self.file.is_none() {
                self.file = open(&self.path)?;
            }
            let Some(mut file) = self.file.take() else { return Ok(()) };
            self.drain(&mut file, tail)?;
            let current = std::fs::metadata(&self.path).ok().map(|metadata| metadata.ino());
            let ours = file.get_ref().metadata().ok().map(|metadata| metadata.ino());
            if self.follow.is_some() && current.is_some() && current != ours {
                continue;
            }
            self.file = Some(file);
            return Ok(());
        }
    }

    /// Takes what is there, keeping the last `tail` entries.
    fn drain(&mut self, file: &mut BufReader<File>, tail: Option<usize>) -> Result<(), EngineError> {
        loop {
            let chunk = file.fill_buf().map_err(EngineError::file("read", &self.path))?.to_vec();
            if chunk.is_empty() {
                return Ok(());
            }
            file.consume(chunk.len());
            self.take(&chunk);
            let excess = tail.map_or(0, |tail| self.queue.len().saturating_sub(tail));
            self.queue.drain(..excess);
        }
    }

    fn take(&mut self, chunk: &[u8]) {
        for piece in chunk.split_inclusive(|byte| *byte == b'\n') {
            self.partial.extend_from_slice(piece);
            if !piece.ends_with(b"\n") {
                continue;
            }
            let line = std::mem::take(&mut self.partial);
            self.queue.extend(self.entry(line));
        }
        // A prompt has no newline, and who looks at a console wants to see it.
        if self.is_console && !self.partial.is_empty() {
            let line = std::mem::take(&mut self.partial);
            self.queue.extend(self.entry(line));
        }
    }

    fn entry(&self, line: Vec<u8>) -> Option<LogEntry> {
        if self.is_console {
            return Some(LogEntry { stream: LogStream::Console, time: None, bytes: line });
        }
        let entry = task_log::Entry::decode(&line)?;
        let stream = match entry.stream {
            task_log::LogStream::Stdout => LogStream::Stdout,
            task_log::LogStream::Stderr => LogStream::Stderr,
        };
        Some(LogEntry { stream, time: Some(entry.time), bytes: entry.bytes })
    }
}

fn open(path: &std::path::Path) -> Result<Option<BufReader<File>>, EngineError> {
    match File::open(path) {
        Ok(file) => Ok(Some(BufReader::new(file))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(EngineError::file("open", path)(error)),
    }
}
