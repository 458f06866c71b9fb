//! `doctor`: what this host can do, what is missing, and what to type.

use crate::engine::Engine;
use ignite_store::atomic;
use ignite_vmm::jail::{self, JailSpec};
use ignite_vmm::{IsolationWanted, drivers};

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckStatus {
    /// As it should be.
    Ok,
    /// It works, but not as well as it could.
    Warning,
    /// VMs will not run.
    Failure,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What.
    pub name: &'static str,
    /// How it went.
    pub status: CheckStatus,
    /// What was found.
    pub detail: String,
    /// What to do.
    pub hint: Option<String>,
}

impl Check {
    fn ok(name: &'static str, detail: impl Into<String>) -> Check {
        Check { name, status: CheckStatus::Ok, detail: detail.into(), hint: None }
    }
    fn warning(name: &'static str, detail: impl Into<String>, hint: Option<String>) -> Check {
        Check { name, status: CheckStatus::Warning, detail: detail.into(), hint }
    }
    fn failure(name: &'static str, detail: impl Into<String>, hint: Option<String>) -> Check {
        Check { name, status: CheckStatus::Failure, detail: detail.into(), hint }
    }
}

/// Free space below which imports are likely to fail, in bytes.
const LITTLE_SPACE_BYTES: u64 = 2 << 30;

impl Engine {
    /// Looks at everything a VM needs here.
    pub async fn doctor(&self) -> Vec<Check> {
        let mut checks = vec![self.check_data_dir(), self.check_run_dir(), self.check_supervisor(), self.check_vmm()];
        checks.extend(self.check_vmm_programs());
        checks.push(self.check_isolation());
        checks.extend([self.check_network(), self.check_kernels(), self.check_images().await]);
        checks
    }

    fn check_data_dir(&self) -> Check {
        let dir = self.paths.data();
        let shown = dir.display();
        if let Err(error) = tempfile::tempfile_in(dir) {
            return Check::failure(
                "data directory",
                format!("{shown}: {error}"),
                Some("use another: ignite --data-dir DIR".to_owned()),
            );
        }
        match rustix::fs::statvfs(dir) {
            Ok(space) if space.f_bavail * space.f_frsize < LITTLE_SPACE_BYTES => Check::warning(
                "data directory",
                format!("{shown}: only {} MB free", (space.f_bavail * space.f_frsize) >> 20),
                Some("free some space: ignite image prune".to_owned()),
            ),
            Ok(space) => {
                Check::ok("data directory", format!("{shown}: {} GB free", (space.f_bavail * space.f_frsize) >> 30))
            }
            Err(error) => Check::warning("data directory", format!("{shown}: {error}"), None),
        }
    }

    fn check_run_dir(&self) -> Check {
        let dir = self.paths.run();
        match atomic::ensure_dir(dir, 0o700) {
            Ok(()) => Check::ok("run directory", dir.display().to_string()),
            Err(error) => {
                Check::failure("run directory", error.to_string(), Some("use another: IGNITE_RUN_DIR=DIR".to_owned()))
            }
        }
    }

    fn check_supervisor(&self) -> Check {
        let program = &self.settings.spawn_program;
        match std::fs::metadata(program) {
            Ok(metadata) if metadata.is_file() => Check::ok("supervisor", program.display().to_string()),
            _ => Check::failure(
                "supervisor",
                format!("{} is not there", program.display()),
                Some("install ignite-spawn beside ignite: make install".to_owned()),
            ),
        }
    }

    fn check_vmm(&self) -> Check {
        let chosen = ignite_vmm::choice::choose(None, &self.vmm_programs(), &ignite_vmm::choice::Needs::default());
        match chosen {
            Ok(chosen) => {
                let found = chosen.capabilities;
                let detail =
                    format!("{} {} ({})", chosen.driver.name(), found.program.display(), found.accelerator.as_str());
                match found.accelerator_note {
                    Some(note) => Check::warning("VMM", format!("{detail}: {note}"), None),
                    None => Check::ok("VMM", detail),
                }
            }
            Err(error) => Check::failure("VMM", error.to_string(), crate::EngineError::from(error).hint()),
        }
    }

