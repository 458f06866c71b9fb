//! The keys whose signatures are trusted, in the forms that git's verification reads.

use crate::GitError;
use sha2::{Digest, Sha256};
use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// Largest file of keys.
const MAX_FILE: u64 = 1 << 20;
const OPENPGP_HEADER: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----";
/// First words of an ssh public key (ssh-keygen(1)).
const SSH_KEY_TYPES: [&str; 3] = ["ssh-", "ecdsa-", "sk-"];

/// Whose signature makes a commit good: ssh keys, OpenPGP keys, or both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedKeys {
    /// Lines of an allowed-signers file (ssh-keygen(1), "ALLOWED SIGNERS").
    signers: Vec<String>,
    /// Armored public keys.
    openpgp: Vec<String>,
}

impl TrustedKeys {
    /// Reads files of ssh public keys (`.pub`), allowed signers, or armored OpenPGP public keys, told apart by content.
    pub fn read(paths: &[PathBuf]) -> Result<TrustedKeys, GitError> {
        let mut keys = TrustedKeys { signers: Vec::new(), openpgp: Vec::new() };
        for path in paths {
            let failed = |source| GitError::Io { action: "read", path: path.clone(), source };
            if fs::metadata(path).map_err(failed)?.len() > MAX_FILE {
                return Err(GitError::BadKeys { path: path.clone(), reason: "it is larger than 1 MiB" });
            }
            let text = fs::read_to_string(path).map_err(failed)?;
            keys.add(&text).map_err(|reason| GitError::BadKeys { path: path.clone(), reason })?;
        }
        Ok(keys)
    }

    fn add(&mut self, text: &str) -> Result<(), &'static str> {
        if text.contains("PRIVATE KEY") {
            return Err("it is a private key, which does not belong here");
        }
        if text.contains(OPENPGP_HEADER) {
            self.openpgp.push(text.to_owned());
            return Ok(());
        }
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let before = self.signers.len();
        for line in lines {
            self.signers.push(signer(line).ok_or("a line of it is no ssh key and no allowed signer")?);
        }
        if self.signers.len() == before { Err("it is empty") } else { Ok(()) }
    }

    /// What tells one set of keys from another.
    pub(crate) fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        for part in self.signers.iter().chain(&self.openpgp) {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        hex::encode(hash.finalize())
    }

    pub(crate) fn has_openpgp(&self) -> bool {
        !self.openpgp.is_empty()
    }

    pub(crate) fn allowed_signers(keys_dir: &Path) -> PathBuf {
        keys_dir.join("allowed_signers")
    }

    pub(crate) fn gnupg_home(keys_dir: &Path) -> PathBuf {
        keys_dir.join("gnupg")
    }

    /// Writes them below `keys_dir` as git's verification reads them; what was there is replaced.
    pub(crate) fn install(&self, keys_dir: &Path, environment: &[(OsString, OsString)]) -> Result<(), GitError> {
        let io = |action, path: &Path| {
            let path = path.to_owned();
            move |source| GitError::Io { action, path, source }
        };
        match fs::remove_dir_all(keys_dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io("remove", keys_dir)(error)),
            _ => {}
        }
        let home = TrustedKeys::gnupg_home(keys_dir);
        DirBuilder::new().recursive(true).mode(0o700).create(&home).map_err(io("make", &home))?;
        let signers = TrustedKeys::allowed_signers(keys_dir);
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&signers)
            .map_err(io("make", &signers))?;
        for line in &self.signers {
            writeln!(file, "{line}").map_err(io("write", &signers))?;
        }
        self.openpgp.iter().try_for_each(|key| import_openpgp(key, &home, environment))
    }
}

/// A line of an allowed-signers file: itself, or a public key with anyone as its principal.
fn signer(line: &str) -> Option<String> {
    let is_type = |word: &str| SSH_KEY_TYPES.iter().any(|prefix| word.starts_with(prefix));
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    match words.as_slice() {
        [kind, key, ..] if is_type(kind) => Some(format!("* namespaces=\"git\" {kind} {key}")),
        [_, rest @ ..] if rest.iter().any(|word| is_type(word)) => Some(line.to_owned()),
        _ => None,
    }
}

fn import_openpgp(key: &str, home: &Path, environment: &[(OsString, OsString)]) -> Result<(), GitError> {
    let failed =
        |detail: String| GitError::Failed { what: "verify-commit", detail: format!("import an OpenPGP key: {detail}") };
    // The key ring is a file; no agent and no directory service is started for public keys.
    let mut child = std::process::Command::new("gpg")
        .args(["--batch", "--quiet", "--no-autostart", "--no-options", "--disable-dirmngr", "--import"])
        .env_clear()
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .env("GNUPGHOME", home)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => GitError::ProgramMissing { program: "gpg" },
            _ => failed(source.to_string()),
        })?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(key.as_bytes()).map_err(|error| failed(error.to_string()))?;
    }
    let output = child.wait_with_output().map_err(|error| failed(error.to_string()))?;
    if output.status.success() { Ok(()) } else { Err(failed(crate::error::told(&output.stderr))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<TrustedKeys, &'static str> {
        let mut keys = TrustedKeys { signers: Vec::new(), openpgp: Vec::new() };
        keys.add(text).map(|()| keys)
    }

    #[test]
    fn keys_are_told_apart_by_content() {
        let public = read("# mine\nssh-ed25519 AAAA me@host\n\n").unwrap();
        assert_eq!(public.signers, ["* namespaces=\"git\" ssh-ed25519 AAAA"]);
        let line = "a@b,c@d namespaces=\"git\" ecdsa-sha2-nistp256 AAAA";
        assert_eq!(read(line).unwrap().signers, [line]);
        assert!(read(&format!("{OPENPGP_HEADER}\n…")).unwrap().has_openpgp());
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for bad in ["", "# nothing\n", "hello", "ssh-ed25519", "-----BEGIN OPENSSH PRIVATE KEY-----"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn other_keys_have_another_fingerprint() {
        let (a, b) = (read("ssh-ed25519 AAAA").unwrap(), read("ssh-ed25519 AAAB").unwrap());
        assert_ne!(a.fingerprint(), b.fingerprint());
        assert_eq!(a.fingerprint(), a.clone().fingerprint());
    }
}
