//! Level-triggered reconciliation: what is wanted, what is, and what has to be done about the difference.
//!
//! ```text
//!  files ── load ──> Wanted set ─┐
//!                                ├─ plan (pure) ──> steps ── apply (bounded, by a Fleet) ──> outcomes ──> conditions
//!  Fleet::observe ──> VMs ───────┘                                 └── failures ── BackOff (pure) ──┘
//! ```
//!
//! The same functions stand behind `ignite apply|diff|delete|stack` and `ignited`. A set owns only what it created or was
//! told to adopt, by an annotation on the VM; nothing else is kept between two rounds that could be lost.

mod backoff;
mod changes;
mod condition;
mod controller;
mod dependencies;
mod engine_fleet;
mod error;
mod fleet;
mod load;
mod ownership;
mod perform;
mod plan;
mod settle;
mod wanted;

pub use backoff::BackOff;
pub use changes::{Change, Effect, changes};
pub use condition::{ObjectState, ObjectStatus, SetStatus};
pub use controller::{Controller, Limits, Outcome, Round};
pub use error::LoadProblem;
pub use fleet::{Fleet, FleetError, Reconfigure};
pub use load::{MAX_MANIFEST_FILES, load, load_text, shown_path};
pub use ownership::{MANIFEST_ANNOTATION, OWNER_ANNOTATION, Owner, STACK_LABEL, owner_of};
pub use plan::{Action, Options, Step, plan};
pub use settle::{Unfinished, removal_waves, settle};
pub use wanted::{Origin, WantedSet, WantedVm};
