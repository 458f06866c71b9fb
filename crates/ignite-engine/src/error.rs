//! What a verb can fail at, in a small stable set of kinds.

use ignite_api::lifecycle::Denial;
use ignite_store::{QueryError, StoreError};
use std::path::PathBuf;
use thiserror::Error;

/// A verb that failed.
#[derive(Debug, Error)]
pub enum EngineError {
    /// Nothing, or more than one thing, has that name.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The object is not valid.
    #[error("the VM is not valid: {0}")]
    Invalid(String),
    /// A disk of the VM's owner cannot be used.
    #[error("the volume {name} cannot be used: {path} {reason}")]
    Volume {
        /// Its name in the VM.
        name: String,
        /// The file or device of the host.
        path: PathBuf,
        /// Why.
        reason: String,
        /// What to do.
        hint: &'static str,
    },
    /// A file with a value that a manifest only names cannot be used.
    #[error("the secret {path} {reason}")]
    Secret {
        /// The file of the host.
        path: PathBuf,
        /// Why.
        reason: String,
        /// What to do.
        hint: String,
    },
    /// The image cannot be had.
    #[error("could not get the image {image}")]
    Image {
        /// As the user wrote it.
        image: String,
        /// Why.
        #[source]
        source: ignite_oci::OciError,
    },
    /// A registry, or what is kept of credentials for it, is the trouble.
    #[error(transparent)]
    Registry(ignite_oci::OciError),
    /// The image is not here and may not be pulled.
    #[error("the image {0} is not imported")]
    ImageMissing(String),
    /// The image is here for other processors than are asked for, and may not be pulled.
    #[error("the image {image} is here for {found}, not for {wanted}")]
    OtherPlatform {
        /// As the user wrote it.
        image: String,
        /// What it is made for.
        found: String,
        /// What it is asked for.
        wanted: String,
    },
    /// The image is made for other processors.
    #[error("the image {image} is made for {platform}, which does not run here")]
    Foreign {
        /// As the user wrote it.
        image: String,
        /// What it is made for.
        platform: String,
    },
    /// A disk cannot be made.
    #[error("could not make {what}")]
    Disk {
        /// Which.
        what: String,
        /// Why.
        #[source]
        source: ignite_disk::DiskError,
    },
    /// There is no kernel to boot.
    #[error("there is no kernel to boot")]
    NoKernel,
    /// A kernel cannot do what the VM needs.
    #[error("the kernel {kernel} has no {feature}")]
    KernelLacks {
        /// Name of the kernel.
        kernel: String,
        /// What it lacks.
        feature: &'static str,
        /// What to do.
        hint: String,
    },
    /// The image has nothing to run.
    #[error("nothing to run in {image}: {source}")]
    NothingToRun {
        /// The image.
        image: String,
        /// Why.
        source: ignite_api::run_spec::NothingToRun,
    },
    /// The object is in use.
    #[error("unable to remove, {kind} {name} is in use by VM {user}")]
    InUse {
        /// `image` or `kernel`.
        kind: &'static str,
        /// Its name.
        name: String,
        /// Name of a VM that uses it.
        user: String,
    },
    /// The VM's phase does not allow it.
    #[error("cannot {verb} {name}: {denial}")]
    Denied {
        /// The verb.
        verb: &'static str,
        /// The VM.
        name: String,
        /// Why.
        denial: Denial,
    },
    /// The VM runs and the verb was not forced.
    #[error("{0} is running")]
    IsRunning(String),
    /// The supervisor refuses.
    #[error("{name}: {reason}")]
    Refused {
        /// The VM.
        name: String,
        /// Why.
        reason: String,
    },
    /// The guest could not start what was asked, with Docker's exit code for it.
    #[error("{message}")]
    Guest {
        /// Why.
        message: String,
        /// 125, 126 or 127.
        exit_code: u8,
    },
    /// The VM did not come up.
    #[error("{name} did not start: {message}")]
    StartFailed {
        /// The VM.
        name: String,
        /// Why, with its causes.
        message: String,
        /// What to do.
        hint: Option<String>,
        /// Docker's exit code for it.
        exit_code: u8,
    },
    /// The VMM cannot be used.
    #[error("no VMM can be used")]
    Vmm(#[from] ignite_vmm::VmmError),
    /// The network cannot be used.
    #[error("could not connect {name} to the network")]
    Network {
        /// The VM.
        name: String,
        /// Why.
        #[source]
        source: Box<ignite_network::NetworkError>,
    },
    /// What a network did for a VM could not be undone.
    #[error("could not disconnect {name} from the network")]
    Detach {
        /// The VM.
        name: String,
        /// Why.
        #[source]
        source: Box<ignite_network::NetworkError>,
    },
    /// A network cannot be shown.
    #[error(transparent)]
    Networks(ignite_network::NetworkError),
    /// The supervisor cannot be reached.
    #[error("could not talk to the supervisor of {name}")]
    Control {
        /// The VM.
        name: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The supervisor program cannot be started.
    #[error("could not start {program}")]
    Spawn {
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file cannot be read or written.
    #[error("could not {action} {path}")]
    File {
        /// What was being done.
        action: &'static str,
        /// To which path.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A copy makes no sense with what is there.
    #[error("cannot copy: {0}")]
    CopyRefused(String),
    /// A copy failed on this side.
    #[error("could not copy {what}")]
    Copy {
        /// What was copied.
        what: String,
        /// Why, with the entry.
        #[source]
        source: std::io::Error,
    },
    /// Nothing answers on a TCP port of the guest.
    #[error("nothing listens on port {port} of {name} after {seconds} seconds: {message}")]
    NotListening {
        /// The VM.
        name: String,
        /// The port, on the guest's loopback.
        port: u16,
        /// How long was waited.
        seconds: u64,
        /// What the guest says.
        message: String,
    },
    /// The guest's sshd has no host key that can be read.
    #[error("{name} has no host key in /etc/ssh")]
    NoHostKey {
        /// The VM.
        name: String,
    },
    /// A package cannot be fetched.
    #[error("could not fetch the package {package}: {detail}")]
    Package {
        /// The package.
        package: String,
        /// Why.
        detail: String,
    },
    /// Firecracker cannot be fetched.
    #[error("could not fetch Firecracker from {url}")]
    Firecracker {
        /// Its archive.
        url: String,
        /// Digest of the archive.
        digest: String,
        /// Where the program belongs.
        place: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Its project publishes no Firecracker for this processor.
    #[error("there is no Firecracker for {cpu}")]
    NoFirecracker {
        /// The processor.
        cpu: String,
    },
    /// Random numbers cannot be had.
    #[error("could not get random numbers: {0}")]
    Random(String),
    /// A worker thread broke.
    #[error("a worker thread broke: {0}")]
    Worker(String),
}

/// The small stable set that becomes exit code, HTTP status and requeue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// It is not there.
    NotFound,
    /// Its state, or someone else, is in the way.
    Conflict,
    /// What was asked makes no sense.
    Invalid,
    /// It is not allowed.
    Denied,
    /// This host or build cannot do it.
    Unsupported,
    /// Something it needs is not there now.
    Unavailable,
    /// It broke.
    Failed,
}

impl EngineError {
    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> EngineError {
        let path = path.into();
        move |source| EngineError::File { action, path, source }
    }

    /// It failed because a disk of the host, or what its user may have of it, is full.
    pub(crate) fn is_storage_full(&self) -> bool {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref::<std::io::Error>()
                && matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
            {
                return true;
            }
            cause = error.source();
        }
        false
    }

    /// Which of the few kinds it is.
    pub fn kind(&self) -> ErrorKind {
        use ignite_oci::OciError;
        match self {
            EngineError::Query(QueryError::NotFound { .. })
            | EngineError::ImageMissing(_)
            | EngineError::OtherPlatform { .. } => ErrorKind::NotFound,
            EngineError::Query(QueryError::Ambiguous { .. })
            | EngineError::Invalid(_)
            | EngineError::CopyRefused(_) => ErrorKind::Invalid,
            EngineError::Query(QueryError::Store(error)) | EngineError::Store(error) => match error {
                StoreError::Missing { .. } => ErrorKind::NotFound,
                StoreError::NameTaken { .. } | StoreError::Locked { .. } => ErrorKind::Conflict,
                StoreError::Io { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
                    ErrorKind::Denied
                }
                StoreError::Io { .. } | StoreError::Damaged { .. } | StoreError::NoUid { .. } => ErrorKind::Failed,
            },
            EngineError::Image { source, .. } | EngineError::Registry(source) => match source.failure() {
                OciError::NotFound { .. } | OciError::NoSuchImage { .. } => ErrorKind::NotFound,
                OciError::Unauthorized { .. } | OciError::Denied { .. } | OciError::LoginRefused { .. } => {
                    ErrorKind::Denied
                }
                OciError::Unreachable { .. } | OciError::RateLimited { .. } => ErrorKind::Unavailable,
                OciError::EngineUnreachable { .. } | OciError::NoPlaceHas { .. } => ErrorKind::Unavailable,
                OciError::Blocked { .. } => ErrorKind::Denied,
                _ => ErrorKind::Failed,
            },
            EngineError::Networks(ignite_network::NetworkError::NoSuchNetwork { .. }) | EngineError::NoKernel => {
                ErrorKind::NotFound
            }
            EngineError::Foreign { .. }
            | EngineError::KernelLacks { .. }
            | EngineError::NoFirecracker { .. }
            | EngineError::Vmm(_) => ErrorKind::Unsupported,
            EngineError::NothingToRun { .. } | EngineError::Volume { .. } | EngineError::Secret { .. } => {
                ErrorKind::Invalid
            }
            EngineError::InUse { .. }
            | EngineError::Denied { .. }
            | EngineError::IsRunning(_)
            | EngineError::Refused { .. } => ErrorKind::Conflict,
            EngineError::Network { .. }
            | EngineError::Detach { .. }
            | EngineError::Networks(_)
            | EngineError::NotListening { .. }
            | EngineError::Firecracker { .. }
            | EngineError::Package { .. } => ErrorKind::Unavailable,
            EngineError::NoHostKey { .. } => ErrorKind::NotFound,
            EngineError::Disk { .. }
            | EngineError::Copy { .. }
            | EngineError::Guest { .. }
            | EngineError::StartFailed { .. }
            | EngineError::Control { .. }
            | EngineError::Spawn { .. }
            | EngineError::File { .. }
            | EngineError::Random(_)
            | EngineError::Worker(_) => ErrorKind::Failed,
        }
    }

    /// Docker's exit code for a `run` or `exec` that failed this way.
    pub fn exit_code(&self) -> u8 {
        match self {
            EngineError::Guest { exit_code, .. } | EngineError::StartFailed { exit_code, .. } => *exit_code,
            _ => 125,
        }
    }

    /// What to do next, with the command to type where there is one.
    pub fn hint(&self) -> Option<String> {
        if self.is_storage_full() {
            return Some(
                "see what takes the space: ignite system df; free some: ignite system prune; or use a larger disk: ignite \
                 --data-dir DIR"
                    .into(),
            );
        }
        match self {
            EngineError::Query(QueryError::NotFound { kind, .. }) => Some(match *kind {
                "VM" => "see what there is: ignite ps -a".into(),
                kind => format!("see what there is: ignite {kind} ls"),
            }),
            EngineError::Query(QueryError::Ambiguous { .. }) => Some("type more of the name or the ID".into()),
            EngineError::Store(StoreError::NameTaken { kind: "VM", name, .. }) => {
                Some(format!("choose another --name, or remove that VM: ignite rm -f {name}"))
            }
            EngineError::Store(StoreError::Io { source, .. }) | EngineError::File { source, .. } => match source.kind() {
                std::io::ErrorKind::PermissionDenied => {
                    Some("use a directory of your own: ignite --data-dir DIR, or IGNITE_DATA_DIR=DIR".into())
                }
                _ => None,
            },
            EngineError::Image { source, .. } | EngineError::Registry(source) => source.hint(),
            EngineError::Firecracker { url, digest, place, .. } => Some(format!(
                "where there is a way to it, fetch {url} ({digest}), and put the firecracker in it at {}; VMs run on QEMU \
                 meanwhile",
                place.display()
            )),
            EngineError::NoFirecracker { .. } => Some("VMs run on QEMU here".into()),
            EngineError::Foreign { image, .. } => Some(format!(
                "import it for this host: ignite image import --platform {} {image}; or run it on a host of its own kind",
                ignite_oci::Platform::host()
            )),
            EngineError::OtherPlatform { image, wanted, .. } => {
                Some(format!("import it for that: ignite image import --platform {wanted} {image}"))
            }
            EngineError::ImageMissing(image) => Some(format!("import it: ignite image import {image}")),
            EngineError::NoKernel => Some(
                "import one: ignite kernel import apt:linux-image-cloud-amd64 (or a .deb, a vmlinux, or `host` for this \
                 host's own)"
                    .into(),
            ),
            EngineError::KernelLacks { hint, .. } | EngineError::Secret { hint, .. } => Some(hint.clone()),
            EngineError::Volume { hint, .. } => Some((*hint).to_owned()),
            EngineError::NothingToRun { image, .. } => Some(format!("say what to run: ignite run {image} COMMAND")),
            EngineError::InUse { .. } => Some("remove the VM first, or both with --force".into()),
            EngineError::Denied { name, denial, .. } => match denial {
                Denial::NotRunning => Some(format!("start it: ignite start {name}")),
                Denial::AlreadyRunning | Denial::BeingStarted => Some(format!("it is there: ignite attach {name}")),
                Denial::Paused => Some(format!("let it go on: ignite unpause {name}")),
                Denial::BeingStopped | Denial::NotPaused | Denial::Impossible => None,
            },
            EngineError::IsRunning(name) => Some(format!("stop it first, or: ignite rm -f {name}")),
            EngineError::StartFailed { hint, .. } => hint.clone(),
            EngineError::Vmm(
                ignite_vmm::VmmError::ProgramMissing { hint, .. }
                | ignite_vmm::VmmError::Unsupported { hint, .. }
                | ignite_vmm::VmmError::Unfit { hint, .. },
            ) => Some(hint.clone()),
            EngineError::Network { source, .. } => source.hint(),
            EngineError::Networks(source) => source.hint(),
            EngineError::Detach { name, .. } => Some(format!("try again, or leave it behind: ignite rm -f {name}")),
            EngineError::Control { .. } => Some("see what it is doing: ignite ps -a".into()),
            EngineError::Spawn { .. } => Some("ignite-spawn must lie beside ignite; install both: make install".into()),
            EngineError::NotListening { name, .. } => Some(format!(
                "is sshd installed and started? ignite exec needs none: ignite exec -it {name} sh"
            )),
            EngineError::NoHostKey { name } => {
                Some(format!("make one: ignite exec {name} ssh-keygen -A; or create the VM with --ssh"))
            }
            EngineError::Package { .. } => Some("run `apt-get update` first, or import a kernel file".into()),
            EngineError::CopyRefused(_) => {
                Some("the destination's directory must exist, and a directory never replaces a file".into())
            }
            EngineError::Query(QueryError::Store(_))
            | EngineError::Store(_)
            | EngineError::Copy { .. }
            | EngineError::Invalid(_)
            | EngineError::Disk { .. }
            | EngineError::Refused { .. }
            | EngineError::Guest { .. }
            | EngineError::Vmm(_)
            | EngineError::Random(_)
            | EngineError::Worker(_) => None,
        }
    }
}
