//! Speaking with registries (OCI distribution-spec 1.1): where, as whom, and again after what.

mod authorization;
mod client;
mod credentials;
mod direct;
mod download;
mod endpoint;
mod file;
mod hosts_toml;
mod login;
mod places;
mod registries_conf;
mod retry;
mod transport;

pub(crate) use client::RegistryClient;
pub(crate) use credentials::{Credentials, config_key, find_credentials};
pub(crate) use download::{download_blob, wait_on_thread};
pub(crate) use endpoint::{Endpoint, Target};
pub use file::fetch_file;
pub(crate) use login::check;
pub(crate) use places::{places, with_other_meanings};
