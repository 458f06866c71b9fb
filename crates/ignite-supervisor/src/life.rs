//! A live VM's status: moved through the lifecycle table, written to the store at every step.

use crate::control::Ending;
use crate::error::SupervisorError;
use crate::restart::AskedBy;
use ignite_api::event::{Action, VmEvent};
use ignite_api::lifecycle::{self, Denial, Event, Phase};
use ignite_api::restart_policy::RestartPolicy;
use ignite_api::{Uid, Vm, VmStatus};
use ignite_store::Objects;
use ignite_store::event_log::EventLog;
use tokio::sync::watch;

/// The one writer of a live VM's status.
#[derive(Debug)]
pub struct Life {
    vms: Objects<Vm>,
    uid: Uid,
    events: EventLog,
    phase: watch::Sender<Phase>,
}

impl Life {
    /// Takes over a VM that the engine has put into `Starting`.
    pub fn take_over(vms: Objects<Vm>, uid: Uid, events: EventLog) -> Life {
        Life { vms, uid, events, phase: watch::Sender::new(Phase::Starting) }
    }

    /// The phase now.
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Follows the phase.
    pub fn watch(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// The VM's restart policy as it is wanted now; `None` when it cannot be read.
    pub fn restart_policy(&self) -> Option<RestartPolicy> {
        self.vms.read(&self.uid).ok().map(|vm| vm.spec.restart_policy)
    }

    /// Whether `event` may happen now.
    pub fn may(&self, event: Event) -> Result<Phase, Denial> {
        lifecycle::next(self.phase(), event)
    }

    /// Moves to the phase after `event` (without one it stays) and stores it, with what `change` makes of the status. An
    /// event that the table refuses changes nothing.
    pub fn advance(&self, event: Option<Event>, change: impl FnOnce(&mut VmStatus)) -> Result<(), SupervisorError> {
        let phase = match event.map(|event| self.may(event)) {
            None => self.phase(),
            Some(Ok(phase)) => phase,
            Some(Err(denial)) => {
                tracing::warn!("{event:?} is refused: {denial}");
                return Ok(());
            }
        };
        let vm = self.store(phase, change)?;
        self.phase.send_replace(phase);
        if let Some(action) = event.and_then(Action::of) {
            self.tell(action, &vm.metadata.name, |event| event);
        }
        Ok(())
    }

    /// Stores how it ended. The last write of a life.
    pub fn finish(&self, ending: &Ending, asked_by: Option<AskedBy>) -> Result<(), SupervisorError> {
        let vm = self.store(ending.phase, |status| {
            status.stopped_by_user = asked_by == Some(AskedBy::User);
            status.reason = ending.reason.clone();
            status.exit_code = Some(ending.exit_code);
            status.finish_time = Some(jiff::Timestamp::now());
            status.forget_run();
        })?;
        self.phase.send_replace(ending.phase);
        self.tell_death(&vm.metadata.name, ending);
        Ok(())
    }

    /// Tells that it has ended.
    pub fn tell_death(&self, name: &str, ending: &Ending) {
        self.tell(Action::Die, name, |event| {
            let event = event.with("exitCode", ending.exit_code);
            ending.reason.iter().fold(event, |event, reason| event.with("reason", reason))
        });
    }

    /// Tells that something has happened to it, under the name it has now.
    pub fn tell_of_itself(&self, action: Action, more: impl FnOnce(VmEvent) -> VmEvent) {
        match self.vms.read(&self.uid) {
            Ok(vm) => self.tell(action, &vm.metadata.name, more),
            Err(error) => tracing::warn!("{error}"),
        }
    }

    /// Tells that something has happened; what cannot be told is logged.
    pub fn tell(&self, action: Action, name: &str, more: impl FnOnce(VmEvent) -> VmEvent) {
        if let Err(error) = self.events.append(&more(VmEvent::now(action, &self.uid, name))) {
            tracing::warn!("{error}");
        }
    }

    fn store(&self, phase: Phase, change: impl FnOnce(&mut VmStatus)) -> Result<Vm, SupervisorError> {
        // The object is read again each time: labels and names may be changed by others while the VM lives.
        let _lock = self.vms.lock(&self.uid)?;
        let mut vm = self.vms.read(&self.uid)?;
        vm.status.phase = phase;
        vm.status.running = matches!(phase, Phase::Running | Phase::Paused);
        change(&mut vm.status);
        self.vms.write(&vm)?;
        Ok(vm)
    }
}
