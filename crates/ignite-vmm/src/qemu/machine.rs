//! A machine that QEMU runs.

use super::client::{Client, Reason, Told};
use crate::jail::Process;
use crate::machine::{AgentChannel, Console, Exit, ExitCause, Machine, Pause, VmmError};
use crate::vmm_log::VmmLog;
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use tokio::net::UnixStream;

/// The parts in the order they are let go: the process first.
#[derive(Debug)]
pub(crate) struct QemuMachine {
    pub(crate) process: Process,
    pub(crate) client: Client,
    pub(crate) stderr: VmmLog,
    pub(crate) agent: Option<UnixStream>,
    pub(crate) console: Option<UnixStream>,
    pub(crate) isolation: BTreeMap<String, String>,
    pub(crate) is_killed: bool,
    pub(crate) exit: Option<Exit>,
}

impl QemuMachine {
    /// How QEMU ended and what it said last. Cancel-safe.
    pub(crate) async fn ended(&mut self) -> (Option<ExitStatus>, String) {
        let status = self.process.wait().await;
        let said = self.stderr.last_words().await;
        match status {
            Ok(status) => (Some(status), said),
            Err(error) => (None, format!("its end could not be awaited: {error}")),
        }
    }
}

#[async_trait]
impl Machine for QemuMachine {
    fn pid(&self) -> Option<u32> {
        self.process.pid()
    }

    fn take_agent_channel(&mut self) -> Option<AgentChannel> {
        self.agent.take().map(|stream| Box::new(stream) as AgentChannel)
    }

    fn take_console(&mut self) -> Option<Console> {
        self.console.take().map(|stream| Box::new(stream) as Console)
    }

    fn isolation(&self) -> BTreeMap<String, String> {
        self.isolation.clone()
    }

    async fn request_shutdown(&mut self) -> Result<(), VmmError> {
        self.client.execute("system_powerdown").await
    }

    async fn kill(&mut self) -> Result<(), VmmError> {
        if self.process.pid().is_some() {
            self.is_killed = true;
            self.process.kill().map_err(|error| VmmError::Control {
                vmm: "qemu",
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
        // Nobody has asked for the console by now. QEMU drops what it prints once our end is closed; with an end that
        // nobody reads the guest would stall on a full socket.
        self.console = None;
        let (status, said) = self.ended().await;
        let told = self.client.told().await;
        let exit = classify(told, status, self.is_killed, said).with_breach(self.process.breach());
        self.exit = Some(exit.clone());
        exit
    }

    fn pauser(&mut self) -> Option<&mut dyn Pause> {
        Some(self)
    }
}

#[async_trait]
impl Pause for QemuMachine {
    async fn pause(&mut self) -> Result<(), VmmError> {
        self.client.execute("stop").await
    }

    async fn resume(&mut self) -> Result<(), VmmError> {
        self.client.execute("cont").await
    }
}

/// Why the machine ended, from everything that is known. What the guest did before a kill came still counts.
fn classify(told: Told, status: Option<ExitStatus>, is_killed: bool, said: String) -> Exit {
    let cause = match told {
        Told { is_panicked: true, .. } | Told { shutdown: Some(Reason::GuestPanic), .. } => ExitCause::GuestPanic,
        Told { shutdown: Some(Reason::GuestShutdown), .. } => ExitCause::GuestPoweroff,
        Told { shutdown: Some(Reason::GuestReset), .. } => ExitCause::GuestReset,
        Told { shutdown: Some(Reason::Quit), .. } => ExitCause::Killed,
        Told { shutdown: Some(Reason::Signal | Reason::Other) | None, .. } if is_killed => ExitCause::Killed,
        Told { shutdown: Some(Reason::Signal | Reason::Other) | None, .. } => ExitCause::VmmCrash,
    };
    let detail = match cause {
        ExitCause::VmmCrash => crash_detail(status, &said),
        ExitCause::GuestPoweroff
        | ExitCause::GuestReset
        | ExitCause::GuestPanic
        | ExitCause::Killed
        | ExitCause::OverLimit => String::new(),
    };
    Exit { cause, detail }
}

fn crash_detail(status: Option<ExitStatus>, said: &str) -> String {
    let how = match status {
        Some(status) => match status.signal() {
            Some(signal) => format!("QEMU was ended by signal {signal}"),
            None => format!("QEMU ended with status {}", status.code().unwrap_or_default()),
        },
        None => "QEMU ended".to_owned(),
    };
    if said.is_empty() { how } else { format!("{how}: {said}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_is_what_the_guest_did_before_what_was_done_to_it() {
        let told = |shutdown, is_panicked| Told { shutdown, is_panicked };
        let ended = ExitStatus::from_raw(0);
        let killed = ExitStatus::from_raw(9);
        for (told, status, is_killed, cause, detail) in [
            (told(Some(Reason::GuestShutdown), false), ended, false, ExitCause::GuestPoweroff, ""),
            (told(Some(Reason::GuestShutdown), false), killed, true, ExitCause::GuestPoweroff, ""),
            (told(Some(Reason::GuestReset), false), ended, false, ExitCause::GuestReset, ""),
            (told(Some(Reason::GuestPanic), true), ended, false, ExitCause::GuestPanic, ""),
            (told(None, true), killed, true, ExitCause::GuestPanic, ""),
            (told(None, false), killed, true, ExitCause::Killed, ""),
            (told(Some(Reason::Quit), false), ended, false, ExitCause::Killed, ""),
            (told(None, false), killed, false, ExitCause::VmmCrash, "QEMU was ended by signal 9: said"),
            (
                told(None, false),
                ExitStatus::from_raw(256),
                false,
                ExitCause::VmmCrash,
                "QEMU ended with status 1: said",
            ),
            (told(Some(Reason::Signal), false), ended, false, ExitCause::VmmCrash, "QEMU ended with status 0: said"),
        ] {
            let exit = classify(told, Some(status), is_killed, "said".into());
            assert_eq!(exit, Exit { cause, detail: detail.into() }, "{told:?} {status:?}");
        }
    }
}
