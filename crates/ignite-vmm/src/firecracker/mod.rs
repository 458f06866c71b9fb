//! Firecracker as a driver: the production VMM wherever KVM can run the guest.
//!
//! ```text
//!  BootSpec --open--> locked drives, run files --translate (pure)--> --config-file --jail::spawn--> Firecracker
//!                                                                       --api-sock --client--> VmmMachine
//! ```

mod client;
mod confine;
mod fifo;
mod lock;
mod machine;
mod metrics;
mod open;
mod translate;
mod version;
mod vsock;

use crate::boot_spec::{Accelerator, BootSpec, Carrier, CpuTemplate, DriveLocator, MAX_VCPU_COUNT, NicBackend};
use crate::choice;
use crate::host::{self, KvmVerdict};
use crate::host_files::{check_tap, into_async, stream_pair};
use crate::huge_pages;
use crate::jail;
use crate::machine::{Capabilities, Driver, ExitCause, Machine, RunDir, VmmError};
use crate::program;
use crate::vmm_log::VmmLog;
use crate::vmm_machine::VmmMachine;
use async_trait::async_trait;
use machine::Firecracker;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;
use version::{OLDEST, Version};

/// The program.
const PROGRAM: &str = "firecracker";
/// Its own CPU templates. It does not survive being asked for those of other architectures.
#[cfg(not(target_arch = "aarch64"))]
const CPU_TEMPLATES: [&str; 5] = ["C3", "T2", "T2A", "T2CL", "T2S"];
#[cfg(target_arch = "aarch64")]
const CPU_TEMPLATES: [&str; 1] = ["V1N1"];
/// How long it may take from its start to a running guest.
const BOOT_DEADLINE: Duration = Duration::from_secs(60);
/// How long one that has hung up may take to end.
const END_DEADLINE: Duration = Duration::from_secs(2);
/// Time between two looks whether it answers: nothing tells when a socket appears.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);
/// How its threads of virtual CPUs are called, at their start.
const VCPU_THREAD: &[u8] = b"fc_vcpu";
/// How long these are looked for before it is asked all the same: they may be hidden (`hidepid`).
const QUIET_TIME: Duration = Duration::from_millis(300);
/// Files of the run directory that hold what it says.
const STDERR_FILE: &str = "firecracker.stderr.log";
const LOG_FILE: &str = "firecracker.log";

/// The driver; [`FirecrackerDriver::at`] for a Firecracker that is not in a standard directory.
#[derive(Debug, Clone, Default)]
pub struct FirecrackerDriver {
    program: Option<PathBuf>,
    directories: Vec<PathBuf>,
    /// What the program says of itself, once it was asked.
    version: OnceLock<Version>,
}

impl FirecrackerDriver {
    /// A driver for this program.
    pub fn at(program: impl Into<PathBuf>) -> Self {
        FirecrackerDriver { program: Some(program.into()), ..Self::default() }
    }

    /// A driver that looks into these directories before the standard ones.
    pub fn looking_into(directories: Vec<PathBuf>) -> Self {
        FirecrackerDriver { directories, ..Self::default() }
    }

    /// The version, where it is one that is driven.
    fn driven_version(&self, program: &Path) -> Result<Version, VmmError> {
        if let Some(version) = self.version.get() {
            return Ok(*version);
        }
        let said = program::ask_version(program)?;
        let version =
            Version::parse(&said).filter(|version| *version >= OLDEST).ok_or_else(|| VmmError::Unsupported {
                what: format!("{} is not Firecracker {OLDEST} or newer: it says {said:?}", program.display()),
                hint: "install a newer release of Firecracker, or use QEMU (--vmm qemu)".to_owned(),
            })?;
        Ok(*self.version.get_or_init(|| version))
    }
}

