//! What a Docker engine says of its default bridge (Docker Engine API, `GET /networks/bridge`), bounded in size and time.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// Longest the engine may take, from call to last byte.
const DEADLINE: Duration = Duration::from_secs(5);
/// Largest answer that is read: it names every container.
const MAX_ANSWER: usize = 4 << 20;
/// HTTP/1.0, so that the answer comes in one piece and the engine hangs up.
const REQUEST: &[u8] = b"GET /networks/bridge HTTP/1.0\r\nHost: docker\r\nUser-Agent: ignite\r\n\r\n";
/// Options of Docker's bridge driver.
const BRIDGE_NAME: &str = "com.docker.network.bridge.name";
const MTU: &str = "com.docker.network.driver.mtu";
/// Longest text of the engine's own that is repeated.
const MAX_TOLD: usize = 200;

/// The bridge as the engine tells it; nothing of it has been checked but its shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    /// The interface.
    pub(super) bridge: String,
    /// MTU of its containers.
    pub(super) mtu: Option<u32>,
    /// Its subnets.
    pub(super) subnets: Vec<Subnet>,
    /// Addresses of its containers, with prefix length.
    pub(super) containers: Vec<String>,
}

/// One subnet.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Subnet {
    /// Such as `172.17.0.0/16`.
    #[serde(default)]
    pub(super) subnet: String,
    /// Containers' addresses are of it (`fixed-cidr`).
    #[serde(default, rename = "IPRange")]
    pub(super) range: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Network {
    #[serde(default)]
    driver: String,
    #[serde(rename = "IPAM", default)]
    ipam: Ipam,
    #[serde(default)]
    containers: Option<BTreeMap<String, Container>>,
    #[serde(default)]
    options: Option<BTreeMap<String, String>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Ipam {
    config: Option<Vec<Subnet>>,
}

#[derive(Deserialize)]
struct Container {
    #[serde(rename = "IPv4Address", default)]
    address: String,
}

/// Asks the engine of this socket. The error is a reason, in words.
pub(super) fn ask(socket: &Path) -> Result<Told, String> {
    let failed = |error: io::Error| format!("no Docker engine answers on {}: {error}", socket.display());
    decode(&read_answer(socket).map_err(failed)?)
}

fn read_answer(socket: &Path) -> io::Result<Vec<u8>> {
    let end = Instant::now() + DEADLINE;
    let mut stream = connect(socket)?;
    stream.set_write_timeout(Some(DEADLINE))?;
    stream.write_all(REQUEST)?;
    let mut answer = Vec::new();
    let mut block = [0; 16 << 10];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut block) {
            Ok(0) => return Ok(answer),
            Ok(count) => answer.extend(&block[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(io::ErrorKind::TimedOut.into()),
            Err(error) => return Err(error),
        }
        if answer.len() > MAX_ANSWER {
            return Err(io::Error::other(format!("its answer has more than {MAX_ANSWER} bytes")));
        }
    }
}

/// Without waiting for a listener that takes nobody.
fn connect(path: &Path) -> io::Result<UnixStream> {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket: OwnedFd = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// Reads the whole answer, headers included.
fn decode(answer: &[u8]) -> Result<Told, String> {
    let head_end = answer.windows(4).position(|four| four == b"\r\n\r\n").ok_or("its answer is no HTTP")?;
    let head = String::from_utf8_lossy(&answer[..head_end]);
    let status = head.lines().next().unwrap_or_default();
    match status.split_ascii_whitespace().nth(1) {
        Some("200") => {}
        Some("404") => return Err("the engine has no network \"bridge\" (dockerd --bridge=none?)".into()),
        _ => return Err(format!("the engine answers {:?}", told(status))),
    }
    let network: Network = serde_json::from_slice(&answer[head_end + 4..])
        .map_err(|error| format!("its answer cannot be read: {}", told(&error.to_string())))?;
    if network.driver != "bridge" {
        return Err(format!("the engine's network \"bridge\" is one of driver {:?}", told(&network.driver)));
    }
    let options = network.options.unwrap_or_default();
    let bridge = options.get(BRIDGE_NAME).cloned().unwrap_or_else(|| "docker0".to_owned());
    if !is_interface_name(&bridge) {
        return Err(format!("the engine's bridge is called {:?}", told(&bridge)));
    }
    Ok(Told {
        bridge,
        mtu: options.get(MTU).and_then(|mtu| mtu.parse().ok()).filter(|mtu| (576..=65_535).contains(mtu)),
        subnets: network.ipam.config.unwrap_or_default(),
        containers: network.containers.unwrap_or_default().into_values().map(|container| container.address).collect(),
    })
}

fn is_interface_name(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..libc::IFNAMSIZ).contains(&name.len()) && name.bytes().all(is_allowed) && name != "." && name != ".."
}

fn told(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(MAX_TOLD).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::net::UnixListener;

    /// Of Docker 20.10, shortened.
    const ANSWER: &str = "HTTP/1.0 200 OK\r\nApi-Version: 1.41\r\nContent-Type: application/json\r\n\r\n\
        {\"Name\":\"bridge\",\"Driver\":\"bridge\",\"EnableIPv6\":false,\"IPAM\":{\"Driver\":\"default\",\"Options\":null,\
        \"Config\":[{\"Subnet\":\"172.17.0.0/16\",\"IPRange\":\"172.17.8.0/24\"}]},\
        \"Containers\":{\"870e\":{\"Name\":\"one\",\"MacAddress\":\"02:42:ac:11:00:02\",\"IPv4Address\":\"172.17.0.2/16\",\"IPv6Address\":\"\"}},\
        \"Options\":{\"com.docker.network.bridge.name\":\"docker0\",\"com.docker.network.driver.mtu\":\"1450\"},\"Labels\":{}}";

    #[test]
    fn what_an_engine_says_is_read() {
        let told = decode(ANSWER.as_bytes()).unwrap();
        assert_eq!((told.bridge.as_str(), told.mtu), ("docker0", Some(1450)));
        assert_eq!(told.containers, ["172.17.0.2/16"]);
        assert_eq!(told.subnets, [Subnet { subnet: "172.17.0.0/16".into(), range: "172.17.8.0/24".into() }]);
    }

    #[test]
    fn what_is_no_bridge_is_refused_with_the_reason() {
        let ok = |body: &str| format!("HTTP/1.1 200 OK\r\n\r\n{body}");
        for (answer, reason) in [
            ("HTTP/1.1 404 Not Found\r\n\r\n{}".to_owned(), "--bridge=none"),
            ("HTTP/1.1 500 Oh\r\n\r\n".to_owned(), "500 Oh"),
            ("SSH-2.0-x\r\n".to_owned(), "no HTTP"),
            (ok("true"), "cannot be read"),
            (ok(r#"{"Driver":"nat"}"#), "\"nat\""),
            (ok(r#"{"Driver":"bridge","Options":{"com.docker.network.bridge.name":"../x"}}"#), "../x"),
        ] {
            let refused = decode(answer.as_bytes()).unwrap_err();
            assert!(refused.contains(reason), "{refused}");
        }
    }

    #[test]
    fn a_socket_without_an_engine_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("docker.sock");
        assert!(ask(&path).unwrap_err().contains("docker.sock"));
        let listener = UnixListener::bind(&path).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (mut stream, _) = listener.accept().unwrap();
                let mut asked = [0; REQUEST.len()];
                stream.read_exact(&mut asked).unwrap();
                stream.write_all(ANSWER.as_bytes()).unwrap();
            });
            assert_eq!(ask(&path).unwrap().bridge, "docker0");
        });
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(answer in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = decode(&answer);
            let _ = decode(&[b"HTTP/1.0 200 OK\r\n\r\n", &answer[..]].concat());
        }
    }
}
