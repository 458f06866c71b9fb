//! `cni`: the host's CNI networks, with the guest in the place of a container.
//!
//! Per VM one named network namespace, in which CNI plugins make the interfaces they would make for a container; each is
//! handed over to the guest by a tap (see `link`). Needs root.
//!
//! ```text
//!  record -> namespace -> ADD per network -> tap per interface        attach
//!  DEL per network, backwards -> namespace -> record                  detach, also from another process
//! ```

use crate::NetworkError;
mod plan;

use self::plan::{gateway, keep_first_default_routes, lease, plan, vm_uid};
use crate::cni::chain::Chain;
use crate::cni::conf::{NetworkList, is_network_name};
use crate::cni::input::{Target, Wishes};
use crate::cni::record::{self, Attached, Record};
use crate::cni::{PLUGIN_DIRS, conf_dir, exec, forwarding, inventory, masquerade, prune, result};
use crate::dhcp;
use crate::link::{self, Dhcp, Interface, TapHold};
use crate::names::{self, PeerWatch};
use crate::plugin::{AttachRequest, Attachment, Carrier, GuestNic, GuestNicBackend, Plugin};
use crate::port_claims::{self, Claim};
use crate::{host_network, netns, port_owners};
use async_trait::async_trait;
use serde_json::Value;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Most networks of a VM.
const MAX_NETWORKS: usize = 8;

/// The plugin; [`CniNetwork::with_plugin_dirs`] for plugins that are not in a standard directory.
#[derive(Debug, Clone)]
pub struct CniNetwork {
    /// Names; empty: the default network.
    names: Vec<String>,
    plugin_dirs: Vec<PathBuf>,
}

impl CniNetwork {
    /// The host's default network.
    pub fn new() -> Self {
        CniNetwork { names: Vec::new(), plugin_dirs: PLUGIN_DIRS.iter().map(PathBuf::from).collect() }
    }

    /// These networks, separated by commas, the first as `eth0`.
    pub fn named(names: &str) -> Result<Self, NetworkError> {
        let names: Vec<String> = names.split(',').map(str::to_owned).collect();
        let is_repeated = names.iter().enumerate().any(|(index, name)| names[..index].contains(name));
        if names.len() > MAX_NETWORKS || is_repeated || !names.iter().all(|name| is_network_name(name)) {
            return Err(NetworkError::UnknownNetwork(format!("cni:{}", names.join(","))));
        }
        Ok(CniNetwork { names, ..Self::new() })
    }

    /// Plugins of these directories instead.
    pub fn with_plugin_dirs(self, plugin_dirs: Vec<PathBuf>) -> Self {
        CniNetwork { plugin_dirs, ..self }
    }

    /// Whether the plugins of our own network are installed here.
    pub fn has_plugins(&self) -> bool {
        ["bridge", "host-local", "portmap", "firewall"]
            .iter()
            .all(|plugin| exec::find(plugin, &self.plugin_dirs).is_ok())
    }

    /// CHECK: what of the VM's attachment is broken, as the plugins see it.
    pub async fn verify(&self, request: &AttachRequest) -> Vec<NetworkError> {
        let (lock, record) = match locked_record(request).await {
            Ok((lock, Some(record))) => (lock, record),
            Ok((_, None)) => return vec![NetworkError::NotAttached],
            Err(error) => return vec![error],
        };
        let mut errors = Vec::new();
        for attached in &record.attachments {
            let result = attached.result.clone().unwrap_or_default();
            errors.extend(self.chain(&record, attached, &lock).check(&result).await);
        }
        errors
    }

    /// Removes what belongs to no VM from the networks of our own directory (the last of `conf_dirs`): what GC finds, and
    /// bridges without a port. Returns the bridges; `lock_dir` is where the plugins' lock may be made.
    pub async fn prune(&self, conf_dirs: &[PathBuf], lock_dir: &Path) -> (Vec<String>, Vec<NetworkError>) {
        let (mut removed, mut errors) = (Vec::new(), Vec::new());
        let own: &[PathBuf] = conf_dirs.last().map(std::slice::from_ref).unwrap_or_default();
        let networks = match inventory::networks(own) {
            Ok((networks, _)) => networks,
            Err(error) => return (removed, vec![error]),
        };
        for network in networks.iter().filter(|network| network.file.is_some()) {
            errors.extend(self.collect_garbage(&network.list, lock_dir, &prune::attachments_of_host()).await);
            match prune::remove_idle_bridges(&network.list).await {
                Ok(bridges) => removed.extend(bridges),
                Err(error) => errors.push(error),
            }
        }
        (removed, errors)
    }

