//! HTTP for status and metrics: on a Unix socket, and on loopback when asked.
//!
//! ```text
//!  Unix socket   GET /metrics  GET /status  POST /sync
//!  loopback TCP  GET /metrics  POST /webhook (only with a secret)
//! ```

use crate::keeper::Shared;
use crate::metrics::Metrics;
use anyhow::Context;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use ignite::report::{Hinted, UsageError};
use ignite_engine::SocketNames;
use ignite_engine::metrics::Format;
use ring::hmac;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::{TcpListener, UnixListener};

/// Longest body of a webhook: a push event of GitHub.
const MAX_BODY: usize = 25 << 20;
/// Header of GitHub, Gitea and Forgejo: `sha256=` and the HMAC of the body.
const SIGNATURE: &str = "x-hub-signature-256";
/// Header of GitLab: the secret itself.
const TOKEN: &str = "x-gitlab-token";

/// What the handlers know.
#[derive(Clone)]
pub struct Told {
    /// Reports, and the way to ask for a sync.
    pub shared: Arc<Shared>,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// Secret of webhooks; absent: there are none.
    pub secret: Option<Arc<[u8]>>,
}

/// A Unix socket that goes with its owner.
pub struct Socket {
    listener: UnixListener,
    names: SocketNames,
}

impl Socket {
    /// Listens for this user only. Nobody else may own the path: a leftover of a killed process is replaced. `link` is
    /// another name of it.
    pub fn bind(path: &Path, link: Option<PathBuf>) -> anyhow::Result<Socket> {
        let failed = || format!("could not listen on {}", path.display());
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).with_context(failed)?;
        }
        let (listener, names) = SocketNames::bind(path.to_owned(), link).with_context(failed)?;
        Ok(Socket { listener, names })
    }

    /// Serves until the future is dropped; then the socket is gone.
    pub async fn serve(self, told: Told) -> anyhow::Result<()> {
        let Socket { listener, names: _names } = self;
        let router = Router::new()
            .route("/metrics", get(metrics))
            .route("/status", get(status))
            .route("/sync", post(sync))
            .with_state(told);
        axum::serve(listener, router).await.context("serving status broke")
    }
}

/// Listens on loopback: what is told here is for this host, or for a proxy that knows whom to let in.
pub async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    if !address.ip().is_loopback() {
        return Err(UsageError(format!("--listen {address}: only loopback addresses; put a proxy before it")).into());
    }
    TcpListener::bind(address).await.map_err(|error| {
        Hinted {
            message: format!("could not listen on {address}: {error}"),
            hint: "choose another port, or 0 for any: --listen 127.0.0.1:0".into(),
        }
        .into()
    })
}

/// Serves until the future is dropped.
pub async fn serve_tcp(listener: TcpListener, told: Told) -> anyhow::Result<()> {
    let mut router = Router::new().route("/metrics", get(metrics));
    if told.secret.is_some() {
        router = router.route("/webhook", post(webhook)).layer(DefaultBodyLimit::max(MAX_BODY));
    }
    axum::serve(listener, router.with_state(told)).await.context("serving metrics broke")
}

async fn metrics(State(told): State<Told>, headers: HeaderMap) -> Response {
    let format = Format::accepted(&headers);
    // It reads files of every VM.
    match tokio::task::spawn_blocking(move || told.metrics.encode(format)).await {
        Ok(text) => ([(header::CONTENT_TYPE, format.media_type())], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn status(State(told): State<Told>) -> Response {
    let text = serde_json::to_string(&told.shared.reports()).unwrap_or_default();
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

async fn sync(State(told): State<Told>) -> StatusCode {
    told.shared.request_sync();
    StatusCode::ACCEPTED
}

async fn webhook(State(told): State<Told>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let is_genuine = told.secret.as_ref().is_some_and(|secret| is_signed(secret, &headers, &body));
    if !is_genuine {
        tracing::warn!("a webhook without the right secret was refused");
        return StatusCode::FORBIDDEN;
    }
    told.shared.request_sync();
    StatusCode::ACCEPTED
}

/// A webhook says nothing but that it is worth to look: who knows the secret may say that.
fn is_signed(secret: &[u8], headers: &HeaderMap, body: &[u8]) -> bool {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    if let Some(signature) = headers.get(SIGNATURE) {
        let hex = signature.as_bytes().strip_prefix(b"sha256=").unwrap_or_default();
        return decode_hex(hex).is_some_and(|tag| hmac::verify(&key, body, &tag).is_ok());
    }
    let Some(token) = headers.get(TOKEN) else { return false };
    // Compared through the HMAC, so that the time taken tells nothing.
    hmac::verify(&key, secret, hmac::sign(&key, token.as_bytes()).as_ref()).is_ok()
}

fn decode_hex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    text.chunks(2).map(|pair| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        headers
    }

    #[test]
    fn only_who_knows_the_secret_may_call() {
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"secret");
        let hex: String = hmac::sign(&key, b"body").as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        for (headers, expected) in [
            (headers(SIGNATURE, &format!("sha256={hex}")), true),
            (headers(SIGNATURE, &format!("sha256={}", hex.chars().rev().collect::<String>())), false),
            (headers(SIGNATURE, "sha256=0"), false),
            (headers(SIGNATURE, "sha256=zz"), false),
            (headers(SIGNATURE, ""), false),
            (headers(TOKEN, "secret"), true),
            (headers(TOKEN, "secre"), false),
            (HeaderMap::new(), false),
        ] {
            assert_eq!(is_signed(b"secret", &headers, b"body"), expected, "{headers:?}");
        }
        assert!(!is_signed(b"other", &headers(SIGNATURE, &format!("sha256={hex}")), b"body"));
    }
}
