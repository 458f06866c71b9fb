//! One repository's requests: scheme, redirects, authorization, errors told apart.
//!
//! Why not a ready client: answers must be bounded before they are read, `Retry-After` seen, downloads continued, and an
//! authorization that failed told from one that was not tried.

use super::authorization::{Challenge, TokenRequest, basic, parse_challenge, parse_token, token_request};
use super::credentials::{Credentials, find_credentials};
use super::endpoint::{Endpoint, Target, host_of};
use super::retry::{Retries, parse_retry_after};
use super::transport::{build_http, timely};
use crate::digest::Digest;
use crate::document::{ACCEPTED, printable};
use crate::limits::{MAX_ERROR_BODY_BYTES, MAX_MANIFEST_BYTES, MAX_TOKEN_BYTES};
use crate::store::verify;
use crate::{OciError, Progress, PullOptions};
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RANGE, RETRY_AFTER};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;

const DIGEST_HEADER: &str = "docker-content-digest";

/// A client for one repository; shared by its parallel downloads.
pub(crate) struct RegistryClient {
    http: reqwest::Client,
    endpoint: Endpoint,
    options: PullOptions,
    /// True once plain http turned out to be what is spoken there, or not to be.
    plain: AtomicBool,
    /// True once the registry answered: from then on a failed connection may be a passing trouble.
    answered: AtomicBool,
    authorization: Mutex<Authorization>,
}

#[derive(Default)]
struct Authorization {
    credentials: Option<Credentials>,
    header: Option<HeaderValue>,
    /// Counts the headers there were.
    generation: u64,
}

/// A manifest as it came.
pub(crate) struct RawManifest {
    pub(crate) bytes: Vec<u8>,
    pub(crate) media_type: Option<String>,
    pub(crate) digest: Digest,
}

impl RegistryClient {
    pub(crate) fn new(endpoint: Endpoint, options: &PullOptions) -> Result<RegistryClient, OciError> {
        Ok(RegistryClient {
            http: build_http(endpoint.may_be_plain, &endpoint.trust, options)?,
            plain: AtomicBool::new(endpoint.may_be_plain),
            endpoint,
            options: options.clone(),
            answered: AtomicBool::new(false),
            authorization: Mutex::default(),
        })
    }

    pub(super) fn http(&self) -> &reqwest::Client {
        &self.http
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(crate) fn options(&self) -> &PullOptions {
        &self.options
    }

    /// Digest the target has now: one HEAD where the registry gives the header.
    pub(crate) async fn manifest_digest(&self, target: &Target, progress: &dyn Progress) -> Result<Digest, OciError> {
        let mut retries = Retries::new(&self.options);
        loop {
            match self.manifest_request(Method::HEAD, target).await {
                Ok(response) => match digest_header(response.headers()) {
                    Some(digest) => return Ok(digest),
                    None => return Ok(self.manifest(target, progress).await?.digest),
                },
                // No HEAD there, or a TLS server's words to plain http, which come in a body that HEAD has not.
                Err(OciError::Status { status: 400 | 405, .. }) => {
                    return Ok(self.manifest(target, progress).await?.digest);
                }
                Err(error) => retries.after(error, progress).await?,
            }
        }
    }

    /// A manifest or index, its bytes verified against the digest asked for and the one the registry states.
    pub(crate) async fn manifest(&self, target: &Target, progress: &dyn Progress) -> Result<RawManifest, OciError> {
        let mut retries = Retries::new(&self.options);
        loop {
            match self.manifest_once(target).await {
                Ok(manifest) => return Ok(manifest),
                Err(error) => retries.after(error, progress).await?,
            }
        }
    }

    async fn manifest_once(&self, target: &Target) -> Result<RawManifest, OciError> {
        let response = self.manifest_request(Method::GET, target).await?;
        let stated = digest_header(response.headers());
        let media_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media_type = media_type.and_then(|text| text.split(';').next()).map(|text| text.trim().to_owned());
        let media_type = media_type.filter(|text| text.contains("manifest") || text.contains("index"));
        let what = format!("manifest {}", target.text());
        let bytes = self.read_body(response, &what, MAX_MANIFEST_BYTES).await?;
        let what = format!("manifest of {}", self.endpoint.image());
        let digest = match (target, stated) {
            (Target::Digest(digest), _) => digest.clone(),
            (Target::Tag(_), Some(stated)) => stated,
            (Target::Tag(_), None) => Digest::of(&bytes),
        };
        verify(&what, &bytes, &digest)?;
        Ok(RawManifest { bytes, media_type, digest })
    }

    async fn manifest_request(&self, method: Method, target: &Target) -> Result<Response, OciError> {
        let path = format!("manifests/{}", target.text());
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_str(&ACCEPTED.join(", ")).unwrap_or(HeaderValue::from_static("*/*")));
        self.send(method, &path, headers, &format!("manifest {}", target.text())).await
    }

