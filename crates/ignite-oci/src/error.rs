//! What can go wrong with images, one variant per failed operation.

use ignite_api::{DOCKER_HUB, chain_of};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// How standard input is called in messages.
pub(crate) const STDIN_LABEL: &str = "standard input";

/// Why an image could not be resolved, fetched, stored or read. Nothing half-made is left in the store; interrupted
/// downloads are kept for the next attempt.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what each variant and field means")]
pub enum OciError {
    // The content store.
    #[error("{action} {}", path.display())]
    Store { action: &'static str, path: PathBuf, source: io::Error },
    #[error("{} is not an OCI image layout: {reason}", path.display())]
    NotALayout { path: PathBuf, reason: String },
    #[error("image store {} is in use by an import", path.display())]
    StoreBusy { path: PathBuf },
    #[error("image store does not hold {digest}")]
    BlobMissing { digest: String },
    #[error("image store's copy of {digest} is damaged")]
    BlobDamaged { digest: String },
    #[error("write the archive")]
    WriteArchive { source: io::Error },
    #[error("read layer {digest}")]
    OpenLayer { digest: String, source: io::Error },

    // Content.
    #[error("invalid digest {text:?}: expected sha256:<64 hex digits> or sha512:<128 hex digits>")]
    InvalidDigest { text: String },
    #[error("{what} has digest {actual}, expected {expected}")]
    DigestMismatch { what: String, expected: String, actual: String },
    #[error("{what} has {actual} bytes, expected {expected}")]
    SizeMismatch { what: String, expected: u64, actual: u64 },
    #[error("{what} is larger than {limit_bytes} bytes")]
    TooLarge { what: String, limit_bytes: u64 },
    #[error("{what} is invalid: {reason}")]
    InvalidDocument { what: String, reason: String },
    #[error("{image} is a Docker schema 1 image, a format withdrawn in 2019")]
    Schema1 { image: String },
    #[error("{image} is not a container image but {media_type}")]
    NotAnImage { image: String, media_type: String },
    #[error("layer {digest} is not distributed by the registry but must be fetched from elsewhere ({from})")]
    ForeignLayer { digest: String, from: String },
    #[error("layer {digest} has the unsupported format {format}")]
    UnsupportedLayer { digest: String, format: String },
    #[error("{image} is not available for {wanted}, only for: {available}")]
    NoSuchPlatform { image: String, wanted: String, available: String },
    #[error("{image} is made for {found}, not for {wanted}")]
    PlatformMismatch { image: String, wanted: String, found: String },

    // Registries.
    #[error("{reference:?} does not name an image in a registry: {reason}")]
    InvalidReference { reference: String, reason: &'static str },
    #[error("{reference} is blocked by registries.conf ({prefix})")]
    Blocked { reference: String, prefix: String },
    #[error("registry configuration {}: {reason}", path.display())]
    RegistriesConf { path: PathBuf, reason: String },
    #[error("none of {} places has {reference}:\n{}", tried.len(), list_tried(tried))]
    NoPlaceHas { reference: String, tried: Vec<(String, OciError)> },
    #[error("{host} may not be spoken to without TLS")]
    PlainHttpRefused { host: String },
    #[error("prepare the HTTP client")]
    HttpClient { source: reqwest::Error },
    #[error("certificate authority {}: {reason}", path.display())]
    CaCertificate { path: PathBuf, reason: String },
    #[error("client certificate {}: {reason}", path.display())]
    ClientCertificate { path: PathBuf, reason: String },
    #[error("proxy {proxy:?} is invalid")]
    InvalidProxy { proxy: String, source: reqwest::Error },
    #[error("credentials for {registry} from {}: {reason}", config.display())]
    Credentials { registry: String, config: PathBuf, reason: String },
    #[error("{registry} cannot be reached")]
    Unreachable { registry: String, source: reqwest::Error },
    #[error("the certificate of {registry} is not trusted")]
    Untrusted { registry: String, source: reqwest::Error },
    #[error("{registry} asks for an authentication that is not supported: {challenge}")]
    UnsupportedChallenge { registry: String, challenge: String },
    #[error("{registry} refuses access to {repository}{}: {message}", if *with_credentials { " with the configured credentials" } else { "" })]
    Unauthorized { registry: String, repository: String, with_credentials: bool, message: String },
    #[error("{registry} refuses this user and password: {message}")]
    LoginRefused { registry: String, message: String },
    #[error("{registry} denies access to {repository}: {message}")]
    Denied { registry: String, repository: String, message: String },
    #[error("{reference} not found")]
    NotFound { reference: String },
    #[error("{name} means an image of Docker Hub")]
    NotOnHub { name: String, others: Vec<String>, source: Box<OciError> },
    #[error("{registry} limits the rate of requests: {message}")]
    RateLimited { registry: String, message: String, retry_after: Option<Duration> },
    #[error("{registry} answers {what} with status {status}: {message}")]
    Status { registry: String, what: String, status: u16, message: String, retry_after: Option<Duration> },
    #[error("{registry} answers {what} wrongly: {reason}")]
    InvalidAnswer { registry: String, what: String, reason: String },
    #[error("{what} from {registry} was interrupted")]
    Interrupted { registry: String, what: String, source: reqwest::Error },
    #[error("{what} from {registry} ended after {received} of {expected} bytes")]
    CutShort { registry: String, what: String, received: u64, expected: u64 },
    #[error("{what} from {registry}: nothing came for {} s", waited.as_secs())]
    Stalled { registry: String, what: String, waited: Duration },
    #[error("gave up after {attempts} attempts")]
    GaveUp { attempts: u32, source: Box<OciError> },

    // Engines.
    #[error("{engine} cannot be reached at {}", socket.display())]
    EngineUnreachable { engine: &'static str, socket: PathBuf, source: io::Error },
    #[error("{engine} at {} could not {what}: {message}", socket.display())]
    EngineRefused { engine: &'static str, socket: PathBuf, what: String, message: String },

    // Layouts and archives.
    #[error("read {}", path.display())]
    ReadSource { path: PathBuf, source: io::Error },
    #[error("read image archive {archive}")]
    ReadArchive { archive: String, source: io::Error },
    #[error("image archive {archive}: {reason}")]
    InvalidArchive { archive: String, reason: String },
    #[error("image archive {archive} lacks {member}")]
    MemberMissing { archive: String, member: String },
    #[error("{location} holds {} images: {}", names.len(), names.join(", "))]
    SeveralImages { location: String, names: Vec<String> },
    #[error("{location} holds no image {wanted:?}, only: {}", if names.is_empty() { "images without a name".to_owned() } else { names.join(", ") })]
    NoSuchImage { location: String, wanted: String, names: Vec<String> },

    // Sources.
    #[error("no standard input to read the image from")]
    NoStandardInput,
    #[error("the digest of {location} is known only by reading all of it")]
    DigestNeedsReading { location: String },
    #[error("a worker thread of the fetch ended early")]
    WorkerLost,
}

impl OciError {
    pub(crate) fn store(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> OciError {
        let path = path.into();
        move |source| OciError::Store { action, path, source }
    }

    /// What the user may do about it: a sentence, with the next command to type where there is one.
    pub fn hint(&self) -> Option<String> {
        match self {
            OciError::Unauthorized { registry, repository, with_credentials, .. } => {
                Some(match (registry.as_str(), with_credentials) {
                    (DOCKER_HUB, false) => format!(
                        "Docker Hub says this of repositories that do not exist, too: check the name {repository:?}; for a private one log in: ignite login"
                    ),
                    ("docker.io", true) => format!(
                        "Docker Hub says this of repositories that do not exist, too: check the name {repository:?}, then the credentials in ~/.docker/config.json"
                    ),
                    (_, false) => {
                        format!("log in, so that ~/.docker/config.json has credentials: ignite login {registry}")
                    }
                    (_, true) => format!("check the credentials in ~/.docker/config.json: ignite login {registry}"),
                })
            }
            OciError::LoginRefused { .. } => {
                Some("check both; where the registry has two factors, use a token of yours in place of the password".into())
            }
            OciError::Denied { registry, .. } => {
                Some(format!("these credentials may not pull this repository; use others: ignite login {registry}"))
            }
            OciError::Credentials { config, .. } => {
                Some(format!("check {} and that its credential helper is installed and unlocked", config.display()))
            }
            OciError::NotFound { reference } => Some(format!(
                "check name and tag; the tags there are: skopeo list-tags docker://{}",
                reference
                    .split('@')
                    .next()
                    .unwrap_or(reference)
                    .rsplit_once(':')
                    .map_or(reference.as_str(), |(name, tag)| { if tag.contains('/') { reference } else { name } })
            )),
            OciError::NotOnHub { others, .. } => Some(format!(
                "registries.conf lets other tools search elsewhere; give the name in full: {}",
                others.join(", or ")
            )),
            OciError::PlainHttpRefused { host } => {
                Some(format!("list {host} as a plain http registry in the configuration if its network is trusted"))
            }
            OciError::Unreachable { registry, .. } => Some(format!(
                "check the name and the network: curl -v https://{registry}/v2/ (a registry without TLS must be listed as plain http, one with its own authority needs its certificate configured)"
            )),
            OciError::ClientCertificate { .. } => Some(
                "a registry's directory in certs.d holds NAME.cert and NAME.key, both PEM: see containers-certs.d(5)"
                    .to_owned(),
            ),
            OciError::Untrusted { registry, .. } => Some(format!(
                "trust its authority: put the certificate into /etc/containers/certs.d/{registry}/ca.crt, or use \
                 --ca-certificate FILE"
            )),
            OciError::RateLimited { registry, retry_after, .. } => {
                let long = retry_after.map(|time| format!(" {} s", time.as_secs())).unwrap_or_default();
                Some(format!("wait{long}, or log in for a higher limit: ignite login {registry}"))
            }
            OciError::NoSuchPlatform { .. } | OciError::PlatformMismatch { .. } => {
                Some("choose an image made for this processor".to_owned())
            }
            // An archive that came through a pipe cannot be asked again for another image.
            OciError::SeveralImages { location, names } if location == STDIN_LABEL => names.first().map(|name| {
                format!("save only one, or write them to a file and say which: docker-archive:FILE:{name}")
            }),
            OciError::SeveralImages { location, names } => {
                names.first().map(|name| format!("say which one, for example {location}:{name}"))
            }
            // A file is not part of the name; a source is.
            OciError::NoSuchImage { location, names, .. } if location.starts_with('/') || location == STDIN_LABEL => {
                names.first().map(|name| format!("for example {name}"))
            }
            OciError::NoSuchImage { location, names, .. } => {
                names.first().map(|name| format!("for example {location}:{name}"))
            }
            OciError::EngineUnreachable { engine: "containerd", .. } => Some(
                "start it, or say where it is: IGNITE_CONTAINERD_ADDRESS=/run/containerd/containerd.sock (as root, or a \
                 user who may use the socket)"
                    .to_owned(),
            ),
            OciError::EngineUnreachable { .. } => Some(
                "start it, or say where it is: DOCKER_HOST=unix:///var/run/docker.sock (as root, or a user in the group \
                 docker)"
                    .to_owned(),
            ),
            OciError::NoStandardInput => Some("for example: docker save IMAGE | ignite image import -".to_owned()),
            OciError::Schema1 { image } => {
                Some(format!("push it again with a current tool: docker pull {image} && docker push {image}"))
            }
            OciError::StoreBusy { .. } => Some("try again when the import has ended".to_owned()),
            OciError::GaveUp { source, .. } => {
                source.hint().or_else(|| Some("run the same command again: what has arrived is kept".to_owned()))
            }
            OciError::NoPlaceHas { tried, .. } => tried.last().and_then(|(_, error)| error.hint()),
            OciError::Blocked { .. } => Some("ask whoever administers this host's registries.conf".to_owned()),
            OciError::RegistriesConf { path, .. } => Some(format!("correct or remove {}", path.display())),
            OciError::Store { source, .. } | OciError::WriteArchive { source } if is_full(source) => {
                Some("the disk is full; nothing half-made was kept. Free some space: ignite system df, ignite system prune".to_owned())
            }
            OciError::BlobDamaged { .. } => Some("see what it belongs to: ignite image verify; then import it again".to_owned()),
            OciError::BlobMissing { .. } => Some("pull the image again".to_owned()),
            OciError::DigestMismatch { .. } | OciError::SizeMismatch { .. } => {
                Some("the content was damaged or tampered with on its way; nothing of it was kept".to_owned())
            }
            _ => None,
        }
    }

    /// The failure itself, without how often it was tried or what else the name may mean.
    pub fn failure(&self) -> &OciError {
        match self {
            OciError::GaveUp { source, .. } | OciError::NotOnHub { source, .. } => source.failure(),
            other => other,
        }
    }

    /// True when another place may have what this one could not give.
    pub(crate) fn is_of_the_place(&self) -> bool {
        match self {
            OciError::GaveUp { source, .. } => source.is_of_the_place(),
            OciError::PlainHttpRefused { .. }
            | OciError::HttpClient { .. }
            | OciError::CaCertificate { .. }
            | OciError::ClientCertificate { .. }
            | OciError::Credentials { .. }
            | OciError::Unreachable { .. }
            | OciError::Untrusted { .. }
            | OciError::UnsupportedChallenge { .. }
            | OciError::Unauthorized { .. }
            | OciError::Denied { .. }
            | OciError::NotFound { .. }
            | OciError::RateLimited { .. }
            | OciError::Status { .. }
            | OciError::InvalidAnswer { .. }
            | OciError::Interrupted { .. }
            | OciError::CutShort { .. }
            | OciError::Stalled { .. }
            | OciError::DigestMismatch { .. }
            | OciError::SizeMismatch { .. }
            | OciError::TooLarge { .. } => true,
            _ => false,
        }
    }

    /// True when the same request may succeed a moment later.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            OciError::RateLimited { .. }
            | OciError::Interrupted { .. }
            | OciError::CutShort { .. }
            | OciError::Stalled { .. } => true,
            OciError::Status { status, .. } => matches!(status, 408 | 416 | 500..=599),
            _ => false,
        }
    }

    /// The pause the server asked for.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            OciError::RateLimited { retry_after, .. } | OciError::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// One line for each place, with all causes.
fn list_tried(tried: &[(String, OciError)]) -> String {
    let lines = tried.iter().map(|(place, error)| format!("{place}: {}", chain_of(error)));
    lines.collect::<Vec<_>>().join("\n")
}
