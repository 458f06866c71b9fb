//! The program `ignited operator run`, as its Deployment starts it.

use crate::cluster::{Cluster, SOON};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Flags of an operator that is alone.
pub const ALONE: &[&str] = &["--leader-elect=false"];

/// A running operator; dropped, it is killed.
pub struct Operator {
    child: Child,
    log: PathBuf,
    address: Option<SocketAddr>,
    _directory: tempfile::TempDir,
}

impl Operator {
    /// Starts one that looks after `namespace`, and waits until it is ready.
    pub async fn start(cluster: &Cluster, namespace: &str, flags: &[&str]) -> Operator {
        let mut operator = Operator::spawn(cluster, namespace, flags);
        let started = Instant::now();
        loop {
            if operator.get("/readyz").await.is_some_and(|(code, _)| code == 200) {
                return operator;
            }
            let has_ended = operator.child.try_wait().expect("a child");
            assert!(has_ended.is_none() && started.elapsed() < SOON, "it is not ready: {}", operator.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Starts one.
    pub fn spawn(cluster: &Cluster, namespace: &str, flags: &[&str]) -> Operator {
        let directory = tempfile::Builder::new().prefix("ignite-operator-").tempdir().expect("a directory");
        let log = directory.path().join("log");
        // It ends when the tests do, however they do.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", env!("CARGO_BIN_EXE_ignited"), "--log-level=info"]);
        command.arg("--data-dir").arg(directory.path().join("data"));
        command.args(["operator", "run", "--node-image=registry.example/node:1", "--listen=127.0.0.1:0"]);
        command.args(["--namespace", namespace, "--lease-namespace", namespace]).args(flags);
        command.env("KUBECONFIG", cluster.operator()).env_remove("POD_NAME").env_remove("POD_NAMESPACE");
        let file = File::create(&log).expect("a log");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        let child = command.spawn().expect("setpriv");
        Operator { child, log, address: None, _directory: directory }
    }

    /// What it answers over HTTP: status and text; nothing while it does not listen.
    pub async fn get(&mut self, path: &str) -> Option<(u16, String)> {
        if self.address.is_none() {
            let log = self.log();
            self.address = log.split_once("listening on ")?.1.split_whitespace().next()?.parse().ok();
        }
        let mut stream = TcpStream::connect(self.address?).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: operator\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        let code = answer.split(' ').nth(1)?.parse().ok()?;
        Some((code, answer.split_once("\r\n\r\n")?.1.to_owned()))
    }

    /// What it has written.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a pid");
        kill_process(pid, signal).expect("it is there");
    }

    /// Kills it, as a node that fails does.
    pub fn kill(mut self) {
        self.child.kill().expect("it is there");
        let status = self.child.wait().expect("a child");
        assert_eq!(status.signal(), Some(9), "{}", self.log());
    }

    /// Waits for its end.
    pub async fn ended(&mut self, deadline: Duration) -> ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status;
            }
            assert!(started.elapsed() < deadline, "it does not end: {}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Operator {
    #[allow(clippy::print_stderr, reason = "what a test that fails says")]
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        if std::thread::panicking() {
            eprintln!("-- log of the operator:\n{}", self.log());
        }
    }
}
