//! OpenSSH's server for one test.

use super::{Origin, free_port, run, ssh_key};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A server on loopback that lets one key in.
pub struct Sshd {
    child: Child,
    directory: PathBuf,
    /// Where it listens.
    pub port: u16,
}

impl Sshd {
    /// Starts it; `None`, with the reason in the output, where there is no sshd.
    pub fn start(origin: &Origin) -> Option<Sshd> {
        let program = "/usr/sbin/sshd";
        if !std::path::Path::new(program).exists() {
            println!("skipped: {program} is missing (package openssh-server)");
            return None;
        }
        let directory = origin.scratch("sshd");
        fs::create_dir_all(&directory).unwrap();
        // Compiled into sshd: the directory that its unprivileged part is locked into.
        fs::create_dir_all("/run/sshd").unwrap();
        ssh_key(&directory.join("host"));
        ssh_key(&directory.join("user"));
        fs::copy(directory.join("user.pub"), directory.join("authorized")).unwrap();
        fs::set_permissions(directory.join("authorized"), fs::Permissions::from_mode(0o600)).unwrap();
        let port = free_port();
        let configuration = format!(
            "ListenAddress 127.0.0.1\nPort {port}\nHostKey {0}/host\nAuthorizedKeysFile {0}/authorized\nUsePAM no\n\
             StrictModes no\nPidFile none\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\n",
            directory.display()
        );
        fs::write(directory.join("config"), configuration).unwrap();
        let log = fs::File::create(directory.join("log")).unwrap();
        let child = Command::new(program)
            .args(["-D", "-e", "-f"])
            .arg(directory.join("config"))
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let sshd = Sshd { child, directory, port };
        sshd.wait_until_up();
        Some(sshd)
    }

    fn wait_until_up(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let log = fs::read_to_string(self.directory.join("log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "sshd does not come up: {log}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The address of a path on it.
    pub fn url(&self, path: &std::path::Path) -> String {
        let user = String::from_utf8(run(Command::new("id").arg("-un")).stdout).unwrap();
        format!("ssh://{}@127.0.0.1:{}{}", user.trim(), self.port, path.display())
    }

    /// The key that it lets in.
    pub fn identity(&self) -> PathBuf {
        self.directory.join("user")
    }

    /// A `known_hosts` with its key.
    pub fn known_hosts(&self) -> PathBuf {
        let public = fs::read_to_string(self.directory.join("host.pub")).unwrap();
        let path = self.directory.join("known hosts");
        fs::write(&path, format!("[127.0.0.1]:{} {public}", self.port)).unwrap();
        path
    }

    /// A `known_hosts` with another key in its place.
    pub fn wrong_known_hosts(&self) -> PathBuf {
        let public = fs::read_to_string(self.directory.join("user.pub")).unwrap();
        let path = self.directory.join("wrong_known_hosts");
        fs::write(&path, format!("[127.0.0.1]:{} {public}", self.port)).unwrap();
        path
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
