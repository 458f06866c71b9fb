//! `usage`: what a live VM takes of its host.

use crate::engine::Engine;
use ignite_api::{Uid, Vm};
use ignite_supervisor::metrics::Sample;
pub use ignite_supervisor::usage::{NetworkUsage, Usage};

impl Engine {
    /// A VM as Prometheus is told of it now. Blocks for some reads below `/proc`.
    pub fn metrics_sample<'a>(&self, vm: &'a Vm) -> Sample<'a> {
        Sample::take(vm, &self.paths)
    }

    /// What a VM takes; `None`: it does not run, or is about to end. Blocks for some reads below `/proc`.
    pub fn usage(&self, vm: &Vm) -> Option<Usage> {
        Usage::of_vm(vm, &self.paths)
    }

    /// Bytes that a VM's writable disk takes of the host, whether it runs or not.
    pub fn disk_usage(&self, uid: &Uid) -> Option<u64> {
        Usage::of_disk(uid, &self.paths)
    }
}
