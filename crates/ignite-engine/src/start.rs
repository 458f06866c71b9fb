//! `start`: hands a VM to a supervisor of its own and waits until the guest runs.

use crate::engine::{Engine, title};
use crate::error::EngineError;
use crate::launch::{Decided, network_names};
use crate::progress::{Progress, ProgressEvent};
use crate::session::{AttachOptions, Session};
use crate::volumes;
use command_fds::{CommandFdExt, FdMapping};
use ignite_api::lifecycle::{self, Denial, Event};
use ignite_api::network::dhcp_interfaces;
use ignite_api::vm::HugePages;
use ignite_api::{Phase, Uid, Vm};
use ignite_network::AttachRequest;
use ignite_store::{FileLock, StoreError, atomic};
use ignite_supervisor::ReadyEvent;
use ignite_vmm::Accelerator;
use ignite_vmm::choice::Choice;
use ignite_vmm::huge_pages;
use std::fs::OpenOptions;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::net::unix::pipe;

/// Longest the supervisor of a VM that has just ended is waited for; it lets go at once.
const LIVENESS_DEADLINE: Duration = Duration::from_secs(5);
/// Descriptors on which the supervisor finds its lock and its ready pipe.
const LOCK_FD: i32 = 3;
const READY_FD: i32 = 4;

/// How a VM is started.
#[derive(Debug, Clone)]
pub enum StartMode {
    /// Return when it runs.
    Background,
    /// Return a session that is attached from its first byte.
    Foreground(AttachOptions),
}

/// A started VM.
pub struct Started {
    /// The VM as it runs.
    pub vm: Vm,
    /// In the foreground: its streams.
    pub session: Option<Session>,
    /// Lines for the user, such as the warning that there is no KVM.
    pub notes: Vec<String>,
}

impl Engine {
    /// Starts a VM. On an error nothing runs, and the VM is as it was or `Failed` with the reason.
    pub async fn start(&self, uid: &Uid, mode: StartMode, progress: Arc<dyn Progress>) -> Result<Started, EngineError> {
        self.heal(uid).await?;
        let (vm, notes, ready) = {
            let (uid, mode) = (uid.clone(), mode.clone());
            self.blocking(move |engine| engine.launch(&uid, &mode)).await?
        };
        progress.event(ProgressEvent::Phase("boot"));
        let receiver = pipe::Receiver::from_owned_fd(ready).map_err(|source| self.control_error(&vm, source))?;
        let mut events = BufReader::new(receiver).lines();
        let mut session = None;
        loop {
            match next_event(&mut events).await {
                Some(ReadyEvent::Listening) => {
                    if let StartMode::Foreground(options) = &mode {
                        session = Some(self.attach_now(&vm, uid, options.stdin).await?);
                    }
                }
                Some(ReadyEvent::Running) => {
                    progress.event(ProgressEvent::PhaseDone("boot"));
                    // A short task with `--rm` may be over, and gone, already.
                    let vm = self.vms.read(uid).unwrap_or(vm);
                    return Ok(Started { vm, session, notes });
                }
                Some(ReadyEvent::Failed { message, hint, exit_code }) => {
                    return Err(EngineError::StartFailed { name: title(&vm), message, hint, exit_code });
                }
                None => return Err(self.supervisor_vanished(&vm, uid).await),
            }
        }
    }

    /// Decides everything, then starts the supervisor; the returned pipe tells what becomes of it.
    fn launch(&self, uid: &Uid, mode: &StartMode) -> Result<(Vm, Vec<String>, OwnedFd), EngineError> {
        let _lock = self.vms.lock(uid)?;
        let mut vm = self.vms.read(uid)?;
        let denied = |denial| EngineError::Denied { verb: "start", name: title(&vm), denial };
        let phase = lifecycle::next(vm.status.phase, Event::Start).map_err(denied)?;
        let liveness = match FileLock::take(&self.paths.vm_liveness(uid), LIVENESS_DEADLINE) {
            Err(StoreError::Locked { .. }) => return Err(denied(Denial::BeingStopped)),
            other => other?,
        };

        let kernel_uid =
            vm.status.kernel.as_ref().and_then(|kernel| kernel.uid.clone()).ok_or(EngineError::NoKernel)?;
        let Choice { driver, capabilities, reason, note } = self.choose_vmm(&vm, uid, &kernel_uid)?;
        let kernel_name = self.kernels.read(&kernel_uid)?.metadata.name;
        self.check_kernel_for(&vm.spec, &kernel_uid, &kernel_name, Some(driver.name()))?;
        let mut notes: Vec<String> = note.into_iter().collect();
        if capabilities.accelerator == Accelerator::Tcg
            && let Some(note) = &capabilities.accelerator_note
        {
            notes.push(note.clone());
        }
        if vm.spec.huge_pages == HugePages::TwoMib {
            huge_pages::check(u32::try_from(vm.spec.memory.as_mib()).unwrap_or(u32::MAX))?;
        }
        volumes::ensure(&vm.spec.storage, &self.paths.vm(uid))?;
        let (network, is_limited_by_vmm) = self.network_for(&vm, uid)?;
        let kernel_dir = self.kernel_dir(&kernel_uid);
        let modules = kernel_dir.join("modules.ext4");
        let decided = Decided {
            driver: driver.name().to_owned(),
            kernel_features: self.kernel_info(&kernel_uid)?.features,
            capabilities,
            network,
            is_limited_by_vmm,
            kernel: kernel_dir.join("vmlinux"),
            initramfs: self.ensure_initramfs(&kernel_uid)?,
            modules: modules.exists().then_some(modules),
            is_foreground: matches!(mode, StartMode::Foreground(_)),
            size: match mode {
                StartMode::Foreground(options) => options.size,
                StartMode::Background => None,
            },
        };
        let launch = self.launch_of(&vm, uid, decided)?;

        let run_dir = self.paths.run_vm(uid);
        atomic::ensure_dir(&self.paths.run_vms(), 0o711)?;
        self.remove_run_dir(&run_dir)?;
        atomic::ensure_dir(&run_dir, 0o700)?;
        let file = self.paths.launch_file(uid);
        atomic::write_volatile(&file, &serde_json::to_vec(&launch).unwrap_or_default())?;
        vm.status.phase = phase;
        vm.status.reason = None;
        vm.status.exit_code = None;
        // Later starts are by the same one, whose reason stays.
        if vm.status.vmm.is_none() {
            vm.status.vmm_reason = Some(reason);
        }
        vm.status.vmm = Some(driver.name().to_owned());
        vm.status.starts += 1;
        vm.status.restarts = 0;
        vm.status.stopped_by_user = false;
        self.vms.write(&vm)?;
        match self.spawn_supervisor(uid, liveness) {
            Ok(ready) => Ok((vm, notes, ready)),
            Err(error) => {
                vm.status.phase = Phase::Failed;
                vm.status.reason = Some(error.to_string());
                self.vms.write(&vm)?;
                self.remove_run_dir(&run_dir)?;
                Err(error)
            }
        }
    }

