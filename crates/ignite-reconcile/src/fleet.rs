//! What reconciliation asks of the engine; tests answer with a fake.

use ignite_api::depends_on::Readiness;
use ignite_api::{Uid, Vm};
use std::future::Future;

/// A request that failed, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct FleetError {
    /// What failed, with its causes.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// What a VM becomes: its spec, and labels and annotations to be set; ours that are not among them go.
#[derive(Debug, Clone, PartialEq)]
pub struct Reconfigure {
    /// The VM as it is wanted.
    pub vm: Vm,
}

/// The VMs, and what can be done with them.
pub trait Fleet {
    /// All VMs as they are.
    fn observe(&self) -> impl Future<Output = Result<Vec<Vm>, FleetError>>;
    /// Which secrets a VM takes and since when they are as they are; an error where it cannot have one. Absent: it takes
    /// none.
    fn secrets_version(&self, vm: &Vm) -> impl Future<Output = Result<Option<String>, FleetError>>;
    /// Makes a VM.
    fn create(&self, vm: Vm) -> impl Future<Output = Result<Uid, FleetError>>;
    /// Starts a VM; done when its guest runs.
    fn start(&self, uid: &Uid) -> impl Future<Output = Result<(), FleetError>>;
    /// Stops a VM gracefully, killing it when its time is up.
    fn stop(&self, uid: &Uid) -> impl Future<Output = Result<(), FleetError>>;
    /// Removes a VM, whether it runs or not.
    fn remove(&self, uid: &Uid) -> impl Future<Output = Result<(), FleetError>>;
    /// Writes what is wanted of a VM; what runs goes on as it is.
    fn reconfigure(&self, uid: &Uid, change: Reconfigure) -> impl Future<Output = Result<(), FleetError>>;
    /// Whether a running VM is ready.
    fn is_ready(&self, uid: &Uid, readiness: &Readiness) -> impl Future<Output = bool>;
}
