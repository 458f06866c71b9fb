//! Network configurations as administrators write them (CNI spec 1.0.0 §1; 1.1.0 for `cniVersions`, `disableGC`): pure.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::net::IpAddr;
use thiserror::Error;

/// Largest configuration that is read.
pub const MAX_CONF_BYTES: u64 = 1 << 20;
/// Most plugins of a network.
pub const MAX_PLUGINS: usize = 32;
/// Longest name of a network or a plugin.
const MAX_NAME: usize = 128;
/// Versions we speak, oldest first.
pub const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// A network: plugins that are called in order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NetworkList {
    /// Version its plugins are spoken to in; one of [`VERSIONS`].
    pub cni_version: String,
    /// Name of the network.
    pub name: String,
    /// Plugins do not support CHECK.
    #[serde(default)]
    pub disable_check: bool,
    /// Plugins do not support GC.
    #[serde(default)]
    pub disable_gc: bool,
    /// Configuration of each plugin; each has a `type`.
    pub plugins: Vec<Map<String, Value>>,
}

/// Why a configuration is not one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConfProblem {
    /// Not JSON.
    #[error("{0}")]
    Json(String),
    /// A field is missing or wrong.
    #[error("{field}: {reason}")]
    Field {
        /// Path of the field.
        field: String,
        /// What it must be.
        reason: String,
    },
}

fn problem<T>(field: impl Into<String>, reason: impl Into<String>) -> Result<T, ConfProblem> {
    Err(ConfProblem::Field { field: field.into(), reason: reason.into() })
}

impl NetworkList {
    /// Reads a list, or a single plugin's configuration, which is a list of one.
    pub fn parse(bytes: &[u8]) -> Result<NetworkList, ConfProblem> {
        let value: Value = serde_json::from_slice(bytes).map_err(|error| ConfProblem::Json(error.to_string()))?;
        let Value::Object(mut object) = value else { return problem("(top)", "must be an object") };
        let name = text(&object, "name")?;
        if !is_network_name(&name) {
            return problem("name", "must be letters, digits, '_', '.' and '-', and begin with a letter or digit");
        }
        let cni_version = version(&object)?;
        let disable_check = flag(&object, "disableCheck")?;
        let disable_gc = flag(&object, "disableGC")?;
        let plugins = match object.remove("plugins") {
            Some(Value::Array(plugins)) => plugins,
            Some(_) => return problem("plugins", "must be a list"),
            None if object.contains_key("type") => vec![Value::Object(object)],
            None => return problem("plugins", "is missing"),
        };
        if plugins.is_empty() || plugins.len() > MAX_PLUGINS {
            return problem("plugins", format!("must have 1 to {MAX_PLUGINS} entries"));
        }
        let plugins = plugins
            .into_iter()
            .enumerate()
            .map(|(index, plugin)| plugin_conf(index, plugin))
            .collect::<Result<_, _>>()?;
        Ok(NetworkList { cni_version, name, disable_check, disable_gc, plugins })
    }

    /// Whether its version has CHECK (0.4.0), and the list does not switch it off.
    pub fn has_check(&self) -> bool {
        !self.disable_check && version_rank(&self.cni_version) >= version_rank("0.4.0")
    }

    /// Whether its version has GC (1.1.0), and the list does not switch it off.
    pub fn has_gc(&self) -> bool {
        !self.disable_gc && version_rank(&self.cni_version) >= version_rank("1.1.0")
    }

    /// Program names of its plugins, those of IP address management included.
    pub fn programs(&self) -> Vec<&str> {
        self.plugins
            .iter()
            .flat_map(|plugin| {
                let own = plugin.get("type").and_then(Value::as_str);
                let managed = plugin.get("ipam").and_then(|ipam| ipam.get("type")?.as_str());
                own.into_iter().chain(managed.filter(|name| !name.is_empty()))
            })
            .collect()
    }

    /// Whether an address is of one of the subnets that its plugins are configured to give addresses of.
    pub fn has_address(&self, address: IpAddr) -> bool {
        let ipams = self.plugins.iter().filter_map(|plugin| plugin.get("ipam"));
        let mut subnets = ipams.flat_map(|ipam| {
            let ranges = ipam.get("ranges").and_then(Value::as_array).into_iter().flatten();
            let of_ranges = ranges.filter_map(Value::as_array).flatten().filter_map(|range| range.get("subnet"));
            ipam.get("subnet").into_iter().chain(of_ranges).filter_map(Value::as_str)
        });
        subnets.any(|subnet| is_in_subnet(address, subnet))
    }

