//! One boot of a VM: connect, boot, bring up, live, and undo everything, whatever happened.

use crate::boot_spec::boot_spec;
use crate::control::Ending;
use crate::ending::{self, Asked, Facts, Outcome};
use crate::error::SupervisorError;
use crate::guest::{TaskPlumbing, bring_up, configure_for, log_guest};
use crate::guest_network;
use crate::launch::{ATTACH_DEADLINE_MS, Launch, ReadyEvent};
use crate::life::Life;
use crate::restart::AskedBy;
use crate::shared::{Command, Shared};
use crate::supervise::ReadyPipe;
use crate::vmm_record;
use ignite_agent_protocol::client::{Connection, ControlEvents};
use ignite_agent_protocol::message::{ExitingCause, GuestMessage, HostMessage, ShutdownAction};
use ignite_api::Phase;
use ignite_api::lifecycle::Event;
use ignite_network::{Attachment, Helper};
use ignite_vmm::{Accelerator, Driver, ExitCause, Machine, RunDir};
use std::time::Duration;
use tokio::signal::unix::Signal;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

/// Beyond a task's grace time: for its SIGKILL, its exit code and the disks.
const AFTER_GRACE: Duration = Duration::from_secs(3);
/// A guest that has announced its end and has its disks in order may take so long to be gone.
const AFTER_ANNOUNCEMENT: Duration = Duration::from_secs(5);
/// A network's helper that ends sooner than this before its VMM has ended because of it.
const NETWORK_REPORT_DELAY: Duration = Duration::from_secs(1);
/// Longest the channel of a VMM that has ended is read.
const LAST_WORDS_DEADLINE: Duration = Duration::from_secs(2);
/// Longest a task's last output may take to reach who is attached.
const LAST_OUTPUT_DEADLINE: Duration = Duration::from_secs(30);

/// What one boot needs; the same for every boot of a life.
pub struct Run<'a> {
    /// What to run.
    pub launch: &'a Launch,
    /// What boots it.
    pub driver: &'a dyn Driver,
    /// The status.
    pub life: &'a Life,
    /// What is shared with control connections.
    pub shared: &'a Shared,
    /// The agent, for control connections.
    pub agent: &'a watch::Sender<Option<Connection>>,
    /// The task's streams.
    pub task: &'a TaskPlumbing,
    /// Requests of control connections.
    pub commands: &'a mut mpsc::Receiver<Command>,
    /// SIGTERM.
    pub terminate: &'a mut Signal,
    /// Who started us.
    pub ready: &'a mut ReadyPipe,
    /// What moves the task's bytes, while there is a task.
    pub pump: Option<JoinHandle<()>>,
    /// What the user can do about a failure.
    pub hint: Option<String>,
    /// Who has asked for the end of this life.
    pub asked_by: Option<AskedBy>,
    /// The guest has been configured once in this life.
    pub has_been_up: bool,
}

