//! What a plugin is told: its standard input and its environment (CNI spec 1.0.0 §2 and §3). Pure.

use crate::cni::conf::{NetworkList, declares};
use crate::cni::result::convert;
use ignite_api::PortMapping;
use ignite_api::ports::Protocol;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::net::IpAddr;

/// Programs that plugins call (iptables, nft, ip) are found here; the caller's environment is not passed on.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What is asked of a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    Add,
    Check,
    Del,
    Gc,
}

impl Command {
    /// `CNI_COMMAND`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Command::Add => "ADD",
            Command::Check => "CHECK",
            Command::Del => "DEL",
            Command::Gc => "GC",
        }
    }
}

/// What an interface is attached with; stored, because DEL and CHECK must say the same as ADD.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(crate) struct Wishes {
    /// Capability `portMappings`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) ports: Vec<PortMapping>,
    /// Capability `ips`, and `args.cni.ips` for host-local: addresses with prefix length.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) ips: Vec<String>,
    /// Capability `mac`, and `MAC` of `CNI_ARGS`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mac: Option<String>,
    /// Capability `dns`: servers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) dns_servers: Vec<String>,
    /// Capability `bandwidth`, as its plugin takes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bandwidth: Option<Map<String, Value>>,
}

/// Whose interface it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target<'a> {
    /// Container id.
    pub(crate) container_id: &'a str,
    /// Path of the network namespace; empty once it is gone, which DEL allows.
    pub(crate) netns: &'a str,
    /// Interface in it.
    pub(crate) ifname: &'a str,
}

