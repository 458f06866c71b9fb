//! The `cni` network with real plugins, in throw-away hosts.

mod throwaway;

use ignite_api::PortMapping;
use ignite_api::network::NetworkSpec;
use ignite_network::plugins::cni::CniNetwork;
use ignite_network::{AttachRequest, Attachment, Carrier, GuestNic, GuestNicBackend, NetworkError, Peer, Plugin};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use throwaway::{is_inside, left_behind, output};

/// Generous: the hosts these tests run on may be busy.
const DEADLINE: Duration = Duration::from_secs(30);
const RECORD: &str = "network-cni.json";

struct Host {
    root: TempDir,
}

impl Host {
    fn new() -> Self {
        Host { root: tempfile::tempdir().unwrap() }
    }

    fn vm(&self, uid: &str, ports: &str) -> AttachRequest {
        let record_dir = self.root.path().join(uid);
        fs::create_dir_all(&record_dir).unwrap();
        AttachRequest {
            vm_uid: uid.into(),
            vm_name: format!("vm-{uid}"),
            names: vec![format!("vm-{uid}")],
            network: NetworkSpec { ports: parse_ports(ports), ..NetworkSpec::default() },
            names_dir: self.root.path().join("names"),
            run_dir: record_dir.clone(),
            record_dir,
            cni_conf_dirs: vec![PathBuf::from("/etc/cni/net.d"), self.root.path().join("net.d")],
            ..AttachRequest::default()
        }
    }

    fn configure(&self, file: &str, text: &str) {
        fs::create_dir_all("/etc/cni/net.d").unwrap();
        fs::write(Path::new("/etc/cni/net.d").join(file), text).unwrap();
    }
}

fn parse_ports(text: &str) -> Vec<PortMapping> {
    text.split_terminator(',').flat_map(|one| ignite_api::ports::parse_ports(one).unwrap()).collect()
}

async fn assert_detached(network: &CniNetwork, request: &AttachRequest) {
    let errors = network.detach(request).await;
    assert!(errors.is_empty(), "{errors:?}");
    assert!(!request.record_dir.join(RECORD).exists());
}

fn queue(nic: &GuestNic) -> &OwnedFd {
    match &nic.backend {
        GuestNicBackend::TapQueue(queue) => queue,
        GuestNicBackend::Tap { .. } | GuestNicBackend::Stream(_) => panic!("no queue"),
    }
}

/// Asks for the MAC address of `target` as the guest would, and tells whether somebody answers.
fn is_answered(nic: &GuestNic, source: [u8; 4], target: [u8; 4]) -> bool {
    is_answered_on(queue(nic), nic, source, target)
}

fn is_answered_on(tap: &OwnedFd, nic: &GuestNic, source: [u8; 4], target: [u8; 4]) -> bool {
    let mac: Vec<u8> = nic.mac.split(':').map(|octet| u8::from_str_radix(octet, 16).unwrap()).collect();
    // A `virtio_net_hdr` without offloads, then an ARP request.
    let mut frame = vec![0; 10];
    frame.extend([0xff; 6]);
    frame.extend(&mac);
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(&mac);
    frame.extend(source);
    frame.extend([0; 6]);
    frame.extend(target);
    rustix::io::write(tap, &frame).unwrap();
    let deadline = Instant::now() + Duration::from_secs(5);
    while Instant::now() < deadline {
        let second = Timespec { tv_sec: 1, tv_nsec: 0 };
        poll(&mut [PollFd::new(tap, PollFlags::IN)], Some(&second)).unwrap();
        let mut received = [0; 2048];
        let Ok(length) = rustix::io::read(tap, &mut received) else { continue };
        let frame = &received[10..length];
        if frame.len() >= 42 && frame[12..14] == [8, 6] && frame[20..22] == [0, 2] && frame[28..32] == target {
            return true;
        }
    }
    false
}

