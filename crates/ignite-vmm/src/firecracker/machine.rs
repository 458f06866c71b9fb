//! A machine that Firecracker runs.

use super::client::Client;
use super::open::Opened;
use crate::jail::Process;
use crate::machine::{AgentChannel, Console, Exit, ExitCause, Machine, Pause, VmmError};
use crate::vmm_log::VmmLog;
use async_trait::async_trait;
use serde_json::json;
use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use tokio::io::DuplexStream;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

/// What Firecracker logs when KVM gives up on a virtual CPU; it may end with status 0 all the same.
const KVM_GAVE_UP: &str = "KVM_EXIT_INTERNAL_ERROR";

/// States of `PATCH /vm`, and an action of `PUT /actions`.
pub(super) const PAUSED: &str = "Paused";
pub(super) const RESUMED: &str = "Resumed";
pub(super) const SEND_CTRL_ALT_DEL: &str = "SendCtrlAltDel";

/// The parts in the order they are let go: the process first, its drives last.
#[derive(Debug)]
pub(crate) struct FirecrackerMachine {
    pub(super) process: Process,
    pub(super) client: Client,
    pub(super) stderr: VmmLog,
    pub(super) log: VmmLog,
    pub(super) agent: Option<DuplexStream>,
    pub(super) carrier: JoinHandle<()>,
    pub(super) console: Option<UnixStream>,
    pub(super) isolation: BTreeMap<String, String>,
    pub(super) is_killed: bool,
    pub(super) exit: Option<Exit>,
    pub(super) opened: Option<Opened>,
}

impl FirecrackerMachine {
    /// How it ended and what it said last. Cancel-safe.
    async fn ended(&mut self) -> (Option<ExitStatus>, String) {
        let status = self.process.wait().await;
        if let Some(opened) = &mut self.opened {
            opened.log_held_open = None;
        }
        let mut said = self.log.last_words().await;
        if said.is_empty() {
            said = self.stderr.last_words().await;
        }
        // Its drives are free and their owner's again, and nobody will listen on its sockets.
        self.opened = None;
        self.carrier.abort();
        match status {
            Ok(status) => (Some(status), said),
            Err(error) => (None, format!("its end could not be awaited: {error}")),
        }
    }
}

impl Drop for FirecrackerMachine {
    fn drop(&mut self) {
        self.carrier.abort();
    }
}

#[async_trait]
impl Machine for FirecrackerMachine {
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
        if cfg!(target_arch = "x86_64") {
            return self.client.put("/actions", &json!({ "action_type": SEND_CTRL_ALT_DEL })).await;
        }
        Err(VmmError::Unsupported {
            what: "Firecracker has no power button on this architecture".to_owned(),
            hint: "end the VM: ignite kill".to_owned(),
        })
    }

    async fn kill(&mut self) -> Result<(), VmmError> {
        if self.process.pid().is_some() {
            self.is_killed = true;
            self.process.kill().map_err(|error| VmmError::Control {
                vmm: "firecracker",
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
        // Nobody has asked for the console by now: what the guest prints is refused, where it would else block it.
        self.console = None;
        let (status, said) = self.ended().await;
        let exit = classify(status, self.is_killed, &said).with_breach(self.process.breach());
        self.exit = Some(exit.clone());
        exit
    }

    fn pauser(&mut self) -> Option<&mut dyn Pause> {
        Some(self)
    }
}

#[async_trait]
impl Pause for FirecrackerMachine {
    async fn pause(&mut self) -> Result<(), VmmError> {
        self.client.patch("/vm", &json!({ "state": PAUSED })).await
    }

    async fn resume(&mut self) -> Result<(), VmmError> {
        self.client.patch("/vm", &json!({ "state": RESUMED })).await
    }
}

/// Why the machine ended. The guest's reset is the one end that Firecracker knows; what it was for, the agent has said.
fn classify(status: Option<ExitStatus>, is_killed: bool, said: &str) -> Exit {
    let is_reset = status.is_some_and(|status| status.success()) && !said.contains(KVM_GAVE_UP);
    match (is_reset, is_killed) {
        (true, _) => Exit { cause: ExitCause::GuestReset, detail: String::new() },
        (false, true) => Exit { cause: ExitCause::Killed, detail: String::new() },
        (false, false) => Exit { cause: ExitCause::VmmCrash, detail: crash_detail(status, said) },
    }
}

fn crash_detail(status: Option<ExitStatus>, said: &str) -> String {
    let how = match status {
        Some(status) => match status.signal() {
            Some(signal) => format!("Firecracker was ended by signal {signal}"),
            None => format!("Firecracker ended with status {}{}", status.code().unwrap_or_default(), meaning(status)),
        },
        None => "Firecracker ended".to_owned(),
    };
    if said.is_empty() { how } else { format!("{how}: {said}") }
}

/// What its own exit codes mean (Firecracker's `FcExitCode`).
fn meaning(status: ExitStatus) -> &'static str {
    match status.code() {
        Some(148) => " (a system call that its filter refuses)",
        Some(149) => " (a bus error: the host has no memory for it)",
        Some(150) => " (a segmentation fault)",
        Some(152) => " (a configuration it refuses)",
        Some(153) => " (arguments it refuses)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_not_believed_alone() {
        let code = |code: i32| Some(ExitStatus::from_raw(code << 8));
        let signal = |signal| Some(ExitStatus::from_raw(signal));
        for (status, is_killed, said, cause, detail) in [
            (code(0), false, "", ExitCause::GuestReset, ""),
            (code(0), true, "", ExitCause::GuestReset, ""),
            (
                code(0),
                false,
                "KVM_EXIT_INTERNAL_ERROR",
                ExitCause::VmmCrash,
                "Firecracker ended with status 0: KVM_EXIT_INTERNAL_ERROR",
            ),
            (signal(9), true, "", ExitCause::Killed, ""),
            (signal(9), false, "", ExitCause::VmmCrash, "Firecracker was ended by signal 9"),
            (
                code(148),
                false,
                "",
                ExitCause::VmmCrash,
                "Firecracker ended with status 148 (a system call that its filter refuses)",
            ),
            (code(1), false, "words", ExitCause::VmmCrash, "Firecracker ended with status 1: words"),
        ] {
            assert_eq!(classify(status, is_killed, said), Exit { cause, detail: detail.to_owned() });
        }
    }
}