    /// Whether a plugin declares this capability.
    pub fn has_capability(&self, capability: &str) -> bool {
        self.plugins.iter().any(|plugin| declares(plugin, capability))
    }
}

/// Whether an address is in a subnet such as `10.61.0.0/16`.
fn is_in_subnet(address: IpAddr, subnet: &str) -> bool {
    let Some((first, length)) = subnet.split_once('/') else { return false };
    let Ok(length) = length.parse::<u32>() else { return false };
    match (address, first.parse()) {
        (IpAddr::V4(address), Ok(IpAddr::V4(first))) if length <= 32 => {
            let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
            address.to_bits() & mask == first.to_bits() & mask
        }
        (IpAddr::V6(address), Ok(IpAddr::V6(first))) if length <= 128 => {
            let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
            address.to_bits() & mask == first.to_bits() & mask
        }
        _ => false,
    }
}

/// Whether a plugin's configuration declares this capability.
pub(crate) fn declares(plugin: &Map<String, Value>, capability: &str) -> bool {
    plugin.get("capabilities").and_then(|all| all.get(capability)).and_then(Value::as_bool) == Some(true)
}

/// Position among [`VERSIONS`]; unknown ones are before all.
pub(crate) fn version_rank(version: &str) -> Option<usize> {
    VERSIONS.iter().position(|known| *known == version)
}

fn version(object: &Map<String, Value>) -> Result<String, ConfProblem> {
    if let Some(versions) = object.get("cniVersions") {
        let Some(versions) = versions.as_array() else { return problem("cniVersions", "must be a list") };
        let known = versions.iter().filter_map(Value::as_str).filter(|version| version_rank(version).is_some());
        if let Some(best) = known.max_by_key(|version| version_rank(version)) {
            return Ok(best.to_owned());
        }
    }
    let version = text(object, "cniVersion")?;
    match version_rank(&version) {
        Some(_) => Ok(version),
        None => {
            problem("cniVersion", format!("{} is not supported; use one of {}", quoted(&version), VERSIONS.join(", ")))
        }
    }
}

fn plugin_conf(index: usize, plugin: Value) -> Result<Map<String, Value>, ConfProblem> {
    let at = |field: &str| format!("plugins[{index}]{field}");
    let Value::Object(plugin) = plugin else { return problem(at(""), "must be an object") };
    match plugin.get("type") {
        None => return problem(at(".type"), "is missing"),
        Some(Value::String(kind)) if is_program_name(kind) => {}
        Some(_) => return problem(at(".type"), "must be the name of a plugin's program"),
    }
    if let Some(ipam) = plugin.get("ipam").and_then(|ipam| ipam.get("type")) {
        // `""` means no address management, to the bridge plugin.
        if !ipam.as_str().is_some_and(|kind| kind.is_empty() || is_program_name(kind)) {
            return problem(at(".ipam.type"), "must be the name of a plugin's program");
        }
    }
    if let Some(capabilities) = plugin.get("capabilities")
        && !capabilities.as_object().is_some_and(|all| all.values().all(Value::is_boolean))
    {
        return problem(at(".capabilities"), "must be an object of true and false");
    }
    Ok(plugin)
}

fn text(object: &Map<String, Value>, field: &str) -> Result<String, ConfProblem> {
    match object.get(field) {
        Some(Value::String(text)) if !text.is_empty() => Ok(text.clone()),
        Some(_) => problem(field, "must be a text"),
        None => problem(field, "is missing"),
    }
}

/// The specification says boolean; libcni takes the text too.
fn flag(object: &Map<String, Value>, field: &str) -> Result<bool, ConfProblem> {
    match object.get(field) {
        None => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => Ok(true),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => Ok(false),
        Some(_) => problem(field, "must be true or false"),
    }
}

/// The rule of CNI spec 1.0.0 §1 for names and container ids.
pub(crate) fn is_network_name(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    name.len() <= MAX_NAME
        && name.bytes().all(is_allowed)
        && name.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
}

fn is_program_name(name: &str) -> bool {
    is_network_name(name)
}

