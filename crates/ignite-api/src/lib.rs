//! Ignite's vocabulary: objects, versions, defaults, validation, sizes, references, ports and the lifecycle.
//!
//! Nothing here does I/O or knows a driver.

pub mod codec;
pub mod configuration;
pub mod depends_on;
pub mod error_chain;
pub mod event;
pub mod health;
pub mod health_monitor;
pub mod image;
pub mod image_source;
pub mod kernel;
pub mod lifecycle;
pub mod machine_options;
pub mod meta;
mod name_words;
pub mod names;
pub mod network;
pub mod ports;
pub mod reference;
pub mod restart_policy;
pub mod run_spec;
#[cfg(feature = "schema")]
pub mod schema;
pub mod secret;
pub mod size;
pub mod storage;
pub mod v1alpha2;
pub mod v1alpha3;
pub mod validation;
pub mod vm;

pub use configuration::Configuration;
pub use error_chain::chain_of;
pub use image::Image;
pub use image_source::ImageSource;
pub use kernel::{Kernel, KernelFeature, KernelStatus};
pub use lifecycle::Phase;
pub use meta::{ApiObject, ObjectMeta, Uid};
pub use ports::{PortMapping, Protocol};
pub use reference::{DOCKER_HUB, ImageReference};
pub use size::Size;
pub use vm::{Vm, VmSpec, VmStatus};

/// Group and version every object is written as.
pub const API_VERSION: &str = "ignite.weave.works/v1alpha4";
