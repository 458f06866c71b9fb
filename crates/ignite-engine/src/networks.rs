//! The networks VMs can be in: which there are, who is in them, whether they are whole, and what of them is nobody's.

use crate::engine::{Engine, title};
use crate::error::EngineError;
use ignite_api::{Uid, Vm, chain_of};
use ignite_network::cni::{self, inventory};
use ignite_network::plugins::docker_bridge::{self, DockerBridge};
use ignite_network::plugins::{self, cni::CniNetwork};
use ignite_network::{NetworkError, names};
use serde::Serialize;
use serde_json::{Map, Value};
use std::path::PathBuf;

/// A network, as `network inspect` shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkInfo {
    /// What `--network` takes.
    pub mode: String,
    /// VMs that ask for none get it on this host.
    pub is_default: bool,
    /// The file it is configured by; none: not yet written, or no CNI network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// Version its plugins are spoken to in; none for those that are not CNI's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cni_version: Option<String>,
    /// Its plugins, as configured.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub plugins: Vec<Map<String, Value>>,
    /// What its VMs do not have that those of other networks have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Who is in it.
    pub vms: Vec<NetworkMember>,
    /// What CHECK found broken; only where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problems: Option<Vec<String>>,
}

/// A VM in a network.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkMember {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: Uid,
    /// Interface in the VM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// MAC address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// Addresses, with prefix length in CNI networks.
    pub addresses: Vec<String>,
    /// Named network namespace of the interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub netns: Option<PathBuf>,
}

/// What `network prune` removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PrunedNetworks {
    /// VMs that do not run and had something left, and bridges.
    pub removed: Vec<String>,
    /// What could not be removed, or read, one line each.
    pub warnings: Vec<String>,
}

impl Engine {
    /// All networks of this host with their VMs; what cannot be read is told as warnings.
    pub async fn list_networks(&self) -> Result<(Vec<NetworkInfo>, Vec<String>), EngineError> {
        let listing = self.list().await?;
        let mut warnings = listing.warnings;
        let default = plugins::auto_mode();
        let plain = |mode: &str| NetworkInfo {
            mode: mode.to_owned(),
            is_default: mode == default,
            file: None,
            cni_version: None,
            plugins: Vec::new(),
            note: note_of(mode).map(str::to_owned),
            vms: members_of_status(&listing.vms, mode),
            problems: None,
        };
        let mut all = vec![plain("user"), plain("none")];
        let conf_dirs = cni::conf_dirs(self.paths.data());
        let (networks, problems) = inventory::networks(&conf_dirs).map_err(EngineError::Networks)?;
        warnings.extend(problems.iter().map(|error| chain_of(error)));
        let members = self.cni_members(&listing.vms, &mut warnings);
        let members_of = |network: &str| -> Vec<NetworkMember> {
            members.iter().filter(|(name, _)| name == network).map(|(_, vm)| vm.clone()).collect()
        };
        all.extend(networks.into_iter().map(|network| NetworkInfo {
            mode: format!("cni:{}", network.list.name),
            is_default: default == "cni" && network.is_default,
            vms: members_of(&network.list.name),
            file: network.file,
            cni_version: Some(network.list.cni_version),
            plugins: network.list.plugins,
            note: None,
            problems: None,
        }));
        all.extend(self.docker_bridge(members_of(docker_bridge::NAME)));
        Ok((all, warnings))
    }

    /// Docker's network, where there is one that VMs can be in, or are.
    fn docker_bridge(&self, vms: Vec<NetworkMember>) -> Option<NetworkInfo> {
        let network = match DockerBridge::network(&self.settings.pull.docker_socket) {
            Ok(network) => Some(network),
            Err(_) if vms.is_empty() => return None,
            Err(_) => None,
        };
        Some(NetworkInfo {
            mode: docker_bridge::NAME.to_owned(),
            is_default: false,
            file: None,
            cni_version: network.as_ref().map(|network| network.cni_version.clone()),
            plugins: network.map(|network| network.plugins).unwrap_or_default(),
            note: None,
            vms,
            problems: None,
        })
    }

