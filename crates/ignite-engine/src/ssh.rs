//! `ssh`: what a client needs to reach a VM's sshd, and connections to TCP ports of a VM's loopback.

use crate::engine::{Engine, title};
use crate::error::EngineError;
use crate::session::{Session, SessionEvent};
use crate::ssh_keys::{self, KNOWN_HOSTS};
use ignite_agent_protocol::message::Open;
use ignite_api::vm::Ssh;
use ignite_api::{Uid, Vm};
use ignite_store::atomic;
use ignite_supervisor::control::ControlRequest;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::Instant;

/// Where sshd listens.
const SSH_PORT: u16 = 22;
/// Time between two looks for a server that is not there yet: nothing tells when a guest's program begins to listen.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// Host keys that a guest may have, by their names in `/etc/ssh`.
const HOST_KEYS: [&str; 3] = ["ssh_host_ed25519_key.pub", "ssh_host_ecdsa_key.pub", "ssh_host_rsa_key.pub"];
/// Longest public host key, in bytes, with the tar archive around it.
const MAX_HOST_KEY: usize = 16 << 10;

/// What an ssh client is told of a VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshAccess {
    /// Name under which the VM stands in `known_hosts`.
    pub host: String,
    /// File of the VM's host keys.
    pub known_hosts: PathBuf,
    /// Private key that opens the VM, where we have it.
    pub identity: Option<PathBuf>,
}

impl Engine {
    /// Connects to a TCP port on the guest's loopback: standard input and output of the session are its directions.
    pub async fn connect(&self, uid: &Uid, port: u16) -> Result<Session, EngineError> {
        let vm = self.executing("connect to", uid).await?;
        self.open_session(&vm, uid, &ControlRequest::Open { open: Open::Connect { port } }).await
    }

    /// Waits until something listens on the VM's ssh port, and says how to get in.
    ///
    /// The host key is the one the VM was given at boot. A VM made without `spec.ssh` is asked for its own over the agent
    /// channel, which nobody else can answer; what it says the first time is kept.
    pub async fn ssh_access(&self, uid: &Uid, timeout: Duration) -> Result<SshAccess, EngineError> {
        let vm = self.executing("connect to", uid).await?;
        self.wait_for_port(&vm, uid, SSH_PORT, timeout).await?;
        let dir = self.paths.vm(uid);
        let known_hosts = dir.join(KNOWN_HOSTS);
        if !known_hosts.exists() {
            let lines = self.guest_host_keys(&vm, uid).await?;
            atomic::write(&known_hosts, lines.as_bytes())?;
        }
        Ok(SshAccess { host: uid.to_string(), known_hosts, identity: identity_of(&vm, uid, &dir) })
    }

    async fn wait_for_port(&self, vm: &Vm, uid: &Uid, port: u16, timeout: Duration) -> Result<(), EngineError> {
        let deadline = Instant::now() + timeout;
        let request = ControlRequest::Open { open: Open::Connect { port } };
        loop {
            match self.open_session(vm, uid, &request).await {
                Ok(_) => return Ok(()),
                Err(EngineError::Guest { message, .. }) => {
                    if Instant::now() + LOOK_AGAIN >= deadline {
                        let name = title(vm);
                        return Err(EngineError::NotListening { name, port, seconds: timeout.as_secs(), message });
                    }
                }
                Err(error) => return Err(error),
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Lines of `known_hosts` with the keys that the guest's sshd has.
    async fn guest_host_keys(&self, vm: &Vm, uid: &Uid) -> Result<String, EngineError> {
        let mut lines = String::new();
        for name in HOST_KEYS {
            let path = format!("/etc/ssh/{name}");
            match self.read_guest_file(vm, uid, &path).await {
                Ok(text) => lines.extend(known_host(uid, &text)),
                Err(EngineError::Guest { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        if lines.is_empty() {
            return Err(EngineError::NoHostKey { name: title(vm) });
        }
        Ok(lines)
    }

    /// A small file of the guest, whatever it says.
    async fn read_guest_file(&self, vm: &Vm, uid: &Uid, path: &str) -> Result<String, EngineError> {
        let open = Open::CopyOut { path: path.to_owned(), follow: true };
        let session = self.open_session(vm, uid, &ControlRequest::Open { open }).await?;
        let (_input, mut output) = session.split();
        let mut archive = Vec::new();
        loop {
            match output.next().await? {
                SessionEvent::Stdout(chunk) if archive.len() + chunk.len() <= MAX_HOST_KEY => archive.extend(chunk),
                // Longer than any key is: it is not read to its end.
                SessionEvent::Stdout(_) => return Ok(String::new()),
                SessionEvent::Stderr(_) => {}
                SessionEvent::Exit(_) => return Ok(first_member(&archive).unwrap_or_default()),
            }
        }
    }
}

/// The private key that goes with the VM's public one.
fn identity_of(vm: &Vm, uid: &Uid, dir: &Path) -> Option<PathBuf> {
    let path = match vm.spec.ssh.as_ref()? {
        Ssh::Generate(false) => return None,
        Ssh::Generate(true) => ssh_keys::identity(uid, dir),
        Ssh::PublicKey(path) => PathBuf::from(path.strip_suffix(".pub")?),
    };
    path.exists().then_some(path)
}

/// A line of `known_hosts` from what a guest says is its key; `None` for what is no key.
fn known_host(uid: &Uid, text: &str) -> Option<String> {
    let mut words = text.lines().next()?.split_ascii_whitespace();
    let (kind, key) = (words.next()?, words.next()?);
    let is_kind = kind.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-@.".contains(&byte));
    let is_key = key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte));
    (is_kind && is_key && !kind.starts_with('@')).then(|| format!("{uid} {kind} {key}\n"))
}

fn first_member(archive: &[u8]) -> Option<String> {
    let mut archive = tar::Archive::new(archive);
    let mut entry = archive.entries().ok()?.next()?.ok()?;
    let mut text = String::new();
    entry.read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_looks_like_a_key_becomes_a_known_host() {
        let uid = Uid::from_bytes([1; 8]);
        for (text, expected) in [
            ("ssh-ed25519 AAAA+/= root@vm\n", Some("0101010101010101 ssh-ed25519 AAAA+/=\n")),
            ("ssh-rsa AAAA\nssh-rsa BBBB\n", Some("0101010101010101 ssh-rsa AAAA\n")),
            ("", None),
            ("ssh-rsa", None),
            ("@cert-authority AAAA", None),
            ("ssh-rsa AA,AA", None),
            ("ssh-rsa\u{1b}[2J AAAA", None),
        ] {
            assert_eq!(known_host(&uid, text).as_deref(), expected, "{text:?}");
        }
    }
}
