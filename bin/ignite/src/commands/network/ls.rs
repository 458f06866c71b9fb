//! `ignite network ls`.

use crate::commands::{print, print_line};
use crate::context::Context;
use crate::render::document::{self, Format};
use crate::render::table;
use crate::render::text::sanitize;
use crate::report;
use ignite_engine::NetworkInfo;

/// Flags of `network ls`.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct Args {
    /// Print the networks with all that is known of them
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    pub output: Option<Format>,
}

/// Prints the table, the networks, or what `--network` takes.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    let (networks, warnings) = context.engine()?.list_networks().await?;
    for warning in warnings {
        report::warning(&warning);
    }
    if context.is_quiet() {
        for network in &networks {
            print_line(sanitize(&network.mode))?;
        }
        return Ok(0);
    }
    print(&match args.output {
        Some(format) => document::render(&networks, format)?,
        None => render(&networks),
    })?;
    Ok(0)
}

fn render(networks: &[NetworkInfo]) -> String {
    let row = |network: &NetworkInfo| {
        let mut names: Vec<&str> = network.vms.iter().map(|vm| vm.name.as_str()).collect();
        names.dedup();
        [
            network.mode.clone(),
            if network.is_default { "yes" } else { "" }.to_owned(),
            names.len().to_string(),
            plugins(network),
            match (&network.file, &network.cni_version) {
                (Some(file), _) => file.display().to_string(),
                (None, Some(_)) => "written at its first use".to_owned(),
                (None, None) => String::new(),
            },
        ]
    };
    table::render(["NETWORK", "DEFAULT", "VMS", "PLUGINS", "FILE"], networks.iter().map(row).collect())
}

fn plugins(network: &NetworkInfo) -> String {
    match network.mode.as_str() {
        "user" => "passt".to_owned(),
        _ => {
            let kinds = network.plugins.iter().filter_map(|plugin| plugin.get("type")?.as_str());
            kinds.collect::<Vec<_>>().join(",")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ignite_engine::NetworkMember;

    #[test]
    fn a_network_is_a_line() {
        let plugin = |kind: &str| serde_json::json!({ "type": kind }).as_object().unwrap().clone();
        let network = |mode: &str| NetworkInfo {
            mode: mode.into(),
            is_default: false,
            file: None,
            cni_version: None,
            plugins: Vec::new(),
            note: None,
            vms: Vec::new(),
            problems: None,
        };
        let vm = NetworkMember {
            name: "web".into(),
            uid: ignite_api::Uid::parse("4f1c09d2a7b35e68").unwrap(),
            interface: Some("eth0".into()),
            mac: None,
            addresses: Vec::new(),
            netns: None,
        };
        let cni = NetworkInfo {
            file: Some("/etc/cni/net.d/10-a.conflist".into()),
            cni_version: Some("1.0.0".into()),
            plugins: vec![plugin("bridge"), plugin("portmap")],
            vms: vec![vm],
            ..network("cni:a")
        };
        let user = NetworkInfo { is_default: true, ..network("user") };
        insta::assert_snapshot!(render(&[user, network("none"), cni]), @r"
        NETWORK   DEFAULT   VMS   PLUGINS          FILE
        user      yes       0     passt
        none                0
        cni:a               1     bridge,portmap   /etc/cni/net.d/10-a.conflist
        ");
    }
}
