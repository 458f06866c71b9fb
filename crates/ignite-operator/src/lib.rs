//! Kubernetes: `VM` objects become Pods that run them.
//!
//! ```text
//!  structural  a JSON Schema as Kubernetes takes it        crd   the custom resources
//!  wish        a VM's spec, taken apart                    pod   the Pod that runs it
//!  pod_state   what a Pod says of its VM                   plan  what is to be done, and said
//! ```
//!
//! These are pure: data in, data out. `run` does what they decide, with a client that it is given.

pub mod crd;
pub mod error;
mod kubernetes_fields;
pub mod objects;
pub mod plan;
pub mod pod;
pub mod pod_metadata;
pub mod pod_options;
mod pod_resources;
mod pod_state;
mod pod_volumes;
pub mod run;
pub mod set_plan;
pub mod status;
pub mod structural;
#[cfg(test)]
mod test_objects;
pub mod wish;