/// Opens a tap by its name in its namespace, as a VMM of that namespace does that has no privilege.
fn open_by_name(nic: &GuestNic) -> OwnedFd {
    let GuestNicBackend::Tap { name, netns } = &nic.backend else { panic!("not a tap by its name") };
    let (name, netns) = (name.clone(), netns.clone());
    let opened = std::thread::spawn(move || {
        let namespace = fs::File::open(netns).unwrap();
        rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(rustix::thread::LinkNameSpaceType::Network))
            .unwrap();
        rustix::thread::set_capabilities(
            None,
            rustix::thread::CapabilitySets {
                effective: rustix::thread::CapabilitySet::empty(),
                permitted: rustix::thread::CapabilitySet::empty(),
                inheritable: rustix::thread::CapabilitySet::empty(),
            },
        )
        .unwrap();
        let device = fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun").unwrap();
        let mut request = [0_u8; 40];
        request[..name.len()].copy_from_slice(name.as_bytes());
        let flags = (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as u16;
        request[16..18].copy_from_slice(&flags.to_ne_bytes());
        // SAFETY: TUNSETIFF reads and writes a `struct ifreq` of 40 bytes, which outlives the call.
        let result = unsafe { libc::ioctl(device.as_raw_fd(), 0x4004_54ca, request.as_mut_ptr()) };
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
        OwnedFd::from(device)
    });
    opened.join().unwrap()
}

#[tokio::test]
async fn a_tap_waits_for_a_vmm_that_opens_it_by_its_name_and_leaves_nothing() {
    if !is_inside("a_tap_waits_for_a_vmm_that_opens_it_by_its_name_and_leaves_nothing") {
        return;
    }
    let host = Host::new();
    let network = CniNetwork::new();
    let web = AttachRequest { carrier: Some(Carrier::Tap), ..host.vm("00000000000000d1", "") };
    for _ in ["opened", "opened again, as after a reboot"] {
        let attachment = network.attach(&web).await.unwrap();
        let nic = &attachment.nics[0];
        let address = nic.addresses[0].trim_end_matches("/16").parse::<std::net::Ipv4Addr>().unwrap();
        let tap = open_by_name(nic);
        assert!(is_answered_on(&tap, nic, address.octets(), [10, 61, 0, 1]), "the gateway does not answer the guest");
        drop((tap, attachment));
        assert_detached(&network, &web).await;
    }
    assert_eq!(left_behind(), [""; 0]);
}

