//! The harness of the end-to-end tests: the programs, driven as a user does, in words that read like English.
//!
//! ```text
//!  Host              a data and a run directory of its own, with a kernel already imported
//!   ├─ run/ignite    an Invocation: arguments, stdin, environment, a deadline  ──> Outcome: exits, prints, complains
//!   ├─ terminal      the same on a pty: type, expect, resize                   ──> Outcome
//!   └─ vm(name)      a Vm that is removed when the test ends, with its logs shown when it fails
//! ```
//!
//! An expectation that is not met panics with the command, its output and its exit code.

pub mod engines;
pub mod git;
pub mod host;
pub mod images;
pub mod invocation;
pub mod kubelet;
pub mod leaks;
pub mod outcome;
pub mod processes;
pub mod proxy;
pub mod registry;
pub mod runner;
pub mod terminal;
pub mod throwaway;
pub mod token_server;
pub mod vm;
pub mod vmm;
pub mod wait;

pub use host::Host;
pub use invocation::{Invocation, Running};
pub use kubelet::Kubelet;
pub use outcome::Outcome;
pub use runner::{Report, Test};
pub use terminal::Terminal;
pub use throwaway::Throwaway;
pub use vm::Vm;
