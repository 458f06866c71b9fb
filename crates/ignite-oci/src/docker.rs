//! A Docker engine's API on its Unix socket, as far as images need it (Docker Engine API 1.24 and later).

use crate::document::printable;
use crate::limits::MAX_ERROR_BODY_BYTES;
use crate::registry::{Credentials, find_credentials};
use crate::{OciError, Progress, ProgressEvent, PullOptions};
use base64::Engine as _;
use ignite_api::ImageReference;
use reqwest::{Method, Response, StatusCode};
use serde::Deserialize;
use std::path::PathBuf;

/// The newest version whose answers are known.
const NEWEST_VERSION: (u32, u32) = (1, 52);
/// The oldest: what Docker 1.12 spoke.
const OLDEST_VERSION: (u32, u32) = (1, 24);
/// Largest answer that is no stream.
const MAX_ANSWER_BYTES: usize = 4 << 20;
/// Longest line of a pull's report.
const MAX_LINE_BYTES: usize = 1 << 20;

/// An engine that answered, and the API version to speak with it.
pub(crate) struct DockerEngine {
    http: reqwest::Client,
    socket: PathBuf,
    version: (u32, u32),
    options: PullOptions,
}

impl DockerEngine {
    /// Finds out which version it speaks.
    pub(crate) async fn connect(options: &PullOptions) -> Result<DockerEngine, OciError> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let socket = options.docker_socket.clone();
        let http = reqwest::Client::builder()
            .unix_socket(socket.clone())
            .user_agent(concat!("ignite/", env!("CARGO_PKG_VERSION")))
            .tls_certs_only([])
            .build()
            .map_err(|source| OciError::HttpClient { source })?;
        let mut engine = DockerEngine { http, socket, version: OLDEST_VERSION, options: options.clone() };
        let answer = engine.send(engine.http.get("http://docker/_ping"), "ping").await?;
        let stated = answer.headers().get("api-version").and_then(|value| value.to_str().ok()).and_then(parse_version);
        engine.version = negotiate(stated).ok_or_else(|| {
            engine.refused("ping", format!("it speaks API {stated:?}, at least {OLDEST_VERSION:?} is needed"))
        })?;
        Ok(engine)
    }

    /// Id of the image that the engine has by that name: its configuration's digest, or (containerd's store) a manifest's.
    pub(crate) async fn image_id(&self, name: &str) -> Result<Option<String>, OciError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Image {
            id: String,
        }
        let what = format!("inspect {name}");
        let response = self.send(self.request(Method::GET, &format!("images/{}/json", escape(name))), &what).await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let body = self.read_all(self.success(response, &what).await?, &what).await?;
        let image: Image = serde_json::from_slice(&body).map_err(|error| self.refused(&what, error.to_string()))?;
        // It becomes part of an object and is shown.
        let digest: crate::digest::Digest = image.id.parse()?;
        Ok(Some(digest.to_string()))
    }

    /// Makes the engine pull `reference`.
    pub(crate) async fn pull(
        &self,
        reference: &ImageReference,
        options: &PullOptions,
        progress: &dyn Progress,
    ) -> Result<(), OciError> {
        let what = format!("pull {reference}");
        let repository = format!("{}/{}", reference.registry, reference.repository);
        let version = match (&reference.digest, &reference.tag) {
            (Some(digest), _) => digest.clone(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".to_owned(),
        };
        let mut path = format!("images/create?fromImage={}&tag={}", escape(&repository), escape(&version));
        if self.version >= (1, 32) {
            path.push_str(&format!("&platform={}", escape(&options.platform.to_string())));
        }
        let mut request = self.request(Method::POST, &path);
        if let Some(header) = self.auth_header(reference).await? {
            request = request.header("x-registry-auth", header);
        }
        let response = self.send(request, &what).await?;
        let mut response = self.success(response, &what).await?;
        progress.event(ProgressEvent::Resolving { reference: format!("docker-daemon:{reference}") });
        let mut line = Vec::new();
        while let Some(piece) = self.next_piece(&mut response).await? {
            for part in piece.split_inclusive(|byte| *byte == b'\n') {
                line.extend_from_slice(part);
                if line.len() > MAX_LINE_BYTES {
                    return Err(self.refused(&what, "its report has a line of more than 1 MiB".to_owned()));
                }
                if part.ends_with(b"\n") {
                    self.check_report(&line, &what)?;
                    line.clear();
                }
            }
        }
        self.check_report(&line, &what)
    }

    /// An archive of the image, as `docker save` writes it.
    pub(crate) async fn export(&self, name: &str) -> Result<Response, OciError> {
        let what = format!("export {name}");
        let response =
            self.send(self.request(Method::GET, &format!("images/get?names={}", escape(name))), &what).await?;
        self.success(response, &what).await
    }

    /// The next piece of a body, within the idle timeout.
    pub(crate) async fn next_piece(&self, response: &mut Response) -> Result<Option<bytes::Bytes>, OciError> {
        match tokio::time::timeout(self.options.idle_timeout, response.chunk()).await {
            Err(_) => {
                Err(self.refused("answer", format!("nothing came for {} s", self.options.idle_timeout.as_secs())))
            }
            Ok(piece) => piece.map_err(|error| self.refused("answer", error.without_url().to_string())),
        }
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let (major, minor) = self.version;
        self.http.request(method, format!("http://docker/v{major}.{minor}/{path}"))
    }

    async fn send(&self, request: reqwest::RequestBuilder, what: &str) -> Result<Response, OciError> {
        match tokio::time::timeout(self.options.idle_timeout, request.send()).await {
            Err(_) => Err(self.refused(what, format!("no answer for {} s", self.options.idle_timeout.as_secs()))),
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) if error.is_connect() => Err(OciError::EngineUnreachable {
                engine: "Docker",
                socket: self.socket.clone(),
                source: std::io::Error::other(error.without_url()),
            }),
            Ok(Err(error)) => Err(self.refused(what, error.without_url().to_string())),
        }
    }

    async fn success(&self, mut response: Response, what: &str) -> Result<Response, OciError> {
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let mut body = Vec::new();
        while body.len() < MAX_ERROR_BODY_BYTES as usize {
            match self.next_piece(&mut response).await {
                Ok(Some(piece)) => body.extend_from_slice(&piece),
                Ok(None) | Err(_) => break,
            }
        }
        body.truncate(MAX_ERROR_BODY_BYTES as usize);
        Err(self.refused(what, message(&body).unwrap_or_else(|| status.to_string())))
    }

    async fn read_all(&self, mut response: Response, what: &str) -> Result<Vec<u8>, OciError> {
        let mut body = Vec::new();
        while let Some(piece) = self.next_piece(&mut response).await? {
            if body.len() + piece.len() > MAX_ANSWER_BYTES {
                return Err(self.refused(what, "its answer is larger than 4 MiB".to_owned()));
            }
            body.extend_from_slice(&piece);
        }
        Ok(body)
    }

    /// Docker's `X-Registry-Auth`: the credentials of the registry, which the engine itself does not have.
    async fn auth_header(&self, reference: &ImageReference) -> Result<Option<String>, OciError> {
        let (registry, repository) = (reference.registry.clone(), reference.repository.clone());
        let options = self.options.clone();
        let found = tokio::task::spawn_blocking(move || find_credentials(&registry, &repository, &options));
        let server = reference.registry.as_str();
        let text = match found.await.map_err(|_| OciError::WorkerLost)?? {
            Credentials::Anonymous => return Ok(None),
            Credentials::Password { user, password } => {
                serde_json::json!({"username": user, "password": password, "serveraddress": server})
            }
            Credentials::IdentityToken(token) => {
                serde_json::json!({"identitytoken": token, "serveraddress": server})
            }
        };
        Ok(Some(base64::engine::general_purpose::URL_SAFE.encode(text.to_string())))
    }

    /// A line of a pull's report that is an error ends it.
    fn check_report(&self, line: &[u8], what: &str) -> Result<(), OciError> {
        #[derive(Deserialize)]
        struct Report {
            error: Option<String>,
        }
        match serde_json::from_slice::<Report>(line) {
            Ok(Report { error: Some(error) }) => Err(self.refused(what, printable(&error))),
            _ => Ok(()),
        }
    }

    fn refused(&self, what: &str, message: String) -> OciError {
        OciError::EngineRefused { engine: "Docker", socket: self.socket.clone(), what: what.to_owned(), message }
    }
}

