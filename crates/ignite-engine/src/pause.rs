//! `pause`, `unpause`: a VM whose guest is not executed for a while, its memory and devices kept.

use crate::engine::{Engine, title};
use crate::error::EngineError;
use ignite_api::lifecycle::{self, Denial, Event};
use ignite_api::{Phase, Uid, Vm};
use ignite_supervisor::control::ControlRequest;

impl Engine {
    /// Stops executing the guest. What it has open stays open, but nothing of it answers until [`Engine::unpause`].
    pub async fn pause(&self, uid: &Uid) -> Result<Vm, EngineError> {
        self.halt_or_go("pause", uid, Event::Pause, &ControlRequest::Pause).await
    }

    /// Lets the guest go on, its clock set to the host's.
    pub async fn unpause(&self, uid: &Uid) -> Result<Vm, EngineError> {
        self.halt_or_go("unpause", uid, Event::Resume, &ControlRequest::Resume).await
    }

    async fn halt_or_go(
        &self,
        verb: &'static str,
        uid: &Uid,
        event: Event,
        request: &ControlRequest,
    ) -> Result<Vm, EngineError> {
        let vm = self.inspect(uid).await?;
        if let Err(denial) = lifecycle::next(vm.status.phase, event) {
            return Err(EngineError::Denied { verb, name: title(&vm), denial });
        }
        let (reply, _) = self.ask(&vm, uid, request).await?;
        self.expect_done(&vm, reply)?;
        self.inspect(uid).await
    }

    /// The VM, if a supervisor owns it and its guest is not paused: what needs the guest's answer.
    pub(crate) async fn executing(&self, verb: &'static str, uid: &Uid) -> Result<Vm, EngineError> {
        let vm = self.running(verb, uid).await?;
        match vm.status.phase {
            Phase::Paused => Err(EngineError::Denied { verb, name: title(&vm), denial: Denial::Paused }),
            _ => Ok(vm),
        }
    }
}
