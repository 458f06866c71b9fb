//! git's own http backend behind TLS, with a password (git-http-backend(1), RFC 3875).

use super::Origin;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

const BACKEND: &str = "/usr/lib/git-core/git-http-backend";
/// `me:secret`.
const AUTHORIZATION: &str = "Basic bWU6c2VjcmV0";

/// A server on loopback that ends with the test.
pub struct Https {
    /// Where it listens.
    pub port: u16,
    ca: PathBuf,
    is_over: Arc<AtomicBool>,
}

impl Https {
    /// Serves the origin to who knows the password `secret` of the user `me`.
    pub fn start(origin: &Origin) -> Https {
        let key = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).expect("make a certificate");
        let ca = origin.scratch("ca.pem");
        fs::write(&ca, key.cert.pem()).expect("write it");
        origin.server_git(&["config", "http.receivepack", "true"]);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let configuration = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("serve by TLS")
            .with_no_client_auth()
            .with_single_cert(
                vec![key.cert.der().clone()],
                key.signing_key.serialize_der().try_into().expect("serve by TLS"),
            )
            .expect("serve by TLS");
        let listener = TcpListener::bind("127.0.0.1:0").expect("serve by TLS");
        let port = listener.local_addr().expect("serve by TLS").port();
        let is_over = Arc::new(AtomicBool::new(false));
        let (over, root, configuration) = (is_over.clone(), origin.path(), Arc::new(configuration));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                let (root, configuration) = (root.clone(), configuration.clone());
                std::thread::spawn(move || {
                    let connection = ServerConnection::new(configuration).expect("serve by TLS");
                    let _ = serve(StreamOwned::new(connection, stream), &root);
                });
            }
        });
        Https { port, ca, is_over }
    }

    /// The address of the origin.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}/origin.git", self.port)
    }

    /// Its certificate.
    pub fn ca(&self) -> PathBuf {
        self.ca.clone()
    }
}

impl Drop for Https {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// One request; the connection is closed after it.
fn serve(stream: impl Read + Write, root: &Path) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let mut words = line.split_ascii_whitespace().map(str::to_owned);
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let header = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str()).unwrap_or_default();
    let mut body = vec![0; header("content-length").parse().unwrap_or(0)];
    stream.read_exact(&mut body)?;
    if header("authorization") != AUTHORIZATION {
        return stream.get_mut().write_all(
            b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"git\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        );
    }
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let mut backend = Command::new(BACKEND)
        .env("GIT_PROJECT_ROOT", root.parent().expect("serve by TLS"))
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REMOTE_USER", "me")
        .env("REQUEST_METHOD", &method)
        .env("PATH_INFO", path)
        .env("QUERY_STRING", query)
        .env("CONTENT_TYPE", header("content-type"))
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("GIT_PROTOCOL", header("git-protocol"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut stdin = backend.stdin.take().expect("serve by TLS");
    let writer = std::thread::spawn(move || stdin.write_all(&body));
    let output = backend.wait_with_output()?;
    let _ = writer.join();
    let end = output.stdout.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or(0);
    let (head, content) = (String::from_utf8_lossy(&output.stdout[..end]).into_owned(), &output.stdout[end + 4..]);
    let status = head.lines().find_map(|line| line.strip_prefix("Status: ")).unwrap_or("200 OK");
    write!(
        stream.get_mut(),
        "HTTP/1.1 {status}\r\n{head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        content.len()
    )?;
    stream.get_mut().write_all(content)?;
    stream.get_mut().flush()
}
