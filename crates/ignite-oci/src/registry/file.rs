//! A file from a web server, or the blob of a registry that a URL names.

use super::client::{RegistryClient, retry_after};
use super::endpoint::{Endpoint, Trust, host_of};
use super::places::with_certificates;
use super::retry::Retries;
use super::transport::{build_http, timely};
use crate::digest::{Digest, Hasher};
use crate::{OciError, PullOptions};
use ignite_api::ImageReference;
use reqwest::{StatusCode, Url};
use std::fs::File;
use std::io::{Seek, Write};

/// Fetches the file at `url` into `to`, in place of what that holds. What has another digest, where one is given, or is
/// larger than `limit_bytes`, is refused. Plain http only where registries may be spoken to like that.
///
/// A URL of a registry's blob (distribution-spec 1.1, `/v2/<name>/blobs/<digest>`) is fetched as pulls fetch it, with the
/// credentials for that registry, and tells its digest itself.
pub async fn fetch_file(
    url: &str,
    digest: Option<&str>,
    limit_bytes: u64,
    to: &mut File,
    options: &PullOptions,
) -> Result<(), OciError> {
    let mut digest: Option<Digest> = digest.map(str::parse).transpose()?;
    let invalid = |reason| OciError::InvalidReference { reference: url.to_owned(), reason };
    let parsed = Url::parse(url).map_err(|_| invalid("it is no URL"))?;
    if !parsed.has_host() {
        return Err(invalid("it names no host"));
    }
    let host = host_of(&parsed);
    let may_be_plain = Endpoint::allows_plain(&host, options);
    match parsed.scheme() {
        "https" => {}
        "http" if may_be_plain => {}
        "http" => return Err(OciError::PlainHttpRefused { host }),
        _ => return Err(invalid("only https is fetched from")),
    }
    let way = match blob_of(&parsed, &host) {
        Some((reference, named)) => {
            if digest.as_ref().is_some_and(|digest| *digest != named) {
                return Err(invalid("it names another digest than the one that is wanted"));
            }
            digest = Some(named.clone());
            let endpoint = with_certificates(Endpoint::new(&reference, options)?, options)?;
            Way::Blob(Box::new(RegistryClient::new(endpoint, options)?), named)
        }
        None => Way::File(build_http(may_be_plain, &Trust::default(), options)?),
    };
    let request = Request { way, url: parsed, host, digest, limit_bytes, options };
    let mut retries = Retries::new(options);
    loop {
        match request.once(to).await {
            Ok(()) => return Ok(()),
            Err(error) => retries.after(error, &()).await?,
        }
    }
}

/// The repository and the digest of a registry's blob.
fn blob_of(url: &Url, host: &str) -> Option<(ImageReference, Digest)> {
    let (repository, digest) = url.path().strip_prefix("/v2/")?.rsplit_once("/blobs/")?;
    let digest: Digest = digest.parse().ok()?;
    Some((format!("{host}/{repository}@{digest}").parse().ok()?, digest))
}

/// Whom to ask.
enum Way {
    File(reqwest::Client),
    Blob(Box<RegistryClient>, Digest),
}

struct Request<'a> {
    way: Way,
    url: Url,
    host: String,
    digest: Option<Digest>,
    limit_bytes: u64,
    options: &'a PullOptions,
}

impl Request<'_> {
    async fn once(&self, to: &mut File) -> Result<(), OciError> {
        let what = self.url.path().to_owned();
        let write = |source| OciError::Store { action: "write", path: what.clone().into(), source };
        to.set_len(0).and_then(|()| to.rewind()).map_err(write)?;
        let mut response = match &self.way {
            Way::File(http) => self.timely(http.get(self.url.clone()).send()).await?,
            Way::Blob(client, digest) => client.blob(digest, 0).await?,
        };
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
        let mut hasher = self.digest.as_ref().map(|digest| Hasher::new(digest.algorithm()));
        let mut received = 0;
        while let Some(chunk) = self.timely(response.chunk()).await? {
            received += chunk.len() as u64;
            if received > self.limit_bytes {
                return Err(OciError::TooLarge { what: self.url.to_string(), limit_bytes: self.limit_bytes });
            }
            if let Some(hasher) = &mut hasher {
                hasher.update(&chunk);
            }
            to.write_all(&chunk).map_err(write)?;
        }
        if let (Some(hasher), Some(expected)) = (hasher, &self.digest) {
            let actual = hasher.finish();
            if actual != *expected {
                let (expected, actual) = (expected.to_string(), actual.to_string());
                return Err(OciError::DigestMismatch { what: self.url.to_string(), expected, actual });
            }
        }
        to.rewind().map_err(write)
    }

    async fn timely<T>(&self, step: impl Future<Output = reqwest::Result<T>>) -> Result<T, OciError> {
        timely(step, &self.host, self.url.path(), self.options.idle_timeout).await
    }
}