    /// GC: tells the plugins of a network which attachments there still are (container ids and interfaces); they remove
    /// what belongs to no other. Only for networks of version 1.1.0.
    pub async fn collect_garbage(
        &self,
        network: &NetworkList,
        dir: &Path,
        valid: &[(String, String)],
    ) -> Vec<NetworkError> {
        let lock = match record::lock(dir).await {
            Ok(lock) => lock,
            Err(error) => return vec![error],
        };
        let chain = Chain {
            list: network,
            target: Target { container_id: "", netns: "", ifname: "" },
            wishes: &Wishes::default(),
            plugin_dirs: &self.plugin_dirs,
            lock: lock.as_fd(),
        };
        chain.gc(valid).await
    }

    fn wanted(&self) -> Vec<Option<&str>> {
        if self.names.is_empty() { vec![None] } else { self.names.iter().map(|name| Some(name.as_str())).collect() }
    }

    /// The networks as they are configured, or would be once ours is written.
    fn configured(&self, request: &AttachRequest) -> Result<Vec<NetworkList>, NetworkError> {
        let ours = || NetworkList::parse(conf_dir::DEFAULT_NETWORK.as_bytes()).ok();
        let default = ours().map(|list| list.name);
        let find = |name: Option<&str>| match conf_dir::find(&request.cni_conf_dirs, name) {
            Ok(Some(list)) => Ok(list),
            Err(NetworkError::NoSuchNetwork { name, known }) if known.is_empty() && Some(&name) == default.as_ref() => {
                ours().ok_or(NetworkError::NoSuchNetwork { name, known })
            }
            Ok(None) => ours().ok_or_else(|| NetworkError::NoSuchNetwork { name: "cni".into(), known: Vec::new() }),
            Err(error) => Err(error),
        };
        self.wanted().into_iter().map(find).collect()
    }

    fn chain<'a>(&'a self, record: &'a Record, attached: &'a Attached, lock: &'a File) -> Chain<'a> {
        // DEL of an interface whose namespace is gone is told no path (CNI spec 1.0.0 §2).
        let netns = if netns::is_there(&record.netns) { record.netns.to_str().unwrap_or_default() } else { "" };
        Chain {
            list: &attached.network,
            target: Target { container_id: &record.container_id, netns, ifname: &attached.ifname },
            wishes: &attached.wishes,
            plugin_dirs: &self.plugin_dirs,
            lock: lock.as_fd(),
        }
    }

    /// Undoes what is recorded, in whatever state it is; the record stays while something of it may be left.
    async fn undo(&self, record: &Record, request: &AttachRequest, lock: &File) -> Vec<NetworkError> {
        let AttachRequest { record_dir: dir, names_dir, .. } = request;
        let mut errors = Vec::new();
        for attached in record.attachments.iter().rev() {
            errors.extend(self.chain(record, attached, lock).del(attached.result.as_ref()).await);
            if !attached.wishes.ports.is_empty() {
                errors.extend(forwarding::remove(&record.container_id).await);
            }
            errors.extend(masquerade::remove(&attached.network, &record.container_id).await);
            errors.extend(names::withdraw(names_dir, &attached.network.name, vm_uid(record)).err());
        }
        errors.extend(netns::delete(&record.netns).err());
        if errors.is_empty() {
            errors.extend(Record::remove(dir).err());
        }
        errors
    }

