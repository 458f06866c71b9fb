//! QEMU's microvm machine as a driver: KVM where it works, else software emulation.
//!
//! ```text
//!  BootSpec --open--> descriptors --translate (pure)--> argv --process::spawn--> QEMU --client (QMP)--> VmmMachine
//! ```

mod arch;
mod client;
mod confine;
mod machine;
mod open;
mod translate;

use crate::boot_spec::{Accelerator, BootSpec, Carrier, DriveLocator, MAX_VCPU_COUNT, TrafficLimits};
use crate::choice;
use crate::host::{self, KvmVerdict};
use crate::host_files::into_async;
use crate::huge_pages;
use crate::jail;
use crate::machine::{Capabilities, Driver, Machine, RunDir, VmmError};
use crate::program;
use crate::vmm_log::VmmLog;
use crate::vmm_machine::{VmmMachine, crash_detail};
use arch::Arch;
use async_trait::async_trait;
use machine::Qemu;
use std::path::{Path, PathBuf};
use translate::HostFacts;

/// File of the run directory that holds what QEMU says.
const LOG_FILE: &str = "qemu.log";

/// The driver; [`QemuDriver::at`] for a QEMU that is not in a standard directory.
#[derive(Debug, Clone, Default)]
pub struct QemuDriver {
    program: Option<PathBuf>,
}

impl QemuDriver {
    /// A driver for this program.
    pub fn at(program: impl Into<PathBuf>) -> Self {
        QemuDriver { program: Some(program.into()) }
    }

    fn installed(&self, arch: &Arch) -> Result<PathBuf, VmmError> {
        let found = match &self.program {
            Some(program) => program.is_file().then(|| program.clone()),
            None => program::find(arch.program, &[]),
        };
        found.ok_or_else(|| VmmError::ProgramMissing {
            program: arch.program.to_owned(),
            hint: format!("install it: apt-get install {}", arch.package),
        })
    }
}

#[async_trait]
impl Driver for QemuDriver {
    fn name(&self) -> &'static str {
        "qemu"
    }

    fn program(&self) -> Result<PathBuf, VmmError> {
        self.installed(host_arch()?)
    }

    fn capabilities(&self) -> Result<Capabilities, VmmError> {
        let program = self.program()?;
        let (accelerator, accelerator_note) = match host::kvm() {
            KvmVerdict::Usable => (Accelerator::Kvm, None),
            KvmVerdict::Unusable(reason) => {
                (Accelerator::Tcg, Some(format!("{reason}: guests run in software emulation, many times slower")))
            }
        };
        Ok(Capabilities {
            accelerator,
            accelerator_note,
            program,
            drive_locator: DriveLocator::Serial,
            carriers: vec![Carrier::TapQueue, Carrier::Stream],
            needs_vsock: false,
            describes_devices: true,
            limits_traffic: false,
            has_pmem: false,
            has_huge_pages: true,
            has_cpu_templates: false,
            max_vcpu_count: MAX_VCPU_COUNT,
        })
    }

    fn version(&self) -> Result<String, VmmError> {
        let said = program::ask_version(&self.program()?)?;
        Ok(parse_version(&said).to_owned())
    }

    async fn boot(&self, spec: &BootSpec, dir: &RunDir) -> Result<Box<dyn Machine>, VmmError> {
        spec.validate()?;
        let arch = host_arch()?;
        let needed = translate::FIXED_VIRTIO_DEVICES + spec.drives.len() + spec.nics.len();
        if needed > arch.virtio_slots {
            let room = arch.virtio_slots - translate::FIXED_VIRTIO_DEVICES;
            return Err(VmmError::Unsupported {
                what: format!("a QEMU machine has room for {room} drives and network interfaces together"),
                hint: "attach fewer".into(),
            });
        }
        if spec.nics.iter().any(|nic| nic.limits != TrafficLimits::default()) {
            return Err(VmmError::Unfit {
                vmm: self.name().to_owned(),
                why: "it does not limit a VM's traffic".into(),
                hint: choice::TRAFFIC_HINT.into(),
            });
        }
        if spec.drives.iter().any(|drive| drive.is_pmem) {
            return Err(choice::no_pmem(self.name()));
        }
        if spec.cpu_template.is_some() {
            let (why, hint) = (choice::NO_CPU_TEMPLATES.to_owned(), choice::CPU_TEMPLATE_HINT.to_owned());
            return Err(VmmError::Unfit { vmm: self.name().to_owned(), why, hint });
        }
        if spec.has_huge_pages {
            huge_pages::check(spec.mem_size_mib)?;
        }
        let program = self.installed(arch)?;
        let accelerator = match spec.accelerator {
            Some(accelerator) => accelerator,
            None => self.capabilities()?.accelerator,
        };
        let tsc_khz = if accelerator == Accelerator::Tcg { host::tsc_khz() } else { None };
        start(spec, dir, arch, &program, HostFacts { accelerator, tsc_khz }).await
    }
}

