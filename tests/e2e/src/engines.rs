//! A private containerd and a private dockerd, each with its own directories and socket; killed on drop.

use crate::invocation::Invocation;
use crate::outcome::Outcome;
use crate::throwaway::Throwaway;
use crate::wait::{BOOT, QUICK, until};
use rustix::process::{Pid, Signal};
use std::fs;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A daemon that listens on a socket; its process group ends on drop.
#[derive(Debug)]
pub struct Engine {
    child: Child,
    socket: PathBuf,
}

impl Engine {
    /// containerd without what needs the host, below `dir`.
    ///
    /// # Errors
    /// Why it cannot be had here.
    pub fn containerd(dir: &Path) -> Result<Engine, String> {
        fs::create_dir_all(dir).expect("make a directory");
        let socket = dir.join("containerd.sock");
        let config = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\n  address = {socket:?}\n",
            dir.join("root"),
            dir.join("state")
        );
        fs::write(dir.join("config.toml"), config).expect("write config.toml");
        let mut command = Command::new("containerd");
        command.arg("--config").arg(dir.join("config.toml"));
        Engine::start(dir, socket, command)
    }

    /// dockerd in mount, network and pid namespaces of its own, below `dir`.
    ///
    /// # Errors
    /// Why it cannot be had here.
    pub fn dockerd(dir: &Path) -> Result<Engine, String> {
        fs::create_dir_all(dir).expect("make a directory");
        fs::create_dir_all("/etc/docker").map_err(|error| format!("/etc/docker cannot be made: {error}"))?;
        let (socket, shown) = (dir.join("docker.sock"), dir.display());
        let script = format!(
            "mount -t tmpfs none /etc/docker && ip link set lo up && exec dockerd --host unix://{} --data-root {shown}/data \
             --exec-root {shown}/exec --pidfile {shown}/pid --iptables=false --ip6tables=false --ip-forward=false \
             --ip-masq=false --bridge=none --storage-driver=vfs",
            socket.display()
        );
        let mut command = Command::new("unshare");
        command.args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", &script]);
        Engine::start(dir, socket, command)
    }

    /// dockerd with its bridge and its firewall rules on a throw-away host, below `dir`.
    ///
    /// # Errors
    /// Why it cannot be had here.
    pub fn dockerd_on(throwaway: &Throwaway, dir: &Path) -> Result<Engine, String> {
        fs::create_dir_all(dir).expect("make a directory");
        fs::create_dir_all("/etc/docker").map_err(|error| format!("/etc/docker cannot be made: {error}"))?;
        let (socket, shown) = (dir.join("docker.sock"), dir.display());
        let script = format!(
            "mount -t tmpfs none /etc/docker && exec dockerd --host unix://{} --data-root {shown}/data --exec-root {shown}/exec \
             --pidfile {shown}/pid --storage-driver=vfs",
            socket.display()
        );
        let entry = throwaway.entry();
        let mut command = Command::new(&entry[0]);
        command.args(&entry[1..]).args(["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
        command.args(["sh", "-c", &script]);
        Engine::start(dir, socket, command)
    }

    fn start(dir: &Path, socket: PathBuf, mut command: Command) -> Result<Engine, String> {
        let log = fs::File::create(dir.join("log")).expect("create a log");
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("clone a descriptor")).stderr(log).process_group(0);
        let child = command.spawn().map_err(|error| format!("{command:?} cannot be started: {error}"))?;
        let engine = Engine { child, socket };
        until("the engine to listen", BOOT, || UnixStream::connect(&engine.socket).ok());
        Ok(engine)
    }

    /// Its socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// `ctr` in the namespace `ignite`.
    #[track_caller]
    pub fn ctr(&self, args: &[&str]) {
        let ctr =
            Invocation::new("ctr").args(["--address", &self.socket.display().to_string(), "--namespace", "ignite"]);
        ctr.args(args).within(QUICK).finish().succeeds();
    }

    /// `docker` with this engine.
    #[track_caller]
    pub fn docker(&self, args: &[&str]) -> Outcome {
        let docker = Invocation::new("docker").args(["--host", &format!("unix://{}", self.socket.display())]);
        let outcome = docker.args(args).within(QUICK).finish();
        outcome.succeeds();
        outcome
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let group = Pid::from_raw(self.child.id() as i32);
        let signal = |signal| group.map(|group| rustix::process::kill_process_group(group, signal));
        let _ = signal(Signal::TERM);
        let started = std::time::Instant::now();
        while started.elapsed() < QUICK && self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let _ = signal(Signal::KILL);
        let _ = self.child.wait();
    }
}