    async fn connect(
        &self,
        record: &mut Record,
        request: &AttachRequest,
        lock: &File,
    ) -> Result<Attachment, NetworkError> {
        netns::create(&record.netns).await?;
        let mut attachment = Attachment::default();
        let mut questions = Vec::new();
        let mut addresses = record::read_addresses(&request.record_dir);
        for index in 0..record.attachments.len() {
            let result = match self.add(record, index, &request.record_dir, lock).await {
                // The address it had may be somebody else's by now.
                Err(error)
                    if !record.attachments[index].wishes.ips.is_empty() && !record.attachments[index].insists =>
                {
                    tracing::info!("asking for another address: {error}");
                    let attached = &record.attachments[index];
                    for error in self.chain(record, attached, lock).del(attached.result.as_ref()).await {
                        tracing::warn!("{error}");
                    }
                    record.attachments[index].wishes.ips.clear();
                    record.attachments[index].result = None;
                    record.write(&request.record_dir)?;
                    self.add(record, index, &request.record_dir, lock).await?
                }
                result => result?,
            };
            let attached = &record.attachments[index];
            let told = result::addressing(&result)
                .map_err(|reason| NetworkError::BadResult { network: attached.network.name.clone(), reason })?;
            if !attached.wishes.ports.is_empty() {
                forwarding::accept(&told.addresses, &record.container_id).await?;
            }
            addresses.insert(attached.network.name.clone(), told.addresses.clone());
            attachment.dns_servers.extend(told.name_servers);
            attachment.dns_search.extend(told.search);
            let ifname = attached.ifname.clone();
            let dhcp = if request.dhcp.contains(&ifname) { Dhcp::Served } else { Dhcp::PassedOn };
            let tap = if request.carrier == Some(Carrier::Tap) { TapHold::ByItsName } else { TapHold::ByItsQueue };
            let connected = netns::inside(&record.netns, move || connect_guest(&ifname, dhcp, tap)).await?;
            let (interface, queue, asked) = connected;
            questions.extend(asked.map(|socket| (attachment.nics.len(), socket)));
            attachment.nics.push(guest_nic(&attached.ifname, interface, queue, &record.netns));
        }
        keep_first_default_routes(&mut attachment.nics);
        for (index, socket) in questions {
            let servers = if request.name_servers.is_empty() { &attachment.dns_servers } else { &request.name_servers };
            match lease(&attachment.nics[index], servers) {
                Some(lease) => attachment._dhcp.push(dhcp::start(socket, lease)?),
                None => tracing::warn!("{} has no IPv4 address to give by DHCP", attachment.nics[index].name),
            }
        }
        attachment.host_address = gateway(&attachment.nics);
        for attached in &record.attachments {
            let network = &attached.network.name;
            let own = addresses.get(network).map(Vec::as_slice).unwrap_or_default();
            names::publish(&request.names_dir, network, &request.vm_uid, &request.names, own)?;
        }
        let networks: Vec<&str> = record.attachments.iter().map(|attached| attached.network.name.as_str()).collect();
        attachment.peers = Some(PeerWatch::start(&request.names_dir, &networks, &request.vm_uid)?);
        if let Err(error) = record::write_addresses(&request.record_dir, &addresses) {
            tracing::warn!("{error}");
        }
        if attachment.dns_servers.is_empty() {
            attachment.dns_servers = host_network::name_servers();
            if attachment.dns_search.is_empty() {
                attachment.dns_search = host_network::search_domains();
            }
        }
        Ok(attachment)
    }

    /// Whether a VM can be attached to these networks, as far as that is known before the host is touched.
    pub(crate) fn check_for(&self, request: &AttachRequest, networks: &[NetworkList]) -> Result<(), NetworkError> {
        if !Path::new(link::TUN_DEVICE).exists() {
            return Err(NetworkError::ProgramMissing {
                program: format!("the tun driver ({})", link::TUN_DEVICE),
                hint: "load it: modprobe tun".into(),
            });
        }
        for program in networks.iter().flat_map(NetworkList::programs) {
            exec::find(program, &self.plugin_dirs)?;
        }
        let can_publish = networks.iter().any(|network| network.has_capability("portMappings"));
        if let (Some(port), false) = (request.network.ports.first(), can_publish) {
            return Err(NetworkError::CannotPublish { network: "cni", port: port.host_port });
        }
        claim_ports(request).map(drop)
    }

    /// Attaches to these networks, which are asked for once what the last run left has been undone.
    pub(crate) async fn attach_to(
        &self,
        request: &AttachRequest,
        networks: impl FnOnce() -> Result<Vec<NetworkList>, NetworkError> + Send,
    ) -> Result<Attachment, NetworkError> {
        let (lock, left) = locked_record(request).await?;
        if let Some(left) = left {
            for error in self.undo(&left, request, &lock).await {
                tracing::warn!("clean up after the last run: {error}");
            }
        }
        let networks = networks()?;
        self.check_for(request, &networks)?;
        let claims = claim_ports(request)?;
        let mut record = plan(request, networks);
        record.write(&request.record_dir)?;
        match self.connect(&mut record, request, &lock).await {
            Ok(attachment) => Ok(Attachment { _claims: claims, ..attachment }),
            Err(error) => {
                for cleanup in self.undo(&record, request, &lock).await {
                    tracing::warn!("undo a failed attachment: {cleanup}");
                }
                Err(error)
            }
        }
    }

    /// ADD; each plugin's result is on disk before the next plugin is called.
    async fn add(&self, record: &mut Record, index: usize, dir: &Path, lock: &File) -> Result<Value, NetworkError> {
        let before = record.clone();
        let chain = self.chain(&before, &before.attachments[index], lock);
        chain
            .add(|result| {
                record.attachments[index].result = Some(result.clone());
                record.write(dir)
            })
            .await
    }
}

impl Default for CniNetwork {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Plugin for CniNetwork {
    fn name(&self) -> &'static str {
        "cni"
    }