#[async_trait]
impl Driver for FirecrackerDriver {
    fn name(&self) -> &'static str {
        "firecracker"
    }

    fn program(&self) -> Result<PathBuf, VmmError> {
        let found = match &self.program {
            Some(program) => program.is_file().then(|| program.clone()),
            None => program::find(PROGRAM, &self.directories),
        };
        found.ok_or_else(|| VmmError::ProgramMissing {
            program: self.program.as_ref().map_or(PROGRAM.to_owned(), |program| program.display().to_string()),
            hint: format!("put Firecracker {OLDEST} or newer into /usr/local/bin, let Ignite fetch it (ignite doctor --fix), or use QEMU (--vmm qemu)"),
        })
    }

    fn capabilities(&self) -> Result<Capabilities, VmmError> {
        let program = self.program()?;
        if let KvmVerdict::Unusable(reason) = host::kvm() {
            return Err(VmmError::Unsupported {
                what: format!("Firecracker needs KVM: {reason}"),
                hint: "use QEMU, which can do without: --vmm qemu".to_owned(),
            });
        }
        let version = self.driven_version(&program)?;
        Ok(Capabilities {
            accelerator: Accelerator::Kvm,
            accelerator_note: None,
            program,
            drive_locator: DriveLocator::Index,
            carriers: vec![Carrier::Tap],
            needs_vsock: true,
            // aarch64 guests are given a device tree.
            describes_devices: version.has_acpi() || cfg!(target_arch = "aarch64"),
            limits_traffic: true,
            has_pmem: version.has_pmem(),
            has_huge_pages: version.has_huge_pages(),
            has_cpu_templates: true,
            max_vcpu_count: MAX_VCPU_COUNT,
        })
    }

    fn version(&self) -> Result<String, VmmError> {
        let said = program::ask_version(&self.program()?)?;
        Ok(said.strip_prefix("Firecracker v").unwrap_or(&said).to_owned())
    }

    async fn boot(&self, spec: &BootSpec, dir: &RunDir) -> Result<Box<dyn Machine>, VmmError> {
        spec.validate()?;
        let program = self.program()?;
        let version = self.driven_version(&program)?;
        if spec.has_huge_pages {
            if !version.has_huge_pages() {
                let (why, hint) = (choice::NO_HUGE_PAGES.to_owned(), choice::HUGE_PAGES_HINT.to_owned());
                return Err(VmmError::Unfit { vmm: self.name().to_owned(), why, hint });
            }
            huge_pages::check(spec.mem_size_mib)?;
        }
        if let Some(CpuTemplate::Named(name)) = &spec.cpu_template
            && !CPU_TEMPLATES.contains(&name.as_str())
        {
            return Err(VmmError::Unsupported {
                what: format!("Firecracker has no CPU template {name:?} for this architecture"),
                hint: format!("use {} or a file with one", CPU_TEMPLATES.join(", ")),
            });
        }
        if spec.drives.iter().any(|drive| drive.is_pmem) && !version.has_pmem() {
            return Err(choice::no_pmem(self.name()));
        }
        for nic in &spec.nics {
            // Firecracker would make a tap that is not there.
            if let NicBackend::Tap { name, netns: None } = &nic.backend {
                check_tap(name)?;
            }
        }
        start(spec, dir, &program, version).await
    }
}

