//! Snapshots of a machine that the driver runs, and a process that goes on from one.

use crate::api::{ask, granted, socket};
use crate::real_firecracker::driver;
use crate::{DEADLINE, boot, console_until};
use ignite_vmm::Driver;
use ignite_vmm::firecracker::FirecrackerDriver;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;
use tempfile::TempDir;
use tokio::io::AsyncReadExt;

/// A Firecracker without driver and jail, with its files in `plain`; ended when dropped.
pub struct Plain {
    process: Child,
    pub api: PathBuf,
}

impl Plain {
    pub fn start(driver: &FirecrackerDriver, dir: &Path, config: Option<&Value>) -> Plain {
        let plain = dir.join("plain");
        std::fs::create_dir(&plain).unwrap();
        let file = |name: &str, text: &str| {
            std::fs::write(plain.join(name), text).unwrap();
            plain.join(name)
        };
        let api = plain.join("api");
        let mut command = Command::new(driver.program().unwrap());
        command.arg("--api-sock").arg(&api).arg("--log-path").arg(file("log", "")).args(["--level", "Error"]);
        command.arg("--metrics-path").arg(file("metrics", ""));
        if let Some(config) = config {
            command.arg("--config-file").arg(file("config.json", &config.to_string()));
        }
        let process = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let started = Instant::now();
        while std::os::unix::net::UnixStream::connect(&api).is_err() {
            assert!(started.elapsed() < DEADLINE, "it does not listen");
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        Plain { process, api }
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test]
#[allow(clippy::print_stderr, reason = "what it took is told")]
async fn a_guest_goes_on_counting_where_its_snapshot_was_taken() {
    let Some(driver) = driver() else { return };
    let dir = TempDir::new().unwrap();
    let mut machine = boot(&driver, dir.path(), "count").await;
    let mut console = machine.take_console().unwrap();
    let first = console_until(&mut console, "\n100\n").await;
    let rest = tokio::spawn(async move {
        let mut rest = String::new();
        console.read_to_string(&mut rest).await.unwrap();
        rest
    });
    // Below what the jail lets it write.
    let file = |name: &str| dir.path().join("firecracker").join(name);
    let (state, memory) = (file("state"), file("memory"));
    let body = json!({ "snapshot_path": state, "mem_file_path": memory, "snapshot_type": "Full" });
    let api = socket(dir.path());
    let (status, answer) = ask(&api, "PUT", "/snapshot/create", &body);
    assert!(status == 400 && answer.to_string().contains("running"), "of a running one: {status} {answer}");
    machine.pauser().unwrap().pause().await.unwrap();
    let begun = Instant::now();
    granted(&api, "PUT", "/snapshot/create", &body);
    eprintln!("a snapshot of 64 MiB was created in {:?}", begun.elapsed());
    assert_eq!(std::fs::metadata(&memory).unwrap().len(), 64 << 20);
    machine.kill().await.unwrap();
    let before = first + &rest.await.unwrap();
    // Its devices come with it: the socket is made anew at its path.
    std::fs::remove_file(file("vsock")).unwrap();

    let mut restored = Plain::start(&driver, dir.path(), None);
    assert_eq!(granted(&restored.api, "GET", "/", &Value::Null)["state"], json!("Not started"));
    let begun = Instant::now();
    let backend = json!({ "backend_type": "File", "backend_path": memory });
    let load = json!({ "snapshot_path": state, "mem_backend": backend, "resume_vm": false });
    granted(&restored.api, "PUT", "/snapshot/load", &load);
    eprintln!("it was loaded in {:?}", begun.elapsed());
    assert_eq!(granted(&restored.api, "GET", "/", &Value::Null)["state"], json!("Paused"));
    assert!(file("vsock").exists(), "its socket listens");
    granted(&restored.api, "PATCH", "/vm", &json!({ "state": "Resumed" }));
    let mut after = String::new();
    let mut console = BufReader::new(restored.process.stdout.take().unwrap());
    for _ in 0..200 {
        assert!(console.read_line(&mut after).unwrap() > 0, "it ended after {after:?}");
    }
    // Not a byte is lost or said twice.
    let (_, counted) = before.split_once('\n').unwrap();
    let numbers: Vec<u32> = (counted.to_owned() + &after).lines().map(|line| line.parse().unwrap()).collect();
    let expected: Vec<u32> = (1..=numbers.len() as u32).collect();
    assert_eq!(numbers, expected);
    assert!(numbers.len() > 290, "{}", numbers.len());
}
