//! The plugins of one network, called in order for ADD and CHECK and backwards for DEL (CNI spec 1.0.0 §4).

use crate::NetworkError;
use crate::cni::conf::NetworkList;
use crate::cni::exec::{self, Call};
use crate::cni::input::{Command, Target, Wishes, environment, execution_configuration};
use serde_json::{Map, Value, json};
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::time::Duration;

/// One plugin may take so long: an address by DHCP takes many seconds, everything else a few hundred milliseconds.
const PLUGIN_DEADLINE: Duration = Duration::from_secs(60);

/// One attachment of a container to a network.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chain<'a> {
    /// The network.
    pub(crate) list: &'a NetworkList,
    /// Whose interface.
    pub(crate) target: Target<'a>,
    /// With what.
    pub(crate) wishes: &'a Wishes,
    /// Where plugins are.
    pub(crate) plugin_dirs: &'a [PathBuf],
    /// Held by every plugin while it runs.
    pub(crate) lock: BorrowedFd<'a>,
}

impl Chain<'_> {
    /// ADD. `on_result` gets the result of each plugin, before the next is called. On an error, what the plugins before
    /// it did is still there.
    pub(crate) async fn add(
        &self,
        mut on_result: impl FnMut(&Value) -> Result<(), NetworkError>,
    ) -> Result<Value, NetworkError> {
        let mut previous: Option<Value> = None;
        for plugin in &self.list.plugins {
            let answer = self.call(Command::Add, plugin, previous.as_ref()).await?;
            let Some(mut result) = answer.filter(Value::is_object) else {
                return Err(NetworkError::CniPlugin {
                    network: self.list.name.clone(),
                    plugin: type_of(plugin).to_owned(),
                    command: Command::Add.as_str(),
                    code: None,
                    message: "it gave no result".into(),
                });
            };
            if let Some(object) = result.as_object_mut() {
                object.entry("cniVersion").or_insert_with(|| self.list.cni_version.as_str().into());
            }
            on_result(&result)?;
            previous = Some(result);
        }
        // A list has at least one plugin.
        Ok(previous.unwrap_or_default())
    }

    /// CHECK: errors of the plugins that find their part broken; none where the network has no CHECK.
    pub(crate) async fn check(&self, result: &Value) -> Vec<NetworkError> {
        let mut errors = Vec::new();
        if !self.list.has_check() {
            return errors;
        }
        for plugin in &self.list.plugins {
            match self.call(Command::Check, plugin, Some(result)).await {
                Ok(_) => {}
                Err(error) if is_false_alarm(&error, result) => tracing::debug!("{error}"),
                Err(error) => errors.push(error),
            }
        }
        errors
    }

    /// DEL, by every plugin whatever the others say. Again is no error.
    pub(crate) async fn del(&self, result: Option<&Value>) -> Vec<NetworkError> {
        let mut errors = Vec::new();
        for plugin in self.list.plugins.iter().rev() {
            errors.extend(self.call(Command::Del, plugin, result).await.err());
        }
        errors
    }

    /// GC: everything of this network that is not one of `valid` (container id and interface) is removed by the plugins;
    /// nothing where the network has no GC.
    pub(crate) async fn gc(&self, valid: &[(String, String)]) -> Vec<NetworkError> {
        let mut errors = Vec::new();
        if !self.list.has_gc() {
            return errors;
        }
        let attachments: Vec<Value> =
            valid.iter().map(|(id, ifname)| json!({ "containerID": id, "ifname": ifname })).collect();
        for plugin in &self.list.plugins {
            let mut plugin = plugin.clone();
            plugin.insert("cni.dev/valid-attachments".into(), attachments.clone().into());
            errors.extend(self.call(Command::Gc, &plugin, None).await.err());
        }
        errors
    }

    async fn call(
        &self,
        command: Command,
        plugin: &Map<String, Value>,
        previous: Option<&Value>,
    ) -> Result<Option<Value>, NetworkError> {
        let name = type_of(plugin);
        let program = exec::find(name, self.plugin_dirs)?;
        let path: Vec<String> = self.plugin_dirs.iter().map(|directory| directory.display().to_string()).collect();
        let call = Call {
            network: &self.list.name,
            plugin: name,
            command: command.as_str(),
            environment: environment(command, self.target, self.wishes, &path.join(":")),
            input: execution_configuration(self.list, plugin, self.wishes, previous),
            lock: self.lock,
            deadline: PLUGIN_DEADLINE,
        };
        exec::run(&program, &call).await
    }
}

fn type_of(plugin: &Map<String, Value>) -> &str {
    plugin.get("type").and_then(Value::as_str).unwrap_or_default()
}

/// portmap's CHECK looks for the rules of IPv4 among those of IPv6 as well, and does not find them
/// (<https://github.com/containernetworking/plugins/issues/819>).
fn is_false_alarm(error: &NetworkError, result: &Value) -> bool {
    let NetworkError::CniPlugin { plugin, message, .. } = error else { return false };
    let has_ipv6 = result["ips"]
        .as_array()
        .is_some_and(|ips| ips.iter().any(|ip| ip["address"].as_str().is_some_and(|address| address.contains(':'))));
    // An IPv6 destination is in brackets.
    let is_of_ipv4 = message.contains("--to-destination ") && !message.contains("--to-destination [");
    plugin == "portmap" && message.contains("could not check ipv6 dnat") && (is_of_ipv4 || !has_ipv6)
}

#[cfg(test)]
mod tests;
