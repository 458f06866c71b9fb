//! Kubernetes: `VM` objects become Pods that run them.
//!
//! ```text
//!  structural  a JSON Schema as Kubernetes takes it        crd   the custom resources
//!  wish        a VM's spec, taken apart                    pod   the Pod that runs it
//! ```
//!
//! These are pure: data in, data out.

pub mod crd;
mod kubernetes_fields;
pub mod objects;
pub mod pod;
pub mod pod_options;
mod pod_resources;
mod pod_volumes;
pub mod status;
pub mod structural;
pub mod wish;
