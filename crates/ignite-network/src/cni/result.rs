//! Results of plugins (CNI spec 1.0.0 §5): what we use of them, and their conversion between versions. Pure.

use crate::cni::conf::version_rank;
use serde::Deserialize;
use serde_json::{Map, Value};

/// Most entries of a list that are used.
const MAX_ENTRIES: usize = 64;
/// Longest text that is used: a domain name's limit.
const MAX_TEXT: usize = 253;

/// What is used of a result, whatever its version.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Addressing {
    /// Addresses with prefix length.
    pub(crate) addresses: Vec<String>,
    /// Name servers.
    pub(crate) name_servers: Vec<String>,
    /// Search domains, the network's own first.
    pub(crate) search: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawResult {
    ips: Vec<RawIp>,
    dns: RawDns,
}

#[derive(Debug, Deserialize)]
struct RawIp {
    address: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawDns {
    nameservers: Vec<String>,
    domain: String,
    search: Vec<String>,
}

/// Reads what is used of a result. Lists that are too long are cut, texts that are no addresses or names left out: they
/// go to a guest's configuration.
pub(crate) fn addressing(result: &Value) -> Result<Addressing, String> {
    if !result.is_object() {
        return Err("no object".into());
    }
    let raw: RawResult = serde_json::from_value(result.clone()).map_err(|error| error.to_string())?;
    let mut addressing = Addressing::default();
    for ip in raw.ips.into_iter().take(MAX_ENTRIES) {
        let (address, prefix) =
            ip.address.split_once('/').ok_or_else(|| format!("ips: {:?} has no prefix", ip.address))?;
        let is_address = address.parse::<std::net::IpAddr>().is_ok_and(|parsed| {
            let most = if parsed.is_ipv4() { 32 } else { 128 };
            prefix.parse::<u8>().is_ok_and(|prefix| prefix <= most)
        });
        if !is_address {
            return Err(format!("ips: {:?} is no address", ip.address));
        }
        addressing.addresses.push(ip.address);
    }
    let is_server = |server: &String| server.parse::<std::net::IpAddr>().is_ok();
    addressing.name_servers = raw.dns.nameservers.into_iter().filter(is_server).take(MAX_ENTRIES).collect();
    let domains = std::iter::once(raw.dns.domain).chain(raw.dns.search);
    addressing.search = domains.filter(|domain| is_domain(domain)).take(MAX_ENTRIES).collect();
    addressing.search.dedup();
    Ok(addressing)
}

fn is_domain(domain: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !domain.is_empty() && domain.len() <= MAX_TEXT && domain.bytes().all(is_allowed)
}

/// The result as a plugin of another version takes it. What differs: `ips[].version`, which 1.0.0 dropped, and fields
/// that 1.1.0 added.
pub(crate) fn convert(result: &Value, version: &str) -> Value {
    let mut converted = result.clone();
    let Some(object) = converted.as_object_mut() else { return converted };
    if object.get("cniVersion").and_then(Value::as_str) == Some(version) {
        return converted;
    }
    object.insert("cniVersion".into(), version.into());
    let is_before = |other: &str| version_rank(version) < version_rank(other);
    for ip in entries(object, "ips") {
        if is_before("1.0.0") {
            let family = if ip.get("address").and_then(Value::as_str).is_some_and(|text| text.contains(':')) {
                "6"
            } else {
                "4"
            };
            ip.insert("version".into(), family.into());
        } else {
            ip.remove("version");
        }
    }
    if is_before("1.1.0") {
        for interface in entries(object, "interfaces") {
            for field in ["mtu", "socketPath", "pciID"] {
                interface.remove(field);
            }
        }
        for route in entries(object, "routes") {
            for field in ["mtu", "advmss", "priority", "table", "scope"] {
                route.remove(field);
            }
        }
    }
    converted
}

fn entries<'a>(object: &'a mut Map<String, Value>, field: &str) -> impl Iterator<Item = &'a mut Map<String, Value>> {
    object.get_mut(field).and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn newest() -> Value {
        json!({
            "cniVersion": "1.1.0",
            "interfaces": [{"name": "eth0", "mac": "02:00:00:00:00:01", "mtu": 1400, "sandbox": "/run/netns/x"}],
            "ips": [{"address": "10.1.0.2/16", "gateway": "10.1.0.1", "interface": 0}, {"address": "fd00::2/64"}],
            "routes": [{"dst": "0.0.0.0/0", "priority": 100}],
            "dns": {"nameservers": ["10.1.0.1", "bad"], "domain": "a.example", "search": ["a.example", "b.example", "x y"]}
        })
    }

    #[test]
    fn what_is_used_is_read() {
        let read = addressing(&newest()).unwrap();
        assert_eq!(read.addresses, ["10.1.0.2/16", "fd00::2/64"]);
        assert_eq!(read.name_servers, ["10.1.0.1"]);
        assert_eq!(read.search, ["a.example", "b.example"]);
        assert_eq!(addressing(&json!({})).unwrap(), Addressing::default());
    }

    #[test]
    fn a_result_without_sense_is_an_error() {
        for result in [
            json!([]),
            json!({"ips": [{}]}),
            json!({"ips": [{"address": "10.1.0.2"}]}),
            json!({"ips": [{"address": "10.1.0.2/33"}]}),
        ] {
            assert!(addressing(&result).is_err(), "{result}");
        }
    }

    #[test]
    fn results_are_converted_both_ways() {
        let old = convert(&newest(), "0.4.0");
        assert_eq!(old["cniVersion"], "0.4.0");
        assert_eq!((&old["ips"][0]["version"], &old["ips"][1]["version"]), (&json!("4"), &json!("6")));
        assert_eq!((&old["interfaces"][0]["mtu"], &old["routes"][0]["priority"]), (&Value::Null, &Value::Null));
        let new = convert(&old, "1.0.0");
        assert_eq!(new["ips"][0].get("version"), None);
        assert_eq!(new["ips"][0]["gateway"], "10.1.0.1");
        assert_eq!(convert(&newest(), "1.1.0"), newest());
    }

    proptest! {
        #[test]
        fn no_text_makes_them_panic(address in ".*", dns in ".*") {
            let result = json!({"ips": [{"address": address}], "dns": {"nameservers": [dns]}});
            let _ = addressing(&result);
            convert(&result, "0.3.1");
        }
    }
}
