//! `user`: passt carries the guest's connections as the host's own, without privileges.
//!
//! ```text
//!  guest 10.0.2.15/24 --frames--> guard --frames--> passt --sockets--> host's network
//!        gateway 10.0.2.2, name server 10.0.2.3 (forwarded to the host's first one)
//! ```
//!
//! One passt per VM, a child of the caller. It serves one socket only and ends when that is closed, so it does not
//! outlive the VM even when the caller is killed. No address leads to the host's loopback: not the gateway's, as in
//! passt's own defaults, and not 127.0.0.1 in a forged frame (see `guard`). IPv4 only.

mod callers;
mod guard;
mod guest_side;
mod passt;
mod record;
mod tap;

use self::guard::Loopback;
use crate::NetworkError;
use crate::link::TapHold;
use crate::plugin::{AttachRequest, Attachment, Carrier, GuestNic, GuestNicBackend, Helper, Plugin};
use crate::{host_network, mac, port_owners, ports};
use async_trait::async_trait;
use ignite_api::{PortMapping, Protocol};
use std::path::{Path, PathBuf};

/// Where passt may be. Not `$PATH`: libraries read no environment, and root must not run what someone's `$PATH` says.
const PROGRAM_PATHS: [&str; 4] =
    ["/usr/local/bin/passt", "/usr/bin/passt", "/bin/passt", "/run/current-system/sw/bin/passt"];

/// The plugin; [`UserNetwork::at`] for a passt that is not in a standard directory.
#[derive(Debug, Clone, Default)]
pub struct UserNetwork {
    program: Option<PathBuf>,
    way: Way,
}

/// How frames get to a VMM that takes them either way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Way {
    /// By a socket.
    #[default]
    Stream,
    /// By a tap in a namespace of the VM's own.
    Tap,
}

impl UserNetwork {
    /// A network by this program.
    pub fn at(program: impl Into<PathBuf>) -> Self {
        UserNetwork { program: Some(program.into()), way: Way::Stream }
    }

    /// A network whose frames come by a tap, see `tap`.
    pub fn by_tap() -> Self {
        UserNetwork { program: None, way: Way::Tap }
    }

    /// The program, if it is installed.
    pub fn program(&self) -> Option<PathBuf> {
        match &self.program {
            Some(program) => program.is_file().then(|| program.clone()),
            None => PROGRAM_PATHS.iter().map(Path::new).find(|path| path.is_file()).map(Path::to_owned),
        }
    }

    fn installed_program(&self) -> Result<PathBuf, NetworkError> {
        self.program().ok_or_else(|| NetworkError::ProgramMissing {
            program: passt::PROGRAM.into(),
            hint: "install it (apt-get install passt), or use --network none".into(),
        })
    }
}

