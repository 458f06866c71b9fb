//! Virtual machine monitors behind two small traits.
//!
//! Before boot there is only data ([`BootSpec`]); after boot only a [`Machine`]. What a VMM may lack is another trait
//! behind `Option`, never a method that fails or lies. This crate knows nothing of images, networks or the store.
//!
//! ```text
//!  choice::choose(wanted, needs) -> Driver --capabilities()--> may it?
//!                              |
//!                              boot(&BootSpec, &RunDir)      translate (pure) -> process -> client
//!                              v
//!                           Machine: agent_channel, console, request_shutdown, kill, wait
//! ```

pub mod boot_spec;
pub mod choice;
mod counters;
pub mod drivers;
pub mod fake;
pub mod firecracker;
mod foreign_text;
pub mod host;
mod host_files;
pub mod huge_pages;
pub mod jail;
pub mod machine;
mod program;
pub mod qemu;
mod vmm_log;
mod vmm_machine;

pub use boot_spec::{
    AGENT_PORT_NAME, Accelerator, BootSpec, Carrier, CpuTemplate, Drive, DriveLimits, DriveLocator, IsolationWanted,
    Nic, NicBackend, TrafficLimit, TrafficLimits,
};
pub use counters::VmmCounters;
pub use machine::{AgentChannel, Capabilities, Console, Driver, Exit, ExitCause, Machine, Pause, RunDir, VmmError};
