//! Which VM of a store publishes a host port, for the error of another one that wants it.

use crate::NetworkError;
use crate::cni::{io_error, record};
use crate::plugin::AttachRequest;
use ignite_api::PortMapping;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// File of the run directory of a VM whose ports no other record tells of.
const FILE: &str = "published.json";
/// Largest file that is read: the most ports a VM may have, and room.
const MAX_BYTES: u64 = 1 << 20;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Published {
    vm_name: String,
    ports: Vec<PortMapping>,
}

/// Tells of the VM's ports.
pub(crate) fn publish(request: &AttachRequest) -> Result<(), NetworkError> {
    let path = request.run_dir.join(FILE);
    let published = Published { vm_name: request.vm_name.clone(), ports: request.network.ports.clone() };
    let text = serde_json::to_vec(&published).map_err(|error| io_error("write", &path)(error.into()))?;
    let mut options = OpenOptions::new();
    options.create(true).write(true).truncate(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    options.open(&path).and_then(|mut file| file.write_all(&text)).map_err(io_error("write", &path))
}

/// Takes it back; nothing told is no error.
pub(crate) fn withdraw(run_dir: &Path) -> Result<(), NetworkError> {
    let path = run_dir.join(FILE);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", &path)(error)),
        _ => Ok(()),
    }
}

/// The error with the name of the VM that has the port, where it is one of the same store.
pub(crate) fn name_owner(error: NetworkError, request: &AttachRequest) -> NetworkError {
    let NetworkError::PortInUse { address, port, protocol } = error else { return error };
    let is_same = |other: &PortMapping| other.host_port == port && other.protocol.to_string() == protocol;
    match record::owner_of_port(&request.record_dir, is_same).or_else(|| owner(&request.run_dir, is_same)) {
        Some(owner) => NetworkError::PortPublished { address, port, protocol, owner },
        None => NetworkError::PortInUse { address, port, protocol },
    }
}

fn owner(run_dir: &Path, is_same: impl Fn(&PortMapping) -> bool) -> Option<String> {
    let siblings = fs::read_dir(run_dir.parent()?).ok()?;
    siblings.flatten().map(|entry| entry.path()).filter(|other| other != run_dir).find_map(|other| {
        let mut text = Vec::new();
        File::open(other.join(FILE)).ok()?.take(MAX_BYTES).read_to_end(&mut text).ok()?;
        let published: Published = serde_json::from_slice(&text).ok()?;
        published.ports.iter().any(&is_same).then_some(published.vm_name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ignite_api::network::NetworkSpec;

    #[test]
    fn the_owner_is_named_until_it_takes_its_ports_back() {
        let root = tempfile::tempdir().unwrap();
        let request = |name: &str| {
            let run_dir = root.path().join("run").join(name);
            fs::create_dir_all(&run_dir).unwrap();
            let ports = ignite_api::ports::parse_ports("8080:80").unwrap();
            AttachRequest {
                vm_name: name.into(),
                record_dir: root.path().join("data").join(name),
                run_dir,
                network: NetworkSpec { ports, ..NetworkSpec::default() },
                ..AttachRequest::default()
            }
        };
        let (web, other) = (request("web"), request("other"));
        publish(&web).unwrap();
        let taken = |protocol: &str| NetworkError::PortInUse {
            address: "0.0.0.0".into(),
            port: 8080,
            protocol: protocol.into(),
        };
        let told = name_owner(taken("tcp"), &other).to_string();
        assert_eq!(told, "host port 0.0.0.0:8080/tcp is published by VM \"web\"");
        assert!(matches!(name_owner(taken("udp"), &other), NetworkError::PortInUse { .. }));
        assert!(matches!(name_owner(taken("tcp"), &web), NetworkError::PortInUse { .. }), "its own is no other's");
        withdraw(&web.run_dir).unwrap();
        withdraw(&web.run_dir).unwrap();
        assert!(matches!(name_owner(taken("tcp"), &other), NetworkError::PortInUse { .. }));
    }
}