    /// One network, by what `--network` takes or by its CNI name; with what CHECK says of its VMs where that is asked for.
    pub async fn inspect_network(&self, name: &str, check: NetworkCheck) -> Result<NetworkInfo, EngineError> {
        let (all, _) = self.list_networks().await?;
        let known: Vec<String> = all.iter().map(|network| network.mode.clone()).collect();
        let is_meant = |network: &&NetworkInfo| network.mode == name || network.mode.strip_prefix("cni:") == Some(name);
        let mut network = match all.iter().find(is_meant) {
            Some(network) => network.clone(),
            // `cni` alone is the default of them.
            None if name == "cni" => match all.into_iter().find(|network| network.cni_version.is_some()) {
                Some(network) => network,
                None => {
                    return Err(EngineError::Networks(NetworkError::NoSuchNetwork { name: name.to_owned(), known }));
                }
            },
            None => return Err(EngineError::Networks(NetworkError::NoSuchNetwork { name: name.to_owned(), known })),
        };
        if check == NetworkCheck::Run {
            let mut problems = Vec::new();
            for member in network.vms.iter().filter(|_| network.cni_version.is_some()) {
                let vm = self.vms.read(&member.uid)?;
                let found = CniNetwork::new().verify(&self.attach_request(&vm, &member.uid)).await;
                problems.extend(found.iter().map(|error| format!("{}: {}", member.name, chain_of(error))));
            }
            network.problems = Some(problems);
        }
        Ok(network)
    }

    /// Removes what is left of VMs that do not run, names of VMs that are gone, what CNI's GC finds in our own networks,
    /// and their idle bridges.
    pub async fn prune_networks(&self) -> Result<PrunedNetworks, EngineError> {
        let listing = self.list().await?;
        let mut pruned = PrunedNetworks { warnings: listing.warnings, ..PrunedNetworks::default() };
        for vm in listing.vms.iter().filter(|vm| !vm.status.phase.is_live()) {
            let Some(uid) = &vm.metadata.uid else { continue };
            let had_something = inventory::members(&self.paths.vm(uid)).is_ok_and(|members| !members.is_empty());
            let errors = self.detach_leftovers(vm, uid).await?;
            if errors.is_empty() && had_something {
                pruned.removed.push(title(vm));
            }
            pruned.warnings.extend(errors.iter().map(|error| format!("{}: {}", title(vm), chain_of(error))));
        }
        let known: Vec<String> = self.vms.uids()?.iter().map(ToString::to_string).collect();
        names::forget_unknown(&self.paths.run_networks(), &known);
        if rustix::process::geteuid().is_root() {
            let conf_dirs = cni::conf_dirs(self.paths.data());
            let (bridges, errors) = CniNetwork::new().prune(&conf_dirs, self.paths.data()).await;
            pruned.removed.extend(bridges);
            pruned.warnings.extend(errors.iter().map(|error| chain_of(error)));
        }
        Ok(pruned)
    }

    /// VMs by the CNI network they are in.
    fn cni_members(&self, vms: &[Vm], warnings: &mut Vec<String>) -> Vec<(String, NetworkMember)> {
        let mut all = Vec::new();
        for vm in vms {
            let Some(uid) = &vm.metadata.uid else { continue };
            match inventory::members(&self.paths.vm(uid)) {
                Ok(members) => all.extend(members.into_iter().map(|member| {
                    let found = NetworkMember {
                        name: title(vm),
                        uid: uid.clone(),
                        interface: Some(member.interface),
                        mac: member.mac,
                        addresses: member.addresses,
                        netns: Some(member.netns),
                    };
                    (member.network, found)
                })),
                Err(error) => warnings.push(format!("{}: {}", title(vm), chain_of(&error))),
            }
        }
        all
    }
}

/// Whether `inspect` asks the plugins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkCheck {
    /// CHECK for each VM.
    Run,
    /// Nothing is asked.
    Skip,
}

/// See `docs/adr/user-networks-have-no-names.md`.
fn note_of(mode: &str) -> Option<&'static str> {
    match mode {
        "user" => Some(
            "each VM has a network of its own: VMs reach one another by ports published on the host (--add-host \
             NAME:host-gateway), not by name",
        ),
        _ => None,
    }
}

/// The VMs that a network without records has, by their status.
fn members_of_status(vms: &[Vm], plugin: &str) -> Vec<NetworkMember> {
    let member = |vm: &Vm| {
        let network = vm.status.network.as_ref().filter(|network| network.plugin == plugin)?;
        Some(NetworkMember {
            name: title(vm),
            uid: vm.metadata.uid.clone()?,
            interface: None,
            mac: None,
            addresses: network.ip_addresses.clone(),
            netns: None,
        })
    };
    vms.iter().filter(|vm| vm.status.phase.is_live()).filter_map(member).collect()
}