#[tokio::test]
async fn a_vm_gets_what_a_container_gets_and_leaves_nothing() {
    if !is_inside("a_vm_gets_what_a_container_gets_and_leaves_nothing") {
        return;
    }
    let host = Host::new();
    let network = CniNetwork::new();
    let web = host.vm("00000000000000a1", "8080:80,5300:53/udp");
    let attachment = network.attach(&web).await.unwrap();
    let nic = &attachment.nics[0];
    assert_eq!((nic.name.as_str(), nic.mtu), ("eth0", Some(1500)));
    assert_eq!(nic.addresses, ["10.61.0.2/16"]);
    assert_eq!(nic.routes, [("0.0.0.0/0".to_owned(), Some("10.61.0.1".to_owned()))]);
    assert!(!attachment.dns_servers.is_empty());
    assert!(is_answered(nic, [10, 61, 0, 2], [10, 61, 0, 1]), "the gateway does not answer the guest");

    let rules = output("iptables-save", &[]);
    assert!(rules.contains("--dport 8080 -j DNAT --to-destination 10.61.0.2:80"), "{rules}");
    assert!(rules.contains("-p udp -m udp --dport 5300 -j DNAT --to-destination 10.61.0.2:53"), "{rules}");
    let broken = network.verify(&web).await;
    assert!(broken.is_empty(), "{broken:?}");

    let other = host.vm("00000000000000a2", "8080:80");
    let refused = network.attach(&other).await.unwrap_err();
    assert!(
        matches!(&refused, NetworkError::PortPublished { owner, .. } if owner == "vm-00000000000000a1"),
        "{refused}"
    );
    assert_eq!(left_behind().iter().filter(|left| left.contains("00000000000000a2")).count(), 0);

    let mac = nic.mac.clone();
    drop(attachment);
    assert_detached(&network, &web).await;
    assert_eq!(left_behind(), [""; 0]);
    assert_detached(&network, &web).await;

    let mut other = network.attach(&host.vm("00000000000000a2", "8080:80")).await.unwrap();
    assert_eq!(other.nics[0].addresses, ["10.61.0.3/16"]);
    assert_eq!(other.peers.as_ref().unwrap().peers(), []);
    let again = network.attach(&web_without_ports(&web)).await.unwrap();
    let told = |address: &str, name: &str| Peer { address: address.into(), names: vec![name.into()] };
    let seen = tokio::time::timeout(DEADLINE, other.peers.as_mut().unwrap().changed()).await.unwrap().unwrap();
    assert_eq!(seen, [told("10.61.0.2", "vm-00000000000000a1")]);
    assert_eq!(again.peers.as_ref().unwrap().peers(), [told("10.61.0.3", "vm-00000000000000a2")]);
    assert_eq!(
        (&again.nics[0].addresses[0], &again.nics[0].mac),
        (&"10.61.0.2/16".to_owned(), &mac),
        "it kept its address"
    );
    for request in [&web, &host.vm("00000000000000a2", "")] {
        assert_detached(&network, request).await;
    }
    assert_eq!(left_behind(), [""; 0]);
    assert!(!host.root.path().join("names").exists(), "nobody is in a network any more");
}

fn web_without_ports(web: &AttachRequest) -> AttachRequest {
    AttachRequest { network: NetworkSpec::default(), ..web.clone() }
}

#[tokio::test]
async fn an_address_that_is_somebody_elses_by_now_is_not_insisted_on() {
    if !is_inside("an_address_that_is_somebody_elses_by_now_is_not_insisted_on") {
        return;
    }
    let host = Host::new();
    let network = CniNetwork::new();
    let (first, second) = (host.vm("00000000000000b1", ""), host.vm("00000000000000b2", ""));
    drop(network.attach(&first).await.unwrap());
    assert_detached(&network, &first).await;
    fs::copy(first.record_dir.join("network-addresses.json"), second.record_dir.join("network-addresses.json"))
        .unwrap();
    let taken = network.attach(&second).await.unwrap();
    assert_eq!(taken.nics[0].addresses, ["10.61.0.2/16"]);
    let given = network.attach(&first).await.unwrap();
    assert_eq!(given.nics[0].addresses, ["10.61.0.3/16"]);
    for request in [&first, &second] {
        assert_detached(&network, request).await;
    }
    assert_eq!(left_behind(), [""; 0]);
}

#[tokio::test]
async fn an_address_that_was_asked_for_is_given_or_refused() {
    if !is_inside("an_address_that_was_asked_for_is_given_or_refused") {
        return;
    }
    let host = Host::new();
    let network = CniNetwork::new();
    let with = |uid: &str, ip: &str, mac: &str| {
        let mut request = host.vm(uid, "");
        request.network.ips = vec![ip.into()];
        request.network.mac = Some(mac.into());
        request
    };
    let first = with("00000000000000b3", "10.61.7.7", "02:00:00:00:00:77");
    let attachment = network.attach(&first).await.unwrap();
    let nic = &attachment.nics[0];
    assert_eq!((&nic.addresses[0][..], &nic.mac[..]), ("10.61.7.7/16", "02:00:00:00:00:77"));
    assert_eq!(attachment.host_address.as_deref(), Some("10.61.0.1"));
    let second = with("00000000000000b4", "10.61.7.7/16", "02:00:00:00:00:78");
    let refused = network.attach(&second).await.unwrap_err().to_string();
    assert!(refused.contains("10.61.7.7") && refused.contains("bridge ADD failed"), "{refused}");
    let elsewhere = with("00000000000000b4", "192.0.2.9", "02:00:00:00:00:78");
    assert!(network.attach(&elsewhere).await.is_err(), "it is of no network here");
    drop(attachment);
    assert_detached(&network, &first).await;
    assert_eq!(left_behind(), [""; 0]);
}