    /// A blob from byte `offset` on; the answer is 200 (all of it) or 206.
    pub(crate) async fn blob(&self, digest: &Digest, offset: u64) -> Result<Response, OciError> {
        let mut headers = HeaderMap::new();
        if offset > 0 {
            headers.insert(
                RANGE,
                HeaderValue::from_str(&format!("bytes={offset}-")).unwrap_or(HeaderValue::from_static("bytes=0-")),
            );
        }
        self.send(Method::GET, &format!("blobs/{digest}"), headers, &format!("blob {digest}")).await
    }

    /// Sends a request below `/v2/<repository>/`, answering a challenge once; only success comes back as `Ok`.
    async fn send(&self, method: Method, path: &str, headers: HeaderMap, what: &str) -> Result<Response, OciError> {
        let make = |scheme: &str| {
            let Endpoint { host, base_path, repository, .. } = &self.endpoint;
            let mut url = self.url(&format!("{scheme}://{host}{base_path}/{repository}/{path}"))?;
            if let Some(namespace) = &self.endpoint.namespace {
                url.query_pairs_mut().append_pair("ns", namespace);
            }
            Ok(self.http.request(method.clone(), url).headers(headers.clone()))
        };
        let mut has_authenticated = false;
        loop {
            let (header, generation) = {
                let authorization = self.authorization.lock().await;
                (authorization.header.clone(), authorization.generation)
            };
            let response = self.ask(make, header.as_ref(), what).await?;
            match response.status() {
                status if status.is_success() => return Ok(response),
                StatusCode::UNAUTHORIZED if !has_authenticated => {
                    has_authenticated = true;
                    self.authenticate(response, generation).await?;
                }
                status => {
                    let retry_after = retry_after(response.headers());
                    let message = self.message(response).await;
                    return Err(self.status_error(status, retry_after, message, what).await);
                }
            }
        }
    }

    pub(super) fn url(&self, text: &str) -> Result<Url, OciError> {
        let invalid = |_| OciError::InvalidReference { reference: self.endpoint.image(), reason: "it makes no URL" };
        Url::parse(text).map_err(invalid)
    }

    /// Sends the request that `make` gives for a scheme: without TLS first, where that is allowed. The answer has any status.
    pub(super) async fn ask(
        &self,
        make: impl Fn(&str) -> Result<RequestBuilder, OciError>,
        header: Option<&HeaderValue>,
        what: &str,
    ) -> Result<Response, OciError> {
        let mut plain_failure = None;
        loop {
            let is_plain = self.plain.load(Ordering::Relaxed);
            let mut request = make(if is_plain { "http" } else { "https" })?;
            if let Some(header) = header {
                request = request.header(AUTHORIZATION, header.clone());
            }
            let response = match self.answer(request, what).await {
                Err(error) if header.is_none() && self.hands_over_to_tls() => {
                    plain_failure = Some(error);
                    continue;
                }
                other => other.map_err(|error| self.after_both(plain_failure.take(), error))?,
            };
            // Perhaps a TLS server's words to plain http; once something secret was sent, it is too late for TLS.
            if response.status() != StatusCode::BAD_REQUEST || !is_plain || header.is_some() {
                return Ok(response);
            }
            let message = self.message(response).await;
            if !message.to_ascii_lowercase().contains("https") {
                return Err(self.status_error(StatusCode::BAD_REQUEST, None, message, what).await);
            }
            self.plain.store(false, Ordering::Relaxed);
        }
    }

    /// After a failure: true when plain http was tried in vain and TLS is next. Some TLS servers hang up on plain http, and
    /// where there is TLS nobody may listen for the other.
    fn hands_over_to_tls(&self) -> bool {
        let is_next = self.plain.load(Ordering::Relaxed) && !self.answered.load(Ordering::Relaxed);
        if is_next {
            self.plain.store(false, Ordering::Relaxed);
        }
        is_next
    }

