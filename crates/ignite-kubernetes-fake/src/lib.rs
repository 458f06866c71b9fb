//! An API server of Kubernetes in memory, for tests: a test says what happens to requests, and each of them is counted.
//!
//! ```text
//!  route   what a request asks for          store    objects, their versions, and who watches them
//!  apply   server-side apply                trouble  what a test does to requests
//!  server  all of it under `kube::Client`   http     the same on loopback, for programs
//!                                           kubelet  a node that runs every Pod, by any API server
//! ```
//!
//! It has the resources that Ignite's operator uses, and of their rules those that an operator can trip over: versions and
//! conflicts, preconditions, finalizers, graceful deletion, `generation`, status as a subresource, pages of lists that expire,
//! watches that end, lag or are told that their version is too old. Schemas, rights and garbage collection it has not.
//! Where there is a real server, their answers are compared (`bin/ignited/tests/kubernetes/fake.rs`).

mod apply;
pub mod http;
pub mod kubelet;
mod route;
mod server;
mod store;
mod trouble;
mod watches;

pub use route::{Asked, RESOURCES, Resource, Verb};
pub use server::{FakeServer, Record};
pub use trouble::Trouble;
pub use watches::WatchEnd;
