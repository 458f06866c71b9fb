//! The lifecycle of a VM: a pure table from (phase, event) to the next phase.
//!
//! ```text
//!            Start               GuestReady              StopRequested
//!  Created ----------> Starting ------------> Running ------------------> Stopping
//!  Stopped ---^  ^        |  \                 |   ^ \                       |
//!  Failed  ------+        |   \ StopRequested  |   |  \ Exited/Crashed       | Exited/Crashed
//!                         |    `-> Stopping   Pause Resume                   v
//!                         | Exited/Crashed     v   |                      Stopped/Failed
//!                         `---> Failed        Paused
//! ```
//!
//! `Restart` leads from `Running`, `Paused` and `Starting` back to `Starting`: the same supervisor boots it again.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Where a VM is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Phase {
    /// Its disks exist; it has never been started.
    #[default]
    Created,
    /// A supervisor is bringing it up.
    Starting,
    /// The guest has been configured; the task or init runs.
    Running,
    /// The VMM does not execute the guest; memory is kept.
    Paused,
    /// It was asked to end and has not yet.
    Stopping,
    /// It ended as asked, or by itself in an orderly way.
    Stopped,
    /// It ended, or failed to start, because something went wrong; `status.reason` says what.
    Failed,
}

/// What can happen to a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// Someone asks to start it.
    Start,
    /// The guest has been configured and runs.
    GuestReady,
    /// Someone asks to stop it, gracefully or not.
    StopRequested,
    /// Someone asks to pause it.
    Pause,
    /// Someone asks to resume it.
    Resume,
    /// It ended in an orderly way: the task exited, the guest powered off, or the stop was carried out.
    Exited,
    /// It ended, and its restart policy boots it again.
    Restart,
    /// It ended because something broke: VMM crash, guest panic, failed boot, supervisor killed.
    Crashed,
}

/// Why an event is refused in a phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Denial {
    /// `Start` of a VM that is up already.
    #[error("it is already running")]
    AlreadyRunning,
    /// `Start` while it is being started.
    #[error("it is being started")]
    BeingStarted,
    /// `Start` or `Pause` while it is being stopped.
    #[error("it is being stopped")]
    BeingStopped,
    /// `StopRequested`, `Pause` or `Resume` of a VM that is not up.
    #[error("it is not running")]
    NotRunning,
    /// `Pause` of a paused VM, or `Start` of one: it has to be unpaused.
    #[error("it is paused")]
    Paused,
    /// `Resume` of a VM that is not paused.
    #[error("it is not paused")]
    NotPaused,
    /// An event that cannot come in this phase: a defect of the caller.
    #[error("the event does not belong to this phase")]
    Impossible,
}

impl Phase {
    /// Every phase.
    pub const ALL: [Phase; 7] = [
        Phase::Created,
        Phase::Starting,
        Phase::Running,
        Phase::Paused,
        Phase::Stopping,
        Phase::Stopped,
        Phase::Failed,
    ];

    /// True while the guest is up, executing or paused: what `status.running` tells old readers.
    pub fn is_running(self) -> bool {
        match self {
            Phase::Running | Phase::Paused | Phase::Stopping => true,
            Phase::Created | Phase::Starting | Phase::Stopped | Phase::Failed => false,
        }
    }

    /// True while a supervisor owns the VM.
    pub fn is_live(self) -> bool {
        match self {
            Phase::Starting | Phase::Running | Phase::Paused | Phase::Stopping => true,
            Phase::Created | Phase::Stopped | Phase::Failed => false,
        }
    }
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Phase::Created => "Created",
            Phase::Starting => "Starting",
            Phase::Running => "Running",
            Phase::Paused => "Paused",
            Phase::Stopping => "Stopping",
            Phase::Stopped => "Stopped",
            Phase::Failed => "Failed",
        })
    }
}

impl Event {
    /// Every event.
    pub const ALL: [Event; 8] = [
        Event::Start,
        Event::GuestReady,
        Event::StopRequested,
        Event::Pause,
        Event::Resume,
        Event::Exited,
        Event::Crashed,
        Event::Restart,
    ];
}

