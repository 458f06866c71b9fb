//! `events`: what has happened to VMs, and what happens from now on.

use crate::engine::{Engine, title};
use crate::error::EngineError;
use ignite_api::Vm;
use ignite_api::event::{Action, VmEvent};
use ignite_store::event_log::EventLog;
use jiff::Timestamp;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use tokio::io::unix::AsyncFd;

/// Longest line that is read; ours are far shorter.
const MAX_LINE: usize = 64 << 10;

/// Which events.
#[derive(Debug, Clone, Copy, Default)]
pub struct EventOptions {
    /// Also those that have happened since then, as far as they are kept.
    pub since: Option<Timestamp>,
    /// None that happens after this time; reading ends with it.
    pub until: Option<Timestamp>,
}

/// Reads events.
#[derive(Debug)]
pub struct EventReader {
    log: EventLog,
    options: EventOptions,
    started: Timestamp,
    file: BufReader<File>,
    partial: Vec<u8>,
    queue: VecDeque<VmEvent>,
    watch: AsyncFd<OwnedFd>,
}

impl Engine {
    /// Opens the stream of events: what is kept since `since`, then what happens, until `until`.
    pub fn events(&self, options: EventOptions) -> Result<EventReader, EngineError> {
        EventReader::open(self.event_log(), options)
    }

    pub(crate) fn event_log(&self) -> EventLog {
        EventLog::new(self.paths.data())
    }

    /// Tells that something has happened to a VM. What cannot be told is logged: the deed is done already.
    pub(crate) fn tell(&self, action: Action, vm: &Vm, more: impl FnOnce(VmEvent) -> VmEvent) {
        let Some(uid) = &vm.metadata.uid else { return };
        let event = more(VmEvent::now(action, uid, &title(vm)));
        if let Err(error) = self.event_log().append(&event) {
            tracing::warn!("{error}");
        }
    }
}

impl EventReader {
    fn open(log: EventLog, options: EventOptions) -> Result<EventReader, EngineError> {
        let failed = EngineError::file("watch", log.path());
        let file = log.open()?;
        // Watched before it is read: what comes in between wakes us.
        let watch = watch(&log).map_err(failed)?;
        let started = Timestamp::now();
        let mut reader = EventReader {
            options,
            started,
            file: BufReader::new(file),
            partial: Vec::new(),
            queue: VecDeque::new(),
            watch,
            log,
        };
        if options.since.is_some()
            && let Ok(older) = File::open(reader.log.older())
        {
            let current = std::mem::replace(&mut reader.file, BufReader::new(older));
            reader.drain()?;
            reader.file = current;
            reader.partial.clear();
        }
        Ok(reader)
    }

    /// The next event; `None` when `until` has come. Cancel-safe.
    pub async fn next(&mut self) -> Result<Option<VmEvent>, EngineError> {
        loop {
            self.drain()?;
            if let Some(event) = self.queue.pop_front() {
                return Ok(Some(event));
            }
            let failed = EngineError::file("watch", self.log.path());
            let left = self.options.until.map(|until| until.duration_since(Timestamp::now()));
            let mut ready = match left {
                None => self.watch.readable().await.map_err(failed)?,
                // It has passed, and everything that was told before it has been read.
                Some(left) if !left.is_positive() => return Ok(None),
                Some(left) => match tokio::time::timeout(left.unsigned_abs(), self.watch.readable()).await {
                    Ok(ready) => ready.map_err(failed)?,
                    Err(_) => continue,
                },
            };
            ready.clear_ready();
            empty(self.watch.get_ref()).map_err(EngineError::file("watch", self.log.path()))?;
            self.follow_rotation()?;
        }
    }