/// `1.41`.
fn parse_version(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.trim().split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// The version to speak with an engine whose newest is `stated`; an engine that states none is too old to.
fn negotiate(stated: Option<(u32, u32)>) -> Option<(u32, u32)> {
    stated.filter(|version| *version >= OLDEST_VERSION).map(|version| version.min(NEWEST_VERSION))
}

/// The message of an error's body.
fn message(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Error {
        message: String,
    }
    let text = match serde_json::from_slice::<Error>(body) {
        Ok(error) => error.message,
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    };
    let text = printable(text.trim());
    (!text.is_empty()).then_some(text)
}

/// Percent-encodes all but what a path segment and a query both leave alone; a name's slashes stay.
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' | b':' | b'@' => {
                escaped.push(byte as char);
            }
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_that_both_know_is_spoken() {
        for (stated, spoken) in [
            (Some("1.24"), Some((1, 24))),
            (Some("1.41"), Some((1, 41))),
            (Some("1.99"), Some(NEWEST_VERSION)),
            (Some("2.0"), Some(NEWEST_VERSION)),
            (Some("1.23"), None),
            (Some("1"), None),
            (Some("x.y"), None),
            (None, None),
        ] {
            assert_eq!(negotiate(stated.and_then(parse_version)), spoken, "{stated:?}");
        }
    }

    #[test]
    fn names_stay_within_their_place() {
        assert_eq!(escape("127.0.0.1:5000/test/a:v1"), "127.0.0.1:5000/test/a:v1");
        assert_eq!(escape("a?b=c&d#e f%"), "a%3Fb%3Dc%26d%23e%20f%25");
    }

    #[test]
    fn errors_are_shown_by_their_message() {
        assert_eq!(message(br#"{"message":"no such image"}"#).as_deref(), Some("no such image"));
        assert_eq!(message(b"plain").as_deref(), Some("plain"));
        assert_eq!(message(b""), None);
    }
}