/// The phase that follows `event` in `phase`, or why the event is refused.
///
/// A stop may be asked for again while it is carried out (a kill after a graceful stop). A guest that ends before it was
/// ready has failed to start, however orderly it ended.
pub fn next(phase: Phase, event: Event) -> Result<Phase, Denial> {
    use Event as E;
    use Phase as P;
    match (phase, event) {
        (P::Created | P::Stopped | P::Failed, E::Start) => Ok(P::Starting),
        (P::Starting, E::Start) => Err(Denial::BeingStarted),
        (P::Running, E::Start) => Err(Denial::AlreadyRunning),
        (P::Paused, E::Start) => Err(Denial::Paused),
        (P::Stopping, E::Start) => Err(Denial::BeingStopped),

        (P::Starting, E::GuestReady) => Ok(P::Running),
        (P::Created | P::Running | P::Paused | P::Stopping | P::Stopped | P::Failed, E::GuestReady) => {
            Err(Denial::Impossible)
        }

        (P::Starting | P::Running | P::Paused | P::Stopping, E::StopRequested) => Ok(P::Stopping),
        (P::Created | P::Stopped | P::Failed, E::StopRequested) => Err(Denial::NotRunning),

        (P::Running, E::Pause) => Ok(P::Paused),
        (P::Paused, E::Pause) => Err(Denial::Paused),
        (P::Starting, E::Pause) => Err(Denial::BeingStarted),
        (P::Stopping, E::Pause) => Err(Denial::BeingStopped),
        (P::Created | P::Stopped | P::Failed, E::Pause) => Err(Denial::NotRunning),

        (P::Paused, E::Resume) => Ok(P::Running),
        (P::Starting | P::Running | P::Stopping, E::Resume) => Err(Denial::NotPaused),
        (P::Created | P::Stopped | P::Failed, E::Resume) => Err(Denial::NotRunning),

        (P::Running | P::Paused | P::Stopping, E::Exited) => Ok(P::Stopped),
        (P::Starting, E::Exited) => Ok(P::Failed),
        (P::Starting | P::Running | P::Paused | P::Stopping, E::Crashed) => Ok(P::Failed),
        (P::Created | P::Stopped | P::Failed, E::Exited | E::Crashed) => Err(Denial::Impossible),

        (P::Starting | P::Running | P::Paused, E::Restart) => Ok(P::Starting),
        (P::Stopping, E::Restart) => Err(Denial::BeingStopped),
        (P::Created | P::Stopped | P::Failed, E::Restart) => Err(Denial::Impossible),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows are phases, columns are events in the order of [`Event::ALL`]; `!` marks a denial.
    const TABLE: &str = "
                  Start          GuestReady   StopRequested  Pause          Resume        Exited       Crashed      Restart
        Created   Starting       !Impossible  !NotRunning    !NotRunning    !NotRunning   !Impossible  !Impossible  !Impossible
        Starting  !BeingStarted  Running      Stopping       !BeingStarted  !NotPaused    Failed       Failed       Starting
        Running   !AlreadyRunning !Impossible Stopping       Paused         !NotPaused    Stopped      Failed       Starting
        Paused    !Paused        !Impossible  Stopping       !Paused        Running       Stopped      Failed       Starting
        Stopping  !BeingStopped  !Impossible  Stopping       !BeingStopped  !NotPaused    Stopped      Failed       !BeingStopped
        Stopped   Starting       !Impossible  !NotRunning    !NotRunning    !NotRunning   !Impossible  !Impossible  !Impossible
        Failed    Starting       !Impossible  !NotRunning    !NotRunning    !NotRunning   !Impossible  !Impossible  !Impossible
    ";

    #[test]
    fn every_event_in_every_phase_has_its_entry_in_the_table() {
        let mut rows =
            TABLE.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).filter(|row| !row.is_empty());
        assert_eq!(rows.next().unwrap(), Event::ALL.map(|event| format!("{event:?}")));
        for phase in Phase::ALL {
            let row = rows.next().expect("a row per phase");
            assert_eq!(row[0], phase.to_string());
            let outcomes = Event::ALL.map(|event| match next(phase, event) {
                Ok(next) => next.to_string(),
                Err(denial) => format!("!{denial:?}"),
            });
            assert_eq!(row[1..], outcomes, "{phase}");
        }
        assert!(rows.next().is_none());
    }

    #[test]
    fn only_a_live_vm_can_end_and_only_a_vm_at_rest_can_start() {
        for phase in Phase::ALL {
            assert_eq!(next(phase, Event::Crashed).is_ok(), phase.is_live(), "{phase}");
            assert_eq!(next(phase, Event::Start).is_ok(), !phase.is_live(), "{phase}");
            assert!(!phase.is_running() || phase.is_live(), "{phase}");
        }
    }

    #[test]
    fn phases_are_written_by_their_names() {
        for phase in Phase::ALL {
            assert_eq!(serde_json::to_value(phase).unwrap(), phase.to_string());
        }
    }
}
