//! `stats`: what a VM uses, as the host sees its VMM and as the guest's own kernel counts.

use crate::engine::Engine;
use crate::error::EngineError;
use crate::usage::Usage;
use ignite_agent_protocol::message::Open;
use ignite_api::{Uid, Vm};
use ignite_supervisor::control::{ControlReply, ControlRequest};
use std::time::Duration;
use tokio::time::Instant;

pub use ignite_agent_protocol::message::GuestUsage;

/// Longest a guest is waited for: one that is paused or hangs does not answer.
const GUEST_DEADLINE: Duration = Duration::from_secs(5);

/// What a VM uses at one moment; counters grow from its start on.
#[derive(Debug, Clone)]
pub struct Sample {
    /// The VM.
    pub vm: Vm,
    /// When it was taken.
    pub at: Instant,
    /// Its VMM as a process of the host.
    pub host: Usage,
    /// What the guest says of itself; `None` when it does not answer, as while it is paused.
    pub guest: Option<GuestUsage>,
}

impl Engine {
    /// What a running VM uses now.
    pub async fn stats(&self, uid: &Uid) -> Result<Sample, EngineError> {
        let vm = self.running("measure", uid).await?;
        let guest = match vm.status.running && vm.status.phase != ignite_api::Phase::Paused {
            true => tokio::time::timeout(GUEST_DEADLINE, self.guest_usage(&vm, uid)).await.ok().flatten(),
            false => None,
        };
        // One that is about to end takes nothing any more.
        let host = self.usage(&vm).unwrap_or_default();
        Ok(Sample { vm, at: Instant::now(), host, guest })
    }

    async fn guest_usage(&self, vm: &Vm, uid: &Uid) -> Option<GuestUsage> {
        match self.ask(vm, uid, &ControlRequest::Open { open: Open::Usage }).await {
            Ok((ControlReply::Streaming { opened }, _)) => opened.usage,
            Ok(_) | Err(_) => None,
        }
    }
}