#[async_trait]
impl Plugin for UserNetwork {
    fn name(&self) -> &'static str {
        "user"
    }

    fn carriers(&self) -> &'static [Carrier] {
        match self.way {
            Way::Stream if tap::check().is_ok() => &[Carrier::Stream, Carrier::Tap],
            Way::Stream => &[Carrier::Stream],
            Way::Tap => &[Carrier::TapQueue, Carrier::Tap],
        }
    }

    fn why_no_tap(&self) -> Option<String> {
        tap::check().err().map(|error| error.to_string())
    }

    fn check(&self, request: &AttachRequest) -> Result<(), NetworkError> {
        self.installed_program()?;
        if !request.network.ips.is_empty() {
            return Err(NetworkError::CannotGive { network: "user", what: "an address of its own choice (ips)" });
        }
        if self.way == Way::Tap {
            tap::check()?;
        }
        host_network::outbound_interface()?;
        check_ports(request)
    }

    async fn attach(&self, request: &AttachRequest) -> Result<Attachment, NetworkError> {
        let program = self.installed_program()?;
        let interface = host_network::outbound_interface()?;
        check_ports(request)?;
        let mac = mac::wanted(request.network.mac.as_deref()).unwrap_or_else(|| mac::of(&request.vm_uid));
        record::write(&request.run_dir, None)?;
        port_owners::publish(request)?;
        let started = async {
            let (helper, socket) = start(&program, interface.as_deref(), request, mac).await?;
            let hold = match (request.carrier, self.way) {
                (Some(Carrier::Tap), _) => Some(TapHold::ByItsName),
                (_, Way::Tap) => Some(TapHold::ByItsQueue),
                (_, Way::Stream) => None,
            };
            match hold {
                None => Ok((vec![helper], GuestNicBackend::Stream(socket))),
                Some(hold) => {
                    let tap = tap::start(socket, hold, &request.run_dir).await?;
                    let (name, netns) = (tap.name, tap.netns);
                    let backend = tap.queue.map_or(GuestNicBackend::Tap { name, netns }, GuestNicBackend::TapQueue);
                    Ok((vec![helper, tap.keeper], backend))
                }
            }
        };
        let (helpers, backend) = match started.await {
            Ok(started) => started,
            Err(error) => {
                // What failed is dead by now; its record is all that could be left.
                port_owners::withdraw(&request.run_dir)?;
                record::remove(&request.run_dir)?;
                return Err(error);
            }
        };
        Ok(Attachment {
            nics: vec![GuestNic {
                name: "eth0".into(),
                mac: mac::text(mac),
                addresses: vec![format!("{}/{}", guest_side::ADDRESS, guest_side::PREFIX_LENGTH)],
                routes: vec![("0.0.0.0/0".into(), Some(guest_side::GATEWAY.to_string()))],
                mtu: Some(guest_side::MTU),
                backend,
            }],
            dns_servers: vec![guest_side::NAME_SERVER.to_string()],
            dns_search: host_network::search_domains(),
            host_address: host_network::own_address().map(|address| address.to_string()),
            peers: None,
            helpers,
            _claims: Vec::new(),
            // passt answers itself.
            _dhcp: Vec::new(),
        })
    }

    async fn detach(&self, request: &AttachRequest) -> Vec<NetworkError> {
        let mut errors = Vec::new();
        match record::read(&request.run_dir) {
            Ok(Some(recorded)) => errors.extend(record::kill(recorded).await.err()),
            Ok(None) => {}
            Err(error) => errors.push(error),
        }
        errors.extend(port_owners::withdraw(&request.run_dir).err());
        errors.extend(record::remove(&request.run_dir).err());
        errors
    }
}

/// Only UDP needs passt to know the loopback: of TCP it knows whom a segment answers.
fn loopback(request: &AttachRequest) -> Loopback {
    let is_udp = |port: &PortMapping| port.protocol == Protocol::Udp;
    if request.network.ports.iter().any(is_udp) { Loopback::MayCall } else { Loopback::Closed }
}

fn check_ports(request: &AttachRequest) -> Result<(), NetworkError> {
    ports::check_free(&request.network.ports).map_err(|error| port_owners::name_owner(error, request))
}

async fn start(
    program: &Path,
    interface: Option<&str>,
    request: &AttachRequest,
    mac: [u8; 6],
) -> Result<(Helper, std::os::fd::OwnedFd), NetworkError> {
    let (mut helper, socket) = passt::spawn(program, interface, request, loopback(request))?;
    record::write(&request.run_dir, Some(helper.pid))?;
    match guest_side::wait_until_served(socket, mac, &mut helper).await {
        Ok(served) => {
            let guarded = guard::start(served, loopback(request));
            let (socket, task) =
                guarded.map_err(|source| NetworkError::Io { what: "guard passt's socket".into(), source })?;
            helper.guard = Some(task);
            Ok((helper, socket.into()))
        }
        Err(error) => {
            // Ends it if it still runs, and reaps it.
            let _ = helper.child.kill().await;
            // Another process may have taken a port since it was found free.
            check_ports(request)?;
            Err(error)
        }
    }
}
