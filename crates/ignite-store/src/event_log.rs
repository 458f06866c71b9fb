//! The log of events: one JSON line each, appended by whoever makes them happen, bounded in size.

use crate::error::StoreError;
use crate::lock::FileLock;
use ignite_api::event::VmEvent;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Bytes of one file; two are kept.
const MAX_BYTES: u64 = 4 << 20;
/// Longest another process may take to move a full log aside.
const ROTATE_DEADLINE: Duration = Duration::from_secs(5);

/// `<data>/events.log`, and `events.log.1` with what came before.
#[derive(Debug, Clone)]
pub struct EventLog {
    path: PathBuf,
}

impl EventLog {
    /// The log of a data directory.
    pub fn new(data: &Path) -> EventLog {
        EventLog { path: data.join("events.log") }
    }

    /// Where new events go.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where older ones are.
    pub fn older(&self) -> PathBuf {
        self.path.with_extension("log.1")
    }

    /// Appends an event; its line is never cut or mixed with another's.
    pub fn append(&self, event: &VmEvent) -> Result<(), StoreError> {
        let mut line = serde_json::to_vec(event).unwrap_or_default();
        line.push(b'\n');
        let mut file = self.open()?;
        if length(&file, &self.path)? >= MAX_BYTES {
            self.rotate()?;
            file = self.open()?;
        }
        // One write to a file that is open for appending is whole (write(2)).
        file.write_all(&line).map_err(|e| StoreError::io("write", &self.path, e))
    }

    /// Opens the log, making it when it is missing (mode 0600).
    pub fn open(&self) -> Result<File, StoreError> {
        let open = OpenOptions::new().append(true).read(true).create(true).mode(0o600).open(&self.path);
        open.map_err(|e| StoreError::io("open", &self.path, e))
    }

    fn rotate(&self) -> Result<(), StoreError> {
        let lock = self.path.with_file_name(".events.lock");
        let _lock = FileLock::take(&lock, ROTATE_DEADLINE)?;
        // Somebody else may have done it meanwhile.
        if length(&self.open()?, &self.path)? >= MAX_BYTES {
            std::fs::rename(&self.path, self.older()).map_err(|e| StoreError::io("rename", &self.path, e))?;
        }
        Ok(())
    }
}

fn length(file: &File, path: &Path) -> Result<u64, StoreError> {
    Ok(file.metadata().map_err(|e| StoreError::io("look at", path, e))?.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ignite_api::Uid;
    use ignite_api::event::Action;

    fn event(name: &str) -> VmEvent {
        VmEvent::now(Action::Create, &Uid::parse("00000000000000ab").unwrap(), name)
    }

    #[test]
    fn events_of_many_writers_are_whole_lines() {
        let dir = tempfile::tempdir().unwrap();
        let log = EventLog::new(dir.path());
        std::thread::scope(|scope| {
            for writer in 0..8 {
                let log = log.clone();
                scope.spawn(move || (0..50).for_each(|n| log.append(&event(&format!("vm-{writer}-{n}"))).unwrap()));
            }
        });
        let text = std::fs::read_to_string(log.path()).unwrap();
        assert_eq!(text.lines().filter(|line| serde_json::from_str::<VmEvent>(line).is_ok()).count(), 400);
    }

    #[test]
    fn a_full_log_moves_aside() {
        let dir = tempfile::tempdir().unwrap();
        let log = EventLog::new(dir.path());
        std::fs::write(log.path(), vec![b'\n'; MAX_BYTES as usize]).unwrap();
        log.append(&event("new")).unwrap();
        assert_eq!(std::fs::metadata(log.older()).unwrap().len(), MAX_BYTES);
        assert_eq!(std::fs::read_to_string(log.path()).unwrap().lines().count(), 1);
    }
}
