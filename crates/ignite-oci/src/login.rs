//! Logging in to a registry and out of it: credentials in Docker's `config.json`, where [`crate::fetch`] finds them.
//!
//! Where the file names a credential helper for the registry (`credHelpers`) or for all (`credsStore`), the helper keeps the
//! secret, by the protocol of docker-credential-helpers; else it stands in `auths`, in base64, which hides nothing: mode 0600.

use crate::limits::MAX_DOCKER_CONFIG_BYTES;
use crate::registry::{Credentials, check, config_key};
use crate::store::read_bounded;
use crate::{OciError, PullOptions};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where credentials went, or were.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keeper {
    /// This file.
    File(PathBuf),
    /// This credential helper.
    Helper(String),
}

/// Asks the registry whether it takes this user and password, and keeps them, or the token it gives for them.
pub async fn login(registry: &str, user: &str, password: &str, options: &PullOptions) -> Result<Keeper, OciError> {
    let path = config_path(registry, options)?;
    let kept = check(registry, user, password, options).await?;
    let (registry, user) = (registry.to_owned(), user.to_owned());
    tokio::task::spawn_blocking(move || ConfigFile::open(&registry, &path)?.keep(&user, &kept))
        .await
        .map_err(|_| OciError::WorkerLost)?
}

/// Forgets the credentials of a registry, in every file where they are looked for. Empty: there were none.
pub async fn logout(registry: &str, options: &PullOptions) -> Result<Vec<Keeper>, OciError> {
    let path = config_path(registry, options)?;
    let (registry, others) = (registry.to_owned(), options.auth_files.clone());
    tokio::task::spawn_blocking(move || {
        let mut left = Vec::new();
        for path in [vec![path], others].concat() {
            if path.exists() {
                left.extend(ConfigFile::open(&registry, &path)?.forget()?);
            }
        }
        Ok(left)
    })
    .await
    .map_err(|_| OciError::WorkerLost)?
}

fn config_path(registry: &str, options: &PullOptions) -> Result<PathBuf, OciError> {
    let dir = options.docker_config_dir.as_ref().ok_or_else(|| OciError::Credentials {
        registry: registry.to_owned(),
        config: PathBuf::from("config.json"),
        reason: "no directory is known for it".to_owned(),
    })?;
    Ok(dir.join("config.json"))
}

/// The file while it is changed: nobody else of ours changes it meanwhile.
struct ConfigFile {
    registry: String,
    path: PathBuf,
    content: Map<String, Value>,
    _lock: File,
}

