//! Hands a container's interface over to a guest: a tap, redirected both ways by tc, and what the kernel knows of the
//! interface.
//!
//! ```text
//!  network --veth--> eth0 --ingress: redirect--> vm_eth0 (tap) --descriptor--> VMM
//!                         <--redirect :ingress--
//! ```
//!
//! Addresses stay on the interface, where plugins' CHECK looks for them; no frame reaches them, nor leaves from them.

use crate::NetworkError;
use crate::cni::io_error;
use futures_util::TryStreamExt;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope};
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteType};
use rtnetlink::packet_route::tc::{TcFilterU32Option, TcHandle, TcU32Key, TcU32Selector, TcU32SelectorFlags};
use rtnetlink::{Handle, LinkUnspec, RouteMessageBuilder};
use std::fs::{self, OpenOptions};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The tun driver's device.
pub(crate) const TUN_DEVICE: &str = "/dev/net/tun";
/// `_IOW('T', 202, int)` (`linux/if_tun.h`).
pub(crate) const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
/// `_IOW('T', 203, int)` (`linux/if_tun.h`).
pub(crate) const TUNSETPERSIST: libc::c_ulong = 0x4004_54cb;
/// Handle of the ingress qdisc, `ffff:`.
const INGRESS: u32 = 0xffff_0000;
/// `ETH_P_ALL`, in network order as a filter has it.
const EVERY_PROTOCOL: u16 = 0x0003_u16.to_be();
/// Filters are asked in this order.
const BEFORE_REDIRECT: u16 = 1;
const REDIRECT: u16 = 2;
/// `RT_TABLE_MAIN`.
const MAIN_TABLE: u8 = 254;

/// An interface as a guest is to have it.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Interface {
    pub(crate) mac: String,
    pub(crate) mtu: Option<u32>,
    /// Addresses with prefix length.
    pub(crate) addresses: Vec<String>,
    /// Destination and gateway; those without a gateway first, because the others may need them.
    pub(crate) routes: Vec<(String, Option<String>)>,
}

/// Whether the guest's questions by DHCP are answered here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dhcp {
    /// They go to the network.
    PassedOn,
    /// They do not: see `dhcp`.
    Served,
}

/// `_IOW('T', 204, int)` (`linux/if_tun.h`).
const TUNSETOWNER: libc::c_ulong = 0x4004_54cc;
/// What keeps a tap in being.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TapHold {
    /// Its open queue.
    ByItsQueue,
    /// Nothing but its namespace: whoever is in there may open it by its name.
    ByItsName,
}

impl Dhcp {
    /// IPv4 without options, UDP, to port 67.
    fn kept(self) -> Option<TcU32Selector> {
        let keys =
            vec![key(0x4500_0000, 0xff00_0000, 0), key(0x0011_0000, 0x00ff_0000, 8), key(0x0000_0043, 0x0000_ffff, 20)];
        (self == Dhcp::Served).then(|| selector_of(keys))
    }
}

/// Name of the tap beside an interface (as old Ignite named it), cut to what a name may have.
pub(crate) fn tap_name(ifname: &str) -> String {
    format!("vm_{ifname}").chars().take(libc::IFNAMSIZ - 1).collect()
}

/// Connects the interface of the calling thread's namespace to a new tap; its queue, where that holds it.
/// Blocks; to be called in a thread without a runtime.
pub(crate) fn take_over(ifname: &str, dhcp: Dhcp, hold: TapHold) -> Result<(Interface, Option<OwnedFd>), NetworkError> {
    let failed = |source| NetworkError::Io { what: format!("connect {ifname} to the VM"), source };
    let tap_name = tap_name(ifname);
    let tap = open_tap(&tap_name, libc::IFF_TUN_EXCL).map_err(io_error("make tap", Path::new(&tap_name)))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let interface = runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        let connection = tokio::spawn(connection);
        let interface = connect(&handle, ifname, &tap_name, dhcp).await;
        connection.abort();
        interface.map_err(to_io)
    });
    let interface = interface.map_err(failed)?;
    match hold {
        TapHold::ByItsQueue => Ok((interface, Some(tap))),
        TapHold::ByItsName => {
            // SAFETY: the descriptor is open, and this request's argument is a number.
            if unsafe { libc::ioctl(tap.as_raw_fd(), TUNSETPERSIST as _, 1) } < 0 {
                return Err(io_error("keep tap", Path::new(&tap_name))(io::Error::last_os_error()));
            }
            Ok((interface, None))
        }
    }
}