    fn carriers(&self) -> &'static [Carrier] {
        &[Carrier::TapQueue, Carrier::Tap]
    }

    fn limits_traffic(&self, request: &AttachRequest) -> bool {
        self.configured(request)
            .is_ok_and(|networks| networks.iter().any(|network| network.has_capability("bandwidth")))
    }

    fn check(&self, request: &AttachRequest) -> Result<(), NetworkError> {
        if !rustix::process::geteuid().is_root() {
            return Err(NetworkError::NeedsRoot { network: "cni" });
        }
        self.check_for(request, &self.configured(request)?)
    }

    async fn attach(&self, request: &AttachRequest) -> Result<Attachment, NetworkError> {
        let ensure = |name| conf_dir::ensure(&request.cni_conf_dirs, name);
        self.attach_to(request, || self.wanted().into_iter().map(ensure).collect()).await
    }

    async fn detach(&self, request: &AttachRequest) -> Vec<NetworkError> {
        match Record::read(&request.record_dir) {
            Ok(None) => return Vec::new(),
            Ok(Some(_)) => {}
            Err(error) => return vec![error],
        }
        match locked_record(request).await {
            Ok((lock, Some(record))) => self.undo(&record, request, &lock).await,
            Ok((_, None)) => Vec::new(),
            Err(error) => vec![error],
        }
    }
}

async fn locked_record(request: &AttachRequest) -> Result<(File, Option<Record>), NetworkError> {
    let lock = record::lock(&request.record_dir).await?;
    let record = Record::read(&request.record_dir)?;
    Ok((lock, record))
}

/// The queue of the interface's tap where that is what holds it, and the socket of its guest's questions where they are
/// answered.
fn connect_guest(
    ifname: &str,
    dhcp: Dhcp,
    hold: TapHold,
) -> Result<(Interface, Option<OwnedFd>, Option<OwnedFd>), NetworkError> {
    let (interface, tap) = link::take_over(ifname, dhcp, hold)?;
    let name = link::tap_name(ifname);
    let failed = |source| NetworkError::Io { what: format!("listen for DHCP on {name}"), source };
    let questions = if dhcp == Dhcp::Served { Some(dhcp::open(&name).map_err(failed)?) } else { None };
    Ok((interface, tap, questions))
}

fn claim_ports(request: &AttachRequest) -> Result<Vec<Claim>, NetworkError> {
    port_claims::claim(&request.network.ports).map_err(|error| port_owners::name_owner(error, request))
}

fn guest_nic(ifname: &str, interface: Interface, queue: Option<OwnedFd>, netns: &Path) -> GuestNic {
    GuestNic {
        name: ifname.to_owned(),
        mac: interface.mac,
        addresses: interface.addresses,
        routes: interface.routes,
        mtu: interface.mtu,
        backend: match queue {
            Some(queue) => GuestNicBackend::TapQueue(queue),
            None => GuestNicBackend::Tap { name: link::tap_name(ifname), netns: netns.to_owned() },
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ignite_api::network::NetworkSpec;

    pub(super) fn request(ports: &str, dir: &Path) -> AttachRequest {
        AttachRequest {
            vm_uid: "4f1c09d2a7b35e68".into(),
            vm_name: "web".into(),
            network: NetworkSpec {
                ports: if ports.is_empty() { Vec::new() } else { ignite_api::ports::parse_ports(ports).unwrap() },
                ..NetworkSpec::default()
            },
            run_dir: dir.to_owned(),
            record_dir: dir.to_owned(),
            cni_conf_dirs: vec![dir.join("net.d")],
            ..AttachRequest::default()
        }
    }

    #[test]
    fn names_are_networks_each_once() {
        assert_eq!(CniNetwork::named("a,b").unwrap().names, ["a", "b"]);
        for wrong in ["", "a,", "a,a", "../x", "a b", "a,b,c,d,e,f,g,h,i"] {
            assert!(CniNetwork::named(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_missing_network_or_plugin_is_named_before_the_host_is_touched() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let missing = CniNetwork::named("nosuch").unwrap().check(&request("", dir.path())).unwrap_err();
        assert!(missing.to_string().contains("nosuch"), "{missing}");
        let without = CniNetwork::new().with_plugin_dirs(vec![dir.path().to_owned()]);
        let missing = without.check(&request("", dir.path())).unwrap_err();
        assert!(missing.to_string().contains("\"bridge\""), "{missing}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn nothing_recorded_is_nothing_to_detach() {
        let dir = tempfile::tempdir().unwrap();
        assert!(CniNetwork::new().detach(&request("", dir.path())).await.is_empty());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
