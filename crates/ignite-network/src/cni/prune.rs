//! Removes what belongs to no VM: leftovers that plugins of version 1.1.0 know (GC), and our own bridge while it is idle.
//!
//! Only networks of our own directory: an administrator's may have other runtimes' containers, which we do not know.

use crate::NetworkError;
use crate::cni::conf::NetworkList;
use crate::link;
use crate::netns;
use serde_json::Value;

/// Interfaces a VM can have.
const MAX_INTERFACES: usize = 8;

/// Every attachment of every VM of this host, whichever store it belongs to: it has a namespace.
pub(crate) fn attachments_of_host() -> Vec<(String, String)> {
    let of = |container_id: String| (0..MAX_INTERFACES).map(move |index| (container_id.clone(), format!("eth{index}")));
    netns::named_after_vms().into_iter().flat_map(of).collect()
}

/// Removes the bridges of a network that have no port. Returns their names.
pub(crate) async fn remove_idle_bridges(network: &NetworkList) -> Result<Vec<String>, NetworkError> {
    let mut removed = Vec::new();
    for plugin in &network.plugins {
        let is_bridge = plugin.get("type").and_then(Value::as_str) == Some("bridge");
        let Some(name) = plugin.get("bridge").and_then(Value::as_str).filter(|_| is_bridge) else { continue };
        if link::remove_idle_bridge(name).await? {
            removed.push(name.to_owned());
        }
    }
    Ok(removed)
}