    /// Each VMM by itself: the one that would run VMs is another question.
    fn check_vmm_programs(&self) -> Vec<Check> {
        let shown = |driver: &dyn ignite_vmm::Driver| {
            let name = match driver.name() {
                "firecracker" => "Firecracker",
                _ => "QEMU",
            };
            let program = match driver.program() {
                Ok(program) => program,
                Err(error) => return Check::warning(name, error.to_string(), crate::EngineError::from(error).hint()),
            };
            let detail = match driver.version() {
                Ok(version) => format!("{version} ({})", program.display()),
                Err(error) => return Check::warning(name, error.to_string(), crate::EngineError::from(error).hint()),
            };
            match driver.capabilities() {
                Ok(_) => Check::ok(name, detail),
                Err(error) => {
                    Check::warning(name, format!("{detail}: {error}"), crate::EngineError::from(error).hint())
                }
            }
        };
        drivers::all(&self.vmm_programs()).iter().map(|driver| shown(driver.as_ref())).collect()
    }

    /// How VMMs can be kept from this host, found by making such a jail.
    fn check_isolation(&self) -> Check {
        const NAME: &str = "isolation";
        let run_dir = match tempfile::Builder::new().prefix("doctor-").tempdir_in(self.paths.run()) {
            Ok(dir) => dir,
            Err(error) => return Check::failure(NAME, error.to_string(), None),
        };
        let limits = jail::Limits { memory_bytes: Some(64 << 20), cpu_percent: Some(100), max_tasks: Some(16) };
        let probed = jail::probe(&JailSpec {
            id: format!("doctor-{}", std::process::id()),
            program: self.settings.spawn_program.clone(),
            arguments: Vec::new(),
            inherited: Vec::new(),
            reopened: Vec::new(),
            stdio: None,
            isolation: IsolationWanted::BestEffort,
            run_dir: run_dir.path().to_owned(),
            shares: jail::system_libraries(),
            network: jail::Network::Own,
            limits,
        });
        if let Err(error) = jail::remove_leftovers(run_dir.path()) {
            return Check::failure(NAME, error.to_string(), None);
        }
        let told = match probed {
            Ok(told) => told,
            Err(error) => return Check::failure(NAME, error.to_string(), None),
        };
        let missing: Vec<String> = told
            .iter()
            .filter(|(_, how)| *how != jail::APPLIED)
            .map(|(measure, how)| format!("{measure}: {how}"))
            .collect();
        match missing.is_empty() {
            true => Check::ok(NAME, format!("VMMs get all of it: {}", told.into_keys().collect::<Vec<_>>().join(", "))),
            false => Check::warning(
                NAME,
                missing.join("; "),
                Some("VMs run with what there is; --isolation strict refuses them".to_owned()),
            ),
        }
    }

    fn check_network(&self) -> Check {
        match ignite_network::plugins::auto_mode() {
            "none" => Check::warning(
                "network",
                "VMs get none: passt is not installed",
                Some("install it: apt-get install passt".to_owned()),
            ),
            mode => Check::ok("network", format!("VMs get {mode:?}")),
        }
    }

    async fn check_images(&self) -> Check {
        let images = match self.list_images() {
            Ok(images) => images,
            Err(error) => return Check::failure("images", error.to_string(), error.hint()),
        };
        let mut damaged = Vec::new();
        for uid in images.iter().filter_map(|image| image.metadata.uid.as_ref()) {
            match self.verify_image(uid).await {
                Ok(verdict) => {
                    damaged.extend(verdict.damaged.into_iter().map(|damage| format!("{}: {damage}", verdict.name)));
                }
                // Removed while we looked.
                Err(error) if error.kind() == crate::ErrorKind::NotFound => {}
                Err(error) => damaged.push(error.to_string()),
            }
        }
        match damaged.as_slice() {
            [] => Check::ok("images", format!("{} are as they were written", images.len())),
            _ => Check::failure(
                "images",
                format!("not as they were written: {}", damaged.join("; ")),
                Some("remove them and import them again: ignite image rm NAME".to_owned()),
            ),
        }
    }

    fn check_kernels(&self) -> Check {
        match self.default_kernel() {
            Ok(Some(kernel)) => Check::ok("kernel", kernel.metadata.name),
            Ok(None) => {
                let error = crate::EngineError::NoKernel;
                Check::warning("kernel", "none is imported", error.hint())
            }
            Err(error) => Check::failure("kernel", error.to_string(), error.hint()),
        }
    }
}