async fn connect(handle: &Handle, ifname: &str, tap_name: &str, dhcp: Dhcp) -> Result<Interface, rtnetlink::Error> {
    let link = link(handle, ifname).await?;
    let index = link.header.index;
    let tap = self::link(handle, tap_name).await?.header.index;
    let mut interface = Interface { mac: mac_of(&link), mtu: mtu_of(&link), ..Interface::default() };
    let mut up = LinkUnspec::new_with_index(tap).up();
    if let Some(mtu) = interface.mtu {
        up = up.mtu(mtu);
    }
    handle.link().set(up.build()).execute().await?;
    for (from, to) in [(index, tap), (tap, index)] {
        handle.qdisc().add(from as i32).ingress().execute().await?;
        if from == tap {
            for selector in forged().into_iter().chain(dhcp.kept()) {
                // Without an action: it stops here, and the namespace's own stack drops it.
                let filter = handle.traffic_filter(tap as i32).add().parent(INGRESS).priority(BEFORE_REDIRECT);
                let filter = filter.protocol(EVERY_PROTOCOL).u32(&[TcFilterU32Option::Selector(selector)])?;
                filter.execute().await?;
            }
        }
        let filter =
            handle.traffic_filter(from as i32).add().parent(INGRESS).priority(REDIRECT).protocol(EVERY_PROTOCOL);
        filter.redirect(to)?.execute().await?;
    }
    let addresses: Vec<AddressMessage> =
        handle.address().get().set_link_index_filter(index).execute().try_collect().await?;
    interface.addresses = addresses.iter().filter_map(|message| address_of(message, index)).collect();
    for message in [RouteMessageBuilder::<Ipv4Addr>::new().build(), RouteMessageBuilder::<Ipv6Addr>::new().build()] {
        let routes: Vec<RouteMessage> = match handle.route().get(message).execute().try_collect().await {
            Ok(routes) => routes,
            // A kernel without IPv6.
            Err(error) => {
                tracing::debug!("list routes: {error}");
                continue;
            }
        };
        interface.routes.extend(routes.iter().filter_map(|message| route_of(message, index)));
    }
    interface.routes.sort_by_key(|(_, gateway)| gateway.is_some());
    Ok(interface)
}

/// Removes a bridge of this process's namespace that has no port; whether there was one.
pub(crate) async fn remove_idle_bridge(name: &str) -> Result<bool, NetworkError> {
    let remove = async {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        let connection = tokio::spawn(connection);
        let removed = remove_if_idle(&handle, name).await;
        connection.abort();
        removed.map_err(to_io)
    };
    remove.await.map_err(|source| NetworkError::Io { what: format!("remove the bridge {name}"), source })
}

async fn remove_if_idle(handle: &Handle, name: &str) -> Result<bool, rtnetlink::Error> {
    let links: Vec<LinkMessage> = handle.link().get().execute().try_collect().await?;
    let named = |link: &&LinkMessage| {
        link.attributes.iter().any(|attribute| matches!(attribute, LinkAttribute::IfName(its) if its == name))
    };
    let Some(bridge) = links.iter().find(named) else { return Ok(false) };
    let index = bridge.header.index;
    let is_bridge = bridge.attributes.iter().any(|attribute| {
        matches!(attribute, LinkAttribute::LinkInfo(infos) if infos.iter().any(|info| matches!(info, LinkInfo::Kind(InfoKind::Bridge))))
    });
    let is_port = |link: &LinkMessage| {
        link.attributes.iter().any(|attribute| matches!(attribute, LinkAttribute::Controller(its) if *its == index))
    };
    if !is_bridge || links.iter().any(is_port) {
        return Ok(false);
    }
    handle.link().del(index).execute().await?;
    Ok(true)
}

fn to_io(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other),
    }
}

/// Frames of a guest that never reach the network. portmap opens the host's loopback to the host's end of the interface
/// (`route_localnet`), so an address of 127.0.0.0/8 in a forged frame would lead to servers that only the host should
/// reach. Frames with two VLAN tags could carry it past that filter; one tag is stripped before.
fn forged() -> Vec<TcU32Selector> {
    // Offsets are from the network header: IPv4's version and destination, and the Ethernet type before it.
    let to_loopback = vec![key(0x4000_0000, 0xf000_0000, 0), key(0x7f00_0000, 0xff00_0000, 16)];
    let tagged = [0x8100, 0x88a8].map(|protocol| vec![key(protocol, 0xffff, -4)]);
    std::iter::once(to_loopback).chain(tagged).map(selector_of).collect()
}

fn key(val: u32, mask: u32, off: i32) -> TcU32Key {
    let mut key = TcU32Key::default();
    (key.val, key.mask, key.off) = (val, mask, off);
    key
}

fn selector_of(keys: Vec<TcU32Key>) -> TcU32Selector {
    let mut selector = TcU32Selector::default();
    selector.flags = TcU32SelectorFlags::Terminal;
    selector.nkeys = keys.len() as u8;
    selector.keys = keys;
    selector
}

async fn link(handle: &Handle, name: &str) -> Result<LinkMessage, rtnetlink::Error> {
    let mut links = handle.link().get().match_name(name).execute();
    links.try_next().await?.ok_or(rtnetlink::Error::RequestFailed)
}

fn mac_of(link: &LinkMessage) -> String {
    let address = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Address(bytes) => Some(bytes.as_slice()),
        _ => None,
    });
    address.unwrap_or_default().iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

fn mtu_of(link: &LinkMessage) -> Option<u32> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Mtu(mtu) => Some(*mtu),
        _ => None,
    })
}

