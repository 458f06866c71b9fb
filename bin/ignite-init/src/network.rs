//! Gives the interfaces their names, addresses and routes.

use crate::devices::Uevents;
use crate::error::SetupError;
use crate::netlink::{Prefixed, Request, parse_ack};
use crate::spawn::owned;
use ignite_agent_protocol::message::Interface;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};

/// Brings `lo` up and configures every interface, found by its MAC address.
pub fn configure(interfaces: &[Interface], uevents: &Uevents) -> Result<(), SetupError> {
    let mut kernel = Kernel::open()?;
    let lo = index_of("lo").ok_or_else(|| missing("lo"))?;
    kernel.ask("bring lo up", |sequence| Request::link_up(sequence, lo))?;
    let mut indexes = Vec::new();
    for interface in interfaces {
        let mac = interface.mac.to_ascii_lowercase();
        let found = uevents.wait_for(&format!("network interface {mac}"), || by_mac().remove(&mac))?;
        indexes.push(found);
    }
    rename(&mut kernel, interfaces, &indexes)?;
    for (interface, &index) in interfaces.iter().zip(&indexes) {
        bring_up(&mut kernel, interface, index)?;
    }
    Ok(())
}

/// Names are given in two steps, so that two interfaces can swap theirs.
fn rename(kernel: &mut Kernel, interfaces: &[Interface], indexes: &[u32]) -> Result<(), SetupError> {
    let wrong: Vec<(&Interface, u32)> = interfaces
        .iter()
        .zip(indexes.iter().copied())
        .filter(|(interface, index)| index_of(&interface.name) != Some(*index))
        .collect();
    for (interface, index) in &wrong {
        let what = format!("rename {}", interface.name);
        if index_of(&interface.name).is_some() {
            let holder = index_of(&interface.name).unwrap_or(*index);
            kernel.ask(&what, |sequence| Request::link_name(sequence, holder, &format!("old{holder}")))?;
        }
    }
    for (interface, index) in &wrong {
        let what = format!("rename {}", interface.name);
        kernel.ask(&what, |sequence| Request::link_name(sequence, *index, &interface.name))?;
    }
    Ok(())
}

fn bring_up(kernel: &mut Kernel, interface: &Interface, index: u32) -> Result<(), SetupError> {
    let name = &interface.name;
    if let Some(mtu) = interface.mtu {
        kernel.ask(&format!("{name}: mtu {mtu}"), |sequence| Request::link_mtu(sequence, index, mtu))?;
    }
    kernel.ask(&format!("{name}: up"), |sequence| Request::link_up(sequence, index))?;
    let mut networks = Vec::new();
    for text in &interface.addresses {
        let address = parse(text)?;
        networks.push(address);
        kernel.ask(&format!("{name}: address {text}"), |sequence| Request::address(sequence, index, address))?;
    }
    for route in &interface.routes {
        let destination = parse(&route.destination)?;
        let gateway: Option<IpAddr> = match &route.gateway {
            None => None,
            Some(text) => Some(text.parse().map_err(|_| SetupError::Invalid { what: "gateway", value: text.clone() })?),
        };
        let is_onlink = gateway.is_some_and(|gateway| {
            let is_link_local = matches!(gateway, IpAddr::V6(v6) if v6.is_unicast_link_local());
            !is_link_local && !networks.iter().any(|network| network.contains(gateway))
        });
        kernel.ask(&format!("{name}: route {}", route.destination), |sequence| {
            Request::route(sequence, index, destination, gateway, is_onlink)
        })?;
    }
    Ok(())
}

fn parse(text: &str) -> Result<Prefixed, SetupError> {
    Prefixed::parse(text).ok_or_else(|| SetupError::Invalid { what: "address", value: text.to_owned() })
}

fn missing(what: &str) -> SetupError {
    SetupError::Missing { what: what.to_owned(), seconds: 0 }
}

fn index_of(name: &str) -> Option<u32> {
    fs::read_to_string(format!("/sys/class/net/{name}/ifindex")).ok()?.trim().parse().ok()
}

fn by_mac() -> BTreeMap<String, u32> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir("/sys/class/net").into_iter().flatten().flatten() {
        let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
        let address = fs::read_to_string(entry.path().join("address")).unwrap_or_default();
        if let Some(index) = index_of(&name) {
            found.insert(address.trim().to_ascii_lowercase(), index);
        }
    }
    found
}

/// A netlink socket on which requests are answered one by one.
struct Kernel {
    socket: OwnedFd,
    sequence: u32,
}

impl Kernel {
    fn open() -> Result<Kernel, SetupError> {
        // SAFETY: makes a descriptor.
        let fd = unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_ROUTE) };
        let socket =
            owned(fd).map_err(|source| SetupError::Network { doing: "open a netlink socket".to_owned(), source })?;
        Ok(Kernel { socket, sequence: 0 })
    }

    fn ask(&mut self, doing: &str, request: impl FnOnce(u32) -> Request) -> Result<(), SetupError> {
        self.sequence += 1;
        let failed = |source| SetupError::Network { doing: doing.to_owned(), source };
        let request = request(self.sequence);
        let bytes = request.as_bytes();
        // SAFETY: the buffer lives through the call.
        let sent = unsafe { libc::send(self.socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) };
        if sent < 0 {
            return Err(failed(io::Error::last_os_error()));
        }
        loop {
            let mut answer = [0u8; 4096];
            // SAFETY: the buffer lives through the call. The kernel answers a request it has accepted at once.
            let received = unsafe { libc::recv(self.socket.as_raw_fd(), answer.as_mut_ptr().cast(), answer.len(), 0) };
            if received < 0 {
                return Err(failed(io::Error::last_os_error()));
            }
            match parse_ack(&answer[..received as usize], self.sequence) {
                Some(0) => return Ok(()),
                Some(errno) => return Err(failed(io::Error::from_raw_os_error(errno))),
                None => {}
            }
        }
    }
}
