//! A token server for a registry (Docker registry "Token Authentication Specification"), and the keys that both need.

use crate::invocation::Invocation;
use crate::wait::QUICK;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};

const ISSUER: &str = "token.test";
const SERVICE: &str = "registry.test";

/// The server; its thread ends with the test program.
#[derive(Debug)]
pub struct TokenServer {
    port: u16,
    certificate: PathBuf,
}

impl TokenServer {
    /// Gives tokens to `user` with `password` only.
    pub fn start(dir: &Path, user: &str, password: &str) -> TokenServer {
        fs::create_dir_all(dir).expect("make a directory");
        let (certificate, key) = self_signed(dir, "token", "/CN=token");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind a loopback port");
        let port = listener.local_addr().expect("address of a socket").port();
        let pem = fs::read_to_string(&certificate).expect("read a certificate");
        let chain: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        let wanted = format!("basic {}", base64(format!("{user}:{password}").as_bytes(), false).to_lowercase());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let _ = answer(stream, &wanted, &chain, &key);
            }
        });
        TokenServer { port, certificate }
    }

    /// The `auth` section of a registry that believes it.
    pub fn registry_auth(&self) -> String {
        format!(
            "auth:\n  token: {{realm: 'http://127.0.0.1:{}/token', service: {SERVICE}, issuer: {ISSUER}, rootcertbundle: {}}}\n",
            self.port,
            self.certificate.display()
        )
    }
}

/// An authority's certificate, one for 127.0.0.1 that it has signed, and that one's key.
pub fn certified(dir: &Path) -> (PathBuf, PathBuf, PathBuf) {
    let (authority, authority_key) = self_signed(dir, "authority", "/CN=authority");
    let (certificate, key) = (dir.join("server.pem"), dir.join("server.key"));
    let shown = |path: &Path| path.display().to_string();
    let openssl = Invocation::new("openssl").args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]);
    let openssl = openssl.args(["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]);
    let openssl = openssl.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
    let openssl = openssl.args(["-CA", &shown(&authority), "-CAkey", &shown(&authority_key)]);
    openssl.args(["-out", &shown(&certificate), "-keyout", &shown(&key)]).within(QUICK).finish().succeeds();
    (authority, certificate, key)
}

/// A certificate that is its own authority, and its key.
fn self_signed(dir: &Path, name: &str, subject: &str) -> (PathBuf, PathBuf) {
    let (certificate, key) = (dir.join(format!("{name}.pem")), dir.join(format!("{name}.key")));
    let shown = |path: &Path| path.display().to_string();
    let openssl = Invocation::new("openssl").args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]);
    let openssl = openssl.args(["-subj", subject]);
    openssl.args(["-out", &shown(&certificate), "-keyout", &shown(&key)]).within(QUICK).finish().succeeds();
    (certificate, key)
}

fn answer(mut stream: TcpStream, wanted: &str, chain: &str, key: &Path) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    let mut is_known = false;
    for line in lines.map_while(Result::ok).take_while(|line| !line.is_empty()) {
        let line = line.to_lowercase();
        is_known |= line.strip_prefix("authorization: ").is_some_and(|value| value == wanted);
    }
    let (status, body) = match is_known {
        false => ("401 Unauthorized", r#"{"details":"who are you?"}"#.to_string()),
        true => {
            let scope = request.split(['?', '&', ' ']).find_map(|part| part.strip_prefix("scope=")).unwrap_or_default();
            let scope = scope.replace("%3A", ":").replace("%2F", "/");
            let name = scope.split(':').nth(1).unwrap_or_default();
            ("200 OK", format!(r#"{{"token":"{}"}}"#, token(name, chain, key)))
        }
    };
    write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

fn token(repository: &str, chain: &str, key: &Path) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock").as_secs();
    let header = format!(r#"{{"typ":"JWT","alg":"RS256","x5c":["{chain}"]}}"#);
    let claims = format!(
        r#"{{"iss":"{ISSUER}","sub":"test","aud":"{SERVICE}","exp":{},"nbf":{},"iat":{now},"jti":"{now}","access":[{{"type":"repository","name":"{repository}","actions":["pull"]}}]}}"#,
        now + 300,
        now - 60
    );
    let text = format!("{}.{}", base64(header.as_bytes(), true), base64(claims.as_bytes(), true));
    let openssl = Invocation::new("openssl").args(["dgst", "-sha256", "-sign", &key.display().to_string()]);
    let signature = openssl.stdin(text.clone()).within(QUICK).finish();
    format!("{text}.{}", base64(&signature.succeeds().stdout, true))
}

/// Base64; for URLs without padding.
pub(crate) fn base64(bytes: &[u8], for_url: bool) -> String {
    let alphabet: Vec<u8> =
        (b'A'..=b'Z').chain(b'a'..=b'z').chain(b'0'..=b'9').chain(*if for_url { b"-_" } else { b"+/" }).collect();
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let word = group.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for at in 0..=group.len() {
            text.push(alphabet[(word >> (18 - 6 * at)) as usize & 63] as char);
        }
        if !for_url {
            text.push_str(&"=".repeat(3 - group.len()));
        }
    }
    text
}
