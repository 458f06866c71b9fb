//! Who is in a network, by which names: a file per VM, watched by the supervisors of the others.
//!
//! ```text
//!  <run>/network/<network>/<vm uid>.json   { "names": ["db"], "addresses": ["10.61.0.3"] }
//! ```
//!
//! A file appears when its VM is attached and goes when it is detached, on whatever way. Only VMs of the same run
//! directory see one another. Nothing here survives a reboot of the host, as the attachments do not.

use crate::NetworkError;
use crate::cni::io_error;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::unix::AsyncFd;

/// Most VMs of a network that are told of.
const MAX_PEERS: usize = 1024;
/// Largest file that is read.
const MAX_BYTES: u64 = 64 * 1024;
/// Several changes that come together are told of once.
const SETTLE: Duration = Duration::from_millis(50);

/// What a VM is called in its networks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Entry {
    names: Vec<String>,
    addresses: Vec<String>,
}

/// An address and the names of who has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Without prefix length.
    pub address: String,
    /// Its names.
    pub names: Vec<String>,
}

/// Tells the VMs of a network of one of theirs. `addresses` may have prefix lengths.
pub(crate) fn publish(
    dir: &Path,
    network: &str,
    vm_uid: &str,
    names: &[String],
    addresses: &[String],
) -> Result<(), NetworkError> {
    let bare = addresses.iter().filter_map(|address| address.split('/').next()).map(str::to_owned).collect();
    let entry = Entry { names: names.to_vec(), addresses: bare };
    let directory = dir.join(network);
    let path = directory.join(format!("{vm_uid}.json"));
    let draft = directory.join(format!(".{vm_uid}"));
    let text = serde_json::to_vec(&entry).map_err(|error| io_error("write", &path)(error.into()))?;
    let write = || -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        let flags = libc::O_NOFOLLOW;
        let mut file =
            OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).custom_flags(flags).open(&draft)?;
        file.write_all(&text)?;
        fs::rename(&draft, &path)
    };
    let mut written = write();
    // The last VM of the network may take the directory away at this moment.
    for _ in 0..MAX_TRIES {
        match &written {
            Err(error) if error.kind() == io::ErrorKind::NotFound => written = write(),
            _ => break,
        }
    }
    written.map_err(io_error("write", &path))
}

const MAX_TRIES: usize = 16;

/// Takes a VM back; one that was not told of is no error. The directory goes with its last VM.
pub(crate) fn withdraw(dir: &Path, network: &str, vm_uid: &str) -> Result<(), NetworkError> {
    let directory = dir.join(network);
    let path = directory.join(format!("{vm_uid}.json"));
    for path in [&path, &directory.join(format!(".{vm_uid}"))] {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_error("remove", path)(error)),
            _ => {}
        }
    }
    // Each while it is empty only.
    let _ = fs::remove_dir(&directory).and_then(|()| fs::remove_dir(dir));
    Ok(())
}

/// Takes back VMs that are none of these uids: their makers were killed, and they are gone.
pub fn forget_unknown(dir: &Path, known: &[String]) {
    for network in fs::read_dir(dir).into_iter().flatten().flatten() {
        let Ok(network) = network.file_name().into_string() else { continue };
        for entry in fs::read_dir(dir.join(&network)).into_iter().flatten().flatten() {
            let Ok(file) = entry.file_name().into_string() else { continue };
            let uid = file.strip_suffix(".json").or(file.strip_prefix('.')).unwrap_or(&file);
            if !known.iter().any(|known| known == uid)
                && let Err(error) = withdraw(dir, &network, uid)
            {
                tracing::warn!("{error}");
            }
        }
    }
}

/// Follows who else is in a VM's networks.
#[derive(Debug)]
pub struct PeerWatch {
    directories: Vec<PathBuf>,
    vm_uid: String,
    events: AsyncFd<OwnedFd>,
    told: Vec<Peer>,
    /// Something has happened since.
    is_stale: bool,
}

impl PeerWatch {
    /// Watches these networks on behalf of a VM that has been published in each of them.
    pub(crate) fn start(dir: &Path, networks: &[&str], vm_uid: &str) -> Result<PeerWatch, NetworkError> {
        let failed = io_error("watch", dir);
        let directories: Vec<PathBuf> = networks.iter().map(|network| dir.join(network)).collect();
        let watch = || -> io::Result<AsyncFd<OwnedFd>> {
            let queue = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
            for directory in &directories {
                let flags = WatchFlags::MOVED_TO | WatchFlags::MOVED_FROM | WatchFlags::DELETE;
                inotify::add_watch(&queue, directory, flags)?;
            }
            // SAFETY: the descriptor is owned by what is registered, which is never exchanged: it stays open.
            Ok(unsafe { AsyncFd::register(queue) }?)
        };
        let events = watch().map_err(failed)?;
        let told = read_peers(&directories, vm_uid);
        Ok(PeerWatch { directories, vm_uid: vm_uid.to_owned(), events, told, is_stale: false })
    }

    /// Who was there at the last look.
    pub fn peers(&self) -> &[Peer] {
        &self.told
    }

    /// Waits until somebody has come or gone. Cancel-safe. An error: nothing more will be seen.
    pub async fn changed(&mut self) -> io::Result<&[Peer]> {
        loop {
            if self.is_stale {
                tokio::time::sleep(SETTLE).await;
                drain(self.events.get_ref())?;
                self.is_stale = false;
                let peers = read_peers(&self.directories, &self.vm_uid);
                if peers != self.told {
                    self.told = peers;
                    return Ok(&self.told);
                }
            }
            let mut ready = self.events.readable().await?;
            // Before anything else is awaited: whoever cancels that finds it on the next call.
            self.is_stale = true;
            ready.clear_ready();
        }
    }
}

