//! OpenSSH's server for one test.

use super::{Origin, free_port, run, ssh_key};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A server on loopback that lets one key in.
#[derive(Debug)]
pub struct Sshd {
    child: Child,
    directory: PathBuf,
    /// Where it listens.
    pub port: u16,
}

impl Sshd {
    /// Starts it; an error is the reason why it cannot be.
    pub fn start(origin: &Origin) -> Result<Sshd, String> {
        let program = "/usr/sbin/sshd";
        if !std::path::Path::new(program).exists() {
            return Err(format!("{program} is missing (package openssh-server)"));
        }
        let directory = origin.scratch("sshd");
        fs::create_dir_all(&directory).expect("set up sshd");
        // Compiled into sshd: the directory that its unprivileged part is locked into.
        fs::create_dir_all("/run/sshd").expect("set up sshd");
        ssh_key(&directory.join("host"));
        ssh_key(&directory.join("user"));
        fs::copy(directory.join("user.pub"), directory.join("authorized")).expect("set up sshd");
        fs::set_permissions(directory.join("authorized"), fs::Permissions::from_mode(0o600)).expect("set up sshd");
        let port = free_port();
        let configuration = format!(
            "ListenAddress 127.0.0.1\nPort {port}\nHostKey {0}/host\nAuthorizedKeysFile {0}/authorized\nUsePAM no\n\
             StrictModes no\nPidFile none\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\n",
            directory.display()
        );
        fs::write(directory.join("config"), configuration).expect("set up sshd");
        let log = fs::File::create(directory.join("log")).expect("set up sshd");
        let child = Command::new(program)
            .args(["-D", "-e", "-f"])
            .arg(directory.join("config"))
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("set up sshd");
        let sshd = Sshd { child, directory, port };
        sshd.wait_until_up();
        Ok(sshd)
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
        let user = String::from_utf8(run(Command::new("id").arg("-un")).stdout).expect("set up sshd");
        format!("ssh://{}@127.0.0.1:{}{}", user.trim(), self.port, path.display())
    }

    /// The key that it lets in.
    pub fn identity(&self) -> PathBuf {
        self.directory.join("user")
    }

    /// A `known_hosts` with its key.
    pub fn known_hosts(&self) -> PathBuf {
        let public = fs::read_to_string(self.directory.join("host.pub")).expect("set up sshd");
        let path = self.directory.join("known hosts");
        fs::write(&path, format!("[127.0.0.1]:{} {public}", self.port)).expect("set up sshd");
        path
    }

    /// A `known_hosts` with another key in its place.
    pub fn wrong_known_hosts(&self) -> PathBuf {
        let public = fs::read_to_string(self.directory.join("user.pub")).expect("set up sshd");
        let path = self.directory.join("wrong_known_hosts");
        fs::write(&path, format!("[127.0.0.1]:{} {public}", self.port)).expect("set up sshd");
        path
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
