//! `restore`: starts again what its restart policy wants to run.

use crate::engine::Engine;
use crate::error::EngineError;
use crate::observe::is_lost;
use crate::progress::Progress;
use crate::start::StartMode;
use futures_util::StreamExt;
use ignite_api::{Phase, Vm};
use ignite_store::StoreError;
use std::sync::Arc;

/// Most VMs that start at the same time.
const PARALLEL: usize = 8;

/// Why VMs that should run do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
    /// The host, or what cares for its VMs, has started.
    HostStarted,
    /// Their supervisors have died.
    SupervisorLost,
}

/// What became of the VMs that should run.
#[derive(Debug, Default)]
pub struct Restored {
    /// Those that run now.
    pub started: Vec<Vm>,
    /// Those that could not be started.
    pub failed: Vec<(Vm, EngineError)>,
    /// Objects that could not be read, one line each.
    pub warnings: Vec<String>,
}

impl Engine {
    /// Starts the VMs at rest whose policy wants them to run, several at once. An error of one keeps no other from starting.
    pub async fn restore(&self, occasion: Occasion, progress: Arc<dyn Progress>) -> Result<Restored, EngineError> {
        let listing = self.list().await?;
        let wanted = listing.vms.into_iter().filter(|vm| is_wanted(vm, occasion));
        let start = |vm: Vm| {
            let progress = progress.clone();
            async move {
                let Some(uid) = vm.metadata.uid.clone() else {
                    return Err((vm, EngineError::Store(StoreError::NoUid { kind: "VM" })));
                };
                let started = self.start(&uid, StartMode::Background, progress).await;
                started.map(|started| started.vm).map_err(|error| (vm, error))
            }
        };
        let mut restored = Restored { warnings: listing.warnings, ..Restored::default() };
        let mut work = futures_util::stream::iter(wanted.map(start)).buffer_unordered(PARALLEL);
        while let Some(result) = work.next().await {
            match result {
                Ok(vm) => restored.started.push(vm),
                Err(failed) => restored.failed.push(failed),
            }
        }
        Ok(restored)
    }
}

fn is_wanted(vm: &Vm, occasion: Occasion) -> bool {
    let status = &vm.status;
    let has_failed = status.phase == Phase::Failed || status.exit_code.is_some_and(|code| code != 0);
    let is_occasion = occasion == Occasion::HostStarted || is_lost(vm);
    is_occasion
        && !status.phase.is_live()
        && vm.spec.restart_policy.brings_back(status.starts > 0, status.stopped_by_user, has_failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::LOST;
    use ignite_api::{ObjectMeta, VmSpec, VmStatus};

    #[test]
    fn what_should_run_is_started_and_nothing_else() {
        let lost = VmStatus {
            phase: Phase::Failed,
            reason: Some(LOST.to_owned()),
            exit_code: Some(255),
            starts: 1,
            ..Default::default()
        };
        let stopped = VmStatus {
            phase: Phase::Stopped,
            exit_code: Some(0),
            starts: 1,
            stopped_by_user: true,
            ..Default::default()
        };
        let created = VmStatus::default();
        let running = VmStatus { phase: Phase::Running, starts: 1, ..Default::default() };
        use Occasion::{HostStarted, SupervisorLost};
        let table = [
            ("always", &lost, HostStarted, true),
            ("always", &lost, SupervisorLost, true),
            ("no", &lost, SupervisorLost, false),
            ("on-failure", &lost, SupervisorLost, true),
            ("always", &stopped, HostStarted, true),
            ("always", &stopped, SupervisorLost, false),
            ("unless-stopped", &stopped, HostStarted, false),
            ("always", &created, HostStarted, false),
            ("always", &running, HostStarted, false),
        ];
        for (policy, status, occasion, expected) in table {
            let spec = VmSpec { restart_policy: policy.parse().unwrap(), ..VmSpec::default() };
            let vm = Vm { status: status.clone(), ..Vm::new(ObjectMeta::default(), spec) };
            assert_eq!(is_wanted(&vm, occasion), expected, "{policy} {:?} {occasion:?}", status.phase);
        }
    }
}
