//! A VM's life from launch to its final status.

use crate::console::Console;
use crate::control::Ending;
use crate::ending::Outcome;
use crate::error::SupervisorError;
use crate::guest::TaskPlumbing;
use crate::launch::{Launch, ReadyEvent};
use crate::life::Life;
use crate::restart::{AskedBy, Restarts};
use crate::run::Run;
use crate::server::Server;
use crate::shared::Shared;
use crate::task_log::TaskLog;
use ignite_agent_protocol::message::Role;
use ignite_api::event::Action;
use ignite_api::{Phase, Vm};
use ignite_store::event_log::EventLog;
use ignite_store::{FileLock, Objects, Paths};
use ignite_vmm::Driver;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Mutex, Notify, mpsc, watch};
use tokio::time::Instant;

/// Time clients have to take what is still theirs once the VM has ended.
const DRAIN_DEADLINE: Duration = Duration::from_secs(30);

/// The pipe on which the starter waits for [`ReadyEvent`]s.
#[derive(Debug)]
pub struct ReadyPipe(Option<pipe::Sender>);

impl ReadyPipe {
    /// Adopts the pipe's write end; `None`: nobody waits.
    pub fn new(sender: Option<pipe::Sender>) -> ReadyPipe {
        ReadyPipe(sender)
    }

    /// Tells the starter, if it is still there. After `Running` or `Failed` there is nothing more to tell.
    pub async fn tell(&mut self, event: &ReadyEvent) {
        let Some(pipe) = &mut self.0 else { return };
        let mut line = serde_json::to_vec(event).unwrap_or_default();
        line.push(b'\n');
        let is_gone = pipe.write_all(&line).await.is_err();
        if is_gone || !matches!(event, ReadyEvent::Listening) {
            self.0 = None;
        }
    }

    /// Returns when the starter has gone.
    pub async fn closed(&mut self) {
        if let Some(pipe) = &mut self.0 {
            // A pipe whose reader is gone is in error, which makes it ready with an error on the next write.
            let _ = pipe.ready(tokio::io::Interest::ERROR).await;
        }
    }
}

/// Runs the VM of this launch to its end, holding its liveness lock until the final status is stored: whoever hears that it
/// has ended may start it again at once, while the last clients still take what is theirs.
///
/// When it returns, the network is detached, the VMM is gone, the run directory is removed and the final status is
/// stored; clients have been told.
pub async fn supervise(launch: Launch, driver: Arc<dyn Driver>, liveness: FileLock, mut ready: ReadyPipe) -> Ending {
    let paths = Paths::new(&launch.data_dir, &launch.run_dir);
    let vms: Objects<Vm> = Objects::new(&launch.data_dir);
    let life = Life::take_over(vms.clone(), launch.uid.clone(), EventLog::new(&launch.data_dir));
    match live(&launch, &*driver, &life, &paths, &mut ready).await {
        Ok((ending, finish)) => {
            conclude(&launch, &life, &paths, &vms, &ending, finish.asked_by);
            drop(liveness);
            // Only now: who hears of a failure finds everything undone. (A VM that came up has nobody waiting any more.)
            let message = ending.reason.clone().unwrap_or_else(|| "it ended while it was starting".to_owned());
            ready.tell(&ReadyEvent::Failed { message, hint: finish.hint.clone(), exit_code: ending.exit_code }).await;
            finish.ending.send_replace(Some(ending.clone()));
            finish.shared.task_listeners.close();
            finish.shared.console.listeners.close();
            finish.server.drain(DRAIN_DEADLINE).await;
            ending
        }
        Err(error) => {
            tracing::error!("{}", error.chain());
            let ending = Ending { phase: Phase::Failed, exit_code: error.exit_code(), reason: Some(error.chain()) };
            conclude(&launch, &life, &paths, &vms, &ending, None);
            drop(liveness);
            let failed =
                ReadyEvent::Failed { message: error.chain(), hint: error.hint(), exit_code: error.exit_code() };
            ready.tell(&failed).await;
            ending
        }
    }
}

/// What is left to do once the final status is stored.
struct Finish {
    ending: watch::Sender<Option<Ending>>,
    shared: Shared,
    server: Server,
    hint: Option<String>,
    asked_by: Option<AskedBy>,
}

