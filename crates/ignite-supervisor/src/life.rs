//! A live VM's status: moved through the lifecycle table, written to the store at every step.

use crate::control::Ending;
use crate::error::SupervisorError;
use crate::restart::AskedBy;
use ignite_api::lifecycle::{self, Denial, Event, Phase};
use ignite_api::restart_policy::RestartPolicy;
use ignite_api::{Uid, Vm, VmStatus};
use ignite_store::Objects;
use tokio::sync::watch;

/// The one writer of a live VM's status.
#[derive(Debug)]
pub struct Life {
    vms: Objects<Vm>,
    uid: Uid,
    phase: watch::Sender<Phase>,
}

impl Life {
    /// Takes over a VM that the engine has put into `Starting`.
    pub fn take_over(vms: Objects<Vm>, uid: Uid) -> Life {
        Life { vms, uid, phase: watch::Sender::new(Phase::Starting) }
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
        self.store(phase, change)?;
        self.phase.send_replace(phase);
        Ok(())
    }

    /// Stores how it ended. The last write of a life.
    pub fn finish(&self, ending: &Ending, asked_by: Option<AskedBy>) -> Result<(), SupervisorError> {
        self.store(ending.phase, |status| {
            status.stopped_by_user = asked_by == Some(AskedBy::User);
            status.reason = ending.reason.clone();
            status.exit_code = Some(ending.exit_code);
            status.finish_time = Some(jiff::Timestamp::now());
            status.forget_run();
        })?;
        self.phase.send_replace(ending.phase);
        Ok(())
    }

    fn store(&self, phase: Phase, change: impl FnOnce(&mut VmStatus)) -> Result<(), SupervisorError> {
        // The object is read again each time: labels and names may be changed by others while the VM lives.
        let _lock = self.vms.lock(&self.uid)?;
        let mut vm = self.vms.read(&self.uid)?;
        vm.status.phase = phase;
        vm.status.running = matches!(phase, Phase::Running | Phase::Paused);
        change(&mut vm.status);
        self.vms.write(&vm)?;
        Ok(())
    }
}
