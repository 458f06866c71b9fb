//! Guest networking behind one seam: `user` (passt, no privileges), `none`, and room for `cni`.
//!
//! The supervisor attaches before it boots and detaches on every way out; what `attach` did is recorded on disk before
//! it is done, so that `detach` from another process (after a crash) finds it.

mod helper_log;
mod host_network;
pub mod plugin;
pub mod plugins;
mod ports;

pub use plugin::{AttachRequest, Attachment, GuestNic, GuestNicBackend, Helper, NetworkError, Plugin};