/// Empties the queue: what the events say is read from the files.
fn drain(queue: &OwnedFd) -> io::Result<()> {
    let mut buffer = [MaybeUninit::<u8>::uninit(); 4096];
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

/// Everybody else, by address; a VM that several networks name at one address is there once.
fn read_peers(directories: &[PathBuf], vm_uid: &str) -> Vec<Peer> {
    let own = format!("{vm_uid}.json");
    let mut found: BTreeMap<IpAddr, Vec<String>> = BTreeMap::new();
    for directory in directories {
        let Ok(entries) = fs::read_dir(directory) else { continue };
        let names = entries.flatten().map(|entry| entry.file_name());
        let mut files: Vec<_> = names
            .filter(|name| {
                name.to_str().is_some_and(|name| name != own && !name.starts_with('.') && name.ends_with(".json"))
            })
            .collect();
        files.sort();
        for entry in files.iter().take(MAX_PEERS).filter_map(|file| read_entry(&directory.join(file))) {
            for address in entry.addresses.iter().filter_map(|address| address.parse().ok()) {
                let names = found.entry(address).or_default();
                for name in entry.names.iter().filter(|name| is_host_name(name)) {
                    if !names.contains(name) {
                        names.push(name.clone());
                    }
                }
            }
        }
    }
    let named = found.into_iter().filter(|(_, names)| !names.is_empty());
    named.map(|(address, names)| Peer { address: address.to_string(), names }).collect()
}

fn read_entry(path: &Path) -> Option<Entry> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(MAX_BYTES).read_to_end(&mut bytes).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// What can stand in `/etc/hosts`.
fn is_host_name(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    !name.is_empty() && name.len() <= 253 && name.bytes().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(all: &[&str]) -> Vec<String> {
        all.iter().map(|name| (*name).to_owned()).collect()
    }

    fn publish_one(dir: &Path, network: &str, uid: &str, name: &str, address: &str) {
        publish(dir, network, uid, &names(&[name]), &names(&[address])).unwrap();
    }

    #[tokio::test]
    async fn who_comes_and_goes_is_seen_by_the_others_of_the_network() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path();
        publish_one(dir, "net", "a", "web", "10.1.0.2/16");
        publish_one(dir, "net", "b", "db", "10.1.0.3/16");
        publish_one(dir, "other", "c", "elsewhere", "10.2.0.3/16");
        let mut watch = PeerWatch::start(dir, &["net"], "a").unwrap();
        let peer = |address: &str, all: &[&str]| Peer { address: address.into(), names: names(all) };
        assert_eq!(watch.peers(), [peer("10.1.0.3", &["db"])]);
        publish(dir, "net", "d", &names(&["cache", "bad name\n"]), &names(&["10.1.0.4/16", "fd00::4/64", "x"]))
            .unwrap();
        let seen = tokio::time::timeout(Duration::from_secs(30), watch.changed()).await.unwrap().unwrap();
        assert_eq!(seen, [peer("10.1.0.3", &["db"]), peer("10.1.0.4", &["cache"]), peer("fd00::4", &["cache"])]);
        for uid in ["b", "d", "d"] {
            withdraw(dir, "net", uid).unwrap();
        }
        let seen = tokio::time::timeout(Duration::from_secs(30), watch.changed()).await.unwrap().unwrap();
        assert_eq!(seen, []);
        withdraw(dir, "net", "a").unwrap();
        assert!(!dir.join("net").exists() && dir.join("other").exists());
        withdraw(dir, "other", "c").unwrap();
        assert!(!dir.exists());
    }

    #[test]
    fn files_that_are_no_entries_are_passed_over() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("net");
        publish_one(root.path(), "net", "a", "web", "10.1.0.2");
        for (file, text) in [("b.json", "{"), ("c.json", r#"{"names":["x"]}"#), ("d.txt", "x"), (".e.json", "{}")] {
            fs::write(dir.join(file), text).unwrap();
        }
        fs::create_dir(dir.join("f.json")).unwrap();
        assert_eq!(read_peers(std::slice::from_ref(&dir), "z").len(), 1);
        assert_eq!(read_peers(&[root.path().join("nosuch")], "z"), []);
    }

    #[test]
    fn vms_that_are_gone_are_forgotten() {
        let root = tempfile::tempdir().unwrap();
        for uid in ["a", "b"] {
            publish_one(root.path(), "net", uid, uid, "10.1.0.2");
        }
        fs::write(root.path().join("net/.c"), "").unwrap();
        forget_unknown(root.path(), &["a".to_owned()]);
        let left: Vec<_> =
            fs::read_dir(root.path().join("net")).unwrap().flatten().map(|file| file.file_name()).collect();
        assert_eq!(left, ["a.json"]);
        forget_unknown(&root.path().join("nosuch"), &[]);
    }

    #[test]
    fn a_vm_of_two_networks_is_there_once_an_address() {
        let root = tempfile::tempdir().unwrap();
        for network in ["one", "two"] {
            publish_one(root.path(), network, "a", "web", "10.1.0.2");
            publish_one(root.path(), network, "b", &format!("web-{network}"), "10.1.0.2");
        }
        let directories = ["one", "two"].map(|network| root.path().join(network));
        let peers = read_peers(&directories, "z");
        assert_eq!(peers.len(), 1);
        assert_eq!(peers[0].names, ["web", "web-one", "web-two"]);
    }
}
