//! A scripted VMM: tests say what its guest does, and no process is started.

use crate::boot_spec::{Accelerator, BootSpec, Carrier, DriveLocator};
use crate::machine::{AgentChannel, Capabilities, Console, Driver, Exit, ExitCause, Machine, Pause, RunDir, VmmError};
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::DuplexStream;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

/// Bytes each direction of the fake's streams holds before a writer waits.
const STREAM_CAPACITY: usize = 64 * 1024;

type Behaviour = dyn Fn(FakeGuest) -> Pin<Box<dyn Future<Output = ExitCause> + Send>> + Send + Sync;

/// A driver whose guests are async closures.
///
/// ```
/// use ignite_vmm::{ExitCause, fake::FakeDriver};
/// use tokio::io::AsyncWriteExt;
///
/// let driver = FakeDriver::new(|mut guest| async move {
///     guest.console.write_all(b"hello\n").await.ok();
///     guest.power_button.pressed().await;
///     ExitCause::GuestPoweroff
/// });
/// ```
#[derive(Clone)]
pub struct FakeDriver {
    behaviour: Arc<Behaviour>,
    boot_error: Option<String>,
    boot_delay: Duration,
    locator: DriveLocator,
    booted: Arc<Mutex<Vec<BootSpec>>>,
    running: watch::Sender<usize>,
}

/// The inside of a fake machine: the far ends of its streams.
pub struct FakeGuest {
    /// What the guest was booted with.
    pub spec: BootSpec,
    /// The guest's end of the agent channel.
    pub agent: DuplexStream,
    /// The guest's end of the console.
    pub console: DuplexStream,
    /// Pressed by [`Machine::request_shutdown`].
    pub power_button: PowerButton,
}

/// The guest's view of the power button.
#[derive(Clone, Default)]
pub struct PowerButton(Arc<Notify>);

impl PowerButton {
    /// Waits until it is pressed; a press before the call counts.
    pub async fn pressed(&self) {
        self.0.notified().await;
    }
}

impl FakeDriver {
    /// A driver whose every guest runs `behaviour`; what it returns is the cause the machine ends with.
    pub fn new<F, R>(behaviour: F) -> Self
    where
        F: Fn(FakeGuest) -> R + Send + Sync + 'static,
        R: Future<Output = ExitCause> + Send + 'static,
    {
        FakeDriver {
            behaviour: Arc::new(move |guest| Box::pin(behaviour(guest))),
            boot_error: None,
            boot_delay: Duration::ZERO,
            locator: DriveLocator::Serial,
            booted: Arc::default(),
            running: watch::channel(0).0,
        }
    }

    /// Makes every boot fail with [`VmmError::BootFailed`] and this detail.
    pub fn failing_boot(mut self, detail: impl Into<String>) -> Self {
        self.boot_error = Some(detail.into());
        self
    }

    /// Makes every boot take this long (before it succeeds or fails).
    pub fn boot_delay(mut self, delay: Duration) -> Self {
        self.boot_delay = delay;
        self
    }

    /// Makes guests find drives this way.
    pub fn drive_locator(mut self, locator: DriveLocator) -> Self {
        self.locator = locator;
        self
    }

    /// What was booted so far, in order; also what failed to.
    pub fn booted(&self) -> Vec<BootSpec> {
        lock(&self.booted).clone()
    }

    /// How many guests run now.
    pub fn running(&self) -> usize {
        *self.running.borrow()
    }

    /// Waits until no guest runs.
    pub async fn all_ended(&self) {
        // The sender is `self`, so that waiting cannot fail.
        let _ = self.running.subscribe().wait_for(|running| *running == 0).await;
    }
}

#[async_trait]
impl Driver for FakeDriver {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn program(&self) -> Result<PathBuf, VmmError> {
        Ok(PathBuf::from("fake"))
    }

    fn capabilities(&self) -> Result<Capabilities, VmmError> {
        Ok(Capabilities {
            accelerator: Accelerator::Tcg,
            accelerator_note: Some("the fake executes no instruction".into()),
            program: PathBuf::from("fake"),
            drive_locator: self.locator.clone(),
            carriers: vec![Carrier::Tap, Carrier::TapQueue, Carrier::Stream],
            needs_vsock: false,
            describes_devices: true,
            limits_traffic: true,
            has_pmem: false,
            has_huge_pages: true,
            has_cpu_templates: true,
            max_vcpu_count: 32,
        })
    }

