//! What QEMU, running, can be asked, and why it ended.

use super::client::{Client, Reason, Told};
use crate::machine::{Exit, ExitCause, VmmError};
use crate::vmm_log::VmmLog;
use crate::vmm_machine::{Vmm, crash_detail};
use async_trait::async_trait;
use std::process::ExitStatus;

/// A running QEMU.
#[derive(Debug)]
pub(crate) struct Qemu {
    pub(crate) client: Client,
    pub(crate) stderr: VmmLog,
}

#[async_trait]
impl Vmm for Qemu {
    const NAME: &'static str = "qemu";

    async fn request_shutdown(&mut self) -> Result<(), VmmError> {
        self.client.execute("system_powerdown").await
    }

    async fn pause(&mut self) -> Result<(), VmmError> {
        self.client.execute("stop").await
    }

    async fn resume(&mut self) -> Result<(), VmmError> {
        self.client.execute("cont").await
    }

    async fn last_words(&mut self) -> String {
        self.stderr.last_words().await
    }

    async fn classify(&mut self, status: Option<ExitStatus>, is_killed: bool, said: String) -> Exit {
        classify(self.client.told().await, status, is_killed, said)
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
        ExitCause::VmmCrash => crash_detail("QEMU", status, "", &said),
        ExitCause::GuestPoweroff
        | ExitCause::GuestReset
        | ExitCause::GuestPanic
        | ExitCause::Killed
        | ExitCause::OverLimit => String::new(),
    };
    Exit { cause, detail }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

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
