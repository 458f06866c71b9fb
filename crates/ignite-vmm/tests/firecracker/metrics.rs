//! What Firecracker counts and logs reaches the driver through pipes, and nothing of it a disk.

use crate::api::{granted, socket};
use crate::real_firecracker::driver;
use crate::{DEADLINE, boot, console_until};
use ignite_vmm::VmmCounters;
use serde_json::{Value, json};
use std::os::unix::fs::FileTypeExt;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A line that the driver is tested with, of some version.
const LINE: &str = include_str!("../../src/firecracker/metrics/line.json");

#[tokio::test]
async fn what_crosses_the_virtio_socket_is_counted_and_the_pipes_hold_nothing() {
    let Some(driver) = driver() else { return };
    let dir = TempDir::new().unwrap();
    let mut machine = boot(&driver, dir.path(), "echo").await;
    for name in ["log", "metrics"] {
        let pipe = dir.path().join("firecracker").join(name);
        assert!(std::fs::symlink_metadata(&pipe).unwrap().file_type().is_fifo(), "{}", pipe.display());
    }
    console_until(&mut machine.take_console().unwrap(), "echoing\n").await;
    let mut channel = machine.take_agent_channel().unwrap();
    let mut counters = machine.counters().expect("Firecracker counts");
    assert_eq!(*counters.borrow_and_update(), VmmCounters::default());
    // Twice: a line has what was counted since the one before.
    for sum in [1000, 2000] {
        channel.write_all(&[7; 1000]).await.unwrap();
        tokio::time::timeout(DEADLINE, channel.read_exact(&mut [0; 1000])).await.expect("an echo").unwrap();
        granted(&socket(dir.path()), "PUT", "/actions", &json!({ "action_type": "FlushMetrics" }));
        tokio::time::timeout(DEADLINE, counters.changed()).await.expect("a line").unwrap();
        let counted = *counters.borrow_and_update();
        assert_eq!((counted.vsock_received_bytes, counted.vsock_sent_bytes), (sum, sum), "{counted:?}");
    }
    machine.kill().await.unwrap();
}

/// This program's lines have all that those have which the driver is tested with.
#[tokio::test]
async fn this_version_counts_under_the_same_names() {
    let Some(driver) = driver() else { return };
    let dir = TempDir::new().unwrap();
    let machine = boot(&driver, dir.path(), "hang").await;
    let config = granted(&socket(dir.path()), "GET", "/vm/config", &Value::Null);
    drop(machine);
    // Again, without the driver: its last line is in a file.
    let process = crate::snapshot::Plain::start(&driver, dir.path(), Some(&configured(config, dir.path())));
    granted(&process.api, "PUT", "/actions", &json!({ "action_type": "FlushMetrics" }));
    let text = std::fs::read_to_string(dir.path().join("plain/metrics")).unwrap();
    let (line, expected): (Value, Value) =
        (serde_json::from_str(text.lines().last().unwrap()).unwrap(), serde_json::from_str(LINE).unwrap());
    for device in ["block", "net", "vsock"] {
        let names = expected[device].as_object().unwrap();
        let missing: Vec<&String> = names.keys().filter(|name| line[device].get(name).is_none()).collect();
        assert!(missing.is_empty(), "{device}: {missing:?}");
    }
    assert_eq!(line["seccomp"]["num_faults"], json!(0), "{line}");
}

/// The driver's own configuration, with files of this directory in place of descriptors and of the jail's sockets.
fn configured(mut config: Value, dir: &std::path::Path) -> Value {
    config["boot-source"]["kernel_image_path"] = json!(crate::tiny_guest::tiny_guest().unwrap().1);
    config["boot-source"]["initrd_path"] = json!(dir.join("initramfs"));
    config["vsock"]["uds_path"] = json!(dir.join("plain/vsock"));
    config
}
