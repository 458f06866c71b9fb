//! Control groups of a VMM: limits on memory, CPU and processes, on cgroup v1, v2, hybrid hosts and none.
//!
//! ```text
//!  /proc/self/{mountinfo,cgroup} --layout (pure)--> Layout --plan (pure)--> Plan --group--> Cgroup
//!                                                                            |
//!                                         <run dir>/cgroups.json  written first, so that whoever comes later can remove
//! ```
//!
//! A group is named `ignite-<id>`. On v1 it lies below the caller's own group, so what bounds the caller bounds its
//! VMs. On v2, where a group with processes can have none with controllers below it, root takes the top of what it
//! sees, and others the nearest group that is delegated to them. Without any of these there are no limits, and each is
//! told as such.

mod breach;
mod group;
mod layout;
mod leftovers;
mod plan;

pub use breach::Breach;
pub use group::Cgroup;
pub use layout::{Controller, Layout};
pub use leftovers::remove_leftovers;
pub use plan::{Limits, Plan, plan};
