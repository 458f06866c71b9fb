//! Removes masquerading rules that the bridge plugin leaves when it cannot see the interface's addresses any more.
//!
//! Its DEL reads them from the interface, so a namespace or an address that somebody else removed costs it its memory
//! (<https://github.com/containernetworking/plugins/issues/810>). The rules carry the container id in a comment.

use crate::NetworkError;
use crate::cni::conf::NetworkList;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

const DIRECTORIES: [&str; 5] = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"];
const PROGRAMS: [&str; 2] = ["iptables", "ip6tables"];
/// They wait for one another's lock (`-w`), so not for ever.
const DEADLINE: Duration = Duration::from_secs(30);
/// Prefix of the plugin's chains.
const CHAIN_PREFIX: &str = "CNI-";

/// Removes this container's rules. Nothing where no plugin of the network masquerades, or there is no iptables.
pub(crate) async fn remove(network: &NetworkList, container_id: &str) -> Vec<NetworkError> {
    let masquerades = network.plugins.iter().any(|plugin| plugin.get("ipMasq").and_then(Value::as_bool) == Some(true));
    let mut errors = Vec::new();
    for program in PROGRAMS.iter().filter_map(|name| find(name)).filter(|_| masquerades) {
        errors.extend(remove_by(&program, container_id).await.err());
    }
    errors
}

async fn remove_by(program: &Path, container_id: &str) -> Result<(), NetworkError> {
    let listed = run(program, &["-t", "nat", "-w", "-S", "POSTROUTING"]).await?;
    for (rule, chain) in rules_of(&listed, container_id) {
        let mut delete = vec!["-t", "nat", "-w", "-D", "POSTROUTING"];
        delete.extend(rule.iter().map(String::as_str));
        run(program, &delete).await?;
        run(program, &["-t", "nat", "-w", "-F", &chain]).await?;
        run(program, &["-t", "nat", "-w", "-X", &chain]).await?;
    }
    Ok(())
}

/// Rules of a listing (`iptables -S`) that lead this container's packets to a chain of its own, as words, each with its
/// chain.
fn rules_of(listed: &str, container_id: &str) -> Vec<(Vec<String>, String)> {
    let comment = format!("id: \"{container_id}\"");
    listed
        .lines()
        .filter_map(|line| {
            let words = words(line.strip_prefix("-A POSTROUTING ")?);
            let after = |flag: &str| words.iter().position(|word| word == flag).and_then(|at| words.get(at + 1));
            let chain = after("-j").filter(|chain| chain.starts_with(CHAIN_PREFIX))?.clone();
            after("--comment")?.ends_with(&comment).then_some((words, chain))
        })
        .collect()
}

/// Splits a line as `iptables -S` quotes it: `"` around words with blanks, `\` before a quote.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut is_quoted = false;
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        let Some(word) = words.last_mut() else { break };
        match character {
            '\\' if is_quoted => word.extend(characters.next()),
            '"' => is_quoted = !is_quoted,
            ' ' if !is_quoted => words.push(String::new()),
            other => word.push(other),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

fn find(name: &str) -> Option<PathBuf> {
    DIRECTORIES.iter().map(|directory| Path::new(directory).join(name)).find(|path| path.is_file())
}

async fn run(program: &Path, arguments: &[&str]) -> Result<String, NetworkError> {
    let failed = |detail: String| NetworkError::Helper { program: program.display().to_string(), detail };
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env("PATH", DIRECTORIES.join(":")).stdin(Stdio::null()).kill_on_drop(true);
    let output = match tokio::time::timeout(DEADLINE, command.output()).await {
        Ok(output) => output.map_err(|error| failed(error.to_string()))?,
        Err(_) => return Err(failed(format!("no answer within {} s", DEADLINE.as_secs()))),
    };
    if !output.status.success() {
        return Err(failed(String::from_utf8_lossy(&output.stderr).trim().chars().take(300).collect()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
        assert_eq!(
            found[0].0[..6],
            ["-s", "10.61.0.2/32", "-m", "comment", "--comment", "name: \"net\" id: \"ignite-1\""]
        );
    }

    proptest! {
        #[test]
        fn no_listing_makes_it_panic(listed in "(-A POSTROUTING [ -~]*\n)*") {
            rules_of(&listed, "x");
        }
    }
}
