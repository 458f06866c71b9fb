//! Every disk and boot file of a VM, written by any user without root, loop mounts or a staging directory.

mod base;
mod error;
mod ext4;
mod initramfs;
mod initrd;
mod kernel;
mod layers;
mod name_index;
mod source;
mod tar;
mod tree;
mod writable;

pub use base::{BaseInfo, base_key, write_base, write_private_root};
pub use error::DiskError;
pub use initramfs::write_initramfs;
pub use initrd::{import_initrd, initrd_size};
pub use kernel::{FeatureState, KernelFeatures, KernelInfo, KernelInput, import_kernel};
pub use source::LayerSource;
pub use writable::create_writable_disk;
