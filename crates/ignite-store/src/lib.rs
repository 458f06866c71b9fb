//! The object store: where everything lives on disk, written atomically, locked per object, found by name.
//!
//! ```text
//!  <data dir>/
//!    vm/<uid>/metadata.json      the object, one JSON file, replaced by rename
//!             lock               held (flock) while someone changes the object
//!             supervisor.lock    held (flock) by ignite-spawn while the VM lives: liveness is never guessed
//!             disk.ext4 task.log console.log supervisor.log
//!    vm/.new-<uid>/              being made; its `lock` is held by the maker, so what nobody holds is debris
//!    vm/.gone-<uid>/             being deleted; always debris
//!    vm/.names/<name> -> <uid>   index of names
//!    image/<uid>/ kernel/<uid>/  the same shape
//!    base/<key>.ext4             read-only base disks, shared by images and VMs
//!    oci/                        content store (OCI image layout)
//!    events.log  events.log.1    what has happened to VMs, one JSON line each
//!  <run dir>/vm/<uid>/           sockets and launch file of a live VM; gone when it is
//! ```
//!
//! It knows nothing of lifecycle: it reads and writes what it is given.

pub mod atomic;
pub mod error;
pub mod event_log;
pub mod lock;
pub mod object;
pub mod paths;
pub mod query;

pub use error::StoreError;
pub use lock::FileLock;
pub use object::{Draft, Kind, Object, Objects};
pub use paths::Paths;
pub use query::QueryError;
