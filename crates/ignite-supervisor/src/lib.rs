//! One VM, one process, one owner of its state.
//!
//! ```text
//!  engine --launch.json, lock, ready pipe--> ignite-spawn
//!                                             supervise: network -> boot -> hello -> configure -> Running
//!            control.sock  <----------------  server: one connection, one request
//!         prometheus.sock  <----------------  metrics_socket: what the VM takes
//!                                             one event loop: machine exit | agent | control | deadline | signal
//!                                             -> teardown: all undone, all errors kept -> final status
//! ```
//!
//! The library half that the engine uses is [`launch`], [`control`] and [`task_log`]; the rest runs in `ignite-spawn`.

mod boot_spec;
pub mod console;
pub mod control;
pub mod ending;
pub mod error;
pub mod fanout;
pub mod guest;
pub mod guest_network;
pub mod health;
pub mod launch;
pub mod life;
pub mod metrics;
pub mod metrics_socket;
pub mod private_socket;
pub mod restart;
pub mod rotate;
pub mod run;
pub mod run_dir;
pub mod server;
pub mod shared;
pub mod supervise;
pub mod task_log;
pub mod usage;
pub mod vmm_counters;
pub mod vmm_record;
mod volumes;

pub use error::SupervisorError;
pub use ignite_store::FileLock;
pub use launch::{Launch, ReadyEvent};
pub use supervise::supervise;

/// The driver that a launch names, from the table.
pub fn driver_of(launch: &Launch) -> Option<std::sync::Arc<dyn ignite_vmm::Driver>> {
    ignite_vmm::drivers::at(&launch.driver, &launch.program)
}