    /// Which error to tell when TLS failed with `error`, after plain http did with `plain_failure`, if that was tried.
    fn after_both(&self, plain_failure: Option<OciError>, error: OciError) -> OciError {
        match plain_failure {
            // TLS is spoken there: what is wrong is this certificate.
            Some(_) if matches!(error, OciError::Untrusted { .. }) => error,
            Some(plain_failure) => {
                self.plain.store(true, Ordering::Relaxed);
                plain_failure
            }
            None => error,
        }
    }

    /// The head of an answer, whatever its status.
    pub(super) async fn answer(&self, request: RequestBuilder, what: &str) -> Result<Response, OciError> {
        match self.timely(request.send(), what).await {
            Ok(response) => {
                self.answered.store(true, Ordering::Relaxed);
                Ok(response)
            }
            // It was there a moment ago.
            Err(OciError::Unreachable { registry, source }) if self.answered.load(Ordering::Relaxed) => {
                Err(OciError::Interrupted { registry, what: what.to_owned(), source })
            }
            Err(error) => Err(error),
        }
    }

    async fn timely<T>(&self, step: impl Future<Output = reqwest::Result<T>>, what: &str) -> Result<T, OciError> {
        timely(step, &self.endpoint.registry, what, self.options.idle_timeout).await
    }

    /// The next piece of a body, within the idle timeout; `None` at its end.
    pub(crate) async fn next_chunk(
        &self,
        response: &mut Response,
        what: &str,
    ) -> Result<Option<bytes::Bytes>, OciError> {
        self.timely(response.chunk(), what).await
    }

