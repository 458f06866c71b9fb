//! The one table of networks.

pub mod cni;
pub mod docker_bridge;
pub mod none;
pub mod pod;
pub mod user;

use crate::NetworkError;
use crate::plugin::Plugin;
use std::sync::Arc;

/// Modes of the table, for `--network` and its errors.
pub fn names() -> Vec<&'static str> {
    vec!["user", "none", "cni", docker_bridge::NAME, pod::NAME]
}

/// The network of a mode as users write it: `user`, `none`, `cni`, `cni:NAME[,NAME…]`, `docker-bridge`, or `pod` in a
/// Kubernetes Pod.
pub fn find(mode: &str) -> Result<Arc<dyn Plugin>, NetworkError> {
    match mode {
        "user" => Ok(Arc::new(user::UserNetwork::default())),
        "user:tap" => Ok(Arc::new(user::UserNetwork::by_tap())),
        "none" => Ok(Arc::new(none::NoNetwork)),
        "cni" => Ok(Arc::new(cni::CniNetwork::new())),
        docker_bridge::NAME => Ok(Arc::new(docker_bridge::DockerBridge::default())),
        pod::NAME => Ok(Arc::new(pod::PodNetwork)),
        other => match other.strip_prefix("cni:") {
            Some(names) => Ok(Arc::new(cni::CniNetwork::named(names)?)),
            None => Err(NetworkError::UnknownNetwork(other.to_owned())),
        },
    }
}

/// The mode for VMs that ask for none, by what this host has.
pub fn auto_mode() -> &'static str {
    let can_use_cni = rustix::process::geteuid().is_root() && cni::CniNetwork::new().has_plugins();
    default_mode(can_use_cni, user::UserNetwork::default().program().is_some())
}

/// The mode for VMs that ask for none. passt comes first, for root too: it changes nothing on the host, whereas CNI adds
/// a bridge and rules to its firewall, which is for its administrator to ask for.
pub fn default_mode(can_use_cni: bool, is_passt_available: bool) -> &'static str {
    match (is_passt_available, can_use_cni) {
        (true, _) => "user",
        (false, true) => "cni",
        (false, false) => "none",
    }
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
        for (can_use_cni, is_passt_available, expected) in
            [(false, true, "user"), (true, true, "user"), (true, false, "cni"), (false, false, "none")]
        {
            assert_eq!(default_mode(can_use_cni, is_passt_available), expected);
        }
    }
}
