//! Lets published ports through on hosts that drop forwarded packets, as those with Docker do.
//!
//! The firewall plugin accepts what a container sends, and the answers to it, but not connections to its published ports.
//! Where the policy is DROP a rule of our own stands beside the plugin's, in its chain; its comment names the container.

use crate::NetworkError;
use crate::cni::iptables;
use std::path::Path;

/// The firewall plugin's chain.
const CHAIN: &str = "CNI-FORWARD";

/// Accepts translated connections to these addresses (with prefix length). Nothing where nothing is dropped, or where the
/// network has no firewall plugin.
pub(crate) async fn accept(addresses: &[String], container_id: &str) -> Result<(), NetworkError> {
    for program in iptables::programs() {
        let is_ipv6 = iptables::is_of_ipv6(&program);
        let own: Vec<&String> = addresses.iter().filter(|address| address.contains(':') == is_ipv6).collect();
        if own.is_empty() || !is_dropping(&iptables::run(&program, &["-w", "-S", "FORWARD"]).await?) {
            continue;
        }
        for address in own {
            let bare = address.split('/').next().unwrap_or_default();
            let comment = comment(container_id);
            let rule = [
                "-d",
                bare,
                "-m",
                "conntrack",
                "--ctstate",
                "DNAT",
                "-m",
                "comment",
                "--comment",
                &comment,
                "-j",
                "ACCEPT",
            ];
            iptables::run(&program, &[&["-w", "-A", CHAIN][..], &rule].concat()).await?;
        }
    }
    Ok(())
}

/// Removes what [`accept`] added for this container.
pub(crate) async fn remove(container_id: &str) -> Vec<NetworkError> {
    let mut errors = Vec::new();
    for program in iptables::programs() {
        errors.extend(remove_by(&program, container_id).await.err());
    }
    errors
}

async fn remove_by(program: &Path, container_id: &str) -> Result<(), NetworkError> {
    // The whole table: there may be no such chain.
    let listed = iptables::run(program, &["-w", "-S"]).await?;
    let comment = comment(container_id);
    for rule in iptables::rules_of(&listed, CHAIN) {
        if iptables::value_of(&rule, "--comment") == Some(&comment) {
            let mut delete = vec!["-w", "-D", CHAIN];
            delete.extend(rule.iter().map(String::as_str));
            iptables::run(program, &delete).await?;
        }
    }
    Ok(())
}

fn comment(container_id: &str) -> String {
    format!("{container_id}: published ports")
}

fn is_dropping(listed: &str) -> bool {
    let leads_here =
        iptables::rules_of(listed, "FORWARD").iter().any(|rule| iptables::value_of(rule, "-j") == Some(CHAIN));
    leads_here && listed.lines().any(|line| line == "-P FORWARD DROP")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_host_that_drops_and_has_the_plugins_chain_needs_rules() {
        let chain = "-A FORWARD -m comment --comment \"CNI firewall plugin rules\" -j CNI-FORWARD\n";
        assert!(is_dropping(&format!("-P FORWARD DROP\n{chain}")));
        assert!(!is_dropping(&format!("-P FORWARD ACCEPT\n{chain}")));
        assert!(!is_dropping("-P FORWARD DROP\n-A FORWARD -j DOCKER-USER\n"));
    }
}