    /// Reads to the end of the file.
    fn drain(&mut self) -> Result<(), EngineError> {
        let failed = |source| EngineError::file("read", self.log.path())(source);
        loop {
            let chunk = self.file.fill_buf().map_err(failed)?;
            if chunk.is_empty() {
                return Ok(());
            }
            let (taken, is_whole) = match chunk.iter().position(|byte| *byte == b'\n') {
                Some(end) => (end + 1, true),
                None => (chunk.len(), false),
            };
            if self.partial.len() + taken <= MAX_LINE {
                self.partial.extend_from_slice(&chunk[..taken]);
            }
            self.file.consume(taken);
            if is_whole {
                let line = std::mem::take(&mut self.partial);
                self.queue.extend(serde_json::from_slice(&line).ok().filter(|event| self.is_wanted(event)));
            }
        }
    }

    fn is_wanted(&self, event: &VmEvent) -> bool {
        event.time >= self.options.since.unwrap_or(self.started)
            && self.options.until.is_none_or(|until| event.time <= until)
    }

    /// When the log was moved aside: the rest of it, then the new one.
    fn follow_rotation(&mut self) -> Result<(), EngineError> {
        let current = std::fs::metadata(self.log.path()).ok().map(|metadata| metadata.ino());
        let ours = self.file.get_ref().metadata().ok().map(|metadata| metadata.ino());
        if current != ours {
            self.drain()?;
            self.file = BufReader::new(self.log.open()?);
            self.watch = watch(&self.log).map_err(EngineError::file("watch", self.log.path()))?;
        }
        Ok(())
    }
}

fn watch(log: &EventLog) -> io::Result<AsyncFd<OwnedFd>> {
    let queue = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    inotify::add_watch(&queue, log.path(), WatchFlags::MODIFY | WatchFlags::MOVE_SELF)?;
    // SAFETY: the descriptor is owned by what is registered, which is never exchanged: it stays open.
    Ok(unsafe { AsyncFd::register(queue) }?)
}

/// Empties the queue: what has happened is read from the log.
fn empty(queue: &OwnedFd) -> io::Result<()> {
    let mut buffer = [MaybeUninit::<u8>::uninit(); 1024];
    let mut reader = inotify::Reader::new(queue, &mut buffer);
    loop {
        match reader.next() {
            Ok(_) => {}
            Err(rustix::io::Errno::AGAIN) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ignite_api::Uid;

    fn event(name: &str) -> VmEvent {
        VmEvent::now(Action::Create, &Uid::parse("00000000000000ab").unwrap(), name)
    }

    fn reader(log: &EventLog, options: EventOptions) -> EventReader {
        EventReader::open(log.clone(), options).unwrap()
    }

    #[tokio::test]
    async fn what_happens_is_read_across_a_rotation_and_what_was_before_when_asked() {
        let dir = tempfile::tempdir().unwrap();
        let log = EventLog::new(dir.path());
        log.append(&event("before")).unwrap();
        let mut new = reader(&log, EventOptions::default());
        let mut all = reader(&log, EventOptions { since: Some(Timestamp::UNIX_EPOCH), until: None });
        log.append(&event("one")).unwrap();
        std::fs::rename(log.path(), log.older()).unwrap();
        log.append(&event("two")).unwrap();
        for name in ["one", "two"] {
            assert_eq!(new.next().await.unwrap().unwrap().name, name);
        }
        for name in ["before", "one", "two"] {
            assert_eq!(all.next().await.unwrap().unwrap().name, name);
        }
    }

    #[tokio::test]
    async fn it_ends_at_its_time_and_damage_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let log = EventLog::new(dir.path());
        log.append(&event("one")).unwrap();
        std::io::Write::write_all(&mut log.open().unwrap(), b"half\n\xff\xff\n{}\n").unwrap();
        let mut reader =
            reader(&log, EventOptions { since: Some(Timestamp::UNIX_EPOCH), until: Some(Timestamp::now()) });
        assert_eq!(reader.next().await.unwrap().unwrap().name, "one");
        assert_eq!(reader.next().await.unwrap(), None);
    }
}
