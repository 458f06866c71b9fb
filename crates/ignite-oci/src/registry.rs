//! Speaking with registries (OCI distribution-spec 1.1): where, as whom, and again after what.

mod authorization;
mod client;
mod credentials;
mod direct;
mod download;
mod endpoint;
mod file;
mod hosts_toml;
mod hub;
mod login;
mod places;
mod registries_conf;
mod retry;
mod transport;

pub(crate) use client::RegistryClient;
pub(crate) use credentials::{Credentials, find_credentials};
pub(crate) use download::{download_blob, wait_on_thread};
pub(crate) use endpoint::{Endpoint, Target};
pub use file::fetch_file;
pub(crate) use hub::config_key;
pub use hub::registry_of;
pub(crate) use login::check;
pub(crate) use places::{places, with_other_meanings};
