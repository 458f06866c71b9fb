//! The engine: where its objects are, and how blocking work is done.

use crate::error::EngineError;
use crate::interrupted::Imports;
use ignite_api::{Image, Kernel, Uid, Vm};
use ignite_store::{Objects, Paths, atomic};
use std::path::PathBuf;
use std::sync::Arc;

/// Everything the engine is told; it reads nothing else of its surroundings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where objects live; absolute.
    pub data_dir: PathBuf,
    /// Where sockets of live VMs are; absolute, short enough for socket paths.
    pub run_dir: PathBuf,
    /// The `ignite-spawn` program.
    pub spawn_program: PathBuf,
    /// We are root.
    pub is_root: bool,
    /// The Firecracker to use; absent: the first in `bin` of the data directory, `program_dirs`, or where programs usually
    /// are.
    pub firecracker: Option<PathBuf>,
    /// Where Firecracker's releases are fetched from, when someone asks for that; absent: where its project publishes them.
    pub releases_url: Option<String>,
    /// Where the user's programs are.
    pub program_dirs: Vec<PathBuf>,
    /// Where files with values lie that manifests only name.
    pub secrets_dir: PathBuf,
    /// How images are pulled.
    pub pull: ignite_oci::PullOptions,
    /// Where the host's own kernels are, usually `/boot`.
    pub boot_dir: PathBuf,
    /// Where their modules are, usually `/lib/modules`.
    pub modules_dir: PathBuf,
}

/// The verbs. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Engine {
    pub(crate) settings: Arc<Settings>,
    pub(crate) paths: Paths,
    pub(crate) vms: Objects<Vm>,
    pub(crate) images: Objects<Image>,
    pub(crate) kernels: Objects<Kernel>,
    pub(crate) imports: Imports,
}

impl Engine {
    /// Opens the engine; makes the data directory when it is missing.
    pub fn open(settings: Settings) -> Result<Engine, EngineError> {
        atomic::ensure_dir(&settings.data_dir, 0o755)?;
        Ok(Engine {
            paths: Paths::new(&settings.data_dir, &settings.run_dir),
            vms: Objects::new(&settings.data_dir),
            images: Objects::new(&settings.data_dir),
            kernels: Objects::new(&settings.data_dir),
            imports: Imports::default(),
            settings: Arc::new(settings),
        })
    }

    /// The VM that the query names: exact uid or name, or a unique beginning of either.
    pub fn find_vm(&self, query: &str) -> Result<Uid, EngineError> {
        Ok(self.vms.find(query)?)
    }

    /// Does blocking work away from the event loop.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Engine) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, EngineError> {
        let engine = self.clone();
        match tokio::task::spawn_blocking(move || work(&engine)).await {
            Ok(result) => result,
            Err(error) => Err(EngineError::Worker(error.to_string())),
        }
    }
}

/// A fresh uid.
pub(crate) fn new_uid() -> Result<Uid, EngineError> {
    Ok(Uid::from_bytes(random_bytes()?))
}

/// Random bytes of the operating system.
pub(crate) fn random_bytes<const N: usize>() -> Result<[u8; N], EngineError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| EngineError::Random(error.to_string()))?;
    Ok(bytes)
}

/// Name of a VM for messages: its name, else its uid.
pub(crate) fn title(vm: &Vm) -> String {
    match (&vm.metadata.uid, vm.metadata.name.is_empty()) {
        (Some(uid), true) => uid.to_string(),
        _ => vm.metadata.name.clone(),
    }
}
