//! The `user` network against the real passt: the test plays the guest, frame by frame.

use ignite_api::PortMapping;
use ignite_api::network::NetworkSpec;
use ignite_api::ports::Protocol;
use ignite_network::plugins::{self, user::UserNetwork};
use ignite_network::{AttachRequest, Attachment, GuestNicBackend, NetworkError, Plugin};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Generous: the hosts these tests run on may be busy.
const DEADLINE: Duration = Duration::from_secs(30);

/// Whether passt, or an interface for it, is missing here.
#[allow(clippy::print_stderr, reason = "a skipped test says why")]
fn is_skipped() -> bool {
    let nothing = AttachRequest { network: NetworkSpec::default(), ..request(Path::new("/nonexistent"), 0) };
    match UserNetwork::default().check(&nothing) {
        Ok(()) => false,
        Err(error) => {
            eprintln!("SKIPPED: {error}");
            true
        }
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn request(run_dir: &Path, host_port: u16) -> AttachRequest {
    AttachRequest {
        vm_uid: "4f1c09d2a7b35e68".into(),
        vm_name: "web".into(),
        network: NetworkSpec {
            ports: vec![PortMapping {
                bind_address: "127.0.0.1".parse().ok(),
                host_port,
                vm_port: 80,
                protocol: Protocol::Tcp,
            }],
            ..NetworkSpec::default()
        },
        run_dir: run_dir.to_owned(),
        record_dir: run_dir.to_owned(),
        ..AttachRequest::default()
    }
}

/// Attaches; tries again with another port when somebody else has just taken it.
async fn attach(run_dir: &TempDir) -> (AttachRequest, Attachment) {
    let plugin = plugins::find("user").unwrap();
    loop {
        let request = request(run_dir.path(), free_port());
        match plugin.attach(&request).await {
            Ok(attachment) => return (request, attachment),
            Err(NetworkError::PortInUse { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

fn take_stream(attachment: &mut Attachment) -> tokio::net::UnixStream {
    let GuestNicBackend::Stream(socket) = attachment.nics.remove(0).backend else { panic!("not a stream") };
    let socket: UnixStream = OwnedFd::into(socket);
    socket.set_nonblocking(true).unwrap();
    tokio::net::UnixStream::from_std(socket).unwrap()
}

fn is_alive(pid: u32) -> bool {
    // A zombie has no command line.
    std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())
}

#[tokio::test]
async fn a_published_port_leads_to_the_guest() {
    if is_skipped() {
        return;
    }
    let run_dir = TempDir::new().unwrap();
    let (request, mut attachment) = attach(&run_dir).await;
    assert_eq!(attachment.nics[0].addresses, ["10.0.2.15/24"]);
    assert_eq!(attachment.dns_servers, ["10.0.2.3"]);
    let mut guest = take_stream(&mut attachment);
    let _client = TcpStream::connect(("127.0.0.1", request.network.ports[0].host_port)).unwrap();
    let find_syn = async {
        loop {
            let length = guest.read_u32().await.unwrap();
            let mut frame = vec![0; length as usize];
            guest.read_exact(&mut frame).await.unwrap();
            let is_tcp_to_us = frame.len() >= 54
                && frame[12..14] == [8, 0]
                && frame[23] == 6
                && frame[30..34] == [10, 0, 2, 15]
                && frame[36..38] == 80_u16.to_be_bytes();
            if is_tcp_to_us {
                break frame[47];
            }
        }
    };
    let flags = tokio::time::timeout(DEADLINE, find_syn).await.expect("a SYN for the guest's port 80");
    assert_eq!(flags & 0x12, 0x02, "SYN, not yet acknowledged");
}

#[tokio::test]
async fn a_second_vm_cannot_publish_the_same_port() {
    if is_skipped() {
        return;
    }
    let (first_dir, second_dir) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (first, attachment) = attach(&first_dir).await;
    let plugin = plugins::find("user").unwrap();
    let second = AttachRequest { run_dir: second_dir.path().to_owned(), ..first.clone() };
    let is_named = |error: &NetworkError| matches!(error, NetworkError::PortPublished { owner, .. } if owner == "web");
    assert!(plugin.check(&second).is_err_and(|error| is_named(&error)));
    assert!(plugin.attach(&second).await.is_err_and(|error| is_named(&error)));
    assert!(is_alive(attachment.helpers[0].pid));
    assert_eq!(std::fs::read_dir(second_dir.path()).unwrap().count(), 0, "nothing is left of the second");
}

#[tokio::test]
async fn detaching_ends_passt_from_anywhere_and_twice() {
    if is_skipped() {
        return;
    }
    let run_dir = TempDir::new().unwrap();
    let (request, mut attachment) = attach(&run_dir).await;
    let pid = attachment.helpers[0].pid;
    // Another instance knows the VM by its run directory alone, as another process would.
    let plugin = plugins::find("user").unwrap();
    assert!(plugin.detach(&request).await.is_empty());
    let said = tokio::time::timeout(DEADLINE, attachment.helpers[0].ended()).await.unwrap();
    assert!(said.contains("signal: 9"), "{said}");
    assert!(!is_alive(pid));
    assert!(!run_dir.path().join("network.json").exists());
    assert!(plugin.detach(&request).await.is_empty());
    plugin.check(&request).expect("its port is free again");
}

#[tokio::test]
async fn passt_ends_with_the_guests_end_of_the_socket() {
    if is_skipped() {
        return;
    }
    let run_dir = TempDir::new().unwrap();
    let (_, mut attachment) = attach(&run_dir).await;
    drop(take_stream(&mut attachment));
    tokio::time::timeout(DEADLINE, attachment.helpers[0].ended()).await.expect("it ends");
}

#[tokio::test]
async fn a_program_that_is_not_passt_is_an_error_that_leaves_nothing() {
    let run_dir = TempDir::new().unwrap();
    let plugin: std::sync::Arc<dyn Plugin> = std::sync::Arc::new(UserNetwork::at("/bin/false"));
    let request = AttachRequest { network: NetworkSpec::default(), ..request(run_dir.path(), 0) };
    match plugin.attach(&request).await {
        Err(NetworkError::Helper { detail, .. }) => assert!(detail.contains("exit status: 1"), "{detail}"),
        Err(NetworkError::NoInterface) => {}
        other => panic!("{other:?}"),
    }
    assert!(!run_dir.path().join("network.json").exists());
}

/// A TCP SYN from the guest's 10.0.2.15:40000, without checksums, which passt does not look at.
fn framed_syn(mac: &str, destination: [u8; 4], port: u16) -> Vec<u8> {
    let source_mac: Vec<u8> = mac.split(':').map(|octet| u8::from_str_radix(octet, 16).unwrap()).collect();
    let mut frame = vec![0x02, 0x00, 0x0a, 0x00, 0x02, 0x02];
    frame.extend(source_mac);
    frame.extend([0x08, 0x00]);
    frame.extend([0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0]);
    frame.extend([10, 0, 2, 15]);
    frame.extend(destination);
    frame.extend(40_000_u16.to_be_bytes());
    frame.extend(port.to_be_bytes());
    frame.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0]);
    let mut bytes = (frame.len() as u32).to_be_bytes().to_vec();
    bytes.extend(frame);
    bytes
}

#[tokio::test]
async fn a_forged_frame_does_not_reach_the_hosts_loopback() {
    if is_skipped() {
        return;
    }
    let run_dir = TempDir::new().unwrap();
    let (request, mut attachment) = attach(&run_dir).await;
    let mac = attachment.nics[0].mac.clone();
    let mut guest = take_stream(&mut attachment);
    let service = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = service.local_addr().unwrap().port();
    for destination in [[127, 0, 0, 1], [127, 8, 8, 8], [0, 0, 0, 0], [10, 0, 2, 2]] {
        guest.write_all(&framed_syn(&mac, destination, port)).await.unwrap();
    }
    // Frames are handled in order: once passt has passed this connection on, it has seen all that it will see of those.
    let _client = TcpStream::connect(("127.0.0.1", request.network.ports[0].host_port)).unwrap();
    let length = tokio::time::timeout(DEADLINE, guest.read_u32()).await.unwrap().unwrap();
    assert!(length > 0);
    let reached = tokio::time::timeout(Duration::from_millis(300), service.accept()).await;
    assert!(reached.is_err(), "the guest has reached {port} of the host's loopback");
}

#[tokio::test]
async fn a_tap_waits_by_its_name_in_a_namespace_that_lasts_as_long_as_its_keeper() {
    // The network of a VMM that takes taps only is the same as everybody's.
    for mode in ["user", "user:tap"] {
        a_tap_waits(mode).await;
    }
}

async fn a_tap_waits(mode: &str) {
    let run_dir = TempDir::new().unwrap();
    let plugin: std::sync::Arc<dyn Plugin> = plugins::find(mode).unwrap();
    let request = AttachRequest {
        network: NetworkSpec::default(),
        carrier: Some(ignite_network::Carrier::Tap),
        ..request(run_dir.path(), 0)
    };
    let skipped = plugin.check(&request).err().map(|error| error.to_string()).or_else(|| plugin.why_no_tap());
    if let Some(why) = skipped {
        #[allow(clippy::print_stderr, reason = "a skipped test says why")]
        {
            eprintln!("SKIPPED: {why}");
        }
        return;
    }
    assert!(plugin.carriers().contains(&ignite_network::Carrier::Tap), "{mode}");
    let mut attachment = plugin.attach(&request).await.unwrap();
    let GuestNicBackend::Tap { name, netns } = attachment.nics.remove(0).backend else { panic!("not a tap") };
    let enter = format!("--net={}", netns.display());
    let link = std::process::Command::new("nsenter").args([&enter, "ip", "-d", "-o", "link", "show", &name]).output();
    let link = String::from_utf8(link.unwrap().stdout).unwrap();
    assert!(link.contains("tun type tap") && link.contains("persist on"), "{link}");
    assert!(link.contains("mtu 65520"), "{link}");
    let pids: Vec<u32> = attachment.helpers.iter().map(|helper| helper.pid).collect();
    assert_eq!(pids.len(), 2, "passt and the keeper");
    drop(attachment);
    assert!(plugin.detach(&request).await.is_empty());
    let ended = async {
        while pids.iter().any(|pid| is_alive(*pid)) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(DEADLINE, ended).await.expect("passt and the keeper end");
    assert!(!netns.exists());
}
