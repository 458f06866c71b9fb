//! What the end of a machine means for its VM: a pure decision.

use crate::control::Ending;
use ignite_agent_protocol::message::{ExitingCause, StreamExit};
use ignite_api::Phase;
use ignite_vmm::{Exit, ExitCause};

/// Exit code of a VM that was killed: 128 + SIGKILL.
pub const KILLED_EXIT_CODE: u8 = 137;
/// Exit code of a VM that broke without a code of its own.
pub const BROKEN_EXIT_CODE: u8 = 255;

/// What was asked of the VM before it ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Asked {
    /// Nothing: it ended by itself.
    #[default]
    Nothing,
    /// A graceful stop.
    Stop,
    /// A graceful stop that ran out of time.
    StopTimedOut,
    /// An immediate kill.
    Kill,
}

/// Everything known about the end.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    /// The VM runs a task, not a machine's init.
    pub is_task: bool,
    /// How the task's stream ended.
    pub task_exit: Option<&'a StreamExit>,
    /// What the agent announced.
    pub announced: Option<ExitingCause>,
    /// What the VMM saw.
    pub exit: &'a Exit,
    /// What was asked.
    pub asked: Asked,
}

/// What follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The VM is over.
    Ended(Ending),
    /// The guest rebooted itself: the machine is booted again.
    Reboot,
}

