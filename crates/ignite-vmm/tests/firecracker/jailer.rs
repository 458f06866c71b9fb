//! What the driver asks of Firecracker also runs in Firecracker's own jail, the program `jailer`; and what that leaves
//! behind, which is why the driver has a jail of its own (docs/adr/firecracker-in-our-own-jail.md).

use crate::api::{granted, socket};
use crate::real_firecracker::driver;
use crate::tiny_guest::tiny_guest;
use crate::{DEADLINE, boot_as};
use ignite_vmm::firecracker::FirecrackerDriver;
use ignite_vmm::{BootSpec, Drive, DriveLimits, Driver};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;
use tempfile::TempDir;

/// Names the program; without it, it is looked for beside Firecracker.
const JAILER: &str = "IGNITE_TEST_JAILER";
/// A user that nobody is.
const USER: u32 = 1_899_999_999;
/// Of the control groups that it makes.
const PARENT_GROUP: &str = "ignite-jailer-test";

#[allow(clippy::print_stderr, reason = "a skipped test says why")]
fn jailer(driver: &FirecrackerDriver) -> Option<PathBuf> {
    let beside = || driver.program().unwrap().with_file_name("jailer");
    let jailer = std::env::var_os(JAILER).map_or_else(beside, PathBuf::from);
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: the jailer takes root");
    } else if !jailer.is_file() {
        eprintln!("SKIPPED: {JAILER} names no jailer, and there is none beside Firecracker");
    } else {
        return Some(jailer);
    }
    None
}

/// A network namespace, kept by a process.
struct Network(Child);

impl Drop for Network {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Network {
    fn make() -> Network {
        let mut keeper = Command::new("unshare");
        keeper.args(["-n", "sh", "-c", "echo ready; exec sleep 1000"]).stdout(Stdio::piped());
        let mut network = Network(keeper.spawn().unwrap());
        let mut said = String::new();
        BufReader::new(network.0.stdout.as_mut().unwrap()).read_line(&mut said).unwrap();
        network
    }

    fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.0.id())
    }
}

/// A Firecracker in the jailer's jail.
struct Jailed {
    process: Child,
    root: PathBuf,
    groups: Vec<PathBuf>,
}

impl Drop for Jailed {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        for group in &self.groups {
            let _ = std::fs::remove_dir(group);
            // The parent of all of them, once it has no other.
            let _ = group.parent().map(std::fs::remove_dir);
        }
    }
}

/// Limits by the controllers that the host has as v1, and the groups that the jailer makes for them.
fn limits(id: &str) -> (Vec<String>, Vec<PathBuf>) {
    let (mut arguments, mut groups) = (Vec::new(), Vec::new());
    for (controller, limit) in [("pids", "pids.max=64"), ("memory", "memory.limit_in_bytes=134217728")] {
        let hierarchy = Path::new("/sys/fs/cgroup").join(controller);
        if hierarchy.join("cgroup.procs").exists() {
            arguments.extend(["--cgroup".to_owned(), limit.to_owned()]);
            groups.push(hierarchy.join(PARENT_GROUP).join(id));
        }
    }
    (arguments, groups)
}

