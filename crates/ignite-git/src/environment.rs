//! The environment of git: its configuration, and how it reaches the remote. Pure.

use crate::url::Transport;
use crate::{Source, TrustedKeys};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

/// Asks for nothing, and hands out the password of one file; run by git with `get`, `store` or `erase`
/// (gitcredentials(7), "Custom helpers").
const CREDENTIAL_HELPER: &str = "!f() { test \"$1\" = get || return 0; test -z \"$IGNITE_GIT_USERNAME\" || \
    printf 'username=%s\\n' \"$IGNITE_GIT_USERNAME\"; printf 'password=%s\\n' \"$(cat \"$IGNITE_GIT_PASSWORD_FILE\")\"; }; f";

/// Everything git finds in its environment for this source. `keys_dir` holds the trusted keys in git's own forms.
pub(crate) fn environment(source: &Source, keys_dir: &Path) -> Vec<(OsString, OsString)> {
    let mut variables = source.environment.clone();
    let mut set = |name: &str, value: &OsStr| variables.push((name.into(), value.to_owned()));
    set("LC_ALL", OsStr::new("C"));
    // A source means the same on every host and for every user.
    set("GIT_CONFIG_NOSYSTEM", OsStr::new("1"));
    set("GIT_CONFIG_GLOBAL", OsStr::new("/dev/null"));
    set("GIT_ATTR_NOSYSTEM", OsStr::new("1"));
    set("GIT_TERMINAL_PROMPT", OsStr::new("0"));
    set("GIT_ASKPASS", OsStr::new("true"));
    set("GIT_ADVICE", OsStr::new("0"));
    set("GIT_NO_LAZY_FETCH", OsStr::new("1"));
    set("GIT_SSH_COMMAND", &ssh_command(source));
    set("GIT_SSH_VARIANT", OsStr::new("ssh"));
    if let Some(ca) = &source.credentials.ca_certificate {
        set("GIT_SSL_CAINFO", ca.as_os_str());
    }
    if let Some(file) = &source.credentials.password_file {
        set("IGNITE_GIT_PASSWORD_FILE", file.as_os_str());
        set("IGNITE_GIT_USERNAME", OsStr::new(source.credentials.username.as_deref().unwrap_or_default()));
    }
    if source.trusted_keys.as_ref().is_some_and(TrustedKeys::has_openpgp) {
        set("GNUPGHOME", TrustedKeys::gnupg_home(keys_dir).as_os_str());
    }
    let configuration = configuration(source, keys_dir);
    set("GIT_CONFIG_COUNT", OsStr::new(&configuration.len().to_string()));
    for (number, (key, value)) in configuration.iter().enumerate() {
        set(&format!("GIT_CONFIG_KEY_{number}"), OsStr::new(key));
        set(&format!("GIT_CONFIG_VALUE_{number}"), value);
    }
    variables
}

fn configuration(source: &Source, keys_dir: &Path) -> Vec<(String, OsString)> {
    let fixed = [
        // Only what a source may name, whatever a server redirects to.
        ("protocol.allow", "never"),
        ("protocol.ssh.allow", "always"),
        ("protocol.https.allow", "always"),
        ("protocol.file.allow", "always"),
        ("protocol.version", "2"),
        // Objects of a hostile remote: checked when they arrive; links become files with their target as text.
        ("transfer.fsckObjects", "true"),
        ("core.symlinks", "false"),
        ("core.hooksPath", "/dev/null"),
        ("core.fsmonitor", "false"),
        ("core.protectHFS", "true"),
        ("core.protectNTFS", "true"),
        ("submodule.recurse", "false"),
        // A server that says nothing is given up sooner than at the deadline.
        ("http.lowSpeedLimit", "1"),
        ("http.lowSpeedTime", "30"),
        // The repository's owner may differ where a directory is mounted; whose it is has been checked by its mode.
        ("safe.directory", "*"),
        ("gc.autoDetach", "false"),
        ("maintenance.autoDetach", "false"),
    ];
    let mut all: Vec<(String, OsString)> = fixed.iter().map(|(key, value)| ((*key).to_owned(), value.into())).collect();
    if source.credentials.password_file.is_some() && source.url.transport() == Transport::Https {
        // Of this host only: a redirect to another does not get the password.
        all.push((format!("credential.https://{}.helper", source.url.authority()), CREDENTIAL_HELPER.into()));
    }
    if let Some(keys) = &source.trusted_keys {
        all.push(("gpg.ssh.allowedSignersFile".to_owned(), TrustedKeys::allowed_signers(keys_dir).into_os_string()));
        if !keys.has_openpgp() {
            // A signature by a key that is not in the file is "undefined"; of an OpenPGP key ring every key is.
            all.push(("gpg.minTrustLevel".to_owned(), "fully".into()));
        }
    }
    all
}