fn host_arch() -> Result<&'static Arch, VmmError> {
    arch::HOST.ok_or_else(|| VmmError::Unsupported {
        what: "this build knows no QEMU machine for this architecture".into(),
        hint: "run it on x86-64 or aarch64".into(),
    })
}

/// `QEMU emulator version 7.2.22 (Debian …)` → `7.2.22 (Debian …)`.
fn parse_version(line: &str) -> &str {
    line.strip_prefix("QEMU emulator version ").unwrap_or(line)
}

async fn start(
    spec: &BootSpec,
    dir: &RunDir,
    arch: &Arch,
    program: &Path,
    host: HostFacts,
) -> Result<Box<dyn Machine>, VmmError> {
    let opened = open::open(spec)?;
    let arguments = translate::translate(spec, arch, host, &opened.numbers);
    let spawn_failed = |source| VmmError::Spawn { program: program.display().to_string(), source };
    let jail = confine::jail(spec, dir, program, host.accelerator, arguments, &opened);
    let jailed =
        jail::spawn(&jail).map_err(|source| VmmError::Jail { program: program.display().to_string(), source })?;
    drop(opened.inherited);
    let qemu = Qemu {
        client: client::Client::new(opened.qmp).map_err(spawn_failed)?,
        stderr: VmmLog::follow(jailed.stderr, &dir.0.join(LOG_FILE))
            .map_err(|source| VmmError::Open { path: dir.0.join(LOG_FILE), source })?,
    };
    let agent = Box::new(into_async(opened.agent).map_err(spawn_failed)?);
    let console = into_async(opened.console).map_err(spawn_failed)?;
    let mut machine = VmmMachine::new(jailed.process, qemu, agent, console, jailed.isolation);
    if let Err(error) = machine.vmm.client.start().await {
        return Err(boot_error(&mut machine, spec, error).await);
    }
    Ok(Box::new(machine))
}

/// Turns a failed start into what QEMU said about it; nothing of it runs any more.
async fn boot_error(machine: &mut VmmMachine<Qemu>, spec: &BootSpec, error: VmmError) -> VmmError {
    let has_hung_up = matches!(error, VmmError::Control { .. });
    if !has_hung_up {
        return error;
    }
    // It has closed QMP and is about to end, or has refused a command and would stay for ever.
    let has_ended = tokio::time::timeout(std::time::Duration::from_secs(2), machine.process.wait()).await.is_ok();
    let _ = machine.process.kill();
    let (status, said) = machine.ended().await;
    let detail = match (said.is_empty(), has_ended) {
        (false, _) => with_paths(&said, spec),
        (true, true) => crash_detail("QEMU", status, "", ""),
        (true, false) => error.to_string(),
    };
    VmmError::BootFailed { vmm: "qemu", detail }
}

/// QEMU knows its drives by descriptor; the reader knows them by path.
fn with_paths(said: &str, spec: &BootSpec) -> String {
    let drives = spec.drives.iter().enumerate().rev();
    drives.fold(said.to_owned(), |said, (index, drive)| {
        said.replace(&format!("/dev/fdset/{index}"), &drive.path.display().to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_says_what_to_type() {
        let error = QemuDriver::at("/nonexistent/qemu").capabilities().unwrap_err();
        assert!(matches!(&error, VmmError::ProgramMissing { hint, .. } if hint.contains("apt-get")), "{error:?}");
    }

    #[test]
    fn versions_are_read() {
        assert_eq!(parse_version("QEMU emulator version 7.2.22 (Debian 1)"), "7.2.22 (Debian 1)");
        assert_eq!(parse_version(""), "");
    }
}
