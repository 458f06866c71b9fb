//! What the machines of all drivers are: a jailed process with a console and an agent channel, whose end is told once.

use crate::counters::VmmCounters;
use crate::jail::Process;
use crate::machine::{AgentChannel, Console, Exit, Machine, Pause, VmmError};
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use tokio::net::UnixStream;
use tokio::sync::watch;

/// What a driver knows of its running VMM that others do not.
#[async_trait]
pub(crate) trait Vmm: Send {
    /// The driver's name.
    const NAME: &'static str;
    /// Asks the guest to power off.
    async fn request_shutdown(&mut self) -> Result<(), VmmError>;
    /// Stops the virtual CPUs.
    async fn pause(&mut self) -> Result<(), VmmError>;
    /// Lets them go on.
    async fn resume(&mut self) -> Result<(), VmmError>;
    /// What it counts, where it does.
    fn counters(&self) -> Option<watch::Receiver<VmmCounters>> {
        None
    }
    /// What the VMM said last, now that it has ended; lets go of what only a living one needs. Cancel-safe.
    async fn last_words(&mut self) -> String;
    /// Why it ended.
    async fn classify(&mut self, status: Option<ExitStatus>, is_killed: bool, said: String) -> Exit;
}

/// The parts in the order they are let go: the process first.
pub(crate) struct VmmMachine<V> {
    pub(crate) process: Process,
    pub(crate) vmm: V,
    pub(crate) agent: Option<AgentChannel>,
    pub(crate) console: Option<UnixStream>,
    pub(crate) isolation: BTreeMap<String, String>,
    is_killed: bool,
    exit: Option<Exit>,
}

impl<V: Vmm> VmmMachine<V> {
    pub(crate) fn new(
        process: Process,
        vmm: V,
        agent: AgentChannel,
        console: UnixStream,
        isolation: BTreeMap<String, String>,
    ) -> Self {
        let (agent, console) = (Some(agent), Some(console));
        VmmMachine { process, vmm, agent, console, isolation, is_killed: false, exit: None }
    }

    /// How the VMM ended and what it said last. Cancel-safe.
    pub(crate) async fn ended(&mut self) -> (Option<ExitStatus>, String) {
        let status = self.process.wait().await;
        let said = self.vmm.last_words().await;
        match status {
            Ok(status) => (Some(status), said),
            Err(error) => (None, format!("its end could not be awaited: {error}")),
        }
    }
}

#[async_trait]
impl<V: Vmm> Machine for VmmMachine<V> {
    fn pid(&self) -> Option<u32> {
        self.process.pid()
    }

    fn take_agent_channel(&mut self) -> Option<AgentChannel> {
        self.agent.take()
    }

    fn take_console(&mut self) -> Option<Console> {
        self.console.take().map(|stream| Box::new(stream) as Console)
    }

    fn isolation(&self) -> BTreeMap<String, String> {
        self.isolation.clone()
    }

    async fn request_shutdown(&mut self) -> Result<(), VmmError> {
        self.vmm.request_shutdown().await
    }

    async fn kill(&mut self) -> Result<(), VmmError> {
        if self.process.pid().is_some() {
            self.is_killed = true;
            self.process.kill().map_err(|error| VmmError::Control {
                vmm: V::NAME,
                request: "kill".into(),
                detail: error.to_string(),
            })?;
        }
        self.wait().await;
        Ok(())
    }

    async fn wait(&mut self) -> Exit {
        if let Some(exit) = &self.exit {
            return exit.clone();
        }
        // Nobody has asked for the console by now. What the guest prints is dropped or refused once our end is closed;
        // with an end that nobody reads the guest would stall on a full socket.
        self.console = None;
        let (status, said) = self.ended().await;
        let exit = self.vmm.classify(status, self.is_killed, said).await.with_breach(self.process.breach());
        self.exit = Some(exit.clone());
        exit
    }

    fn counters(&self) -> Option<watch::Receiver<VmmCounters>> {
        self.vmm.counters()
    }

    fn pauser(&mut self) -> Option<&mut dyn Pause> {
        Some(self)
    }
}

#[async_trait]
impl<V: Vmm> Pause for VmmMachine<V> {
    async fn pause(&mut self) -> Result<(), VmmError> {
        self.vmm.pause().await
    }

    async fn resume(&mut self) -> Result<(), VmmError> {
        self.vmm.resume().await
    }
}

/// A crash in words: how `program` ended, what its status means to it, and what it said last.
pub(crate) fn crash_detail(program: &str, status: Option<ExitStatus>, meaning: &str, said: &str) -> String {
    let how = match status {
        Some(status) => match status.signal() {
            Some(signal) => format!("{program} was ended by signal {signal}"),
            None => format!("{program} ended with status {}{meaning}", status.code().unwrap_or_default()),
        },
        None => format!("{program} ended"),
    };
    if said.is_empty() { how } else { format!("{how}: {said}") }
}
