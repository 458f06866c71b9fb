//! The HTTP client under a registry's: TLS, proxies, and which redirects are followed.

use super::direct::DirectHosts;
use super::endpoint::{Endpoint, Trust, host_of};
use crate::{OciError, PullOptions};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const MAX_REDIRECTS: usize = 10;

/// The HTTP client: TLS by rustls with `ring`, the system's authorities and those configured, no downgrade by redirect.
pub(super) fn build_http(
    may_be_plain: bool,
    trust: &Trust,
    options: &PullOptions,
) -> Result<reqwest::Client, OciError> {
    // Fails only when a provider was chosen already, which serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut certificates = Vec::new();
    for path in options.ca_certificates.iter().chain(&trust.authorities) {
        let failed = |reason: String| OciError::CaCertificate { path: path.clone(), reason };
        let pem = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
        let found = reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| failed(error.to_string()))?;
        if found.is_empty() {
            return Err(failed("it holds no PEM certificate".to_owned()));
        }
        certificates.extend(found);
    }
    let shared_options = Arc::new(options.clone());
    let identity = read_identity(trust)?;
    let build = |only_given: bool| -> Result<reqwest::Client, OciError> {
        let options_of_redirects = Arc::clone(&shared_options);
        let redirects = reqwest::redirect::Policy::custom(move |attempt| {
            let host = host_of(attempt.url());
            if attempt.previous().len() > MAX_REDIRECTS {
                return attempt.error("too many redirects");
            }
            match attempt.url().scheme() {
                "https" => attempt.follow(),
                "http" if Endpoint::allows_plain(&host, &options_of_redirects) => attempt.follow(),
                _ => attempt.error(RefusedRedirect(host)),
            }
        });
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("ignite/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(options.connect_timeout)
            .redirect(redirects)
            .referer(false)
            .no_proxy();
        if let Some(proxy) = proxy(options)? {
            builder = builder.proxy(proxy);
        }
        if let Some(identity) = &identity {
            builder = builder.identity(identity.clone());
        }
        if trust.accepts_any_certificate {
            builder = builder.tls_danger_accept_invalid_certs(true);
        }
        let builder = if only_given {
            builder.tls_certs_only(certificates.clone())
        } else {
            builder.tls_certs_merge(certificates.clone())
        };
        builder.build().map_err(|source| OciError::HttpClient { source })
    };
    match build(false) {
        // A host without any certificate authority can still speak to a plain registry.
        Err(OciError::HttpClient { .. }) if may_be_plain => build(true),
        other => other,
    }
}

/// Who we are there: the first certificate with its key.
fn read_identity(trust: &Trust) -> Result<Option<reqwest::Identity>, OciError> {
    let Some((certificate, key)) = trust.identities.first() else { return Ok(None) };
    let failed = |path: &Path, reason: String| OciError::ClientCertificate { path: path.to_owned(), reason };
    let read = |path: &Path| std::fs::read(path).map_err(|error| failed(path, error.to_string()));
    let (mut pem, key_pem) = (read(certificate)?, read(key)?);
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let chain = chain.ok().filter(|chain| !chain.is_empty());
    let chain = chain.ok_or_else(|| failed(certificate, "it holds no PEM certificate".to_owned()))?;
    // What is wrong with a key must not quote it.
    let parsed = PrivateKeyDer::from_pem_slice(&key_pem);
    let parsed = parsed.map_err(|_| failed(key, "it holds no private key in PEM that is not encrypted".to_owned()))?;
    let pair = CertifiedKey::from_der(chain, parsed, &rustls::crypto::ring::default_provider());
    if let Err(error) = pair.and_then(|pair| pair.keys_match()) {
        return Err(failed(certificate, format!("it does not go with the key {}: {error}", key.display())));
    }
    if key != certificate {
        pem.push(b'\n');
        pem.extend(key_pem);
    }
    let identity = reqwest::Identity::from_pem(&pem);
    identity.map(Some).map_err(|_| failed(certificate, format!("it cannot be used with {}", key.display())))
}

/// Asked for each request, as redirects and token servers lead to other hosts.
fn proxy(options: &PullOptions) -> Result<Option<reqwest::Proxy>, OciError> {
    let checked = |proxy: &Option<String>| -> Result<Option<String>, OciError> {
        let Some(proxy) = proxy.as_deref().map(str::trim).filter(|proxy| !proxy.is_empty()) else { return Ok(None) };
        // A password before the @ is nobody's business.
        let shown = proxy.rsplit_once('@').map_or(proxy, |(_, place)| place);
        let invalid = |source| OciError::InvalidProxy { proxy: shown.to_owned(), source };
        reqwest::Proxy::all(proxy).map_err(invalid)?;
        Ok(Some(proxy.to_owned()))
    };
    let (http, https) = (checked(&options.proxies.http)?, checked(&options.proxies.https)?);
    if http.is_none() && https.is_none() {
        return Ok(None);
    }
    let direct = DirectHosts::parse(options.proxies.except.as_deref().unwrap_or_default());
    Ok(Some(reqwest::Proxy::custom(move |url| {
        let proxy = if url.scheme() == "https" { &https } else { &http };
        let port = url.port_or_known_default().unwrap_or_default();
        proxy.clone().filter(|_| !direct.holds(url.host_str().unwrap_or_default(), port))
    })))
}

/// What `step`, which speaks with `registry` about `what`, gives within `idle_timeout`.
pub(super) async fn timely<T>(
    step: impl Future<Output = reqwest::Result<T>>,
    registry: &str,
    what: &str,
    idle_timeout: Duration,
) -> Result<T, OciError> {
    match tokio::time::timeout(idle_timeout, step).await {
        Err(_) => Err(OciError::Stalled { registry: registry.to_owned(), what: what.to_owned(), waited: idle_timeout }),
        Ok(result) => result.map_err(|source| transport_error(source, registry, what)),
    }
}

fn transport_error(source: reqwest::Error, registry: &str, what: &str) -> OciError {
    let (registry, what) = (registry.to_owned(), what.to_owned());
    if let Some(host) = refused_redirect(&source) {
        return OciError::PlainHttpRefused { host: host.to_owned() };
    }
    if source.is_redirect() {
        return OciError::InvalidAnswer { registry, what, reason: format!("more than {MAX_REDIRECTS} redirects") };
    }
    // URLs of storage behind a registry carry signatures: they are not shown.
    let source = source.without_url();
    if is_untrusted(&source) {
        return OciError::Untrusted { registry, source };
    }
    match source.is_connect() {
        true => OciError::Unreachable { registry, source },
        false => OciError::Interrupted { registry, what, source },
    }
}

/// A redirect to a host that may not be spoken to without TLS.
#[derive(Debug, thiserror::Error)]
#[error("redirected to {0} without TLS")]
struct RefusedRedirect(String);

/// The host of a redirect that was refused, when that is what `error` is about.
fn refused_redirect(error: &reqwest::Error) -> Option<&str> {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if let Some(RefusedRedirect(host)) = error.downcast_ref() {
            return Some(host);
        }
        source = error.source();
    }
    None
}

/// True when the server's certificate is what was wrong: that is no passing trouble.
fn is_untrusted(error: &reqwest::Error) -> bool {
    let is_certificate = |error: &rustls::Error| matches!(error, rustls::Error::InvalidCertificate(_));
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if error.downcast_ref().is_some_and(is_certificate) {
            return true;
        }
        // An I/O error's source is the source of what it wraps: that itself must be asked for.
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(|error| error.get_ref());
        source = match wrapped {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    false
}
