//! A real registry (`docker-registry`) on a loopback port, with its blobs in the test's directory.

use crate::invocation::Invocation;
use crate::wait::{QUICK, until};
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A running registry; it ends when it is dropped.
#[derive(Debug)]
pub struct Registry {
    child: Child,
    port: u16,
    dir: PathBuf,
    credentials: Option<(String, String)>,
    forgotten: std::cell::Cell<usize>,
}

impl Registry {
    /// Starts a registry that lets everybody in, or only `credentials` (user and password).
    ///
    /// # Errors
    /// Why it cannot be had here.
    pub fn start(dir: &Path, credentials: Option<(&str, &str)>) -> Result<Registry, String> {
        let mut auth = String::new();
        fs::create_dir_all(dir).expect("make a directory");
        if let Some((user, password)) = credentials {
            let htpasswd = Invocation::new("htpasswd").args(["-Bbn", user, password]).within(QUICK).finish();
            fs::write(dir.join("htpasswd"), &htpasswd.succeeds().stdout).expect("write htpasswd");
            auth = format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", dir.join("htpasswd").display());
        }
        let mut registry = Registry::start_over(dir, "", &auth)?;
        registry.credentials = credentials.map(|(user, password)| (user.to_string(), password.to_string()));
        Ok(registry)
    }

    /// Starts one over the content that another has below `dir`; `http` is more of that section of its configuration,
    /// `auth` a section.
    ///
    /// # Errors
    /// Why it cannot be had here.
    pub fn start_over(dir: &Path, http: &str, auth: &str) -> Result<Registry, String> {
        fs::create_dir_all(dir.join("blobs")).expect("make a directory");
        let port = free_port();
        let config = format!(
            "version: 0.1\nlog: {{level: warn}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp:\n  addr: '127.0.0.1:{port}'\n  {http}\n{auth}",
            dir.join("blobs").display()
        );
        let named = |end: &str| dir.join(format!("{port}.{end}"));
        fs::write(named("yml"), config).expect("write a configuration");
        let log = fs::File::create(named("log")).expect("create a log");
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(named("yml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("clone a descriptor"))
            .stderr(log)
            .spawn()
            .map_err(|error| format!("docker-registry cannot be started: {error}"))?;
        let forgotten = std::cell::Cell::new(0);
        let registry = Registry { child, port, dir: dir.to_path_buf(), credentials: None, forgotten };
        until("the registry to listen", QUICK, || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok());
        Ok(registry)
    }

    /// Uploads a blob to a repository (distribution-spec 1.1, "POST then PUT") and gives its URL.
    pub fn push_blob(&self, repository: &str, bytes: &[u8]) -> String {
        let sum = Invocation::new("sha256sum").stdin(bytes).within(QUICK).finish().succeeds().text();
        let digest = format!("sha256:{}", sum.split_whitespace().next().expect("a sum"));
        let begun = self.request("POST", &format!("/v2/{repository}/blobs/uploads/"), b"");
        let location = begun
            .lines()
            .find_map(|line| line.split_once(": ").filter(|(name, _)| name.eq_ignore_ascii_case("location")))
            .unwrap_or_else(|| panic!("where to upload to: {begun}"));
        let path = location.1.split_once("/v2/").expect("a path").1;
        let end = if path.contains('?') { '&' } else { '?' };
        let done = self.request("PUT", &format!("/v2/{path}{end}digest={digest}"), bytes);
        assert!(done.starts_with("HTTP/1.1 201"), "{done}");
        format!("http://127.0.0.1:{}/v2/{repository}/blobs/{digest}", self.port)
    }

    fn request(&self, method: &str, path: &str, body: &[u8]) -> String {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).expect("connect to the registry");
        let auth = self.credentials.as_ref().map(|(user, password)| {
            let encoded = crate::token_server::base64(format!("{user}:{password}").as_bytes(), false);
            format!("Authorization: Basic {encoded}\r\n")
        });
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: registry\r\nConnection: close\r\nContent-Length: {}\r\n{}\r\n",
            body.len(),
            auth.unwrap_or_default()
        );
        stream.write_all(&[head.as_bytes(), body].concat()).expect("ask the registry");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("hear the registry");
        answer
    }

    /// The requests it has answered, e.g. `GET /v2/test/busybox/manifests/v1`, from its own log.
    pub fn requests(&self) -> Vec<String> {
        self.all_requests().split_off(self.forgotten.get())
    }

    /// Counts from here on.
    pub fn forget_requests(&self) {
        self.forgotten.set(self.all_requests().len());
    }

    /// Digests of the blobs that were fetched from it, one for each request.
    pub fn blobs_asked_for(&self) -> Vec<String> {
        let fetched = self.requests().into_iter().filter(|request| request.starts_with("GET "));
        fetched.filter_map(|request| request.split_once("/blobs/").map(|(_, digest)| digest.to_string())).collect()
    }

    fn all_requests(&self) -> Vec<String> {
        let log = fs::read_to_string(self.dir.join(format!("{}.log", self.port))).expect("read a log");
        let quoted = log.lines().filter_map(|line| line.split('"').nth(1));
        let requests = quoted
            .filter_map(|request| request.strip_suffix(" HTTP/1.1").or_else(|| request.strip_suffix(" HTTP/2.0")));
        requests.map(str::to_string).collect()
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The reference of a repository or of an image in it: `127.0.0.1:PORT/NAME`.
    pub fn reference(&self, name: &str) -> String {
        format!("127.0.0.1:{}/{name}", self.port)
    }

    /// Pushes an OCI layout (as `images::busybox` names it) as `name`, e.g. `test/busybox:v1`.
    #[track_caller]
    pub fn push(&self, source: &str, name: &str) {
        let mut skopeo = Invocation::new("skopeo").args(["copy", "--quiet", "--dest-tls-verify=false"]);
        if let Some((user, password)) = &self.credentials {
            skopeo = skopeo.args(["--dest-creds", &format!("{user}:{password}")]);
        }
        let destination = format!("docker://{}", self.reference(name));
        skopeo.args([&format!("{source}:latest"), &destination]).within(QUICK).finish().succeeds();
    }

    /// Flips a byte of every blob larger than `bytes`: the registry now lies about their content.
    pub fn corrupt_blobs_larger_than(&self, bytes: u64) {
        for data in self.blobs() {
            if fs::metadata(&data).is_ok_and(|meta| meta.len() > bytes) {
                let mut content = fs::read(&data).expect("read a blob");
                let middle = content.len() / 2;
                content[middle] ^= 0xff;
                fs::write(&data, content).expect("write a blob");
            }
        }
    }

    /// Size of its largest blob, in bytes.
    pub fn largest_blob(&self) -> u64 {
        self.blobs().iter().filter_map(|data| fs::metadata(data).ok()).map(|meta| meta.len()).max().unwrap_or_default()
    }

    fn blobs(&self) -> Vec<PathBuf> {
        let shards = self.dir.join("blobs/docker/registry/v2/blobs/sha256");
        let subdirectories = |dir: &Path| -> Vec<PathBuf> {
            fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
        };
        subdirectories(&shards).iter().flat_map(|shard| subdirectories(shard)).map(|blob| blob.join("data")).collect()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A TCP port of the loopback interface that nobody listened on a moment ago.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind a loopback port");
    listener.local_addr().expect("address of a socket").port()
}
