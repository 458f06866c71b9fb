//! The iptables programs: called, and their listings read.

use crate::NetworkError;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

const DIRECTORIES: [&str; 5] = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"];
/// Of IPv4 and IPv6.
const PROGRAMS: [&str; 2] = ["iptables", "ip6tables"];
/// They wait for one another's lock (`-w`), so not for ever.
const DEADLINE: Duration = Duration::from_secs(30);

/// The programs there are.
pub(crate) fn programs() -> Vec<PathBuf> {
    let found = PROGRAMS.iter().filter_map(|name| {
        DIRECTORIES.iter().map(|directory| Path::new(directory).join(name)).find(|path| path.is_file())
    });
    found.collect()
}

/// Whether a program is that of IPv6.
pub(crate) fn is_of_ipv6(program: &Path) -> bool {
    program.ends_with("ip6tables")
}

/// The rules of a chain in a listing (`iptables -S`), each as words, and without the chain's name.
pub(crate) fn rules_of(listed: &str, chain: &str) -> Vec<Vec<String>> {
    let prefix = format!("-A {chain} ");
    listed.lines().filter_map(|line| line.strip_prefix(prefix.as_str())).map(words).collect()
}

/// The word after a flag.
pub(crate) fn value_of<'a>(rule: &'a [String], flag: &str) -> Option<&'a str> {
    let at = rule.iter().position(|word| word == flag)?;
    rule.get(at + 1).map(String::as_str)
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

/// Runs a program and returns what it prints.
pub(crate) async fn run(program: &Path, arguments: &[&str]) -> Result<String, NetworkError> {
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
    fn a_listing_is_read_as_it_is_quoted() {
        let listed = "-P FORWARD DROP\n-A FORWARD -j CNI-FORWARD\n\
            -A X -s 10.61.0.2/32 -m comment --comment \"name: \\\"net\\\" id: \\\"ignite-1\\\"\" -j CNI-39b0\n";
        let rules = rules_of(listed, "X");
        assert_eq!(rules.len(), 1);
        assert_eq!(rules[0][..5], ["-s", "10.61.0.2/32", "-m", "comment", "--comment"]);
        assert_eq!(value_of(&rules[0], "--comment"), Some("name: \"net\" id: \"ignite-1\""));
        assert_eq!(value_of(&rules[0], "-j"), Some("CNI-39b0"));
        assert_eq!(value_of(&rules[0], "CNI-39b0"), None);
    }

    proptest! {
        #[test]
        fn no_listing_makes_it_panic(listed in "(-A X [ -~]*\n)*") {
            rules_of(&listed, "X");
        }
    }
}