#[tokio::test]
async fn several_networks_with_ipv6_bandwidth_static_addresses_and_mtu() {
    if !is_inside("several_networks_with_ipv6_bandwidth_static_addresses_and_mtu") {
        return;
    }
    let host = Host::new();
    host.configure(
        "10-dual.conflist",
        r#"{"cniVersion":"1.0.0","name":"dual","plugins":[
            {"type":"bridge","bridge":"dual0","isDefaultGateway":true,"ipMasq":true,"hairpinMode":true,"mtu":1400,
             "ipam":{"type":"host-local","ranges":[[{"subnet":"10.62.0.0/24"}],[{"subnet":"fd62::/64"}]]}},
            {"type":"portmap","capabilities":{"portMappings":true}},
            {"type":"bandwidth","ingressRate":8000000,"ingressBurst":8000000,"egressRate":8000000,"egressBurst":8000000}]}"#,
    );
    host.configure(
        "20-fixed.conf",
        r#"{"cniVersion":"0.4.0","name":"fixed","type":"bridge","bridge":"fixed0","isDefaultGateway":true,
            "ipam":{"type":"static","addresses":[{"address":"10.63.0.7/24","gateway":"10.63.0.1"}],
                    "routes":[{"dst":"10.200.0.0/16","gw":"10.63.0.9"}]},
            "dns":{"nameservers":["10.63.0.53"],"search":["fixed.example"]}}"#,
    );
    let network = CniNetwork::named("dual,fixed").unwrap();
    let vm = host.vm("00000000000000c1", "8080:80");
    for _ in 0..2 {
        let Attachment { nics, dns_servers, dns_search, .. } = network.attach(&vm).await.unwrap();
        assert_eq!(nics[0].mtu, Some(1400));
        assert_eq!(nics[0].addresses, ["10.62.0.2/24", "fd62::2/64"]);
        let default = |family: &str, gateway: &str| (family.to_owned(), Some(gateway.to_owned()));
        assert_eq!(nics[0].routes, [default("0.0.0.0/0", "10.62.0.1"), default("::/0", "fd62::1")]);
        assert_eq!((nics[1].name.as_str(), &nics[1].addresses[..]), ("eth1", &["10.63.0.7/24".to_owned()][..]));
        assert_eq!(nics[1].routes, [default("10.200.0.0/16", "10.63.0.9")], "one default route only");
        assert_eq!(
            (&dns_servers[..], &dns_search[..]),
            (&["10.63.0.53".to_owned()][..], &["fixed.example".to_owned()][..])
        );
        assert!(is_answered(&nics[0], [10, 62, 0, 2], [10, 62, 0, 1]));
        assert!(is_answered(&nics[1], [10, 63, 0, 7], [10, 63, 0, 1]));
        let broken = network.verify(&vm).await;
        assert!(broken.is_empty(), "{broken:?}");
        assert!(output("tc", &["qdisc"]).contains("tbf"), "bandwidth is limited");
        drop(nics);
        assert_detached(&network, &vm).await;
        assert_eq!(left_behind(), [""; 0]);
    }
}

#[tokio::test]
async fn published_ports_are_let_through_where_the_host_drops_what_it_forwards() {
    if !is_inside("published_ports_are_let_through_where_the_host_drops_what_it_forwards") {
        return;
    }
    let host = Host::new();
    let network = CniNetwork::new();
    output("iptables", &["-P", "FORWARD", "DROP"]);
    let vm = host.vm("00000000000000d2", "8080:80");
    let _attachment = network.attach(&vm).await.unwrap();
    let rules = output("iptables", &["-S", "CNI-FORWARD"]);
    assert!(rules.contains("-d 10.61.0.2/32 -m conntrack --ctstate DNAT"), "{rules}");
    assert_detached(&network, &vm).await;
    assert_eq!(left_behind(), [""; 0]);
}