/// ssh that asks nothing and believes no unknown host. Read by a shell (git(1), `GIT_SSH_COMMAND`).
fn ssh_command(source: &Source) -> OsString {
    let mut command = OsString::from("ssh -F none -o BatchMode=yes -o StrictHostKeyChecking=yes -o ConnectTimeout=30");
    command.push(" -o ServerAliveInterval=15 -o ServerAliveCountMax=2");
    if let Some(known_hosts) = &source.credentials.known_hosts {
        command.push(" -o GlobalKnownHostsFile=/dev/null -o UserKnownHostsFile=");
        // ssh reads a list of files here, split at white space unless quoted.
        let mut quoted = OsString::from("\"");
        quoted.push(known_hosts);
        quoted.push("\"");
        command.push(shell_quoted(&quoted));
    }
    if let Some(identity) = &source.credentials.identity_file {
        command.push(" -o IdentitiesOnly=yes -o IdentityAgent=none -i ");
        command.push(shell_quoted(identity.as_os_str()));
    }
    command
}

/// A word as sh(1) reads it unchanged.
fn shell_quoted(word: &OsStr) -> OsString {
    let mut quoted = vec![b'\''];
    for byte in word.as_bytes() {
        match byte {
            b'\'' => quoted.extend_from_slice(b"'\\''"),
            byte => quoted.push(*byte),
        }
    }
    quoted.push(b'\'');
    OsString::from_vec(quoted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Credentials, Follow, SubPath};
    use std::time::Duration;

    fn source(url: &str, credentials: Credentials) -> Source {
        Source {
            url: url.parse().unwrap(),
            follow: Follow::DefaultBranch,
            path: SubPath::default(),
            credentials,
            trusted_keys: None,
            deadline: Duration::from_secs(1),
            environment: vec![("PATH".into(), "/bin".into())],
        }
    }

    fn value(variables: &[(OsString, OsString)], name: &str) -> Option<String> {
        variables.iter().find(|(n, _)| n == name).map(|(_, v)| v.to_str().unwrap().to_owned())
    }

    #[test]
    fn paths_reach_ssh_as_they_are() {
        let credentials = Credentials {
            identity_file: Some("/keys/it's mine".into()),
            known_hosts: Some("/a b/known_hosts".into()),
            ..Credentials::default()
        };
        let command = value(&environment(&source("git@h:x", credentials), Path::new("/k")), "GIT_SSH_COMMAND").unwrap();
        assert!(
            command.ends_with(r#"-o IdentitiesOnly=yes -o IdentityAgent=none -i '/keys/it'\''s mine'"#),
            "{command}"
        );
        assert!(command.contains(r#"UserKnownHostsFile='"/a b/known_hosts"'"#), "{command}");
        assert!(command.contains("StrictHostKeyChecking=yes"), "{command}");
    }

    #[test]
    fn the_password_is_for_its_own_host_and_on_no_command_line() {
        let credentials = Credentials {
            username: Some("me".to_owned()),
            password_file: Some("/secret".into()),
            ..Credentials::default()
        };
        let variables = environment(&source("https://h:8443/x", credentials), Path::new("/k"));
        let keys: Vec<&OsString> = variables
            .iter()
            .filter(|(n, _)| n.to_str().unwrap().starts_with("GIT_CONFIG_KEY_"))
            .map(|(_, v)| v)
            .collect();
        assert!(keys.iter().any(|key| *key == "credential.https://h:8443.helper"), "{keys:?}");
        assert!(!keys.iter().any(|key| *key == "credential.helper"));
        assert_eq!(value(&variables, "IGNITE_GIT_PASSWORD_FILE").unwrap(), "/secret");
    }

    #[test]
    fn nothing_of_the_hosts_configuration_is_read() {
        let variables = environment(&source("/srv/x", Credentials::default()), Path::new("/k"));
        assert_eq!(value(&variables, "GIT_CONFIG_NOSYSTEM").as_deref(), Some("1"));
        assert_eq!(value(&variables, "GIT_CONFIG_GLOBAL").as_deref(), Some("/dev/null"));
        let count: usize = value(&variables, "GIT_CONFIG_COUNT").unwrap().parse().unwrap();
        assert!(value(&variables, &format!("GIT_CONFIG_VALUE_{}", count - 1)).is_some());
        assert!(value(&variables, &format!("GIT_CONFIG_KEY_{count}")).is_none());
    }
}
