//! A private containerd and a private dockerd: own directories and sockets, no network, killed on drop.

use std::fs;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A daemon and the directory in which it has everything; its process group ends on drop.
pub struct Daemon {
    child: Child,
    pub socket: PathBuf,
    pub dir: TempDir,
}

impl Daemon {
    fn start(dir: TempDir, socket: PathBuf, mut command: Command) -> Daemon {
        let log = fs::File::create(dir.path().join("log")).unwrap();
        let child =
            command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).process_group(0).spawn().unwrap();
        let daemon = Daemon { child, socket, dir };
        let deadline = Instant::now() + Duration::from_secs(60);
        while UnixStream::connect(&daemon.socket).is_err() {
            assert!(Instant::now() < deadline, "it does not listen:\n{}", daemon.log());
            std::thread::sleep(Duration::from_millis(50));
        }
        daemon
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let group = rustix::process::Pid::from_raw(self.child.id() as i32);
        let signal = |signal| {
            if let Some(group) = group {
                let _ = rustix::process::kill_process_group(group, signal);
            }
        };
        // A daemon that ends by itself unmounts what it has mounted.
        signal(rustix::process::Signal::TERM);
        let deadline = Instant::now() + Duration::from_secs(15);
        while Instant::now() < deadline && self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            std::thread::sleep(Duration::from_millis(20));
        }
        signal(rustix::process::Signal::KILL);
        let _ = self.child.wait();
    }
}

/// containerd without what needs the host.
pub fn start_containerd() -> Daemon {
    let dir = tempfile::tempdir().unwrap();
    let (root, state) = (dir.path().join("root"), dir.path().join("state"));
    let socket = dir.path().join("containerd.sock");
    let config = format!(
        "version = 2\nroot = {root:?}\nstate = {state:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
         [grpc]\n  address = {socket:?}\n"
    );
    fs::write(dir.path().join("config.toml"), config).unwrap();
    let mut command = Command::new("containerd");
    command.arg("--config").arg(dir.path().join("config.toml"));
    Daemon::start(dir, socket, command)
}

/// dockerd in namespaces of its own; `beside` runs there, too, in the background.
pub fn start_dockerd(beside: &str) -> Daemon {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("docker.sock");
    let at = |name: &str| dir.path().join(name).display().to_string();
    let script = format!(
        "mount -t tmpfs none /etc/docker && ip link set lo up && {{ {beside} & }} && exec dockerd --host unix://{} \
         --data-root {} --exec-root {} --pidfile {} --iptables=false --ip6tables=false --ip-forward=false --ip-masq=false \
         --bridge=none --storage-driver=vfs",
        socket.display(),
        at("data"),
        at("exec"),
        at("pid"),
    );
    fs::create_dir_all("/etc/docker").unwrap();
    let mut command = Command::new("unshare");
    command.args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", &script]);
    Daemon::start(dir, socket, command)
}

/// `ctr` in a namespace of that containerd.
pub fn ctr(containerd: &Daemon, namespace: &str, args: &[&str]) -> Output {
    let output = Command::new("ctr")
        .arg("--address")
        .arg(&containerd.socket)
        .args(["--namespace", namespace])
        .args(args)
        .output()
        .unwrap();
    assert!(output.status.success(), "ctr {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// `docker` with that engine.
pub fn docker(dockerd: &Daemon, args: &[&str]) -> Output {
    let output = Command::new("docker")
        .arg("--host")
        .arg(format!("unix://{}", dockerd.socket.display()))
        .args(args)
        .env("HOME", dockerd.dir.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "docker {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// How many names the file has.
pub fn links(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path).unwrap().nlink()
}