    pub(super) async fn read_body(
        &self,
        mut response: Response,
        what: &str,
        limit_bytes: u64,
    ) -> Result<Vec<u8>, OciError> {
        let mut body = Vec::new();
        while let Some(chunk) = self.next_chunk(&mut response, what).await? {
            if (body.len() + chunk.len()) as u64 > limit_bytes {
                return Err(OciError::TooLarge { what: what.to_owned(), limit_bytes });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// Gets authorization for the requests to come, unless another request did so meanwhile.
    async fn authenticate(&self, refused: Response, generation: u64) -> Result<(), OciError> {
        let challenge = parse_challenge(refused.headers());
        let message = self.message(refused).await;
        let mut authorization = self.authorization.lock().await;
        if authorization.generation != generation {
            return Ok(());
        }
        let registry = self.endpoint.registry.clone();
        let challenge =
            challenge.map_err(|challenge| OciError::UnsupportedChallenge { registry: registry.clone(), challenge })?;
        let credentials = match &authorization.credentials {
            Some(credentials) => credentials.clone(),
            None => self.load_credentials().await?,
        };
        authorization.credentials = Some(credentials.clone());
        let header = match challenge {
            Challenge::Basic => basic(&credentials)
                .filter(|header| authorization.header.as_ref() != Some(header))
                .ok_or_else(|| self.unauthorized(&credentials, message))?,
            Challenge::Bearer { realm, service } => self.fetch_token(&realm, service.as_deref(), &credentials).await?,
        };
        authorization.header = Some(header);
        authorization.generation += 1;
        Ok(())
    }

    async fn load_credentials(&self) -> Result<Credentials, OciError> {
        let (endpoint, options) = (self.endpoint.clone(), self.options.clone());
        let found = move || find_credentials(&endpoint.registry, &endpoint.repository, &options);
        let found = tokio::task::spawn_blocking(found);
        match tokio::time::timeout(self.options.idle_timeout, found).await {
            Ok(found) => found.map_err(|_| OciError::WorkerLost)?,
            Err(_) => Err(OciError::Stalled {
                registry: self.endpoint.registry.clone(),
                what: "credential helper's answer".to_owned(),
                waited: self.options.idle_timeout,
            }),
        }
    }

    /// Credentials go to a token server over TLS only, as to a registry.
    pub(super) fn check_realm(&self, realm: &Url) -> Result<(), OciError> {
        let host = host_of(realm);
        match realm.scheme() {
            "https" => Ok(()),
            "http" if Endpoint::allows_plain(&host, &self.options) => Ok(()),
            _ => Err(OciError::PlainHttpRefused { host }),
        }
    }

    async fn fetch_token(
        &self,
        realm: &Url,
        service: Option<&str>,
        credentials: &Credentials,
    ) -> Result<HeaderValue, OciError> {
        let what = "token";
        self.check_realm(realm)?;
        let request = match token_request(realm, service, &self.endpoint.repository, credentials) {
            TokenRequest::Get { url, authorization } => {
                let request = self.http.get(url);
                match authorization {
                    Some(header) => request.header(AUTHORIZATION, header),
                    None => request,
                }
            }
            TokenRequest::Post { url, form } => {
                self.http.post(url).header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form)
            }
        };
        let response = self.answer(request, what).await?;
        match response.status() {
            status if status.is_success() => {
                let body = self.read_body(response, what, MAX_TOKEN_BYTES).await?;
                parse_token(&body).map_err(|reason| OciError::InvalidAnswer {
                    registry: self.endpoint.registry.clone(),
                    what: what.to_owned(),
                    reason,
                })
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST => {
                let message = self.message(response).await;
                Err(self.unauthorized(credentials, message))
            }
            status => {
                let retry_after = retry_after(response.headers());
                let message = self.message(response).await;
                Err(self.status_error(status, retry_after, message, what).await)
            }
        }
    }

    fn unauthorized(&self, credentials: &Credentials, message: String) -> OciError {
        OciError::Unauthorized {
            registry: self.endpoint.registry.clone(),
            repository: self.endpoint.repository.clone(),
            with_credentials: *credentials != Credentials::Anonymous,
            message,
        }
    }

    async fn status_error(
        &self,
        status: StatusCode,
        retry_after: Option<Duration>,
        message: String,
        what: &str,
    ) -> OciError {
        let registry = self.endpoint.registry.clone();
        let repository = self.endpoint.repository.clone();
        match status {
            StatusCode::UNAUTHORIZED => {
                let credentials = self.authorization.lock().await.credentials.clone();
                self.unauthorized(&credentials.unwrap_or(Credentials::Anonymous), message)
            }
            StatusCode::FORBIDDEN => OciError::Denied { registry, repository, message },
            StatusCode::NOT_FOUND if what.starts_with("blob") => {
                OciError::NotFound { reference: format!("{registry}/{repository}, {what}") }
            }
            StatusCode::NOT_FOUND => OciError::NotFound { reference: self.endpoint.image() },
            StatusCode::TOO_MANY_REQUESTS => OciError::RateLimited { registry, message, retry_after },
            status => {
                OciError::Status { registry, what: what.to_owned(), status: status.as_u16(), message, retry_after }
            }
        }
    }

    /// What a refusing answer says, fit to be shown.
    pub(super) async fn message(&self, mut response: Response) -> String {
        let mut body = Vec::new();
        while body.len() < MAX_ERROR_BODY_BYTES as usize {
            match self.next_chunk(&mut response, "error").await {
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) | Err(_) => break,
            }
        }
        body.truncate(MAX_ERROR_BODY_BYTES as usize);
        error_message(&body).unwrap_or_else(|| response.status().to_string())
    }
}

/// The messages of an error body (OCI distribution-spec 1.1, "Error Codes"), else its text.
fn error_message(body: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Errors {
        errors: Vec<Error>,
    }
    #[derive(serde::Deserialize)]
    struct Error {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let text = match serde_json::from_slice::<Errors>(body) {
        Ok(errors) => {
            let messages = errors.errors.iter().map(|e| if e.message.is_empty() { &*e.code } else { &*e.message });
            messages.collect::<Vec<_>>().join("; ")
        }
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    };
    let text = printable(text.trim());
    (!text.is_empty() && !text.starts_with('<')).then_some(text)
}

fn digest_header(headers: &HeaderMap) -> Option<Digest> {
    headers.get(DIGEST_HEADER)?.to_str().ok()?.parse().ok()
}

pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    parse_retry_after(headers.get(RETRY_AFTER)?.to_str().ok()?, jiff::Timestamp::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_bodies_are_shown_without_markup_and_control_characters() {
        for (body, message) in [
            (r#"{"errors":[{"code":"DENIED","message":"no"},{"code":"X"}]}"#, Some("no; X")),
            ("quota\x1b[2J", Some("quota [2J")),
            ("<html>x", None),
            ("  ", None),
        ] {
            assert_eq!(error_message(body.as_bytes()).as_deref(), message);
        }
    }
}