async fn live(
    launch: &Launch,
    driver: &dyn Driver,
    life: &Life,
    paths: &Paths,
    ready: &mut ReadyPipe,
) -> Result<(Ending, Finish), SupervisorError> {
    let uid = &launch.uid;
    // Held over every boot of this life.
    let _volumes = crate::volumes::lock(launch)?;
    let grown = Arc::new(Notify::new());
    let console = Console::open(&paths.vm_console_log(uid), grown.clone())?;
    let log = TaskLog::open(&paths.vm_task_log(uid))?;
    let (commands, mut command_queue) = mpsc::channel(16);
    let (task_input, input) = mpsc::unbounded_channel();
    let (task_requests, requests) = mpsc::unbounded_channel();
    let agent = watch::Sender::new(None);
    let ending = watch::Sender::new(None);
    let shared = Shared {
        commands,
        is_task: matches!(launch.configure.role, Role::Task(_)),
        task_listeners: Default::default(),
        task_input,
        task_requests,
        attached: Arc::default(),
        console,
        console_input: Arc::default(),
        agent: agent.subscribe(),
        phase: life.watch(),
        ending: ending.subscribe(),
        grown: grown.clone(),
    };
    let task = TaskPlumbing {
        listeners: shared.task_listeners.clone(),
        log: Arc::new(std::sync::Mutex::new(log)),
        grown,
        input: Arc::new(Mutex::new(input)),
        requests: Arc::new(Mutex::new(requests)),
        exit: watch::Sender::new(None),
    };
    let socket = paths.control_socket(uid);
    let failed = |source| SupervisorError::Listen { path: socket.clone(), source };
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let server = Server::start(&socket, shared.clone())?;
    // VMs run without metrics, too.
    let _metrics = crate::metrics_socket::MetricsSocket::start(uid, Objects::new(&launch.data_dir), paths)
        .inspect_err(|error| tracing::warn!("{}", error.chain()));
    ready.tell(&ReadyEvent::Listening).await;
    let mut run = Run {
        launch,
        driver,
        life,
        shared: &shared,
        agent: &agent,
        task: &task,
        commands: &mut command_queue,
        terminate: &mut terminate,
        ready,
        pump: None,
        hint: None,
        asked_by: None,
        has_been_up: false,
    };
    let ended = boot_until_ended(&mut run).await;
    let (hint, asked_by) = (run.hint.take(), run.asked_by);
    Ok((ended, Finish { ending, shared, server, hint, asked_by }))
}

/// Boots, and boots again when the guest has rebooted itself or its restart policy says so.
async fn boot_until_ended(run: &mut Run<'_>) -> Ending {
    let mut restarts = Restarts::new(run.launch.restart_policy);
    loop {
        let started = Instant::now();
        let ending = match run.once().await {
            Outcome::Ended(ending) => ending,
            Outcome::Reboot => match restarts.rebooted(started.elapsed()) {
                Some(ending) => ending,
                None => {
                    tracing::info!("the guest rebooted");
                    continue;
                }
            },
        };
        if !run.has_been_up {
            // Whoever starts it is told what is wrong, and no policy tries it again behind their back.
            return ending;
        }
        // It may have been changed while the VM ran (`ignite update`).
        if let Some(policy) = run.life.restart_policy() {
            restarts.follow(policy);
        }
        match restarts.ended(ending.clone(), run.asked_by.is_some(), started.elapsed()) {
            Err(ending) => return ending,
            Ok(delay) if run.wait_for_restart(&ending, delay).await => {}
            Ok(_) => return Ending { phase: Phase::Stopped, ..ending },
        }
    }
}

/// Stores how it ended and removes what only a live VM has. Errors are logged: `observe` heals the rest.
fn conclude(
    launch: &Launch,
    life: &Life,
    paths: &Paths,
    vms: &Objects<Vm>,
    ending: &Ending,
    asked_by: Option<AskedBy>,
) {
    if let Err(error) = crate::run_dir::remove(&paths.run_vm(&launch.uid)) {
        tracing::error!("{error}");
    }
    let result = match launch.auto_remove {
        true => {
            life.tell_death(&launch.name, ending);
            let removed = vms.remove(&launch.uid).map_err(SupervisorError::from);
            if removed.is_ok() {
                life.tell(Action::Destroy, &launch.name, |event| event);
            }
            removed
        }
        false => life.finish(ending, asked_by),
    };
    if let Err(error) = result {
        tracing::error!("{}", error.chain());
    }
}
