//! The API as `curl --unix-socket` sees it, and the configuration that a process was started with.

use crate::real_firecracker::{driver, spec};
use crate::{boot, boot_as};
use ignite_vmm::{BootSpec, Drive, DriveLimits};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Where the driver's machine of this run directory has its API.
pub fn socket(run_dir: &Path) -> PathBuf {
    run_dir.join("firecracker/api")
}

/// One request; the answer's status and body.
pub fn ask(socket: &Path, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(crate::DEADLINE)).unwrap();
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all((head + &body).as_bytes()).unwrap();
    // It keeps the connection: the answer ends where its head says.
    let mut answer = Vec::new();
    let (head_len, body_len) = loop {
        let text = String::from_utf8_lossy(&answer).into_owned();
        if let Some((head, _)) = text.split_once("\r\n\r\n") {
            let len =
                head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).map_or(0, |n| n.parse().unwrap());
            if answer.len() >= head.len() + 4 + len {
                break (head.len(), len);
            }
        }
        let mut buffer = [0; 4096];
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "{method} {path}: it hung up after {text:?}");
        answer.extend_from_slice(&buffer[..count]);
    };
    let status = std::str::from_utf8(&answer[9..12]).unwrap().parse().unwrap();
    let body = &answer[head_len + 4..head_len + 4 + body_len];
    (status, if body.is_empty() { Value::Null } else { serde_json::from_slice(body).unwrap() })
}

/// The same, which is granted.
#[track_caller]
pub fn granted(socket: &Path, method: &str, path: &str, body: &Value) -> Value {
    let (status, answer) = ask(socket, method, path, body);
    assert!((200..300).contains(&status), "{method} {path} {body}: {status} {answer}");
    answer
}

#[tokio::test]
async fn one_process_takes_the_configuration_file_and_serves_the_api() {
    let Some(driver) = driver() else { return };
    let dir = TempDir::new().unwrap();
    let drive = |name: &str, is_read_only| {
        let path = dir.path().join(name);
        std::fs::File::create(&path).unwrap().set_len(1 << 20).unwrap();
        Drive { id: name.into(), path, is_read_only, is_pmem: false, limits: DriveLimits::default() }
    };
    let drives = vec![drive("base", true), drive("disk", false)];
    let spec = BootSpec { vcpu_count: 2, mem_size_mib: 128, drives, ..spec(dir.path()) };
    let mut machine = boot_as(&driver, dir.path(), &spec).await;
    let api = socket(dir.path());
    let instance = granted(&api, "GET", "/", &Value::Null);
    assert_eq!((&instance["state"], &instance["id"]), (&json!("Running"), &json!(spec.id)), "{instance}");
    let version = granted(&api, "GET", "/version", &Value::Null);
    assert!(version["firecracker_version"].as_str().is_some_and(|version| version.starts_with("1.")), "{version}");
    // What the file said is what the process has.
    let config = granted(&api, "GET", "/vm/config", &Value::Null);
    let machine_config = &config["machine-config"];
    assert_eq!((&machine_config["vcpu_count"], &machine_config["mem_size_mib"]), (&json!(2), &json!(128)), "{config}");
    assert!(config["boot-source"]["boot_args"].as_str().is_some_and(|line| line.contains("do=hang ")), "{config}");
    let drives = config["drives"].as_array().unwrap();
    for wanted in &spec.drives {
        let found =
            drives.iter().find(|drive| drive["drive_id"] == json!(wanted.id)).unwrap_or_else(|| panic!("{config}"));
        assert_eq!(found["path_on_host"], json!(wanted.path.canonicalize().unwrap()), "{config}");
        assert_eq!(found["is_read_only"], json!(wanted.is_read_only), "{config}");
    }
    assert_eq!(drives.len(), 2, "{config}");
    assert_eq!(config["vsock"]["guest_cid"], json!(3), "{config}");
    assert!(config["balloon"].is_object() && config["entropy"].is_object(), "{config}");
    // It attaches what it is given: the process has both disks open.
    let process = PathBuf::from(format!("/proc/{}/fd", machine.pid().unwrap()));
    let open: Vec<PathBuf> =
        std::fs::read_dir(process).unwrap().filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok()).collect();
    for drive in &spec.drives {
        let path = drive.path.canonicalize().unwrap();
        assert!(open.contains(&path), "{} is not open: {open:?}", path.display());
    }
    // A running machine is not configured again, and says so.
    let (status, answer) = ask(&api, "PUT", "/boot-source", &json!({ "kernel_image_path": "/kernel" }));
    assert!(status == 400 && answer["fault_message"].as_str().is_some_and(|said| said.len() > 10), "{status} {answer}");
    // Of what may be changed it takes what its devices can do: this guest has no driver for the balloon.
    let (status, answer) = ask(&api, "PATCH", "/balloon", &json!({ "amount_mib": 16 }));
    assert!(status == 400 && answer["fault_message"].as_str().is_some_and(|said| said.len() > 10), "{status} {answer}");
    let limiter = json!({ "drive_id": "disk", "rate_limiter": { "ops": { "size": 10, "refill_time": 100 } } });
    granted(&api, "PATCH", "/drives/disk", &limiter);
    // A disk is its user's while it runs, and no longer.
    let own = rustix::process::geteuid();
    let owner = || std::fs::metadata(&spec.drives[1].path).unwrap().uid();
    assert!(!own.is_root() || owner() > 1_000_000_000, "{}", owner());
    machine.kill().await.unwrap();
    assert_eq!(owner(), own.as_raw());
}

#[tokio::test]
async fn a_paused_process_says_so() {
    let Some(driver) = driver() else { return };
    let dir = TempDir::new().unwrap();
    let mut machine = boot(&driver, dir.path(), "hang").await;
    for (state, is_paused) in [("Paused", true), ("Running", false), ("Paused", true)] {
        let pauser = machine.pauser().unwrap();
        if is_paused {
            pauser.pause().await.unwrap()
        } else {
            pauser.resume().await.unwrap()
        }
        assert_eq!(granted(&socket(dir.path()), "GET", "/", &Value::Null)["state"], json!(state));
    }
    // One that is paused is ended all the same.
    machine.kill().await.unwrap();
}