    fn version(&self) -> Result<String, VmmError> {
        Ok("fake".into())
    }

    async fn boot(&self, spec: &BootSpec, _dir: &RunDir) -> Result<Box<dyn Machine>, VmmError> {
        spec.validate()?;
        lock(&self.booted).push(spec.clone());
        if !self.boot_delay.is_zero() {
            tokio::time::sleep(self.boot_delay).await;
        }
        if let Some(detail) = &self.boot_error {
            return Err(VmmError::BootFailed { vmm: "fake", detail: detail.clone() });
        }
        let (agent, guest_agent) = tokio::io::duplex(STREAM_CAPACITY);
        let (console, guest_console) = tokio::io::duplex(STREAM_CAPACITY);
        let power_button = PowerButton::default();
        let guest = FakeGuest {
            spec: spec.clone(),
            agent: guest_agent,
            console: guest_console,
            power_button: power_button.clone(),
        };
        let counted = Running::start(self.running.clone());
        let (paused, gate) = watch::channel(false);
        let behaviour = (self.behaviour)(guest);
        let task = tokio::spawn(async move {
            let _counted = counted;
            pausable(behaviour, gate).await
        });
        Ok(Box::new(FakeMachine {
            task: Some(task),
            exit: None,
            agent: Some(Box::new(agent)),
            console: Some(Box::new(console)),
            power_button,
            paused,
        }))
    }
}

/// One guest that is counted while it lives.
struct Running(watch::Sender<usize>);

impl Running {
    fn start(count: watch::Sender<usize>) -> Self {
        count.send_modify(|running| *running += 1);
        Running(count)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.send_modify(|running| *running -= 1);
    }
}

/// Polls `behaviour` only while `paused` is false, as a VMM runs its virtual CPUs.
async fn pausable(
    mut behaviour: Pin<Box<dyn Future<Output = ExitCause> + Send>>,
    mut paused: watch::Receiver<bool>,
) -> ExitCause {
    loop {
        // An error means that the machine has been dropped, which ends this task as well.
        if paused.wait_for(|paused| !paused).await.is_err() {
            return ExitCause::Killed;
        }
        tokio::select! {
            biased;
            Ok(_) = paused.wait_for(|paused| *paused) => {}
            cause = &mut behaviour => return cause,
        }
    }
}

struct FakeMachine {
    task: Option<JoinHandle<ExitCause>>,
    exit: Option<Exit>,
    agent: Option<AgentChannel>,
    console: Option<Console>,
    power_button: PowerButton,
    paused: watch::Sender<bool>,
}

#[async_trait]
impl Machine for FakeMachine {
    fn pid(&self) -> Option<u32> {
        None
    }

    fn take_agent_channel(&mut self) -> Option<AgentChannel> {
        self.agent.take()
    }

    fn take_console(&mut self) -> Option<Console> {
        self.console.take()
    }

    fn isolation(&self) -> BTreeMap<String, String> {
        BTreeMap::from([("process".to_owned(), "not applied: the fake is not a process".to_owned())])
    }

    async fn request_shutdown(&mut self) -> Result<(), VmmError> {
        self.power_button.0.notify_one();
        Ok(())
    }

    async fn kill(&mut self) -> Result<(), VmmError> {
        if let Some(task) = &self.task {
            task.abort();
        }
        self.wait().await;
        Ok(())
    }

    async fn wait(&mut self) -> Exit {
        if let Some(task) = &mut self.task {
            let ended = task.await;
            self.task = None;
            self.exit = Some(match ended {
                Ok(cause) => Exit { cause, detail: String::new() },
                Err(error) if error.is_cancelled() => Exit { cause: ExitCause::Killed, detail: String::new() },
                Err(_) => Exit { cause: ExitCause::VmmCrash, detail: "the scripted guest panicked".into() },
            });
        }
        self.exit.clone().unwrap_or(Exit { cause: ExitCause::Killed, detail: String::new() })
    }

    fn pauser(&mut self) -> Option<&mut dyn Pause> {
        Some(self)
    }
}

#[async_trait]
impl Pause for FakeMachine {
    async fn pause(&mut self) -> Result<(), VmmError> {
        self.paused.send_replace(true);
        Ok(())
    }

    async fn resume(&mut self) -> Result<(), VmmError> {
        self.paused.send_replace(false);
        Ok(())
    }
}

impl Drop for FakeMachine {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// A test's panic in another thread must not hide what the driver saw.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
