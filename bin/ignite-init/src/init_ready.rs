//! When a machine's init can be talked to: systemd loses signals, and refuses its clients, until its socket is there.

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// The socket on which systemd serves `systemctl` of root, made once its signal handlers are in place.
const SYSTEMD_SOCKET: &str = "/run/systemd/private";
/// Directories that are watched for it, outer first; the inner one appears later.
const WATCHED: [&str; 2] = ["/run", "/run/systemd"];
/// An init that is not there by then is talked to all the same.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits, by inotify, for an init that is not ready yet.
#[derive(Debug)]
pub struct InitReady {
    inotify: OwnedFd,
    deadline: Instant,
    is_ready: bool,
}

impl InitReady {
    /// Starts to watch; `None` when there is nothing to wait for: init is ready, or not systemd.
    pub fn watch() -> Option<InitReady> {
        let exe = std::fs::read_link("/proc/1/exe").ok()?;
        if exe.file_name()? != "systemd" {
            return None;
        }
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok()?;
        let mut ready = InitReady { inotify, deadline: Instant::now() + PATIENCE, is_ready: false };
        ready.look();
        (!ready.is_ready).then_some(ready)
    }

    /// Looks again; to be called when the descriptor is readable.
    pub fn look(&mut self) {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(&self.inotify, &mut buffer);
        while events.next().is_ok() {}
        for directory in WATCHED {
            // Watching again what is watched changes nothing; what is not there yet is watched when it is.
            let flags = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ONLYDIR;
            let _ = inotify::add_watch(&self.inotify, directory, flags);
        }
        // After the watches: what came before them is seen here, what comes later wakes us.
        self.is_ready = Path::new(SYSTEMD_SOCKET).exists();
    }

    /// Init can be talked to.
    pub fn is_ready(&self) -> bool {
        self.is_ready
    }

    /// When waiting ends in any case.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Readable when it is worth looking again.
    pub fn fd(&self) -> RawFd {
        self.inotify.as_raw_fd()
    }
}
