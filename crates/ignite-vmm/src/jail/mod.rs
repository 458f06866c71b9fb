//! What keeps a VMM from the host and from its neighbours.

pub mod cgroup;
