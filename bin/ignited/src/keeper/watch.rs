//! Changes of files, as the kernel tells them (inotify).

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use std::collections::HashSet;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

/// Deepest directory that is watched below a root.
const MAX_DEPTH: usize = 16;
/// Most directories watched by one watch.
const MAX_DIRECTORIES: usize = 50_000;

/// What has changed, in a tree of directories or in one level of them.
pub(super) struct Watch {
    events: AsyncFd<OwnedFd>,
    watched: HashSet<PathBuf>,
    flags: WatchFlags,
}

impl Watch {
    pub(super) fn new(flags: WatchFlags) -> io::Result<Watch> {
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        // SAFETY: the descriptor is owned by the value it is given in, and is neither closed nor exchanged before it.
        let events = unsafe { AsyncFd::register(fd)? };
        Ok(Watch { events, watched: HashSet::new(), flags })
    }

    /// For files that people and tools write: closed after writing, renamed, linked, removed.
    pub(super) fn of_manifests() -> io::Result<Watch> {
        Watch::new(
            WatchFlags::CLOSE_WRITE
                | WatchFlags::MOVED_TO
                | WatchFlags::MOVED_FROM
                | WatchFlags::CREATE
                | WatchFlags::DELETE
                | WatchFlags::DELETE_SELF
                | WatchFlags::ATTRIB,
        )
    }

    /// Watches the directory and those below it; what is watched already stays so.
    pub(super) fn add_tree(&mut self, root: &Path, depth: usize) {
        if depth > MAX_DEPTH || self.watched.len() >= MAX_DIRECTORIES || !self.add(root) {
            return;
        }
        for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
            let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if is_dir && !entry.file_name().to_string_lossy().starts_with('.') {
                self.add_tree(&entry.path(), depth + 1);
            }
        }
    }

    /// False when it cannot be watched. Asking again for a directory that is watched changes nothing.
    fn add(&mut self, dir: &Path) -> bool {
        let flags = self.flags | WatchFlags::ONLYDIR | WatchFlags::DONT_FOLLOW;
        match inotify::add_watch(self.events.get_ref(), dir, flags) {
            Ok(_) => {
                self.watched.insert(dir.to_owned());
                true
            }
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => false,
            Err(error) => {
                tracing::warn!("cannot watch {}: {error}; its changes are seen at the next resync", dir.display());
                false
            }
        }
    }

    /// Waits until something has changed, and takes all there is.
    pub(super) async fn changed(&mut self, is_news: impl Fn(&[u8]) -> bool) -> io::Result<()> {
        loop {
            let mut guard = self.events.readable_mut().await?;
            let mut buffer = [MaybeUninit::uninit(); 16 << 10];
            let mut reader = inotify::Reader::new(guard.get_inner(), &mut buffer);
            let mut found = false;
            loop {
                match reader.next() {
                    Ok(event) => found |= event.file_name().is_none_or(|name| is_news(name.to_bytes())),
                    Err(rustix::io::Errno::WOULDBLOCK) => break,
                    Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            guard.clear_ready();
            if found {
                return Ok(());
            }
        }
    }
}

/// Waits until `path` is there, which may lack its parents as well.
pub(super) async fn made(path: &Path) -> io::Result<()> {
    let mut watch = Watch::new(WatchFlags::CREATE | WatchFlags::MOVED_TO)?;
    let nearest = || path.ancestors().skip(1).find(|above| above.is_dir());
    let mut watched = None;
    loop {
        // Watched first, looked at then: what is made in between is seen.
        if path.exists() {
            return Ok(());
        }
        let above = nearest();
        if above == watched {
            let is_on_the_way = |name: &[u8]| path.iter().any(|part| part.as_bytes() == name);
            watch.changed(is_on_the_way).await?;
        } else if let Some(above) = above {
            // A link above it is followed, as by whoever makes something there.
            if watch.add(&std::fs::canonicalize(above)?) {
                watched = Some(above);
            } else if above.is_dir() {
                return Err(io::Error::other(format!("{} cannot be watched", above.display())));
            }
        }
    }
}

/// Counts up whenever the object of a VM has been written, made or removed. Never ends.
pub(super) async fn objects(dir: &Path, changed: watch::Sender<u64>, resync: Duration) {
    // An object is replaced by a rename: nothing else that happens in its directory, such as its disk's writes, wakes us.
    let flags = WatchFlags::MOVED_TO | WatchFlags::MOVED_FROM;
    let mut watch = match Watch::new(flags) {
        Ok(watch) => watch,
        Err(error) => {
            tracing::warn!("cannot watch VMs: {error}; their changes are seen at the next resync");
            return std::future::pending().await;
        }
    };
    // What is not there cannot be watched, and the first VM is to be seen, too.
    if let Err(error) = std::fs::DirBuilder::new().recursive(true).mode(0o755).create(dir) {
        tracing::warn!("cannot make {}: {error}", dir.display());
    }
    loop {
        watch.add_tree(dir, MAX_DEPTH - 1);
        let is_object = |name: &[u8]| name == b"metadata.json" || is_uid(name);
        match tokio::time::timeout(resync, watch.changed(is_object)).await {
            Ok(Ok(())) => changed.send_modify(|count| *count = count.wrapping_add(1)),
            Ok(Err(error)) => {
                tracing::warn!("cannot watch VMs: {error}");
                tokio::time::sleep(resync).await;
            }
            Err(_) => {}
        }
        watch.watched.clear();
    }
}

fn is_uid(name: &[u8]) -> bool {
    std::str::from_utf8(name).is_ok_and(|name| ignite_api::Uid::parse(name).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_path_is_seen_when_it_is_made_with_its_parents() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("etc/ignite/manifests");
        let watching = tokio::time::timeout(LONG, made(&path));
        let make = async {
            for part in ["etc", "etc/ignite", "etc/ignite/manifests"] {
                tokio::time::sleep(Duration::from_millis(20)).await;
                fs::write(root.path().join("other"), part).unwrap();
                fs::create_dir(root.path().join(part)).unwrap();
            }
        };
        let (seen, ()) = tokio::join!(watching, make);
        seen.expect("it is seen").unwrap();
        tokio::time::timeout(LONG, made(&path)).await.expect("it is there").unwrap();
    }

    #[tokio::test]
    async fn the_first_vm_of_a_host_is_seen_without_a_resync() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("data/vm");
        let (sender, mut seen) = watch::channel(0);
        let watching = objects(&dir, sender, LONG * 60);
        tokio::pin!(watching);
        let mut news = async || {
            tokio::select! {
                () = &mut watching => unreachable!("it never ends"),
                changed = tokio::time::timeout(LONG, seen.changed()) => changed.expect("it is seen").unwrap(),
            }
        };
        let appear = async {
            while !dir.is_dir() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let draft = dir.join(".new-1");
            fs::create_dir(&draft).unwrap();
            fs::rename(draft, dir.join("0123456789abcdef")).unwrap();
        };
        tokio::join!(news(), appear);
        let vm = dir.join("0123456789abcdef");
        let write = async {
            // Its directory is watched a moment after it has been seen.
            for number in 0.. {
                fs::write(vm.join(".write"), number.to_string()).unwrap();
                fs::rename(vm.join(".write"), vm.join("metadata.json")).unwrap();
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            () = news() => {}
            () = write => unreachable!("it never ends"),
        }
    }
}