/// A permanent address of the interface that is valid beyond its link.
fn address_of(message: &AddressMessage, index: u32) -> Option<String> {
    let header = &message.header;
    if header.index != index
        || header.scope != AddressScope::Universe
        || !header.flags.contains(AddressHeaderFlags::Permanent)
    {
        return None;
    }
    let of = |wanted: fn(&AddressAttribute) -> Option<IpAddr>| message.attributes.iter().find_map(wanted);
    let local = of(|attribute| if let AddressAttribute::Local(address) = attribute { Some(*address) } else { None });
    let any = of(|attribute| if let AddressAttribute::Address(address) = attribute { Some(*address) } else { None });
    Some(format!("{}/{}", local.or(any)?, header.prefix_len))
}

/// A route that somebody has set: the kernel's own follow from the addresses, in the guest as here.
fn route_of(message: &RouteMessage, index: u32) -> Option<(String, Option<String>)> {
    let header = &message.header;
    let is_set = header.table == MAIN_TABLE
        && header.kind == RouteType::Unicast
        && !matches!(header.protocol, RouteProtocol::Kernel | RouteProtocol::Ra | RouteProtocol::IcmpRedirect);
    let is_here =
        message.attributes.iter().any(|attribute| matches!(attribute, RouteAttribute::Oif(oif) if *oif == index));
    if !is_set || !is_here {
        return None;
    }
    let of = |wanted: fn(&RouteAttribute) -> Option<&RouteAddress>| {
        message.attributes.iter().find_map(wanted).and_then(ip_of)
    };
    let gateway = of(|attribute| if let RouteAttribute::Gateway(address) = attribute { Some(address) } else { None });
    let destination =
        of(|attribute| if let RouteAttribute::Destination(address) = attribute { Some(address) } else { None });
    let everywhere = match header.address_family {
        AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    };
    let destination = destination.unwrap_or(everywhere);
    Some((format!("{destination}/{}", header.destination_prefix_length), gateway.map(|gateway| gateway.to_string())))
}

fn ip_of(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}

/// `struct ifreq` as `TUNSETIFF` reads it.
#[repr(C)]
struct TapRequest {
    name: [u8; libc::IFNAMSIZ],
    flags: libc::c_short,
    padding: [u8; 22],
}

/// Undoes `take_over` of a tap that is held by its name, as far as there is something to undo. Blocks, as `take_over` does.
pub(crate) fn release(ifname: &str) -> Result<(), NetworkError> {
    let failed = |source| NetworkError::Io { what: format!("take {ifname} back from the VM"), source };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let released = runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        let connection = tokio::spawn(connection);
        let released = async {
            let index = link(&handle, ifname).await?.header.index;
            let Ok(tap) = link(&handle, &tap_name(ifname)).await else { return Ok(()) };
            handle.link().del(tap.header.index).execute().await?;
            let mut ingress = handle.qdisc().del(index as i32);
            ingress.message_mut().header.parent = TcHandle::INGRESS;
            match ingress.execute().await {
                // It goes with its tap's filters on some kernels, and is not there after half a take-over.
                Err(rtnetlink::Error::NetlinkError(message))
                    if matches!(message.to_io().raw_os_error(), Some(libc::ENOENT | libc::EINVAL)) => {}
                other => other?,
            }
            Ok(())
        };
        let released: Result<(), rtnetlink::Error> = released.await;
        connection.abort();
        released.map_err(to_io)
    });
    released.map_err(failed)
}

/// Lets a user open a tap that is held by its name.
pub(crate) fn give_tap(name: &str, owner: u32) -> Result<(), NetworkError> {
    let tap = open_own_tap(name)?;
    // SAFETY: the descriptor is open, and this request's argument is a number.
    if unsafe { libc::ioctl(tap.as_raw_fd(), TUNSETOWNER as _, libc::c_ulong::from(owner)) } < 0 {
        return Err(io_error("give away tap", Path::new(name))(io::Error::last_os_error()));
    }
    Ok(())
}

/// Opens the queue of a tap of this namespace that is there already.
pub(crate) fn open_own_tap(name: &str) -> Result<OwnedFd, NetworkError> {
    open_tap(name, 0).map_err(io_error("open tap", Path::new(name)))
}

fn open_tap(name: &str, exclusive: libc::c_int) -> io::Result<OwnedFd> {
    let device = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(TUN_DEVICE)?;
    let mut request = TapRequest {
        name: [0; libc::IFNAMSIZ],
        flags: (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | exclusive) as libc::c_short,
        padding: [0; 22],
    };
    request.name[..name.len()].copy_from_slice(name.as_bytes());
    // SAFETY: `request` has the size and layout of the `struct ifreq` that TUNSETIFF reads and writes, and outlives the call.
    if unsafe { libc::ioctl(device.as_raw_fd(), TUNSETIFF as _, &mut request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // The namespace's own stack must not speak to the guest (router solicitations); without IPv6 there is no such file.
    let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "1");
    Ok(device.into())
}
