//! The real Firecracker opens a tap by its name: where root made it, and, without root, in a namespace of its user's own.

mod real_firecracker;
mod tiny_guest;

use ignite_vmm::firecracker::FirecrackerDriver;
use ignite_vmm::{
    BootSpec, Driver, IsolationWanted, Machine, Nic, NicBackend, RunDir, TrafficLimit, TrafficLimits, VmmError,
};
use real_firecracker::{FIRECRACKER, driver};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;
use tiny_guest::{BUILT, tiny_guest};

/// `nobody`.
const USER: &str = "65534";
/// Makes devices that everybody may open, seen by this test alone, and goes on as an ordinary user.
const BECOME_USER: &str = "set -e
mkdir $1/dev
mount -t tmpfs -o mode=755 dev $1/dev
mknod -m 666 $1/dev/kvm c 10 232
mknod -m 666 $1/dev/tun c 10 200
mount --bind $1/dev/kvm /dev/kvm
mount --bind $1/dev/tun /dev/net/tun
user=$2
shift 2
exec setpriv --reuid $user --regid $user --clear-groups -- \"$@\"";
const MAKE_TAP: &str = "ip tuntap add vm_eth0 mode tap vnet_hdr && ip link set vm_eth0 up && echo ready && exec cat";

/// Whoever keeps a namespace with a tap; it ends when this is dropped.
struct Keeper(Child);

impl Keeper {
    /// Makes a network namespace by `unshare` with these options.
    fn start(options: &[&str]) -> Keeper {
        let mut command = Command::new("unshare");
        command.args(options).args(["sh", "-c", MAKE_TAP]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut keeper = Keeper(command.spawn().unwrap());
        let mut said = String::new();
        BufReader::new(keeper.0.stdout.as_mut().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "ready\n");
        keeper
    }

    fn netns(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.0.id()).into()
    }

    /// Whether somebody has the tap open.
    fn has_carrier(&self) -> bool {
        let pid = self.0.id().to_string();
        // Only root's own network is entered without its owner.
        let of_user: &[&str] =
            if rustix::process::geteuid().is_root() { &[] } else { &["-U", "--preserve-credentials"] };
        let mut command = Command::new("nsenter");
        let output = command.args(["-t", &pid]).args(of_user).args(["-n", "ip", "link", "show", "vm_eth0"]).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).contains("LOWER_UP")
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

fn spec(dir: &Path, name: &str, netns: &Path, isolation: IsolationWanted) -> BootSpec {
    let nic = Nic {
        mac: "02:00:00:00:00:01".into(),
        mtu: Some(1500),
        backend: NicBackend::Tap { name: name.into(), netns: Some(netns.to_owned()) },
        limits: TrafficLimits { receive: Some(TrafficLimit { rate: 1_000_000, burst: 100_000 }), send: None },
    };
    BootSpec { nics: vec![nic], isolation, ..real_firecracker::spec(dir) }
}

async fn boot(driver: &FirecrackerDriver, dir: &Path, spec: &BootSpec) -> Result<Box<dyn Machine>, VmmError> {
    driver.boot(spec, &RunDir(dir.to_owned())).await
}

/// Of whoever calls it.
async fn a_tap_is_opened(driver: &FirecrackerDriver, keeper: &Keeper) {
    for isolation in [IsolationWanted::BestEffort, IsolationWanted::None] {
        let dir = TempDir::new().unwrap();
        assert!(!keeper.has_carrier());
        let spec_of = |name| spec(dir.path(), name, &keeper.netns(), isolation);
        let mut machine =
            boot(driver, dir.path(), &spec_of("vm_eth0")).await.unwrap_or_else(|error| panic!("{error:?}"));
        assert!(keeper.has_carrier(), "nobody has the tap open: {isolation:?}");
        let told = machine.isolation();
        if isolation == IsolationWanted::BestEffort {
            assert_eq!(told["network-namespace"], "applied", "{told:?}");
            assert!(told.get("user-namespace").is_none_or(|said| said == "applied"), "{told:?}");
            let pid = machine.pid().unwrap();
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            for none in ["CapPrm:", "CapEff:", "CapBnd:"] {
                let line = status.lines().find(|line| line.starts_with(none)).unwrap();
                assert!(line.ends_with("\t0000000000000000"), "{line}");
            }
            let own = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/user")).unwrap();
            if !rustix::process::geteuid().is_root() {
                let (vmm, keeper) = (own(&pid.to_string()), own(&keeper.0.id().to_string()));
                assert!(vmm != own("self") && vmm != keeper, "a user namespace of its own");
            }
        }
        for _ in 0..2 {
            machine.pauser().unwrap().pause().await.unwrap();
            machine.pauser().unwrap().resume().await.unwrap();
        }
        machine.kill().await.unwrap();
        assert!(!keeper.has_carrier(), "it is still open");
        if isolation == IsolationWanted::None {
            continue;
        }
        match boot(driver, dir.path(), &spec_of("vm_eth1")).await.err() {
            Some(VmmError::BootFailed { detail, .. }) => assert!(!detail.is_empty()),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
#[allow(clippy::print_stderr, reason = "a skipped test says why")]
async fn of_root_in_a_network_of_its_own_and_in_one_of_a_user_namespace() {
    let Some(driver) = driver() else { return };
    if !rustix::process::geteuid().is_root() {
        return eprintln!("SKIPPED: only root can make network namespaces without a user namespace");
    }
    for options in [&["-n"][..], &["-U", "-r", "-n"]] {
        a_tap_is_opened(&driver, &Keeper::start(options)).await;
    }
}

#[tokio::test]
#[allow(clippy::print_stderr, reason = "a skipped test says why")]
async fn of_an_ordinary_user_in_the_user_namespace_that_owns_the_network() {
    let Some(driver) = driver() else { return };
    if !rustix::process::geteuid().is_root() {
        let keeper = Keeper::start(&["-U", "-r", "-n"]);
        a_tap_is_opened(&driver, &keeper).await;
        // A network that is nobody's but root's cannot be entered, and nothing is opened elsewhere in its place.
        let dir = TempDir::new().unwrap();
        let spec = spec(dir.path(), "vm_eth0", Path::new("/proc/self/ns/net"), IsolationWanted::BestEffort);
        let refused = boot(&driver, dir.path(), &spec).await.err();
        return assert!(matches!(refused, Some(VmmError::Jail { .. })), "{refused:?}");
    }
    // The same test as another user, from copies that user can reach.
    let dir = TempDir::new().unwrap();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let reachable = |from: &Path, name: &str| {
        let copy = dir.path().join(name);
        // By another process: a child that a neighbouring test forks would hold our copy open for writing.
        assert!(Command::new("cp").args([from, copy.as_path()]).status().unwrap().success());
        copy
    };
    let test = reachable(&std::env::current_exe().unwrap(), "test");
    let program = reachable(&driver.program().unwrap(), "firecracker");
    reachable(&tiny_guest().unwrap().1, "guest64");
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", BECOME_USER, "sh"])
        .arg(dir.path())
        .arg(USER)
        .arg(test)
        .args(["--exact", "of_an_ordinary_user_in_the_user_namespace_that_owns_the_network", "--nocapture"])
        .env(FIRECRACKER, program)
        .env(BUILT, dir.path())
        .env("TMPDIR", "/tmp")
        .current_dir("/")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    eprintln!("{said}");
    assert!(output.status.success() && !said.contains("SKIPPED"), "{said}");
}
