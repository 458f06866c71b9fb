//! Which CNI networks there are, and which VMs are in them.

use crate::NetworkError;
use crate::cni::conf::NetworkList;
use crate::cni::conf_dir;
use crate::cni::record::Record;
use crate::cni::result;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// A network that VMs can be in.
#[derive(Debug, Clone, PartialEq)]
pub struct Network {
    /// As its administrator, or we, configured it.
    pub list: NetworkList,
    /// Its file; `None`: ours, which is written when a VM first uses it.
    pub file: Option<PathBuf>,
    /// The one of VMs that name none.
    pub is_default: bool,
}

/// A VM's interface in a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The network.
    pub network: String,
    /// Interface in the VM.
    pub interface: String,
    /// MAC address.
    pub mac: Option<String>,
    /// Addresses with prefix length.
    pub addresses: Vec<String>,
    /// Named network namespace in which the plugins made the interface.
    pub netns: PathBuf,
}

/// The networks of these directories in the order they count, ours included where it would be written; and what is wrong
/// with files that are none.
pub fn networks(conf_dirs: &[PathBuf]) -> Result<(Vec<Network>, Vec<NetworkError>), NetworkError> {
    let (mut found, mut problems): (Vec<Network>, Vec<NetworkError>) = (Vec::new(), Vec::new());
    for (file, loaded) in conf_dir::all(conf_dirs)? {
        match loaded {
            // The first of a name is the one that is meant.
            Ok(list) if found.iter().any(|other| other.list.name == list.name) => {}
            Ok(list) => found.push(Network { list, file: Some(file), is_default: false }),
            Err(error) => problems.push(error),
        }
    }
    if found.is_empty() && problems.is_empty() {
        let ours = NetworkList::parse(conf_dir::DEFAULT_NETWORK.as_bytes());
        found.extend(ours.ok().map(|list| Network { list, file: None, is_default: false }));
    }
    // A broken file in front of all others is in the way of a VM that names none.
    let default = conf_dir::find(conf_dirs, None);
    for network in &mut found {
        network.is_default = match &default {
            Ok(Some(list)) => list.name == network.list.name,
            Ok(None) => true,
            Err(_) => false,
        };
    }
    Ok((found, problems))
}

/// The interfaces that a VM has at this moment, by the record of its attachment.
pub fn members(record_dir: &Path) -> Result<Vec<Member>, NetworkError> {
    let Some(record) = Record::read(record_dir)? else { return Ok(Vec::new()) };
    let member = |attached: &crate::cni::record::Attached| Member {
        network: attached.network.name.clone(),
        interface: attached.ifname.clone(),
        mac: attached.result.as_ref().and_then(|result| mac_of(result, &attached.ifname)),
        addresses: attached
            .result
            .as_ref()
            .and_then(|result| result::addressing(result).ok())
            .map(|told| told.addresses)
            .unwrap_or_default(),
        netns: record.netns.clone(),
    };
    Ok(record.attachments.iter().map(member).collect())
}

/// The container's interface has a sandbox, the host's end of it has none (CNI spec 1.0.0 §5).
fn mac_of(result: &Value, ifname: &str) -> Option<String> {
    let interfaces = result.get("interfaces")?.as_array()?;
    let its = |interface: &&Value| {
        interface.get("name").and_then(Value::as_str) == Some(ifname)
            && interface.get("sandbox").and_then(Value::as_str).is_some_and(|sandbox| !sandbox.is_empty())
    };
    interfaces.iter().find(its)?.get("mac")?.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::fs;

    fn conf(name: &str) -> String {
        format!(r#"{{"cniVersion":"1.0.0","name":"{name}","type":"bridge"}}"#)
    }

    #[test]
    fn ours_is_there_before_it_is_written_and_not_where_others_are() {
        let root = tempfile::tempdir().unwrap();
        let directories = [root.path().join("etc"), root.path().join("data")];
        let (found, problems) = networks(&directories).unwrap();
        assert_eq!((found.len(), found[0].file.clone(), found[0].is_default, problems.len()), (1, None, true, 0));
        fs::create_dir(&directories[0]).unwrap();
        for (file, text) in [("10-a.conf", conf("a")), ("20-b.conf", conf("b")), ("30-a.conf", conf("a"))] {
            fs::write(directories[0].join(file), text).unwrap();
        }
        let (found, _) = networks(&directories).unwrap();
        let shown: Vec<_> = found.iter().map(|one| (one.list.name.as_str(), one.is_default)).collect();
        assert_eq!(shown, [("a", true), ("b", false)]);
    }

    #[test]
    fn a_broken_file_is_told_and_leaves_no_default_behind_it() {
        let root = tempfile::tempdir().unwrap();
        let directories = [root.path().to_owned()];
        fs::write(root.path().join("10-broken.conf"), "{").unwrap();
        fs::write(root.path().join("20-b.conf"), conf("b")).unwrap();
        let (found, problems) = networks(&directories).unwrap();
        assert_eq!((found[0].is_default, problems.len()), (false, 1));
    }

    #[test]
    fn the_mac_is_that_of_the_end_in_the_namespace() {
        let result = json!({"interfaces": [
            {"name": "eth0", "mac": "02:00:00:00:00:01"},
            {"name": "eth0", "mac": "02:00:00:00:00:02", "sandbox": "/run/netns/x"},
        ]});
        assert_eq!(mac_of(&result, "eth0").as_deref(), Some("02:00:00:00:00:02"));
        assert_eq!(mac_of(&result, "eth1"), None);
        assert_eq!(mac_of(&json!({}), "eth0"), None);
    }
}