fn quoted(text: &str) -> String {
    format!("{:?}", text.chars().take(MAX_NAME).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn problem_of(text: &str) -> String {
        NetworkList::parse(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn a_list_keeps_its_plugins_as_they_are() {
        let list = NetworkList::parse(
            br#"{"cniVersion":"1.0.0","name":"net.a_1","disableCheck":"true",
                "plugins":[{"type":"bridge","ipam":{"type":"host-local"},"x":1},{"type":"portmap","capabilities":{"portMappings":true}}]}"#,
        )
        .unwrap();
        assert_eq!((list.name.as_str(), list.cni_version.as_str()), ("net.a_1", "1.0.0"));
        assert_eq!(list.programs(), ["bridge", "host-local", "portmap"]);
        assert_eq!(list.plugins[0]["x"], 1);
        assert!(list.has_capability("portMappings") && !list.has_capability("bandwidth"));
        assert!(!list.has_check() && !list.has_gc());
    }

    #[test]
    fn a_single_configuration_is_a_list_of_one() {
        let list = NetworkList::parse(br#"{"cniVersion":"0.4.0","name":"a","type":"ptp"}"#).unwrap();
        assert_eq!(list.plugins.len(), 1);
        assert!(list.has_check());
    }

    #[test]
    fn the_newest_common_version_is_spoken() {
        let of = |text: &str| NetworkList::parse(text.as_bytes()).map(|list| list.cni_version);
        let both = r#"{"cniVersion":"0.4.0","cniVersions":["1.0.0","9.9.9","1.1.0"],"name":"a","type":"ptp"}"#;
        assert_eq!(of(both).unwrap(), "1.1.0");
        let none = r#"{"cniVersion":"0.4.0","cniVersions":["9.9.9"],"name":"a","type":"ptp"}"#;
        assert_eq!(of(none).unwrap(), "0.4.0");
    }

    #[test]
    fn subnets_are_those_of_either_family() {
        for (address, subnet, expected) in [
            ("10.61.3.4", "10.61.0.0/16", true),
            ("10.62.3.4", "10.61.0.0/16", false),
            ("10.62.3.4", "0.0.0.0/0", true),
            ("10.1.0.1", "10.1.0.1/32", true),
            ("fd62::9", "fd62::/64", true),
            ("fd62:0:0:1::9", "fd62::/64", false),
            ("fd62::9", "::/0", true),
            ("fd62::9", "10.0.0.0/8", false),
            ("10.1.0.1", "10.1.0.0/33", false),
            ("10.1.0.1", "10.1.0.0", false),
        ] {
            assert_eq!(is_in_subnet(address.parse().unwrap(), subnet), expected, "{address} {subnet}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, said) in [
            ("{", "EOF"),
            ("[]", "(top): must be an object"),
            (r#"{"cniVersion":"1.0.0"}"#, "name: is missing"),
            (r#"{"name":"../x","cniVersion":"1.0.0"}"#, "name: must be"),
            (r#"{"name":"a"}"#, "cniVersion: is missing"),
            (r#"{"name":"a","cniVersion":"0.2.0","type":"x"}"#, "cniVersion: \"0.2.0\" is not supported"),
            (r#"{"name":"a","cniVersion":"1.0.0"}"#, "plugins: is missing"),
            (r#"{"name":"a","cniVersion":"1.0.0","plugins":[]}"#, "plugins: must have 1 to 32"),
            (r#"{"name":"a","cniVersion":"1.0.0","plugins":{}}"#, "plugins: must be a list"),
            (r#"{"name":"a","cniVersion":"1.0.0","plugins":[{"type":"b"},{}]}"#, "plugins[1].type: is missing"),
            (
                r#"{"name":"a","cniVersion":"1.0.0","plugins":[{"type":"/bin/sh"}]}"#,
                "plugins[0].type: must be the name",
            ),
            (r#"{"name":"a","cniVersion":"1.0.0","type":"b","ipam":{"type":"../x"}}"#, "plugins[0].ipam.type"),
            (r#"{"name":"a","cniVersion":"1.0.0","type":"b","capabilities":{"mac":1}}"#, "plugins[0].capabilities"),
            (r#"{"name":"a","cniVersion":"1.0.0","type":"b","disableCheck":3}"#, "disableCheck: must be"),
        ] {
            assert!(problem_of(text).contains(said), "{text}: {}", problem_of(text));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = NetworkList::parse(&bytes);
        }
    }
}