    /// How it is connected, and whether its VMM has to limit its traffic.
    fn network_for(&self, vm: &Vm, uid: &Uid) -> Result<(String, bool), EngineError> {
        let failed = |source| EngineError::Network { name: title(vm), source: Box::new(source) };
        let mode = network_mode(vm);
        let plugin = ignite_network::plugins::find(&mode).map_err(failed)?;
        plugin.check(&self.attach_request(vm, uid)).map_err(failed)?;
        Ok((mode, self.vmm_limits_traffic(vm, uid, plugin.as_ref())))
    }

    /// Refuses a network that does not exist, before anything is made for its VM.
    pub(crate) fn check_network_name(&self, vm: &Vm) -> Result<(), EngineError> {
        let failed = |source| EngineError::Network { name: title(vm), source: Box::new(source) };
        ignite_network::plugins::find(&network_mode(vm)).map(|_| ()).map_err(failed)
    }

    /// How this VM is, or was, connected.
    pub(crate) fn attach_request(&self, vm: &Vm, uid: &Uid) -> AttachRequest {
        AttachRequest {
            vm_uid: uid.to_string(),
            vm_name: title(vm),
            names: network_names(vm),
            network: vm.spec.network.clone(),
            dhcp: dhcp_interfaces(&vm.metadata.annotations),
            carrier: None,
            name_servers: vm.spec.dns_config.as_ref().map(|dns| dns.nameservers.clone()).unwrap_or_default(),
            run_dir: self.paths.run_vm(uid),
            record_dir: self.paths.vm(uid),
            names_dir: self.paths.run_networks(),
            cni_conf_dirs: ignite_network::cni::conf_dirs(self.paths.data()),
            docker_socket: self.settings.pull.docker_socket.clone(),
        }
    }

    /// Starts `ignite-spawn` with the liveness lock; from here on the lock is the supervisor's alone.
    fn spawn_supervisor(&self, uid: &Uid, liveness: FileLock) -> Result<OwnedFd, EngineError> {
        let program = &self.settings.spawn_program;
        let failed = |source| EngineError::Spawn { program: program.clone(), source };
        let log = self.paths.vm_supervisor_log(uid);
        let log = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(&log)
            .map_err(EngineError::file("open", log))?;
        let (receiver, sender) =
            rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|e| failed(e.into()))?;
        let lock = liveness.file().try_clone().map_err(failed)?;
        let mut command = Command::new(program);
        command
            .arg(self.paths.launch_file(uid))
            .args([LOCK_FD.to_string(), READY_FD.to_string()])
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        command
            .fd_mappings(vec![
                FdMapping { parent_fd: lock.into(), child_fd: LOCK_FD },
                FdMapping { parent_fd: sender, child_fd: READY_FD },
            ])
            .map_err(|error| failed(std::io::Error::other(error)))?;
        let mut child = command.spawn().map_err(failed)?;
        // Reaped when it ends while this process lives; otherwise init does it.
        std::thread::spawn(move || child.wait());
        Ok(receiver)
    }

    /// The supervisor ended without a word: it was killed, or could not even start.
    async fn supervisor_vanished(&self, vm: &Vm, uid: &Uid) -> EngineError {
        let log = std::fs::read_to_string(self.paths.vm_supervisor_log(uid)).unwrap_or_default();
        let last: String = log.lines().last().unwrap_or("it left no log").chars().take(500).collect();
        if let Err(error) = self.heal(uid).await {
            return error;
        }
        EngineError::StartFailed {
            name: title(vm),
            message: format!("its supervisor ended: {last}"),
            hint: Some("see what the host can do: ignite doctor".to_owned()),
            exit_code: 125,
        }
    }
}

/// The network that a VM asks for, or gets here when it asks for none.
pub(crate) fn network_mode(vm: &Vm) -> String {
    match vm.spec.network.mode.as_deref() {
        None | Some("auto") => ignite_network::plugins::auto_mode().to_owned(),
        Some(mode) => mode.to_owned(),
    }
}

async fn next_event(events: &mut Lines<BufReader<pipe::Receiver>>) -> Option<ReadyEvent> {
    let line = events.next_line().await.ok()??;
    serde_json::from_str(&line).ok()
}
