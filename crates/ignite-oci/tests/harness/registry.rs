//! A real `docker-registry` on a free loopback port, and pushing to it with `skopeo`.

use super::images::{Blob, TestImage, layout_members, write_layout};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;
use tempfile::TempDir;

/// A registry process; killed on drop.
pub struct TestRegistry {
    child: Child,
    pub address: String,
    dir: TempDir,
}

/// What to configure besides the storage.
#[derive(Default)]
pub struct Setup {
    /// User and password of an htpasswd file.
    pub user: Option<(&'static str, &'static str)>,
    /// Certificate and key files.
    pub tls: Option<(std::path::PathBuf, std::path::PathBuf)>,
    /// Certificates of this authority are asked for, and the directory that holds one (containers-certs.d(5)).
    pub clients: Option<(std::path::PathBuf, std::path::PathBuf)>,
}

impl TestRegistry {
    pub fn start(setup: &Setup) -> TestRegistry {
        let dir = tempfile::tempdir().unwrap();
        let mut config = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\nhttp:\n  addr: 127.0.0.1:0\n",
            dir.path().join("data").display()
        );
        if let Some((certificate, key)) = &setup.tls {
            let clients = self::clients(setup);
            config.push_str(&format!(
                "  tls: {{certificate: {}, key: {}{clients}}}\n",
                certificate.display(),
                key.display()
            ));
        }
        if let Some((user, password)) = setup.user {
            let file = dir.path().join("htpasswd");
            let output = Command::new("htpasswd").args(["-Bbn", user, password]).output().unwrap();
            assert!(output.status.success());
            fs::write(&file, output.stdout).unwrap();
            config.push_str(&format!("auth:\n  htpasswd: {{realm: test, path: {}}}\n", file.display()));
        }
        let path = dir.path().join("config.yml");
        fs::write(&path, config).unwrap();
        let mut child = Command::new("docker-registry")
            .arg("serve")
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // It says on which port it listens; the rest is read so that it never blocks on a full pipe.
        let (sender, receiver) = mpsc::channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if let Some((_, rest)) = line.split_once("listening on ") {
                    let address: String =
                        rest.chars().take_while(|c| c.is_ascii_digit() || ".:".contains(*c)).collect();
                    let _ = sender.send(address);
                }
            }
        });
        let address = receiver.recv_timeout(Duration::from_secs(30)).expect("docker-registry listens");
        TestRegistry { child, address, dir }
    }

    /// Its configuration, with the port it got.
    pub fn config(&self) -> std::path::PathBuf {
        let config = fs::read_to_string(self.dir.path().join("config.yml")).unwrap();
        let path = self.dir.path().join("again.yml");
        fs::write(&path, config.replace("127.0.0.1:0", &self.address)).unwrap();
        path
    }

    /// Ends the process; its content stays until the drop.
    pub fn end_process(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Pushes `image` as `name` (`test/busybox:v1`).
    pub fn push(&self, image: &TestImage, name: &str, setup: &Setup) {
        self.push_layout(vec![image.entry(Some("pushed"))], &image.blobs(), name, setup);
    }

    /// Pushes an index and the images it names.
    pub fn push_index(&self, index: &Blob, images: &[&TestImage], name: &str, setup: &Setup) {
        let mut entry = index.descriptor();
        entry["annotations"] = serde_json::json!({"org.opencontainers.image.ref.name": "pushed"});
        let blobs: Vec<&Blob> = images.iter().flat_map(|image| image.blobs()).chain([index]).collect();
        self.push_layout(vec![entry], &blobs, name, setup);
    }

    fn push_layout(&self, entries: Vec<serde_json::Value>, blobs: &[&Blob], name: &str, setup: &Setup) {
        let dir = tempfile::tempdir().unwrap();
        write_layout(dir.path(), &layout_members(entries, blobs));
        let mut command = Command::new("skopeo");
        command.args([
            "--insecure-policy",
            "copy",
            "--quiet",
            "--all",
            "--preserve-digests",
            "--dest-tls-verify=false",
        ]);
        if let Some((user, password)) = setup.user {
            command.arg(format!("--dest-creds={user}:{password}"));
        }
        if let Some((_, certificates)) = &setup.clients {
            command.arg(format!("--dest-cert-dir={}", certificates.display()));
        }
        command.arg(format!("oci:{}:pushed", dir.path().display()));
        command.arg(format!("docker://{}/{name}", self.address));
        let output = command.env("HOME", dir.path()).output().unwrap();
        assert!(output.status.success(), "skopeo: {}", String::from_utf8_lossy(&output.stderr));
    }
}

fn clients(setup: &Setup) -> String {
    let authority = setup.clients.as_ref().map(|(authority, _)| format!(", clientcas: [{}]", authority.display()));
    authority.unwrap_or_default()
}

impl Drop for TestRegistry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A directory with Docker's `config.json` for one registry.
pub fn docker_config(dir: &Path, registry: &str, user: &str, password: &str) {
    use base64::Engine as _;
    let auth = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    let mut auths = serde_json::Map::new();
    auths.insert(registry.to_owned(), serde_json::json!({ "auth": auth }));
    fs::write(dir.join("config.json"), serde_json::json!({ "auths": auths }).to_string()).unwrap();
}
