//! The one table of networks.

pub mod cni;
pub mod none;
pub mod user;

use crate::plugin::{NetworkError, Plugin};
use std::sync::Arc;

/// Modes of the table, for `--network` and its errors.
pub fn names() -> Vec<&'static str> {
    vec!["user", "none", "cni"]
}

/// The network of a mode as users write it: `user`, `none`, `cni` or `cni:NAME[,NAME…]`.
pub fn find(mode: &str) -> Result<Arc<dyn Plugin>, NetworkError> {
    match mode {
        "user" => Ok(Arc::new(user::UserNetwork::default())),
        "none" => Ok(Arc::new(none::NoNetwork)),
        "cni" => Ok(Arc::new(cni::CniNetwork::new())),
        other => match other.strip_prefix("cni:") {
            Some(names) => Ok(Arc::new(cni::CniNetwork::named(names)?)),
            None => Err(NetworkError::UnknownNetwork(other.to_owned())),
        },
    }
}

/// The mode for VMs that ask for none, by what this host has.
pub fn auto_mode() -> &'static str {
    default_mode(rustix::process::geteuid().is_root(), user::UserNetwork::default().program().is_some())
}

/// The mode for VMs that ask for none. Root gets what everyone gets until CNI is a row of the table.
pub fn default_mode(_is_root: bool, is_passt_available: bool) -> &'static str {
    if is_passt_available { "user" } else { "none" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_the_table_is_found() {
        for name in names() {
            assert_eq!(find(name).map(|plugin| plugin.name()).ok(), Some(name));
        }
    }

    #[test]
    fn cni_networks_are_named_behind_a_colon() {
        for mode in ["cni:backbone", "cni:a,b"] {
            assert_eq!(find(mode).map(|plugin| plugin.name()).ok(), Some("cni"));
        }
    }

    #[test]
    fn an_unknown_network_is_named() {
        for mode in ["", "bridge", "USER", "cnix", "cni:", "cni:../x"] {
            assert!(
                matches!(find(mode).map(|plugin| plugin.name()), Err(NetworkError::UnknownNetwork(m)) if m == mode)
            );
        }
    }

    #[test]
    fn the_default_follows_what_the_host_has() {
        for (is_root, is_passt_available, expected) in
            [(false, true, "user"), (true, true, "user"), (false, false, "none"), (true, false, "none")]
        {
            assert_eq!(default_mode(is_root, is_passt_available), expected);
        }
    }
}
