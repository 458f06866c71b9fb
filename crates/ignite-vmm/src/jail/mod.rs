//! What keeps a VMM from the host and from its neighbours: a jail of its own for any program.
//!
//! ```text
//!  JailSpec + what the host is --plan (pure)--> [(measure, step)] --spawn--> clone --child--> steps, then exec
//!                                    ^                               |
//!                                    +---- without the measure ------+  a step failed: the child ends, and says which
//! ```
//!
//! Measures are applied whole or not at all: a child that fails at a step ends, and another is started without that
//! measure (or, where isolation is strict, none is). So what [`Jailed::isolation`] tells is what the program has.
//!
//! In the jail the program sees a root of its own (libraries, itself, and the files it was given, all read-only unless
//! shared for writing), itself as process 1, no network, no other user's files, and has no privilege nor a way to get
//! one. Namespaces and the root vanish with the process, and a user is only a number, made of the supervisor's pid. What a
//! killed supervisor leaves, control groups and files that it had lent to that user, [`remove_leftovers`] sees to.

mod birth;
pub mod cgroup;
mod child;
mod filter;
mod host;
pub(crate) mod lent;
mod measure;
mod plan;
mod process;
mod rules;
mod spawn;
mod spec;
mod step;

pub use cgroup::{Breach, Limits};
pub(crate) use host::{is_machine_uid, machine_uid};
pub use measure::{APPLIED, Measure};
pub use process::Process;
pub use spawn::{JailError, Jailed, probe, spawn};
pub use spec::{JailSpec, Network, Share, ShareAccess, system_libraries};

/// Ends what still runs in the control groups recorded in `run_dir`, removes them, and takes back the files that its
/// machine was lent; nothing to do is no error. Blocks until the processes are gone, at most ten seconds.
pub fn remove_leftovers(run_dir: &std::path::Path) -> std::io::Result<()> {
    cgroup::remove_leftovers(run_dir)?;
    lent::take_back(run_dir)
}
