//! What Firecracker, running, can be asked, and why it ended.

use super::client::Client;
use super::metrics::Metrics;
use super::open::Opened;
use crate::counters::VmmCounters;
use crate::machine::{Exit, ExitCause, VmmError};
use crate::vmm_log::VmmLog;
use crate::vmm_machine::{Vmm, crash_detail};
use async_trait::async_trait;
use serde_json::json;
use std::process::ExitStatus;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What Firecracker logs when KVM gives up on a virtual CPU; it may end with status 0 all the same.
const KVM_GAVE_UP: &str = "KVM_EXIT_INTERNAL_ERROR";

/// States of `PATCH /vm`, and an action of `PUT /actions`.
pub(super) const PAUSED: &str = "Paused";
pub(super) const RESUMED: &str = "Resumed";
pub(super) const SEND_CTRL_ALT_DEL: &str = "SendCtrlAltDel";

/// A running Firecracker; its drives are let go last.
#[derive(Debug)]
pub(crate) struct Firecracker {
    pub(super) client: Client,
    pub(super) stderr: VmmLog,
    pub(super) log: VmmLog,
    pub(super) metrics: Metrics,
    pub(super) carrier: JoinHandle<()>,
    pub(super) opened: Option<Opened>,
}

impl Drop for Firecracker {
    fn drop(&mut self) {
        self.carrier.abort();
    }
}

#[async_trait]
impl Vmm for Firecracker {
    const NAME: &'static str = "firecracker";

    async fn request_shutdown(&mut self) -> Result<(), VmmError> {
        if cfg!(target_arch = "x86_64") {
            return self.client.put("/actions", &json!({ "action_type": SEND_CTRL_ALT_DEL })).await;
        }
        Err(VmmError::Unsupported {
            what: "Firecracker has no power button on this architecture".to_owned(),
            hint: "end the VM: ignite kill".to_owned(),
        })
    }

    async fn pause(&mut self) -> Result<(), VmmError> {
        self.client.patch("/vm", &json!({ "state": PAUSED })).await
    }

    async fn resume(&mut self) -> Result<(), VmmError> {
        self.client.patch("/vm", &json!({ "state": RESUMED })).await
    }

    fn counters(&self) -> Option<watch::Receiver<VmmCounters>> {
        Some(self.metrics.counters.clone())
    }

    async fn last_words(&mut self) -> String {
        if let Some(opened) = &mut self.opened {
            opened.let_go_of_streams();
        }
        let mut said = self.log.last_words().await;
        if said.is_empty() {
            said = self.stderr.last_words().await;
        }
        // Its drives are free and their owner's again, and nobody will listen on its sockets.
        self.opened = None;
        self.carrier.abort();
        said
    }

    async fn classify(&mut self, status: Option<ExitStatus>, is_killed: bool, said: String) -> Exit {
        classify(status, is_killed, &said)
    }
}

/// Why the machine ended. The guest's reset is the one end that Firecracker knows; what it was for, the agent has said.
fn classify(status: Option<ExitStatus>, is_killed: bool, said: &str) -> Exit {
    let is_reset = status.is_some_and(|status| status.success()) && !said.contains(KVM_GAVE_UP);
    match (is_reset, is_killed) {
        (true, _) => Exit { cause: ExitCause::GuestReset, detail: String::new() },
        (false, true) => Exit { cause: ExitCause::Killed, detail: String::new() },
        (false, false) => {
            Exit { cause: ExitCause::VmmCrash, detail: crash_detail("Firecracker", status, meaning(status), said) }
        }
    }
}

/// What its own exit codes mean (Firecracker's `FcExitCode`).
fn meaning(status: Option<ExitStatus>) -> &'static str {
    match status.and_then(|status| status.code()) {
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
    use std::os::unix::process::ExitStatusExt;

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
