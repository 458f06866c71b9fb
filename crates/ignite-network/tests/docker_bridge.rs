//! The `docker-bridge` network: a bridge as Docker makes it, and an engine that says so, in throw-away hosts.

mod throwaway;

use ignite_network::plugins::docker_bridge::DockerBridge;
use ignite_network::{AttachRequest, NetworkError, Plugin};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use tempfile::TempDir;
use throwaway::{is_inside, left_behind, output};

/// Six addresses, of which the last two are for VMs; a container that Docker knows has the last but one.
const NETWORK: &str = r#"{"Name":"bridge","Driver":"bridge","IPAM":{"Driver":"default","Config":[{"Subnet":"172.31.9.0/28"}]},
    "Containers":{"c0":{"Name":"known","IPv4Address":"172.31.9.12/28"}},
    "Options":{"com.docker.network.bridge.name":"docker9","com.docker.network.driver.mtu":"1400"}}"#;

/// Answers every question with this, until the test ends.
fn serve(socket: &Path, status: &'static str, body: &'static str) {
    let listener = UnixListener::bind(socket).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut asked = Vec::new();
            let mut byte = [0];
            while !asked.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count == 1) {
                asked.push(byte[0]);
            }
            assert!(asked.starts_with(b"GET /networks/bridge HTTP/1"), "{asked:?}");
            let _ = write!(stream, "HTTP/1.0 {status}\r\nContent-Type: application/json\r\n\r\n{body}");
        }
    });
}

fn vm(root: &TempDir, uid: &str) -> AttachRequest {
    let record_dir = root.path().join(uid);
    fs::create_dir_all(&record_dir).unwrap();
    AttachRequest {
        vm_uid: uid.into(),
        vm_name: format!("vm-{uid}"),
        names_dir: root.path().join("names"),
        run_dir: record_dir.clone(),
        record_dir,
        docker_socket: root.path().join("docker.sock"),
        ..AttachRequest::default()
    }
}

fn refusal(request: &AttachRequest) -> String {
    match DockerBridge::default().check(request) {
        Err(error @ NetworkError::NoDockerBridge { .. }) => {
            let hint = error.hint().unwrap();
            assert!(hint.contains("--network cni") && hint.contains("--network user"), "{hint}");
            error.to_string()
        }
        other => panic!("{other:?}"),
    }
}

/// Makes the bridge, and a container that Docker does not know of, which has an address.
fn make_bridge(unknown: &str) {
    let script = format!(
        "ip link add docker9 type bridge && ip addr add 172.31.9.1/28 dev docker9 && ip link set docker9 up \
         && ip netns add unknown && ip link add far type veth peer name eth0 netns unknown && ip link set far master docker9 up \
         && ip -n unknown addr add {unknown}/28 dev eth0 && ip -n unknown link set eth0 up"
    );
    let made = std::process::Command::new("sh").args(["-ec", &script]).status().unwrap();
    assert!(made.success());
}

#[tokio::test]
async fn a_vm_gets_an_address_that_neither_docker_nor_anybody_has() {
    if !is_inside("a_vm_gets_an_address_that_neither_docker_nor_anybody_has") {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let (web, db, third) =
        (vm(&root, "00000000000000a1"), vm(&root, "00000000000000a2"), vm(&root, "00000000000000a3"));
    assert!(refusal(&web).contains("docker.sock"));
    serve(&root.path().join("docker.sock"), "200 OK", NETWORK);
    assert!(refusal(&web).contains("docker9 is not on this host"));
    assert!(output("ip", &["-o", "link"]).lines().all(|line| !line.contains("docker9")), "nothing is made");

    // For VMs are .11 to .14; Docker has .12, somebody else .13.
    make_bridge("172.31.9.13");
    let docker = DockerBridge::default();
    docker.check(&web).unwrap();
    let first = docker.attach(&web).await.unwrap();
    let second = docker.attach(&db).await.unwrap();
    let mut given: Vec<String> = [&first, &second].map(|one| one.nics[0].addresses[0].clone()).into();
    given.sort();
    assert_eq!(given, ["172.31.9.11/28", "172.31.9.14/28"]);
    assert_eq!(first.nics[0].routes, [("0.0.0.0/0".to_owned(), Some("172.31.9.1".to_owned()))]);
    assert_eq!(first.nics[0].mtu, Some(1400));
    let full = docker.attach(&third).await.unwrap_err().to_string();
    assert!(full.contains("172.31.9.11 to 172.31.9.14"), "{full}");

    // An address of one's own is one of those too; the one a VM had it gets again.
    let mut wanting = third.clone();
    wanting.network.ips = vec!["172.31.9.3".into()];
    assert!(refusal(&wanting).contains("172.31.9.3 is not from 172.31.9.11 to 172.31.9.14"));
    let had = second.nics[0].addresses.clone();
    drop(second);
    assert!(docker.detach(&db).await.is_empty());
    let again = docker.attach(&db).await.unwrap();
    assert_eq!(again.nics[0].addresses, had);

    drop((first, again));
    for request in [&web, &db, &third] {
        let errors = docker.detach(request).await;
        assert!(errors.is_empty(), "{errors:?}");
    }
    // Docker's bridge is as it was, and the one who is not ours too.
    let bridge = output("ip", &["-o", "addr", "show", "docker9"]);
    assert!(bridge.contains("172.31.9.1/28"), "{bridge}");
    assert_eq!(left_behind().iter().filter(|left| !left.contains("unknown")).count(), 0, "{:?}", left_behind());
}

#[tokio::test]
async fn an_engine_without_a_bridge_is_refused() {
    if !is_inside("an_engine_without_a_bridge_is_refused") {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    serve(&root.path().join("docker.sock"), "404 Not Found", "{\"message\":\"network bridge not found\"}");
    assert!(refusal(&vm(&root, "00000000000000a1")).contains("--bridge=none"));
}
