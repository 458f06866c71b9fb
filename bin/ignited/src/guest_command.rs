//! Called by another name, `ignited` is that command of the guest: so `kubectl exec POD -- sh`, which runs a program of the
//! Pod's container, is a shell in the VM.
//!
//! The node image has links of such names to `ignited` (`scripts/images/guest-commands`). `guest` among them takes any
//! command as its arguments.

use std::ffi::OsString;
use std::path::Path;

/// The program's own name; a suffix (`ignited-0.11`) may follow it.
const OURS: &str = "ignited";
/// The link for commands that have none of their own.
const ANY: &str = "guest";

/// The command line that is meant: `sh -c X` is `ignited pod exec -- sh -c X`.
pub fn meant(mut words: Vec<OsString>) -> Vec<OsString> {
    let name = words.first().map(|word| Path::new(word).file_name().unwrap_or_default().to_owned()).unwrap_or_default();
    if name.is_empty() || name.to_string_lossy().starts_with(OURS) {
        return words;
    }
    let command = if name == ANY { words.split_off(1) } else { [vec![name], words.split_off(1)].concat() };
    [OURS, "pod", "exec", "--"].map(OsString::from).into_iter().chain(command).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_name_is_a_command_of_the_guest() {
        for (called, expected) in [
            ("ignited pod run", "ignited pod run"),
            ("/usr/bin/ignited --version", "/usr/bin/ignited --version"),
            ("ignited-0.11 daemon", "ignited-0.11 daemon"),
            ("", ""),
            ("sh", "ignited pod exec -- sh"),
            ("/bin/sh -c --help", "ignited pod exec -- sh -c --help"),
            ("guest /opt/app --version", "ignited pod exec -- /opt/app --version"),
            ("guest", "ignited pod exec --"),
        ] {
            let words = |text: &str| text.split_whitespace().map(OsString::from).collect::<Vec<_>>();
            assert_eq!(meant(words(called)), words(expected), "{called}");
        }
    }
}