/// A datagram from the guest to port 9999 of `target`, sent to the MAC address of the bridge whatever `target` is.
/// `tags` stand before the Ethernet type.
fn send_datagram(nic: &GuestNic, bridge_mac: &[u8], tags: &[u8], target: [u8; 4]) {
    let mac: Vec<u8> = nic.mac.split(':').map(|octet| u8::from_str_radix(octet, 16).unwrap()).collect();
    let mut ip = vec![0x45, 0, 0, 29, 0, 0, 0, 0, 64, 17, 0, 0, 10, 61, 0, 2];
    ip.extend(target);
    let sum: u32 = ip.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    ip[10..12].copy_from_slice(&(!(folded as u16)).to_be_bytes());
    let mut frame = vec![0; 10];
    frame.extend(bridge_mac);
    frame.extend(&mac);
    frame.extend(tags);
    frame.extend([8, 0]);
    frame.extend(&ip);
    frame.extend([0x27, 0x0f, 0x27, 0x0f, 0, 9, 0, 0, b'x']);
    rustix::io::write(queue(nic), &frame).unwrap();
}

#[tokio::test]
async fn a_guest_cannot_forge_its_way_to_the_hosts_loopback() {
    if !is_inside("a_guest_cannot_forge_its_way_to_the_hosts_loopback") {
        return;
    }
    let host = Host::new();
    let network = CniNetwork::new();
    let vm = host.vm("00000000000000d3", "8080:80");
    let attachment = network.attach(&vm).await.unwrap();
    let nic = &attachment.nics[0];
    assert!(is_answered(nic, [10, 61, 0, 2], [10, 61, 0, 1]));
    let link = fs::read_to_string("/proc/sys/net/ipv4/conf/ignite0/route_localnet").unwrap();
    assert_eq!(link.trim(), "1", "portmap opens the host's loopback to the bridge: else there is nothing to close");
    let shown = output("ip", &["-o", "link", "show", "ignite0"]);
    let mac_text = shown.split("link/ether ").nth(1).unwrap().split(' ').next().unwrap();
    let mac: Vec<u8> = mac_text.split(':').map(|octet| u8::from_str_radix(octet, 16).unwrap()).collect();
    let server = std::net::UdpSocket::bind("0.0.0.0:9999").unwrap();
    // Tags of VLAN 0 are ignored by who receives them.
    let tags: [&[u8]; 4] = [&[], &[0x81, 0, 0, 0], &[0x81, 0, 0, 0, 0x81, 0, 0, 0], &[0x88, 0xa8, 0, 0, 0x81, 0, 0, 0]];
    for tag in tags {
        send_datagram(nic, &mac, tag, [127, 0, 0, 1]);
    }
    send_datagram(nic, &mac, tags[1], [10, 61, 0, 1]);
    server.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    server.recv(&mut [0; 9]).expect("the one to the gateway arrives");
    server.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    assert!(server.recv(&mut [0; 9]).is_err(), "the one to the host's loopback arrived before it");
    assert_detached(&network, &vm).await;
}

#[tokio::test]
async fn check_finds_what_somebody_broke() {
    if !is_inside("check_finds_what_somebody_broke") {
        return;
    }
    let host = Host::new();
    let network = CniNetwork::new();
    let vm = host.vm("00000000000000d1", "8080:80");
    assert!(matches!(network.verify(&vm).await[..], [NetworkError::NotAttached]));
    let _attachment = network.attach(&vm).await.unwrap();
    output("ip", &["-n", "ignite-00000000000000d1", "addr", "flush", "dev", "eth0"]);
    let broken = network.verify(&vm).await;
    assert!(broken[0].to_string().contains("bridge CHECK failed"), "{broken:?}");
    assert_detached(&network, &vm).await;
    assert_eq!(left_behind(), [""; 0]);
}