/// The plugin's environment.
pub(crate) fn environment(
    command: Command,
    target: Target,
    wishes: &Wishes,
    plugin_path: &str,
) -> Vec<(String, String)> {
    let mut args = "IgnoreUnknown=1".to_owned();
    if let Some(mac) = &wishes.mac {
        args.push_str(";MAC=");
        args.push_str(mac);
    }
    let mut all = vec![("CNI_COMMAND", command.as_str()), ("CNI_PATH", plugin_path), ("PATH", PATH)];
    if command != Command::Gc {
        all.push(("CNI_CONTAINERID", target.container_id));
        all.push(("CNI_NETNS", target.netns));
        all.push(("CNI_IFNAME", target.ifname));
        all.push(("CNI_ARGS", &args));
    }
    all.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// The plugin's standard input.
pub(crate) fn execution_configuration(
    list: &NetworkList,
    plugin: &Map<String, Value>,
    wishes: &Wishes,
    previous: Option<&Value>,
) -> Value {
    let mut configuration = plugin.clone();
    configuration.insert("cniVersion".into(), list.cni_version.as_str().into());
    configuration.insert("name".into(), list.name.as_str().into());
    let capabilities = capability_arguments(wishes);
    let declared: Map<String, Value> = capabilities.into_iter().filter(|(name, _)| declares(plugin, name)).collect();
    configuration.remove("capabilities");
    if !declared.is_empty() {
        configuration.insert("runtimeConfig".into(), Value::Object(declared));
    }
    // host-local takes a wish from here; others (static) would take it for their configuration.
    let is_host_local = plugin.get("ipam").and_then(|ipam| ipam.get("type")) == Some(&json!("host-local"));
    if is_host_local && !wishes.ips.is_empty() {
        configuration.insert("args".into(), with_addresses(plugin.get("args"), &wishes.ips));
    }
    if let Some(previous) = previous {
        configuration.insert("prevResult".into(), convert(previous, &list.cni_version));
    }
    Value::Object(configuration)
}

/// The administrator's `args` with our addresses, unless there are addresses already.
fn with_addresses(args: Option<&Value>, ips: &[String]) -> Value {
    let mut args = args.and_then(Value::as_object).cloned().unwrap_or_default();
    let cni = args.entry("cni").or_insert_with(|| json!({}));
    if let Some(cni) = cni.as_object_mut() {
        let bare: Vec<&str> = ips.iter().filter_map(|ip| ip.split('/').next()).collect();
        cni.entry("ips").or_insert_with(|| json!(bare));
    }
    Value::Object(args)
}

fn capability_arguments(wishes: &Wishes) -> Map<String, Value> {
    let mut arguments = Map::new();
    if !wishes.ports.is_empty() {
        arguments.insert("portMappings".into(), wishes.ports.iter().map(port_mapping).collect());
    }
    if !wishes.ips.is_empty() {
        arguments.insert("ips".into(), json!(wishes.ips));
    }
    if let Some(mac) = &wishes.mac {
        arguments.insert("mac".into(), mac.as_str().into());
    }
    if !wishes.dns_servers.is_empty() {
        arguments.insert("dns".into(), json!({ "servers": wishes.dns_servers }));
    }
    if let Some(bandwidth) = &wishes.bandwidth {
        arguments.insert("bandwidth".into(), Value::Object(bandwidth.clone()));
    }
    arguments
}

/// An absent or unspecified address is every one: portmap takes that as no address at all.
fn port_mapping(port: &PortMapping) -> Value {
    let protocol = match port.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    };
    let mut mapping = json!({ "hostPort": port.host_port, "containerPort": port.vm_port, "protocol": protocol });
    if let Some(address) = port.bind_address.filter(|address| !IpAddr::is_unspecified(address)) {
        mapping["hostIP"] = address.to_string().into();
    }
    mapping
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list() -> NetworkList {
        NetworkList::parse(
            br#"{"cniVersion":"0.4.0","name":"net","plugins":[
                {"type":"bridge","bridge":"b0","ipam":{"type":"host-local","subnet":"10.1.0.0/16"},"capabilities":{"mac":true,"ips":true}},
                {"type":"portmap","capabilities":{"portMappings":true,"bandwidth":false}},
                {"type":"bandwidth","capabilities":{"bandwidth":true}}]}"#,
        )
        .unwrap()
    }

    fn wishes() -> Wishes {
        let port = |text: &str| ignite_api::ports::parse_ports(text).unwrap().remove(0);
        Wishes {
            ports: vec![port("8080:80"), port("127.0.0.1:5353:53/udp"), port("0.0.0.0:81:81"), port("[fd00::1]:82:82")],
            ips: vec!["10.1.0.7/16".into()],
            mac: Some("02:00:00:00:00:01".into()),
            dns_servers: vec!["10.1.0.1".into()],
            bandwidth: json!({"ingressRate": 1000}).as_object().cloned(),
        }
    }

    #[test]
    fn each_plugin_is_told_what_it_declares() {
        let list = list();
        let previous = json!({"cniVersion": "1.0.0", "ips": [{"address": "10.1.0.7/16"}]});
        let told: Vec<Value> = list
            .plugins
            .iter()
            .map(|plugin| execution_configuration(&list, plugin, &wishes(), Some(&previous)))
            .collect();
        insta::assert_json_snapshot!(told);
    }

    #[test]
    fn nothing_is_told_when_nothing_is_wished() {
        let list = list();
        let told = execution_configuration(&list, &list.plugins[1], &Wishes::default(), None);
        assert_eq!(told, json!({"cniVersion": "0.4.0", "name": "net", "type": "portmap"}));
    }

    #[test]
    fn the_environment_is_the_specifications() {
        let target = Target { container_id: "ab12", netns: "/run/netns/x", ifname: "eth0" };
        let shown = |command| {
            let all = environment(command, target, &wishes(), "/opt/cni/bin:/usr/lib/cni");
            all.into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>()
        };
        insta::assert_json_snapshot!(shown(Command::Add));
        assert!(!shown(Command::Gc).iter().any(|entry| entry.starts_with("CNI_NETNS")));
    }

    #[test]
    fn the_administrators_addresses_win() {
        let args = json!({"cni": {"ips": ["10.1.0.9"]}, "other": 1});
        assert_eq!(with_addresses(Some(&args), &["10.1.0.7/16".into()]), args);
    }
}