impl Run<'_> {
    /// One boot, from network to network. Nothing of it is left when this returns.
    pub async fn once(&mut self) -> Outcome {
        self.task.exit.send_replace(None);
        let plugin = match ignite_network::plugins::find(&self.launch.network.mode) {
            Ok(plugin) => plugin,
            Err(error) => return self.broken(&error.into()),
        };
        let capabilities = match self.driver.capabilities() {
            Ok(capabilities) => capabilities,
            Err(error) => return self.broken(&error.into()),
        };
        let carrier = guest_network::carrier_for(plugin.as_ref(), &capabilities);
        let request = guest_network::attach_request(self.launch, carrier);
        let result = match plugin.attach(&request).await {
            Ok(attachment) => self.with_network(attachment, plugin.name(), capabilities.accelerator).await,
            Err(error) => Err(error.into()),
        };
        for error in plugin.detach(&request).await {
            tracing::error!("network: {error}");
        }
        match result {
            Ok(outcome) => outcome,
            Err(error) => self.broken(&error),
        }
    }

    /// The VM could not be brought up, or broke on our side.
    fn broken(&mut self, error: &SupervisorError) -> Outcome {
        tracing::error!("{}", error.chain());
        self.hint = error.hint();
        let exit_code = error.exit_code();
        let phase = if matches!(error, SupervisorError::StoppedEarly) { Phase::Stopped } else { Phase::Failed };
        Outcome::Ended(Ending { phase, exit_code, reason: Some(error.chain()) })
    }

    async fn with_network(
        &mut self,
        mut attachment: Attachment,
        plugin: &str,
        accelerator: Accelerator,
    ) -> Result<Outcome, SupervisorError> {
        let configure = configure_for(self.launch, &attachment)?;
        let addresses: Vec<String> = attachment.nics.iter().flat_map(|nic| &nic.addresses).map(|a| bare(a)).collect();
        let spec = boot_spec(self.launch, &mut attachment);
        let paths = ignite_store::Paths::new(&self.launch.data_dir, &self.launch.run_dir);
        let mut machine = self.driver.boot(&spec, &RunDir(paths.run_vm(&self.launch.uid))).await?;
        drop(spec);
        if let Some(pid) = machine.pid()
            && let Err(error) = vmm_record::write(&paths.run_vm(&self.launch.uid), pid)
        {
            tracing::warn!("record the VMM: {error}");
        }
        let result = async {
            let (connection, events) = self.come_up(machine.as_mut(), configure).await?;
            let is_reboot = self.life.phase() != Phase::Starting;
            let event = if is_reboot { None } else { Some(Event::GuestReady) };
            self.life.advance(event, |status| {
                status.start_time = Some(jiff::Timestamp::now());
                status.finish_time = None;
                status.exit_code = None;
                status.reason = None;
                status.accelerator = Some(accelerator.as_str().to_owned());
                status.isolation = machine.isolation();
                status.health = self.launch.health.as_ref().map(|_| ignite_api::health::HealthStatus::default());
                status.runtime = Some(ignite_api::vm::RuntimeStatus {
                    id: std::process::id().to_string(),
                    name: "ignite-spawn".to_owned(),
                });
                status.network =
                    Some(ignite_api::vm::NetworkStatus { plugin: plugin.to_owned(), ip_addresses: addresses });
            })?;
            self.agent.send_replace(Some(connection.clone()));
            self.has_been_up = true;
            self.ready.tell(&ReadyEvent::Running).await;
            Ok(self.live(machine.as_mut(), &connection, events, &mut attachment).await)
        }
        .await;
        self.agent.send_replace(None);
        self.shared.console_input.lock().await.take();
        if let Err(error) = machine.kill().await {
            tracing::error!("end the VMM: {error}");
        }
        result
    }

    /// From power-on to `Configured`; the machine's end, a stop and the deadline are watched meanwhile.
    async fn come_up(
        &mut self,
        machine: &mut dyn Machine,
        configure: ignite_agent_protocol::message::Configure,
    ) -> Result<(Connection, ControlEvents), SupervisorError> {
        if let Some(console) = machine.take_console() {
            let (_pump, input) = self.shared.console.pump(console);
            *self.shared.console_input.lock().await = Some(input);
        }
        let channel = machine
            .take_agent_channel()
            .ok_or_else(|| SupervisorError::Agent { detail: "the VMM has none".to_owned() })?;
        let (connection, mut events) = Connection::start(channel);
        let deadline = Instant::now() + Duration::from_millis(self.launch.boot_timeout_ms);
        let is_foreground = self.launch.is_foreground && !self.has_been_up;
        let attached = self.shared.attached.clone();
        let ready = &mut *self.ready;
        let gate = async {
            if is_foreground {
                tokio::select! {
                    () = attached.notified() => {}
                    () = ready.closed() => {}
                    () = tokio::time::sleep(Duration::from_millis(ATTACH_DEADLINE_MS)) => {}
                }
            }
        };
        let task = self.task;
        let mut pump: Option<JoinHandle<()>> = None;
        let result = {
            let bring_up =
                bring_up(&connection, &mut events, configure, gate, |stream| pump = Some(task.connect(stream)));
            tokio::pin!(bring_up);
            loop {
                tokio::select! {
                    result = &mut bring_up => break result,
                    exit = machine.wait() => {
                        // Its last words may still be on their way through the console's and the agent's streams.
                        let words = tokio::time::timeout(LAST_WORDS_DEADLINE, &mut bring_up).await;
                        break match words {
                            // It came up, and was over at once.
                            Ok(Ok(())) => Ok(()),
                            Ok(Err(error @ SupervisorError::Configure { .. })) => Err(error),
                            _ => Err(SupervisorError::EndedEarly { detail: last_words(&exit, &self.shared.console.tail()) }),
                        };
                    }
                    () = sleep_until(deadline) => break Err(SupervisorError::Deadline {
                        what: "come up",
                        seconds: self.launch.boot_timeout_ms / 1000,
                        console: self.shared.console.tail(),
                    }),
                    _ = self.terminate.recv() => {
                        self.asked_by = Some(AskedBy::Host);
                        break Err(SupervisorError::StoppedEarly);
                    }
                    Some(command) = self.commands.recv() => match command {
                        Command::Stop { by, reply, .. } => {
                            self.asked_by = Some(by);
                            let _ = reply.send(Ok(()));
                            break Err(SupervisorError::StoppedEarly);
                        }
                        Command::Kill { reply } => {
                            self.asked_by = Some(AskedBy::User);
                            let _ = reply.send(Ok(()));
                            break Err(SupervisorError::StoppedEarly);
                        }
                        Command::Pause { reply } | Command::Resume { reply } => {
                            let _ = reply.send(Err("it is being started".to_owned()));
                        }
                    },
                }
            }
        };
        if let Err(error) = result {
            if let Some(pump) = pump {
                pump.abort();
            }
            return Err(error);
        }
        self.pump = pump;
        Ok((connection, events))
    }

    /// The one event loop: until the machine has ended.
    async fn live(
        &mut self,
        machine: &mut dyn Machine,
        connection: &Connection,
        mut events: ControlEvents,
        attachment: &mut Attachment,
    ) -> Outcome {
        let mut asked = Asked::Nothing;
        let mut announced: Option<ExitingCause> = None;
        let mut power_button_at: Option<Instant> = None;
        let mut kill_at: Option<Instant> = None;
        let mut is_agent_there = true;
        let mut lost_network: Option<(String, Instant)> = None;
        let far = Instant::now() + Duration::from_secs(365 * 24 * 3600);
        let health =
            crate::health::keep(self.launch.health.as_ref(), &self.launch.configure.role, connection, self.life);
        tokio::pin!(health);
        let run_dir = ignite_store::Paths::new(&self.launch.data_dir, &self.launch.run_dir).run_vm(&self.launch.uid);
        let counting = crate::vmm_counters::keep(&run_dir, machine.counters());
        tokio::pin!(counting);
        let exit = loop {
            tokio::select! {
                exit = machine.wait() => break exit,
                () = &mut health => {}
                () = &mut counting => {}
                message = events.recv(), if is_agent_there => match message {
                    Some(GuestMessage::Exiting { cause }) => {
                        announced = Some(cause);
                        kill_at.get_or_insert(Instant::now() + AFTER_ANNOUNCEMENT);
                    }
                    Some(GuestMessage::Log { level, message }) => log_guest(&level, &message),
                    Some(_) => {}
                    None => {
                        is_agent_there = false;
                        if let Some(error) = connection.lost() {
                            tracing::info!("{error}");
                        }
                    }
                },
                Some(command) = self.commands.recv() => match command {
                    Command::Stop { grace_ms, by, reply } => {
                        self.asked_by = Some(by);
                        let grace = Duration::from_millis(grace_ms.unwrap_or(self.launch.stop_timeout_ms));
                        let _ = reply.send(self.ask_to_stop(machine, connection, grace).await);
                        if asked == Asked::Nothing {
                            asked = Asked::Stop;
                        }
                        let now = Instant::now();
                        power_button_at = Some(if is_agent_there && self.shared.is_task { far } else { now + grace / 2 });
                        let after = if self.shared.is_task { AFTER_GRACE } else { Duration::ZERO };
                        kill_at = Some(now + grace + after);
                    }
                    Command::Kill { reply } => {
                        self.asked_by = Some(AskedBy::User);
                        asked = Asked::Kill;
                        let _ = self.life.advance(Some(Event::StopRequested), |_| {});
                        if let Err(error) = machine.kill().await {
                            tracing::error!("end the VMM: {error}");
                        }
                        let _ = reply.send(Ok(()));
                    }
                    // Its last seconds are counted.
                    Command::Pause { reply } if announced.is_some() => {
                        let _ = reply.send(Err("it is about to end".to_owned()));
                    }
                    Command::Pause { reply } => {
                        let _ = reply.send(self.pause(machine).await);
                    }
                    Command::Resume { reply } => {
                        let _ = reply.send(self.resume(machine, connection).await);
                    }
                },
                _ = self.terminate.recv() => {
                    self.asked_by.get_or_insert(AskedBy::Host);
                    let grace = Duration::from_millis(self.launch.stop_timeout_ms);
                    if self.ask_to_stop(machine, connection, grace).await.is_ok() && asked == Asked::Nothing {
                        asked = Asked::Stop;
                        power_button_at = Some(Instant::now() + grace / 2);
                        kill_at = Some(Instant::now() + grace + AFTER_GRACE);
                    }
                }
                () = sleep_until(power_button_at.unwrap_or(far)), if power_button_at.is_some() => {
                    power_button_at = None;
                    if let Err(error) = machine.request_shutdown().await {
                        tracing::warn!("press the power button: {error}");
                    }
                }
                () = sleep_until(kill_at.unwrap_or(far)), if kill_at.is_some() => {
                    kill_at = None;
                    // A task's guest announces its end when all is on disk; a machine's when its init has been asked.
                    if asked == Asked::Stop && !(self.shared.is_task && announced.is_some()) {
                        asked = Asked::StopTimedOut;
                    }
                    if let Err(error) = machine.kill().await {
                        tracing::error!("end the VMM: {error}");
                    }
                }
                peers = guest_network::changed_peers(&mut attachment.peers) => {
                    if connection.send(&HostMessage::SetPeers { peers }).is_err() {
                        tracing::info!("the guest was not told of its network's names");
                    }
                }
                how = first_helper_end(&mut attachment.helpers) => lost_network = Some((how, Instant::now() + NETWORK_REPORT_DELAY)),
                () = sleep_until(lost_network.as_ref().map_or(far, |(_, at)| *at)), if lost_network.is_some() => {
                    if let Some((how, _)) = lost_network.take() {
                        tracing::warn!("the guest has lost its network: {how}");
                    }
                }
            }
        };
        tracing::info!("the machine ended: {:?} {}", exit.cause, exit.detail);
        // What the guest had sent is still in the channel, which ends with the VMM.
        let rest = async {
            while let Some(message) = events.recv().await {
                if let GuestMessage::Exiting { cause } = message {
                    announced = Some(cause);
                }
            }
        };
        let _ = tokio::time::timeout(LAST_WORDS_DEADLINE, rest).await;
        self.finish_task().await;
        connection.close();
        let task_exit = self.task.exit.borrow().clone();
        ending::decide(&Facts {
            is_task: self.shared.is_task,
            task_exit: task_exit.as_ref(),
            announced,
            exit: &exit,
            asked,
        })
    }

    async fn ask_to_stop(
        &mut self,
        machine: &mut dyn Machine,
        connection: &Connection,
        grace: Duration,
    ) -> Result<(), String> {
        let was_paused = self.life.phase() == Phase::Paused;
        self.life.advance(Some(Event::StopRequested), |_| {}).map_err(|error| error.chain())?;
        if was_paused && let Some(pauser) = machine.pauser() {
            pauser.resume().await.map_err(|error| error.to_string())?;
            set_clock(connection);
        }
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        let message = HostMessage::Shutdown { action: ShutdownAction::Poweroff, grace_ms };
        if connection.send(&message).is_err()
            && let Err(error) = machine.request_shutdown().await
        {
            tracing::warn!("press the power button: {error}");
        }
        Ok(())
    }

    async fn pause(&mut self, machine: &mut dyn Machine) -> Result<(), String> {
        self.life.may(Event::Pause).map_err(|denial| denial.to_string())?;
        let pauser = machine.pauser().ok_or("this VMM cannot pause a machine")?;
        pauser.pause().await.map_err(|error| error.to_string())?;
        self.life.advance(Some(Event::Pause), |_| {}).map_err(|error| error.chain())
    }

    async fn resume(&mut self, machine: &mut dyn Machine, connection: &Connection) -> Result<(), String> {
        self.life.may(Event::Resume).map_err(|denial| denial.to_string())?;
        let pauser = machine.pauser().ok_or("this VMM cannot resume a machine")?;
        pauser.resume().await.map_err(|error| error.to_string())?;
        set_clock(connection);
        self.life.advance(Some(Event::Resume), |_| {}).map_err(|error| error.chain())
    }

    /// Waits until the task's last output is logged and with those who are attached.
    async fn finish_task(&mut self) {
        if let Some(mut pump) = self.pump.take()
            && tokio::time::timeout(LAST_OUTPUT_DEADLINE, &mut pump).await.is_err()
        {
            tracing::warn!("an attached client did not take the task's last output");
            pump.abort();
        }
    }
}