#[tokio::test]
async fn a_failed_attachment_leaves_nothing() {
    if !is_inside("a_failed_attachment_leaves_nothing") {
        return;
    }
    let host = Host::new();
    host.configure(
        "10-late.conflist",
        r#"{"cniVersion":"1.0.0","name":"late","plugins":[
            {"type":"bridge","bridge":"late0","isDefaultGateway":true,"ipMasq":true,
             "ipam":{"type":"host-local","subnet":"10.64.0.0/24"}},
            {"type":"portmap","capabilities":{"portMappings":true}},
            {"type":"tuning","sysctl":{"net.ipv4.conf.nosuch.forwarding":"1"}}]}"#,
    );
    let vm = host.vm("00000000000000e1", "8080:80");
    let error = CniNetwork::new().attach(&vm).await.unwrap_err().to_string();
    assert!(error.contains("tuning ADD failed"), "{error}");
    assert_eq!(left_behind(), [""; 0]);
    assert!(!vm.record_dir.join(RECORD).exists());
}

#[tokio::test]
async fn a_rebooted_host_is_cleaned_up() {
    if !is_inside("a_rebooted_host_is_cleaned_up") {
        return;
    }
    let host = Host::new();
    let network = CniNetwork::new();
    let vm = host.vm("00000000000000f1", "8080:80");
    drop(network.attach(&vm).await.unwrap());
    // A reboot takes namespaces, interfaces and rules; leases and records stay.
    for command in
        ["ip netns delete ignite-00000000000000f1", "iptables -t nat -F", "iptables -F", "ip link delete ignite0"]
    {
        let words: Vec<&str> = command.split(' ').collect();
        output(words[0], &words[1..]);
    }
    assert!(left_behind().iter().any(|left| left.contains("lease 10.61.0.2")), "{:?}", left_behind());
    let errors = network.detach(&vm).await;
    assert!(errors.is_empty(), "{errors:?}");
    assert_eq!(left_behind().iter().filter(|left| !left.starts_with("rule :CNI")).count(), 0, "{:?}", left_behind());
    let attachment = network.attach(&vm).await.unwrap();
    assert_eq!(attachment.nics[0].addresses, ["10.61.0.2/16"]);
    assert_detached(&network, &vm).await;
}

/// Times the attaching process is killed, and how much later each time.
const KILLS: u32 = 12;
const STEP: Duration = Duration::from_millis(50);
const VICTIM: &str = "IGNITE_TEST_VICTIM";

#[tokio::test]
async fn whenever_the_attaching_process_is_killed_nothing_is_left() {
    const NAME: &str = "whenever_the_attaching_process_is_killed_nothing_is_left";
    if !is_inside(NAME) {
        return;
    }
    let network = CniNetwork::new();
    if let Some(root) = std::env::var_os(VICTIM) {
        let host = std::mem::ManuallyDrop::new(Host { root: tempfile::Builder::new().tempdir_in(&root).unwrap() });
        let request = AttachRequest { record_dir: root.into(), ..host.vm("0000000000000091", "8080:80") };
        let _attachment = network.attach(&request).await.unwrap();
        std::future::pending::<()>().await;
    }
    let host = Host::new();
    let request = host.vm("0000000000000091", "8080:80");
    for round in 0..KILLS {
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", NAME, "--nocapture"])
            .env(VICTIM, &request.record_dir)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        tokio::time::sleep(STEP * round).await;
        victim.kill().unwrap();
        assert_eq!(victim.wait().unwrap().signal(), Some(9), "it was attached or on its way");
        let errors = network.detach(&request).await;
        assert!(errors.is_empty(), "round {round}: {errors:?}");
        assert_eq!(left_behind(), [""; 0], "round {round}");
    }
}