impl Jailed {
    /// Starts it with what the driver configured, every file in the jail's root.
    fn start(jailer: &Path, driver: &FirecrackerDriver, base: &Path, id: &str, config: &Value, netns: &str) -> Jailed {
        let program = driver.program().unwrap();
        let root = base.join(program.file_name().unwrap()).join(id).join("root");
        std::fs::create_dir_all(&root).unwrap();
        std::fs::copy(&tiny_guest().unwrap().1, root.join("kernel")).unwrap();
        std::fs::write(root.join("initramfs"), "unused").unwrap();
        std::fs::write(root.join("disk"), vec![0; 1 << 20]).unwrap();
        chown(root.join("disk"), Some(USER), Some(USER)).unwrap();
        std::fs::write(root.join("config.json"), config.to_string()).unwrap();
        let (limits, groups) = limits(id);
        let process = Command::new(jailer)
            .args(["--id", id, "--uid", &USER.to_string(), "--gid", &USER.to_string()])
            .arg("--exec-file")
            .arg(program)
            .arg("--chroot-base-dir")
            .arg(base)
            .args(["--netns", netns, "--resource-limit", "no-file=256", "--parent-cgroup", PARENT_GROUP])
            .args(limits)
            .args(["--", "--api-sock", "/api", "--config-file", "/config.json", "--level", "Error"])
            .args(["--metrics-path", "/metrics"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Jailed { process, root, groups }
    }
}

#[tokio::test]
#[allow(clippy::print_stderr, reason = "what is left is told")]
async fn what_the_driver_asks_for_runs_in_firecrackers_own_jail() {
    let Some(driver) = driver() else { return };
    let Some(jailer) = jailer(&driver) else { return };
    // What the driver configures, as a Firecracker of its tells it.
    let dir = TempDir::new().unwrap();
    let disk = dir.path().join("disk");
    std::fs::write(&disk, vec![0; 1 << 20]).unwrap();
    let drive =
        Drive { id: "disk".into(), path: disk, is_read_only: false, is_pmem: false, limits: DriveLimits::default() };
    let spec =
        BootSpec { drives: vec![drive], cmdline: "do=count".into(), ..crate::real_firecracker::spec(dir.path()) };
    let machine = boot_as(&driver, dir.path(), &spec).await;
    let mut config = granted(&socket(dir.path()), "GET", "/vm/config", &Value::Null);
    drop(machine);
    config["boot-source"]["kernel_image_path"] = json!("/kernel");
    config["boot-source"]["initrd_path"] = json!("/initramfs");
    config["drives"][0]["path_on_host"] = json!("/disk");
    config["vsock"]["uds_path"] = json!("/vsock");

    let base = TempDir::new().unwrap();
    let network = Network::make();
    let id = format!("jailer-{}", std::process::id());
    let mut jailed = Jailed::start(&jailer, &driver, base.path(), &id, &config, &network.path());
    let mut console = BufReader::new(jailed.process.stdout.take().unwrap()).lines();
    let begun = Instant::now();
    let hello = console.next().expect("it said nothing").unwrap();
    assert!(hello.contains("do=count") && hello.contains("reboot=k"), "{hello}");
    assert!(begun.elapsed() < DEADLINE);
    let api = jailed.root.join("api");
    assert_eq!(granted(&api, "GET", "/", &Value::Null)["state"], json!("Running"));
    granted(&api, "PATCH", "/vm", &json!({ "state": "Paused" }));
    granted(&api, "PATCH", "/vm", &json!({ "state": "Resumed" }));
    // The jail: root, user, privileges, network, limits.
    let proc = PathBuf::from(format!("/proc/{}", jailed.process.id()));
    let status = std::fs::read_to_string(proc.join("status")).unwrap();
    for line in
        [&format!("Uid:\t{USER}\t{USER}\t{USER}\t{USER}"), "CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"]
    {
        assert!(status.contains(line), "{line} {status}");
    }
    assert!(proc.join("root/config.json").exists() && !proc.join("root/proc").exists(), "a root of its own");
    let namespace = |of: &Path, kind: &str| std::fs::read_link(of.join("ns").join(kind)).unwrap();
    assert_eq!(namespace(&proc, "net"), std::fs::read_link(network.path()).unwrap());
    assert_ne!(namespace(&proc, "mnt"), namespace(Path::new("/proc/self"), "mnt"));
    let open_files = std::fs::read_to_string(proc.join("limits")).unwrap();
    assert!(
        open_files.lines().any(|line| line.starts_with("Max open files") && line.contains(" 256 ")),
        "{open_files}"
    );
    for group in &jailed.groups {
        let members = std::fs::read_to_string(group.join("cgroup.procs")).unwrap();
        assert!(members.lines().any(|pid| pid == jailed.process.id().to_string()), "{}: {members}", group.display());
    }
    granted(&api, "PUT", "/actions", &json!({ "action_type": "FlushMetrics" }));
    assert!(std::fs::read_to_string(jailed.root.join("metrics")).unwrap().contains("\"seccomp\""));
    jailed.process.kill().unwrap();
    jailed.process.wait().unwrap();
    // It cleans up nothing: that is for whoever has started it.
    for left in ["firecracker", "dev/kvm", "dev/net/tun", "api", "vsock", "config.json"] {
        let path = jailed.root.join(left);
        let metadata = std::fs::symlink_metadata(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        eprintln!("the jailer has left {left}, of user {}", metadata.uid());
    }
    assert!(jailed.groups.iter().all(|group| group.exists()), "{:?}", jailed.groups);
    drop(jailed);

    // The guest's reset ends it as it does in our jail.
    config["boot-source"]["boot_args"] = json!("do=reset reboot=k");
    let mut jailed = Jailed::start(&jailer, &driver, base.path(), &format!("{id}-reset"), &config, &network.path());
    let mut said = String::new();
    jailed.process.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    let status = jailed.process.wait().unwrap();
    assert!(status.success() && said.contains("tiny guest: do=reset"), "{status} {said}");
}
