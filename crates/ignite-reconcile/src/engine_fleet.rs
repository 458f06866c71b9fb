//! The engine as a fleet.

use crate::fleet::{Fleet, FleetError, Reconfigure};
use ignite_agent_protocol::message::{Process, StreamExit};
use ignite_api::depends_on::Readiness;
use ignite_api::{Uid, Vm, chain_of};
use ignite_engine::{CreateRequest, Engine, EngineError, Progress, PullPolicy, SessionEvent, StartMode};
use std::sync::Arc;
use std::time::Duration;

/// Longest that one look at a VM's readiness takes.
const PROBE_DEADLINE: Duration = Duration::from_secs(10);

impl Fleet for Engine {
    async fn observe(&self) -> Result<Vec<Vm>, FleetError> {
        let listing = self.list().await.map_err(failure)?;
        for warning in listing.warnings {
            tracing::warn!("{warning}");
        }
        Ok(listing.vms)
    }

    async fn secrets_version(&self, vm: &Vm) -> Result<Option<String>, FleetError> {
        Engine::secrets_version(self, vm).map_err(failure)
    }

    async fn create(&self, vm: Vm) -> Result<Uid, FleetError> {
        let request = CreateRequest { vm, pull: PullPolicy::Missing, platform: None, stdin: None };
        let vm = Engine::create(self, request, silent()).await.map_err(failure)?;
        vm.metadata.uid.ok_or_else(|| FleetError { message: "the VM has no uid".to_owned(), hint: None })
    }

    async fn start(&self, uid: &Uid) -> Result<(), FleetError> {
        Engine::start(self, uid, StartMode::Background, silent()).await.map(drop).map_err(failure)
    }

    async fn stop(&self, uid: &Uid) -> Result<(), FleetError> {
        Engine::stop(self, uid, None).await.map(drop).map_err(failure)
    }

    async fn remove(&self, uid: &Uid) -> Result<(), FleetError> {
        Engine::remove(self, uid, true).await.map_err(failure)
    }

    async fn reconfigure(&self, uid: &Uid, change: Reconfigure) -> Result<(), FleetError> {
        Engine::reconfigure(self, uid, change.vm).await.map(drop).map_err(failure)
    }

    async fn is_ready(&self, uid: &Uid, readiness: &Readiness) -> bool {
        let look = async {
            if let Some(socket) = &readiness.tcp_socket {
                self.connect(uid, socket.port).await.ok()?;
            }
            if let Some(exec) = &readiness.exec {
                let process = Process { args: exec.command.clone(), ..Process::default() };
                let (_input, mut output) = self.exec(uid, process).await.ok()?.split();
                loop {
                    match output.next().await.ok()? {
                        SessionEvent::Exit(StreamExit::Exited { code: 0 }) => break,
                        SessionEvent::Exit(_) => return None,
                        _ => {}
                    }
                }
            }
            Some(())
        };
        matches!(tokio::time::timeout(PROBE_DEADLINE, look).await, Ok(Some(())))
    }
}

/// Nobody watches.
struct Silent;

impl Progress for Silent {
    fn event(&self, _: ignite_engine::ProgressEvent) {}
}

fn silent() -> Arc<dyn Progress> {
    Arc::new(Silent)
}

fn failure(error: EngineError) -> FleetError {
    FleetError { message: chain_of(&error), hint: error.hint() }
}
