//! A file of known content, from any web server.

use super::client::retry_after;
use super::endpoint::{Trust, allows_plain_http};
use super::retry::Retries;
use super::transport::{build_http, is_untrusted, refused_redirect};
use crate::digest::{Digest, Hasher};
use crate::{OciError, PullOptions};
use reqwest::{StatusCode, Url};
use std::fs::File;
use std::io::{Seek, Write};

/// Fetches the file at `url` into `to`, in place of what that holds. What has another digest, or is larger than
/// `limit_bytes`, is refused. Plain http only where registries may be spoken to like that.
pub async fn fetch_file(
    url: &str,
    digest: &str,
    limit_bytes: u64,
    to: &mut File,
    options: &PullOptions,
) -> Result<(), OciError> {
    let digest: Digest = digest.parse()?;
    let invalid = |reason| OciError::InvalidReference { reference: url.to_owned(), reason };
    let parsed = Url::parse(url).map_err(|_| invalid("it is no URL"))?;
    let name = parsed.host_str().ok_or_else(|| invalid("it names no host"))?;
    let host = parsed.port().map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"));
    let plain_hosts = [&options.plain_http_hosts[..], &options.insecure_hosts[..]].concat();
    let may_be_plain = allows_plain_http(&host, &plain_hosts);
    match parsed.scheme() {
        "https" => {}
        "http" if may_be_plain => {}
        "http" => return Err(OciError::PlainHttpRefused { host }),
        _ => return Err(invalid("only https is fetched from")),
    }
    let http = build_http(&host, may_be_plain, &Trust::default(), options)?;
    let request = Request { http, url: parsed, host, digest, limit_bytes, options };
    let mut retries = Retries::new(options);
    loop {
        match request.once(to).await {
            Ok(()) => return Ok(()),
            Err(error) => retries.after(error, &()).await?,
        }
    }
}

struct Request<'a> {
    http: reqwest::Client,
    url: Url,
    host: String,
    digest: Digest,
    limit_bytes: u64,
    options: &'a PullOptions,
}

impl Request<'_> {
    async fn once(&self, to: &mut File) -> Result<(), OciError> {
        let what = self.url.path().to_owned();
        let write = |source| OciError::Store { action: "write", path: what.clone().into(), source };
        to.set_len(0).and_then(|()| to.rewind()).map_err(write)?;
        let mut response = self.timely(self.http.get(self.url.clone()).send()).await?;
        match response.status() {
            status if status.is_success() => {}
            StatusCode::NOT_FOUND => return Err(OciError::NotFound { reference: self.url.to_string() }),
            status => {
                return Err(OciError::Status {
                    registry: self.host.clone(),
                    what,
                    status: status.as_u16(),
                    message: status.canonical_reason().unwrap_or_default().to_owned(),
                    retry_after: retry_after(response.headers()),
                });
            }
        }
        let mut hasher = Hasher::new(self.digest.algorithm());
        let mut received = 0;
        while let Some(chunk) = self.timely(response.chunk()).await? {
            received += chunk.len() as u64;
            if received > self.limit_bytes {
                return Err(OciError::TooLarge { what: self.url.to_string(), limit_bytes: self.limit_bytes });
            }
            hasher.update(&chunk);
            to.write_all(&chunk).map_err(write)?;
        }
        let actual = hasher.finish();
        if actual != self.digest {
            let (expected, actual) = (self.digest.to_string(), actual.to_string());
            return Err(OciError::DigestMismatch { what: self.url.to_string(), expected, actual });
        }
        to.rewind().map_err(write)
    }

    async fn timely<T>(&self, step: impl Future<Output = reqwest::Result<T>>) -> Result<T, OciError> {
        let (registry, what) = (self.host.clone(), self.url.path().to_owned());
        match tokio::time::timeout(self.options.idle_timeout, step).await {
            Err(_) => Err(OciError::Stalled { registry, what, waited: self.options.idle_timeout }),
            Ok(Ok(value)) => Ok(value),
            Ok(Err(source)) => Err(match refused_redirect(&source) {
                Some(host) => OciError::PlainHttpRefused { host: host.to_owned() },
                None if is_untrusted(&source) => OciError::Untrusted { registry, source: source.without_url() },
                None if source.is_connect() => OciError::Unreachable { registry, source: source.without_url() },
                None => OciError::Interrupted { registry, what, source: source.without_url() },
            }),
        }
    }
}