async fn start(spec: &BootSpec, dir: &RunDir, program: &Path, version: Version) -> Result<Box<dyn Machine>, VmmError> {
    let mut opened = open::open(spec, &dir.0)?;
    let failed = |source| VmmError::Spawn { program: program.display().to_string(), source };
    let config = in_memory(&translate::translate(spec, version, &opened.paths()).to_string()).map_err(failed)?;
    let (console, far_console) = stream_pair()?;
    let jail = confine::jail(spec, dir, program, &opened, &config, far_console.as_raw_fd())?;
    let jailed =
        jail::spawn(&jail).map_err(|source| VmmError::Jail { program: program.display().to_string(), source })?;
    drop((far_console, config));
    let follow = |stream: File, name: &str| {
        let path = dir.0.join(name);
        VmmLog::follow(stream, &path).map_err(|source| VmmError::Open { path, source })
    };
    let log = opened.log.reading().map_err(failed)?;
    let metrics = opened.metrics.reading().and_then(metrics::Metrics::follow).map_err(failed)?;
    let (agent, carrier) = vsock::open(opened.vsock());
    let firecracker = Firecracker {
        client: client::Client::new(opened.api_socket()),
        stderr: follow(jailed.stderr, STDERR_FILE)?,
        log: follow(log, LOG_FILE)?,
        metrics,
        carrier,
        opened: Some(opened),
    };
    let console = into_async(console).map_err(failed)?;
    let mut machine = VmmMachine::new(jailed.process, firecracker, Box::new(agent), console, jailed.isolation);
    match tokio::time::timeout(BOOT_DEADLINE, come_up(&mut machine)).await {
        Ok(Ok(())) => Ok(Box::new(machine)),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(VmmError::Deadline { what: "Firecracker's start", seconds: BOOT_DEADLINE.as_secs() }),
    }
}

/// Waits until it answers that the guest runs, or has ended: then with what it said.
async fn come_up(machine: &mut VmmMachine<Firecracker>) -> Result<(), VmmError> {
    while !machine.vmm.client.is_listening().await {
        tokio::select! {
            _ = machine.process.wait() => return came_down(machine).await,
            () = tokio::time::sleep(LOOK_INTERVAL) => {}
        }
    }
    // One that refuses its configuration while a request waits panics over the request, and why it refused is lost.
    let asked_at_last = tokio::time::Instant::now() + QUIET_TIME;
    while machine.process.pid().is_some_and(|pid| !has_vcpus(pid)) && tokio::time::Instant::now() < asked_at_last {
        tokio::select! {
            _ = machine.process.wait() => return came_down(machine).await,
            () = tokio::time::sleep(LOOK_INTERVAL) => {}
        }
    }
    // It listens before it has read its configuration, and answers afterwards.
    let answer = tokio::select! {
        answer = machine.vmm.client.get("/") => answer,
        _ = machine.process.wait() => return came_down(machine).await,
    };
    match answer {
        Ok(_) => {
            if let Some(opened) = &mut machine.vmm.opened {
                opened.let_go_of_streams();
            }
            Ok(())
        }
        Err(error) => match tokio::time::timeout(END_DEADLINE, machine.process.wait()).await {
            Ok(_) => came_down(machine).await,
            Err(_) => Err(error),
        },
    }
}

/// Whether it has threads of virtual CPUs: the last that it makes before the guest runs.
fn has_vcpus(pid: u32) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    tasks.filter_map(|task| std::fs::read(task.path().join("comm")).ok()).any(|name| name.starts_with(VCPU_THREAD))
}

/// A guest of a moment has run; anything else has not started. What it printed is still in the console's stream.
async fn came_down(machine: &mut VmmMachine<Firecracker>) -> Result<(), VmmError> {
    let console = machine.console.take();
    let exit = machine.wait().await;
    machine.console = console;
    match exit.cause {
        ExitCause::GuestReset => Ok(()),
        _ => Err(VmmError::BootFailed { vmm: "firecracker", detail: exit.detail }),
    }
}

/// A file that only its descriptor names; readable for whoever runs the machine.
fn in_memory(content: &str) -> std::io::Result<OwnedFd> {
    let fd = rustix::fs::memfd_create("ignite-firecracker", rustix::fs::MemfdFlags::CLOEXEC)?;
    rustix::fs::fchmod(&fd, rustix::fs::Mode::from_raw_mode(0o444))?;
    let mut file = File::from(fd);
    file.write_all(content.as_bytes())?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_says_what_to_do() {
        let error = FirecrackerDriver::at("/nonexistent/firecracker").capabilities().unwrap_err();
        assert!(matches!(&error, VmmError::ProgramMissing { hint, .. } if hint.contains("--vmm qemu")), "{error:?}");
    }
}
