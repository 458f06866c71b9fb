//! Guest networking behind one seam: `cni` (the host's CNI networks), `docker-bridge` (Docker's own), `user` (passt, no
//! privileges) and `none`.
//!
//! The supervisor attaches before it boots and detaches on every way out; what `attach` did is recorded on disk before
//! it is done, so that `detach` from another process (after a crash) finds it.

pub mod cni;
mod dhcp;
mod error;
mod helper_log;
mod host_network;
mod link;
mod mac;
pub mod names;
mod netns;
pub mod plugin;
pub mod plugins;
mod port_claims;
mod port_owners;
mod ports;

pub use error::NetworkError;
pub use names::{Peer, PeerWatch};
pub use plugin::{AttachRequest, Attachment, Carrier, GuestNic, GuestNicBackend, Helper, Plugin};
