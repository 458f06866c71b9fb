//! What can keep a VM from running.

use std::path::PathBuf;
use thiserror::Error;

/// A failed step in a VM's life.
#[derive(Debug, Error)]
pub enum SupervisorError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] ignite_store::StoreError),
    /// The network failed.
    #[error("could not connect the network")]
    Network(#[from] ignite_network::NetworkError),
    /// The VMM failed.
    #[error("could not boot the machine")]
    Vmm(#[from] ignite_vmm::VmmError),
    /// The control socket cannot be made.
    #[error("could not listen on {path}")]
    Listen {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A log cannot be written.
    #[error("could not write {path}")]
    Log {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The machine ended before the guest was ready.
    #[error("the machine ended while the guest was starting: {detail}")]
    EndedEarly {
        /// The cause, and the last lines of the console.
        detail: String,
    },
    /// The guest did not report in time.
    #[error("the guest did not {what} within {seconds} s; the console says: {console}")]
    Deadline {
        /// What it should have done.
        what: &'static str,
        /// The limit.
        seconds: u64,
        /// The last lines of the console.
        console: String,
    },
    /// The guest speaks another protocol.
    #[error("the guest speaks agent protocol {guest}, this program {host}")]
    Protocol {
        /// The guest's.
        guest: u32,
        /// Ours.
        host: u32,
    },
    /// The agent channel failed.
    #[error("the agent channel failed: {detail}")]
    Agent {
        /// What happened.
        detail: String,
    },
    /// The guest could not become the VM.
    #[error("in the guest: {step}: {message}")]
    Configure {
        /// What it was doing.
        step: String,
        /// Why it failed.
        message: String,
        /// Docker's exit code for it.
        exit_code: u8,
    },
    /// A name was wanted for the host, which its guest does not reach.
    #[error("the guest's network does not lead to its host, so no address can stand for \"host-gateway\"")]
    NoHostGateway,
    /// A disk of the VM's owner cannot be opened.
    #[error("could not open the volume {path}")]
    Volume {
        /// The file or device.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A disk is in use by another VM, or by the host.
    #[error("the volume {path} is in use: by another VM, or mounted on this host")]
    VolumeInUse {
        /// The file or device.
        path: PathBuf,
    },
    /// It was asked to stop while it was starting.
    #[error("it was stopped while it was starting")]
    StoppedEarly,
    /// Host entropy for the guest cannot be had.
    #[error("could not read entropy")]
    Entropy(#[source] std::io::Error),
}

impl SupervisorError {
    /// The next thing to do, where there is one.
    pub fn hint(&self) -> Option<String> {
        match self {
            SupervisorError::Network(error) => error.hint(),
            SupervisorError::NoHostGateway => Some("name an address, or use --network cni".into()),
            SupervisorError::Vmm(
                ignite_vmm::VmmError::ProgramMissing { hint, .. }
                | ignite_vmm::VmmError::Unsupported { hint, .. }
                | ignite_vmm::VmmError::Unfit { hint, .. },
            ) => Some(hint.clone()),
            SupervisorError::Vmm(ignite_vmm::VmmError::Jail {
                source: ignite_vmm::jail::JailError::TooLittle(_),
                ..
            }) => Some("see what this host allows: ignite doctor; or take what it does: --isolation auto".into()),
            SupervisorError::EndedEarly { .. } | SupervisorError::Deadline { .. } => {
                Some("see the whole console with `ignite logs --console VM`".into())
            }
            SupervisorError::Protocol { .. } => {
                Some("the kernel's initramfs is of another ignite version; remove and import the kernel again".into())
            }
            SupervisorError::VolumeInUse { .. } => {
                Some("stop the other VM, unmount it, or give it to all of them read-only (:ro)".into())
            }
            SupervisorError::Store(_)
            | SupervisorError::Volume { .. }
            | SupervisorError::Vmm(_)
            | SupervisorError::Listen { .. }
            | SupervisorError::Log { .. }
            | SupervisorError::Agent { .. }
            | SupervisorError::Configure { .. }
            | SupervisorError::StoppedEarly
            | SupervisorError::Entropy(_) => None,
        }
    }

    /// Docker's exit code for a VM that ended this way.
    pub fn exit_code(&self) -> u8 {
        match self {
            SupervisorError::Configure { exit_code, .. } => *exit_code,
            _ => 125,
        }
    }

    /// The error and its causes on one line.
    pub fn chain(&self) -> String {
        ignite_api::chain_of(self)
    }
}
