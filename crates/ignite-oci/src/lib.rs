//! Where images come from: sources, authentication, the content store, manifests, pulling and layer reading.
//!
//! [`fetch`] brings an image of any [`ignite_api::ImageSource`] into a [`ContentStore`]; [`ContentStore::open_layer`]
//! gives its layers back as verified tar streams. Nothing here writes disks, prints, or reads the environment.
//!
//! ```text
//!  fetch ── sources.rs ──┬─ registry ── registry/{places,client,transport,authorization,credentials,retry,download}
//!                        ├─ containerd ─ containerd/{client,grpc,messages}
//!                        ├─ docker_daemon ─ docker ─┐
//!                        ├─ oci_layout ─────────────┤
//!                        ├─ oci_archive    ┐        ├─ staging ── store ── layer
//!                        ├─ docker_archive ├ archive/{tar_members,contents} ┘
//!                        └─ stdin          ┘
//! ```
//!
//! Every byte that enters the store has been compared with its digest; everything read from outside has a bound
//! ([`limits`]).

mod archive;
mod compression;
mod config;
mod containerd;
mod contents;
mod digest;
mod docker;
mod document;
mod error;
mod image;
mod layer;
pub mod limits;
mod login;
mod names;
mod options;
mod partial;
mod platform;
mod progress;
mod registry;
mod save;
mod sources;
mod staging;
mod store;
mod sweep;

pub use contents::HistoryEntry;
pub use error::OciError;
pub use image::{Layer, StoredImage, load_stored};
pub use layer::LayerReader;
pub use login::{Keeper, login, logout};
pub use names::familiar_name;
pub use options::{ContainerdOptions, Proxies, PullOptions};
pub use platform::Platform;
pub use progress::{Progress, ProgressEvent};
pub use registry::{fetch_file, registry_of};
pub use save::{ArchiveCompression, SavedImage};
pub use sources::{fetch, fetch_all, resolve_digest};
pub use store::{ContentStore, Lease};