/// Decides what the end of a machine means.
pub fn decide(facts: &Facts<'_>) -> Outcome {
    let stopped = |exit_code, reason: Option<&str>| {
        Outcome::Ended(Ending { phase: Phase::Stopped, exit_code, reason: reason.map(str::to_owned) })
    };
    let failed = |exit_code, reason: String| {
        let reason = if facts.exit.detail.is_empty() { reason } else { format!("{reason}: {}", facts.exit.detail) };
        Outcome::Ended(Ending { phase: Phase::Failed, exit_code, reason: Some(reason) })
    };
    // A task that had its say decides, however its machine went down afterwards.
    match facts.task_exit {
        Some(StreamExit::Failed { code, message }) => {
            return Outcome::Ended(Ending { phase: Phase::Failed, exit_code: *code, reason: Some(message.clone()) });
        }
        Some(exit @ StreamExit::Signaled { .. }) => return stopped(exit.exit_code(), None),
        Some(StreamExit::Exited { code }) => return stopped(*code, None),
        None => {}
    }
    match (facts.asked, facts.exit.cause) {
        (Asked::Kill, _) => stopped(KILLED_EXIT_CODE, Some("killed")),
        (Asked::StopTimedOut, ExitCause::Killed) => {
            stopped(KILLED_EXIT_CODE, Some("killed: it did not stop within its stop timeout"))
        }
        (_, ExitCause::GuestPanic) => failed(BROKEN_EXIT_CODE, "the guest kernel panicked".into()),
        (_, ExitCause::OverLimit) => failed(KILLED_EXIT_CODE, "stopped".into()),
        (_, ExitCause::VmmCrash) => failed(BROKEN_EXIT_CODE, "the VMM died".into()),
        (Asked::Stop | Asked::StopTimedOut, ExitCause::GuestPoweroff | ExitCause::GuestReset | ExitCause::Killed) => {
            stopped(0, None)
        }
        (Asked::Nothing, ExitCause::GuestPoweroff) => stopped(0, None),
        (Asked::Nothing, ExitCause::GuestReset) if !facts.is_task => Outcome::Reboot,
        (Asked::Nothing, ExitCause::GuestReset) => match facts.announced {
            Some(ExitingCause::Poweroff | ExitingCause::Reboot) => stopped(0, None),
            Some(ExitingCause::TaskExited) | None => {
                failed(BROKEN_EXIT_CODE, "the guest was reset before its task ended".into())
            }
        },
        // The supervisor ends a machine itself once the agent has announced that everything is on disk.
        (Asked::Nothing, ExitCause::Killed) => match facts.announced {
            Some(ExitingCause::Reboot) if !facts.is_task => Outcome::Reboot,
            Some(_) => stopped(0, None),
            None => failed(BROKEN_EXIT_CODE, "the machine was ended".into()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ExitCause as C;
    use ExitingCause as A;

    /// Whether it is a task, its exit, what was announced, the VMM's cause, what was asked; and the outcome.
    type Row = (bool, Option<StreamExit>, Option<A>, C, Asked, &'static str);

    fn facts_table() -> Vec<Row> {
        let exited = |code| Some(StreamExit::Exited { code });
        vec![
            (true, exited(0), Some(A::TaskExited), C::GuestPoweroff, Asked::Nothing, "Stopped 0"),
            (true, exited(7), Some(A::TaskExited), C::Killed, Asked::Nothing, "Stopped 7"),
            (true, exited(7), None, C::VmmCrash, Asked::Nothing, "Stopped 7"),
            (true, Some(StreamExit::Signaled { signal: 15 }), None, C::GuestPoweroff, Asked::Stop, "Stopped 143"),
            (
                true,
                Some(StreamExit::Signaled { signal: 9 }),
                None,
                C::GuestPoweroff,
                Asked::StopTimedOut,
                "Stopped 137",
            ),
            (
                true,
                Some(StreamExit::Failed { code: 127, message: "not found".into() }),
                None,
                C::GuestPoweroff,
                Asked::Nothing,
                "Failed 127",
            ),
            (true, None, None, C::GuestReset, Asked::Nothing, "Failed 255"),
            (true, None, Some(A::Reboot), C::GuestReset, Asked::Nothing, "Stopped 0"),
            (true, None, None, C::GuestPoweroff, Asked::Nothing, "Stopped 0"),
            (true, None, None, C::Killed, Asked::Kill, "Stopped 137"),
            (true, None, None, C::Killed, Asked::StopTimedOut, "Stopped 137"),
            (true, None, None, C::VmmCrash, Asked::Nothing, "Failed 255"),
            (true, None, None, C::VmmCrash, Asked::Stop, "Failed 255"),
            (false, None, None, C::GuestPoweroff, Asked::Nothing, "Stopped 0"),
            (false, None, None, C::GuestPoweroff, Asked::Stop, "Stopped 0"),
            (false, None, None, C::GuestReset, Asked::Nothing, "Reboot"),
            (false, None, Some(A::Reboot), C::Killed, Asked::Nothing, "Reboot"),
            (false, None, None, C::GuestReset, Asked::Stop, "Stopped 0"),
            (true, None, None, C::OverLimit, Asked::Nothing, "Failed 137"),
            (false, None, None, C::OverLimit, Asked::Stop, "Failed 137"),
            (false, None, None, C::OverLimit, Asked::Kill, "Stopped 137"),
            (false, None, None, C::GuestPanic, Asked::Nothing, "Failed 255"),
            (false, None, None, C::GuestPanic, Asked::Stop, "Failed 255"),
            (false, None, None, C::VmmCrash, Asked::Nothing, "Failed 255"),
            (false, None, None, C::Killed, Asked::StopTimedOut, "Stopped 137"),
            (false, None, None, C::Killed, Asked::Kill, "Stopped 137"),
            (false, None, None, C::VmmCrash, Asked::Kill, "Stopped 137"),
        ]
    }

    #[test]
    fn every_end_has_one_meaning() {
        for (is_task, task_exit, announced, cause, asked, expected) in facts_table() {
            let exit = Exit { cause, detail: String::new() };
            let facts = Facts { is_task, task_exit: task_exit.as_ref(), announced, exit: &exit, asked };
            let outcome = match decide(&facts) {
                Outcome::Reboot => "Reboot".to_owned(),
                Outcome::Ended(ending) => format!("{} {}", ending.phase, ending.exit_code),
            };
            assert_eq!(outcome, expected, "{facts:?}");
        }
    }

    #[test]
    fn what_the_vmm_said_is_part_of_the_reason() {
        let exit = Exit { cause: C::VmmCrash, detail: "killed by signal 11".into() };
        let facts = Facts { is_task: false, task_exit: None, announced: None, exit: &exit, asked: Asked::Nothing };
        let Outcome::Ended(ending) = decide(&facts) else { panic!("it ended") };
        assert_eq!(ending.reason.as_deref(), Some("the VMM died: killed by signal 11"));
    }
}
