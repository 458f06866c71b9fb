//! What was, or is about to be, attached: on disk before it is done, where it outlives processes and reboots.

use crate::NetworkError;
use crate::cni::conf::NetworkList;
use crate::cni::input::Wishes;
use crate::cni::io_error;
use ignite_api::PortMapping;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The record of what is attached.
const RECORD_FILE: &str = "network-cni.json";
/// The addresses a VM had last, which it asks for again.
const ADDRESSES_FILE: &str = "network-addresses.json";
/// Held while something is attached or detached, by every process that does it.
const LOCK_FILE: &str = "network.lock";
/// Largest file that is read.
const MAX_BYTES: u64 = 16 << 20;
/// How long plugins of an attempt that was killed are waited for.
const LOCK_DEADLINE: Duration = Duration::from_secs(90);

/// Everything needed to detach.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Record {
    /// Name of the VM, for others that want its ports.
    pub(crate) vm_name: String,
    /// Id under which plugins know it.
    pub(crate) container_id: String,
    /// Its network namespace.
    pub(crate) netns: PathBuf,
    /// In the order of ADD.
    pub(crate) attachments: Vec<Attached>,
}

/// One interface.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Attached {
    /// Interface in the namespace.
    pub(crate) ifname: String,
    /// The network as it was configured then.
    pub(crate) network: NetworkList,
    /// What was asked for.
    pub(crate) wishes: Wishes,
    /// The addresses asked for are its owner's wish: no others will do.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) insists: bool,
    /// Result of the last plugin that answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) result: Option<Value>,
}

impl Record {
    /// Reads the record of a VM; `None` where nothing is attached.
    pub(crate) fn read(dir: &Path) -> Result<Option<Record>, NetworkError> {
        read_json(&dir.join(RECORD_FILE))
    }

    /// Writes it, durably.
    pub(crate) fn write(&self, dir: &Path) -> Result<(), NetworkError> {
        write_json(&dir.join(RECORD_FILE), self)
    }

    /// Forgets it: nothing is attached any more.
    pub(crate) fn remove(dir: &Path) -> Result<(), NetworkError> {
        let path = dir.join(RECORD_FILE);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", &path)(error)),
            _ => Ok(()),
        }
    }

    /// The ports it publishes.
    pub(crate) fn ports(&self) -> impl Iterator<Item = &PortMapping> {
        self.attachments.iter().flat_map(|attached| &attached.wishes.ports)
    }
}

/// Name of another VM of the same store that publishes a port such that `is_same` says so.
pub(crate) fn owner_of_port(dir: &Path, is_same: impl Fn(&PortMapping) -> bool) -> Option<String> {
    let siblings = fs::read_dir(dir.parent()?).ok()?;
    siblings.flatten().map(|entry| entry.path()).filter(|other| other != dir).find_map(|other| {
        let record = Record::read(&other).ok()??;
        let is_owner = record.ports().any(&is_same);
        is_owner.then_some(record.vm_name)
    })
}

/// Addresses of the VM's last run, by network; empty when there are none to be read.
pub(crate) fn read_addresses(dir: &Path) -> BTreeMap<String, Vec<String>> {
    read_json(&dir.join(ADDRESSES_FILE)).ok().flatten().unwrap_or_default()
}

/// Keeps them for the next run.
pub(crate) fn write_addresses(dir: &Path, addresses: &BTreeMap<String, Vec<String>>) -> Result<(), NetworkError> {
    write_json(&dir.join(ADDRESSES_FILE), addresses)
}

/// Takes the lock. Waits for whoever holds it, plugins of a killed supervisor included, up to a deadline.
pub(crate) async fn lock(dir: &Path) -> Result<File, NetworkError> {
    let path = dir.join(LOCK_FILE);
    let open = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&path);
    let file = open.map_err(io_error("open", &path))?;
    if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
        return Ok(file);
    }
    let (sender, receiver) = tokio::sync::oneshot::channel();
    // A thread of its own: one that waits in vain must not keep the runtime from ending.
    std::thread::spawn(move || {
        let locked = rustix::fs::flock(&file, FlockOperation::LockExclusive);
        let _ = sender.send(locked.map(|()| file));
    });
    match tokio::time::timeout(LOCK_DEADLINE, receiver).await {
        Ok(Ok(Ok(file))) => Ok(file),
        Ok(Ok(Err(errno))) => Err(io_error("lock", &path)(errno.into())),
        Ok(Err(_)) | Err(_) => Err(io_error("lock", &path)(io::ErrorKind::TimedOut.into())),
    }
}

fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<Option<T>, NetworkError> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(MAX_BYTES).read_to_end(&mut bytes).map_err(io_error("read", path))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("read", path)(error)),
    };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| io_error("read", path)(error.into()))
}

fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), NetworkError> {
    let failed = |source| io_error("write", path)(source);
    let text = serde_json::to_vec(value).map_err(|error| failed(error.into()))?;
    let draft = path.with_extension("json.new");
    let written = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&draft)
        .and_then(|mut file| file.write_all(&text).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&draft, path));
    written.map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &str, ports: &str) -> Record {
        let network = NetworkList::parse(br#"{"cniVersion":"1.0.0","name":"net","type":"bridge"}"#).unwrap();
        let wishes = Wishes { ports: ignite_api::ports::parse_ports(ports).unwrap(), ..Wishes::default() };
        let attached = Attached {
            ifname: "eth0".into(),
            network,
            wishes,
            insists: false,
            result: Some(serde_json::json!({"ips": []})),
        };
        Record {
            vm_name: name.into(),
            container_id: "c1".into(),
            netns: "/run/netns/x".into(),
            attachments: vec![attached],
        }
    }

    #[test]
    fn a_record_is_read_as_it_was_written_and_forgotten_twice() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Record::read(dir.path()).unwrap(), None);
        let written = record("web", "8080:80");
        written.write(dir.path()).unwrap();
        assert_eq!(Record::read(dir.path()).unwrap(), Some(written));
        Record::remove(dir.path()).unwrap();
        Record::remove(dir.path()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_broken_record_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(RECORD_FILE), b"{").unwrap();
        assert!(Record::read(dir.path()).unwrap_err().to_string().contains(RECORD_FILE));
    }

    #[test]
    fn the_owner_of_a_port_is_found_among_siblings() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a", "b"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        record("web", "8080:80").write(&dir.path().join("a")).unwrap();
        let owner = |of: &str, port| owner_of_port(&dir.path().join(of), |mapping| mapping.host_port == port);
        assert_eq!(owner("b", 8080), Some("web".into()));
        assert_eq!(owner("b", 8081), None);
        assert_eq!(owner("a", 8080), None, "its own is no other's");
    }

    #[tokio::test]
    async fn the_lock_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let held = lock(dir.path()).await.unwrap();
        let second = lock(dir.path());
        tokio::pin!(second);
        assert!(tokio::time::timeout(Duration::from_millis(20), &mut second).await.is_err());
        drop(held);
        second.await.unwrap();
    }
}
