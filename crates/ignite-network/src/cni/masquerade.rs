//! Removes masquerading rules that the bridge plugin leaves when it cannot see the interface's addresses any more.
//!
//! Its DEL reads them from the interface, so a namespace or an address that somebody else removed costs it its memory
//! (<https://github.com/containernetworking/plugins/issues/810>). The rules carry the container id in a comment.

use crate::NetworkError;
use crate::cni::conf::NetworkList;
use crate::cni::iptables;
use serde_json::Value;
use std::path::Path;

/// Prefix of the plugin's chains.
const CHAIN_PREFIX: &str = "CNI-";

/// Removes this container's rules. Nothing where no plugin of the network masquerades, or there is no iptables.
pub(crate) async fn remove(network: &NetworkList, container_id: &str) -> Vec<NetworkError> {
    let masquerades = network.plugins.iter().any(|plugin| plugin.get("ipMasq").and_then(Value::as_bool) == Some(true));
    let mut errors = Vec::new();
    if !masquerades {
        return errors;
    }
    for program in iptables::programs() {
        errors.extend(remove_by(&program, container_id).await.err());
    }
    errors
}

async fn remove_by(program: &Path, container_id: &str) -> Result<(), NetworkError> {
    let listed = iptables::run(program, &["-t", "nat", "-w", "-S", "POSTROUTING"]).await?;
    for (rule, chain) in rules_of(&listed, container_id) {
        let mut delete = vec!["-t", "nat", "-w", "-D", "POSTROUTING"];
        delete.extend(rule.iter().map(String::as_str));
        iptables::run(program, &delete).await?;
        iptables::run(program, &["-t", "nat", "-w", "-F", &chain]).await?;
        iptables::run(program, &["-t", "nat", "-w", "-X", &chain]).await?;
    }
    Ok(())
}

/// Rules that lead this container's packets to a chain of its own, each with its chain.
fn rules_of(listed: &str, container_id: &str) -> Vec<(Vec<String>, String)> {
    let comment = format!("id: \"{container_id}\"");
    let chain_of = |rule: &[String]| {
        let is_its = iptables::value_of(rule, "--comment")?.ends_with(&comment);
        let chain = iptables::value_of(rule, "-j").filter(|chain| is_its && chain.starts_with(CHAIN_PREFIX))?;
        Some(chain.to_owned())
    };
    let rules = iptables::rules_of(listed, "POSTROUTING").into_iter();
    rules.filter_map(|rule| chain_of(&rule).map(|chain| (rule, chain))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_containers_rules_are_found() {
        let listed = "-P POSTROUTING ACCEPT\n\
            -A POSTROUTING -m comment --comment \"CNI portfwd requiring masquerade\" -j CNI-HOSTPORT-MASQ\n\
            -A POSTROUTING -s 10.61.0.2/32 -m comment --comment \"name: \\\"net\\\" id: \\\"ignite-1\\\"\" -j CNI-39b0\n\
            -A POSTROUTING -s 10.61.0.3/32 -m comment --comment \"name: \\\"net\\\" id: \\\"ignite-11\\\"\" -j CNI-4444\n\
            -A POSTROUTING -s 10.61.0.4/32 -m comment --comment \"id: \\\"ignite-1\\\"\" -j MASQUERADE\n";
        let found = rules_of(listed, "ignite-1");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].1, "CNI-39b0");
    }
}
