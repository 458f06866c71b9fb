//! `stop`, `kill`, `restart`, `wait`: requests to a VM's supervisor.

use crate::engine::{Engine, title};
use crate::error::EngineError;
use crate::progress::Progress;
use crate::start::StartMode;
use ignite_api::lifecycle::Denial;
use ignite_api::{Uid, Vm};
use ignite_store::StoreError;
use ignite_supervisor::control::{self, Channel, ControlReply, ControlRequest, Ending};
use std::io;
use std::sync::Arc;
use std::time::Duration;

impl Engine {
    /// Stops a VM: the agent is asked, then the power button pressed, then the VMM killed. One that does not run is
    /// stopped already.
    pub async fn stop(&self, uid: &Uid, timeout: Option<Duration>) -> Result<Vm, EngineError> {
        self.stop_by(uid, timeout, false).await
    }

    /// As [`Engine::stop`], because the host shuts down: every restart policy but `no` brings the VM back.
    pub async fn stop_for_shutdown(&self, uid: &Uid, timeout: Option<Duration>) -> Result<Vm, EngineError> {
        self.stop_by(uid, timeout, true).await
    }

    async fn stop_by(&self, uid: &Uid, timeout: Option<Duration>, is_shutdown: bool) -> Result<Vm, EngineError> {
        let vm = self.inspect(uid).await?;
        if !vm.status.phase.is_live() {
            return Ok(vm);
        }
        // What the VM says now, not what it said when it was started.
        let timeout = timeout.or(vm.spec.stop_timeout_seconds.map(|seconds| Duration::from_secs(u64::from(seconds))));
        let grace_ms = timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
        self.end(vm, uid, &ControlRequest::Stop { grace_ms, is_shutdown }).await
    }

    /// Ends the VMM now, or with a signal: sends it to the task. SIGKILL is the former.
    pub async fn kill(&self, uid: &Uid, signal: Option<u8>) -> Result<Vm, EngineError> {
        const SIGKILL: u8 = 9;
        match signal {
            None | Some(SIGKILL) => self.end(self.running("kill", uid).await?, uid, &ControlRequest::Kill).await,
            Some(signal) => {
                let vm = self.executing("signal", uid).await?;
                let (reply, _) = self.ask(&vm, uid, &ControlRequest::Signal { signal }).await?;
                self.expect_done(&vm, reply)?;
                Ok(vm)
            }
        }
    }

    /// Stops it, if it runs, and starts it in the background.
    pub async fn restart(
        &self,
        uid: &Uid,
        timeout: Option<Duration>,
        progress: Arc<dyn Progress>,
    ) -> Result<Vm, EngineError> {
        self.stop(uid, timeout).await?;
        Ok(self.start(uid, StartMode::Background, progress).await?.vm)
    }

    /// Waits until the VM has ended; its exit code. One that does not run answers with its last.
    pub async fn wait(&self, uid: &Uid) -> Result<u8, EngineError> {
        let vm = self.inspect(uid).await?;
        if !vm.status.phase.is_live() {
            return Ok(vm.status.exit_code.unwrap_or(0));
        }
        let ending = match self.ask(&vm, uid, &ControlRequest::Wait).await {
            Ok((ControlReply::Ended { ending }, _)) => Some(ending),
            Ok(_) | Err(EngineError::Control { .. }) => None,
            Err(error) => return Err(error),
        };
        match ending {
            Some(Ending { exit_code, .. }) => Ok(exit_code),
            // It ended between our look and our question, or its supervisor was killed.
            None => Ok(self.inspect(uid).await?.status.exit_code.unwrap_or(0)),
        }
    }

    /// Asks for the end and waits for it.
    async fn end(&self, vm: Vm, uid: &Uid, request: &ControlRequest) -> Result<Vm, EngineError> {
        match self.ask(&vm, uid, request).await {
            Ok((ControlReply::Ended { .. }, _)) | Err(EngineError::Control { .. }) => {}
            Ok((ControlReply::Denied { reason }, _)) => {
                return Err(EngineError::Refused { name: title(&vm), reason });
            }
            Ok((reply, _)) => self.expect_done(&vm, reply)?,
            Err(error) => return Err(error),
        }
        match self.inspect(uid).await {
            Ok(vm) => Ok(vm),
            // It removed itself.
            Err(EngineError::Store(StoreError::Missing { .. })) => Ok(vm),
            Err(error) => Err(error),
        }
    }

    /// The VM, if a supervisor owns it.
    pub(crate) async fn running(&self, verb: &'static str, uid: &Uid) -> Result<Vm, EngineError> {
        let vm = self.inspect(uid).await?;
        match vm.status.phase.is_live() {
            true => Ok(vm),
            false => Err(EngineError::Denied { verb, name: title(&vm), denial: Denial::NotRunning }),
        }
    }

    /// One request to the supervisor. While it starts, its socket may not be there yet: then it is being started.
    pub(crate) async fn ask(
        &self,
        vm: &Vm,
        uid: &Uid,
        request: &ControlRequest,
    ) -> Result<(ControlReply, Channel), EngineError> {
        let socket = self.paths.control_socket(uid);
        control::request(&socket, request).await.map_err(|source| self.control_error(vm, source))
    }

    pub(crate) fn control_error(&self, vm: &Vm, source: io::Error) -> EngineError {
        EngineError::Control { name: title(vm), source }
    }

    pub(crate) fn expect_done(&self, vm: &Vm, reply: ControlReply) -> Result<(), EngineError> {
        match reply {
            ControlReply::Done | ControlReply::Streaming { .. } | ControlReply::Ended { .. } => Ok(()),
            ControlReply::Denied { reason } => Err(EngineError::Refused { name: title(vm), reason }),
            ControlReply::Failed { message, exit_code } => Err(EngineError::Guest { message, exit_code }),
        }
    }
}