/// Tells a guest that has not been executed for a while what time it is. One that is gone needs no clock.
fn set_clock(connection: &Connection) {
    let unix_ns = i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(0);
    let _ = connection.send(&HostMessage::SetClock { unix_ns });
}

/// The first helper process of the network to end; never, when there is none (left).
async fn first_helper_end(helpers: &mut Vec<Helper>) -> String {
    let Some(helper) = helpers.first_mut() else { return std::future::pending().await };
    let program = helper.program;
    let how = format!("{program} ended: {}", helper.ended().await);
    helpers.remove(0);
    how
}

/// An address without its prefix length.
fn bare(address: &str) -> String {
    address.split_once('/').map_or(address, |(address, _)| address).to_owned()
}

fn last_words(exit: &ignite_vmm::Exit, console: &str) -> String {
    let cause = match exit.cause {
        ExitCause::GuestPoweroff => "it powered off",
        ExitCause::GuestReset => "it reset itself",
        ExitCause::GuestPanic => "its kernel panicked",
        ExitCause::Killed => "it was killed",
        ExitCause::OverLimit => "it was stopped",
        ExitCause::VmmCrash => "the VMM died",
    };
    let detail = if exit.detail.is_empty() { String::new() } else { format!(" ({})", exit.detail) };
    format!("{cause}{detail}; the console says: {console}")
}
