//! Flags that say how a new VM is connected and what names it knows.

use crate::report::UsageError;
use ignite_api::VmSpec;
use ignite_api::network::{DnsOption, HostAlias};

/// Flags of `run` and `create`, with Docker's names.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct NetworkFlags {
    /// Address in its CNI network, with or without prefix length; once per network and family
    #[arg(long, alias = "ip6", value_name = "ADDRESS")]
    pub ip: Vec<String>,
    /// MAC address of its first interface [default: one of its own, always the same]
    #[arg(long, value_name = "MAC")]
    pub mac_address: Option<String>,
    /// Further name by which VMs of the same network find it
    #[arg(long, value_name = "NAME")]
    pub network_alias: Vec<String>,
    /// Name server instead of the network's
    #[arg(long, value_name = "ADDRESS")]
    pub dns: Vec<String>,
    /// Search domain instead of the network's; . for none
    #[arg(long, value_name = "DOMAIN")]
    pub dns_search: Vec<String>,
    /// Option of resolv.conf(5)
    #[arg(long, alias = "dns-opt", value_name = "NAME[:VALUE]")]
    pub dns_option: Vec<String>,
    /// Name an address; host-gateway stands for the host's
    #[arg(long, value_name = "NAME:ADDRESS")]
    pub add_host: Vec<String>,
}

impl NetworkFlags {
    /// Puts what was given over what is there; lists replace.
    pub fn apply(&self, spec: &mut VmSpec) -> Result<(), UsageError> {
        replace(&mut spec.network.ips, &self.ip);
        replace(&mut spec.network.aliases, &self.network_alias);
        if self.mac_address.is_some() {
            spec.network.mac.clone_from(&self.mac_address);
        }
        if !self.dns.is_empty() || !self.dns_search.is_empty() || !self.dns_option.is_empty() {
            let dns = spec.dns_config.get_or_insert_default();
            replace(&mut dns.nameservers, &self.dns);
            replace(&mut dns.searches, &self.dns_search);
            let options: Vec<DnsOption> = self.dns_option.iter().map(|text| DnsOption::parse(text)).collect();
            replace(&mut dns.options, &options);
        }
        let hosts = self.add_host.iter().map(|text| parse_add_host(text)).collect::<Result<Vec<_>, _>>()?;
        replace(&mut spec.host_aliases, &hosts);
        Ok(())
    }
}

fn replace<T: Clone>(field: &mut Vec<T>, given: &[T]) {
    if !given.is_empty() {
        *field = given.to_vec();
    }
}

/// `NAME:ADDRESS`, or `NAME=ADDRESS` as Docker has it since 25; an IPv6 address may stand in brackets.
fn parse_add_host(text: &str) -> Result<HostAlias, UsageError> {
    let (name, address) = text
        .split_once(['=', ':'])
        .filter(|(name, address)| !name.is_empty() && !address.is_empty())
        .ok_or_else(|| UsageError(format!("invalid --add-host {text:?}: it is NAME:ADDRESS, such as db:192.0.2.7")))?;
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    Ok(HostAlias { ip: bare.to_owned(), hostnames: vec![name.to_owned()] })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ignite_api::network::DnsConfig;

    #[test]
    fn a_host_is_a_name_and_an_address_of_either_family() {
        for (text, name, ip) in [
            ("db:192.0.2.7", "db", "192.0.2.7"),
            ("db=192.0.2.7", "db", "192.0.2.7"),
            ("db:fd00::7", "db", "fd00::7"),
            ("db=[fd00::7]", "db", "fd00::7"),
            ("host.docker.internal:host-gateway", "host.docker.internal", "host-gateway"),
        ] {
            let alias = parse_add_host(text).unwrap();
            assert_eq!((alias.hostnames[0].as_str(), alias.ip.as_str()), (name, ip), "{text}");
        }
        for bad in ["db", ":192.0.2.7", "db:", ""] {
            assert!(parse_add_host(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_not_given_stays() {
        let mut spec = VmSpec::default();
        spec.network.aliases = vec!["old".into()];
        spec.dns_config = Some(DnsConfig { nameservers: vec!["192.0.2.1".into()], ..DnsConfig::default() });
        let flags = NetworkFlags {
            ip: vec!["10.61.0.7".into()],
            dns_search: vec!["lan".into()],
            dns_option: vec!["ndots:2".into()],
            ..NetworkFlags::default()
        };
        flags.apply(&mut spec).unwrap();
        assert_eq!((&spec.network.aliases[0][..], &spec.network.ips[0][..]), ("old", "10.61.0.7"));
        let dns = spec.dns_config.unwrap();
        assert_eq!((&dns.nameservers[0][..], &dns.searches[0][..]), ("192.0.2.1", "lan"));
        assert_eq!(dns.options[0].value.as_deref(), Some("2"));
    }
}
