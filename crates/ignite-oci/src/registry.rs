//! Speaking with registries (OCI distribution-spec 1.1): where, as whom, and again after what.

mod authorization;
mod client;
mod credentials;
mod download;
mod endpoint;
mod retry;
mod transport;

pub(crate) use client::RegistryClient;
pub(crate) use download::download_blob;
pub(crate) use endpoint::{Endpoint, Target};