impl ConfigFile {
    fn open(registry: &str, path: &Path) -> Result<ConfigFile, OciError> {
        // One that is a link is changed where it is.
        let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let failed =
            |reason: String| OciError::Credentials { registry: registry.to_owned(), config: path.clone(), reason };
        let dir = path.parent().unwrap_or(Path::new("."));
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(|error| failed(error.to_string()))?;
        // A lock on the directory leaves no file behind.
        let lock = File::open(dir).map_err(|error| failed(error.to_string()))?;
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive)
            .map_err(|error| failed(error.to_string()))?;
        let content = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Map::new(),
            Err(error) => return Err(failed(error.to_string())),
            Ok(file) => {
                let bytes = read_bounded(file, MAX_DOCKER_CONFIG_BYTES)
                    .map_err(|error| failed(error.to_string()))?
                    .ok_or_else(|| failed(format!("larger than {MAX_DOCKER_CONFIG_BYTES} bytes")))?;
                match bytes.iter().all(u8::is_ascii_whitespace) {
                    true => Map::new(),
                    false => serde_json::from_slice(&bytes).map_err(|error| failed(error.to_string()))?,
                }
            }
        };
        Ok(ConfigFile { registry: registry.to_owned(), path: path.clone(), content, _lock: lock })
    }

    fn failed(&self, reason: String) -> OciError {
        OciError::Credentials { registry: self.registry.clone(), config: self.path.clone(), reason }
    }

    fn helper(&self) -> Option<String> {
        let own = self.content.get("credHelpers").and_then(|helpers| helpers.get(&self.registry));
        let found = own.or_else(|| self.content.get("credsStore")).and_then(Value::as_str);
        found.filter(|name| !name.is_empty()).map(str::to_owned)
    }

    fn keep(mut self, user: &str, credentials: &Credentials) -> Result<Keeper, OciError> {
        let key = config_key(&self.registry);
        let (shown_user, secret) = match credentials {
            Credentials::Password { password, .. } => (user, password.as_str()),
            // Docker's helpers know a token by this name.
            Credentials::IdentityToken(token) => ("<token>", token.as_str()),
            Credentials::Anonymous => return Err(self.failed("there is nothing to keep".to_owned())),
        };
        if let Some(helper) = self.helper() {
            let entry = json!({ "ServerURL": key, "Username": shown_user, "Secret": secret });
            self.ask(&helper, "store", &entry.to_string())?;
            // As Docker does it: who lists the file's registries sees this one.
            self.auths()?.insert(key, json!({}));
            self.write()?;
            return Ok(Keeper::Helper(helper));
        }
        let entry = match credentials {
            Credentials::IdentityToken(token) => {
                json!({ "auth": STANDARD.encode(format!("{user}:")), "identitytoken": token })
            }
            _ => json!({ "auth": STANDARD.encode(format!("{user}:{secret}")) }),
        };
        self.auths()?.insert(key, entry);
        self.write()?;
        Ok(Keeper::File(self.path))
    }

    fn forget(mut self) -> Result<Vec<Keeper>, OciError> {
        let mut left = Vec::new();
        let key = config_key(&self.registry);
        let keys: Vec<String> = [key.clone(), self.registry.clone()].into();
        let was_there = self.content.contains_key("auths") && {
            let auths = self.auths()?;
            keys.iter().filter(|key| auths.remove(*key).is_some()).count() > 0
        };
        if let Some(helper) = self.helper() {
            match self.ask(&helper, "erase", &key) {
                Ok(()) if was_there => left.push(Keeper::Helper(helper)),
                Ok(()) => {}
                // Some of them call it an error that there is nothing.
                Err(_) if !was_there => {}
                Err(error) => return Err(error),
            }
        } else if was_there {
            left.push(Keeper::File(self.path.clone()));
        }
        if was_there {
            self.write()?;
        }
        Ok(left)
    }

    fn auths(&mut self) -> Result<&mut Map<String, Value>, OciError> {
        let wrong = self.failed("\"auths\" is no object".to_owned());
        self.content.entry("auths").or_insert_with(|| json!({})).as_object_mut().ok_or(wrong)
    }

    /// Replaces the file as a whole: who reads it meanwhile sees the old or the new one.
    fn write(&self) -> Result<(), OciError> {
        let dir = self.path.parent().unwrap_or(Path::new("."));
        let written = || {
            let mut draft = tempfile::Builder::new().prefix(".config.json.").tempfile_in(dir)?;
            draft.as_file().set_permissions(std::fs::Permissions::from_mode(0o600))?;
            let mut text = serde_json::to_string_pretty(&self.content).map_err(io::Error::other)?;
            text.push('\n');
            draft.write_all(text.as_bytes())?;
            draft.as_file().sync_all()?;
            draft.persist(&self.path).map_err(|error| error.error)
        };
        written().map(drop).map_err(|error: io::Error| self.failed(error.to_string()))
    }

    /// The secret goes over standard input: arguments are seen by everybody.
    fn ask(&self, helper: &str, verb: &str, input: &str) -> Result<(), OciError> {
        let program = format!("docker-credential-{helper}");
        let run = || {
            let mut child = Command::new(&program)
                .arg(verb)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()?;
            if let Some(mut stdin) = child.stdin.take() {
                // One that does not read has its reasons, and tells them by its exit code.
                let _ = stdin.write_all(input.as_bytes());
            }
            child.wait_with_output()
        };
        let output = run().map_err(|error| self.failed(format!("{program}: {error}")))?;
        match output.status.success() {
            true => Ok(()),
            false => {
                let said = crate::document::printable(String::from_utf8_lossy(&output.stdout).trim());
                Err(self.failed(format!("{program} {verb} failed: {said}")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::find_credentials;

    fn password(user: &str, password: &str) -> Credentials {
        Credentials::Password { user: user.into(), password: password.into() }
    }

    fn found(dir: &Path, registry: &str) -> Credentials {
        let options = PullOptions { docker_config_dir: Some(dir.to_owned()), ..PullOptions::default() };
        find_credentials(registry, "team/app", &options).unwrap()
    }

    #[test]
    fn what_is_kept_is_found_and_everything_else_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/config.json");
        let dir = path.parent().unwrap();
        let keep = |registry: &str, credentials: &Credentials| {
            ConfigFile::open(registry, &path).unwrap().keep("joe", credentials).unwrap()
        };
        assert_eq!(keep("reg.lan:5000", &password("joe", "s:cret")), Keeper::File(path.clone()));
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(dir)), (0o600, 0o700));
        let mut other: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        other["psFormat"] = json!("{{.ID}}");
        std::fs::write(&path, other.to_string()).unwrap();
        keep("docker.io", &Credentials::IdentityToken("refresh".into()));
        assert_eq!(found(dir, "reg.lan:5000"), password("joe", "s:cret"));
        assert_eq!(found(dir, "docker.io"), Credentials::IdentityToken("refresh".into()));
        let forget = |registry: &str| ConfigFile::open(registry, &path).unwrap().forget().unwrap();
        assert_eq!(forget("reg.lan:5000"), [Keeper::File(path.clone())]);
        assert_eq!(forget("reg.lan:5000"), []);
        assert_eq!(found(dir, "reg.lan:5000"), Credentials::Anonymous);
        assert_eq!(found(dir, "docker.io"), Credentials::IdentityToken("refresh".into()));
        let left: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(left["psFormat"], "{{.ID}}");
        assert_eq!(std::fs::read_dir(dir).unwrap().count(), 1, "no draft is left");
    }

    #[test]
    fn a_file_that_is_not_understood_is_not_touched() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        for text in ["{", "[]", r#"{"auths":[]}"#] {
            std::fs::write(&path, text).unwrap();
            let kept = ConfigFile::open("reg.lan", &path).and_then(|file| file.keep("joe", &password("joe", "x")));
            assert!(matches!(kept, Err(OciError::Credentials { .. })), "{text}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn a_helper_that_is_missing_is_named_and_nothing_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        let text = r#"{"credsStore":"not-there"}"#;
        std::fs::write(&path, text).unwrap();
        let error = ConfigFile::open("reg.lan", &path).unwrap().keep("joe", &password("joe", "x")).unwrap_err();
        assert!(error.to_string().contains("docker-credential-not-there"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }
}
