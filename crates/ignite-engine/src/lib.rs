//! The verbs: what create, start, stop and remove mean, decided once for every door.
//!
//! Nothing here prints, parses, reads the environment or exits. One verb, one file:
//!
//! ```text
//!  create   defaults, validate, name free? -> image -> kernel -> writable disk -> Created
//!  start    observe -> lifecycle -> requirements -> launch file -> ignite-spawn, detached -> Running
//!  stop     kill wait restart: requests to the supervisor
//!  reconfigure  another spec and other labels, from the next start on
//!  restore  starts again what its restart policy wants to run
//!  update   some of what is wanted; rename: another name
//!  stats    what a VM uses, seen from outside and from inside
//!  freshness  whether images still are what their sources have
//!  remove   only what does not run, unless forced
//!  session  exec, attach: a VM's streams
//!  copy     files into a VM and out of it, as tar streams of the agent
//!  ssh      keys of a VM, its host keys, connections to TCP ports of its loopback
//!  events   what has happened, and what happens
//!  observe  what is, after every kind of death; what a crash left is healed
//! ```

mod blank_device;
mod choose_vmm;
mod copy;
mod create;
mod doctor;
mod engine;
mod error;
mod events;
mod firecracker_release;
mod freshness;
mod guest_files;
mod image_archive;
mod image_content;
mod images;
mod interrupted;
mod kernel_choice;
mod kernel_needs;
mod kernels;
mod launch;
mod layers;
mod logs;
mod networks;
mod observe;
mod pause;
mod pmem;
mod pod;
mod progress;
mod reconfigure;
mod remove;
mod rename;
mod restore;
mod secrets;
mod session;
mod space;
mod ssh;
mod ssh_keys;
mod start;
mod stats;
mod stop;
mod update;
mod usage;
mod volumes;

pub use copy::CopyOptions;
pub use create::CreateRequest;
pub use doctor::{Check, CheckStatus};
pub use engine::{Engine, Settings};
pub use error::{EngineError, ErrorKind};
pub use events::{EventOptions, EventReader};
pub use firecracker_release::Installed;
pub use freshness::Freshness;
pub use ignite_oci::{
    ArchiveCompression, ContainerdOptions, HistoryEntry, Keeper, Platform, Proxies, PullOptions, registry_of,
};
pub use ignite_supervisor::metrics;
pub use ignite_supervisor::private_socket::SocketNames;
pub use image_archive::Archive;
pub use image_content::{Damage, ImageVerdict};
pub use images::{ImportImage, PruneReport, PullPolicy};
pub use kernels::{ImportKernel, KernelSourceArg};
pub use logs::{LogEntry, LogOptions, LogReader, LogStream};
pub use networks::{NetworkCheck, NetworkInfo, NetworkMember, PrunedNetworks};
pub use observe::Listing;
pub use progress::{Progress, ProgressEvent};
pub use restore::{Occasion, Restored};
pub use session::{AttachOptions, Session, SessionEvent, SessionInput, SessionOutput};
pub use space::{SpaceUsage, SystemUsage};
pub use ssh::SshAccess;
pub use start::{StartMode, Started};
pub use stats::{GuestUsage, Sample};
pub use update::{Change, Updated};
pub use usage::{NetworkUsage, Usage};
