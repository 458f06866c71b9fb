//! Credentials for a registry, from Docker's `config.json` and its helpers.

use super::hub::{self, config_key};
use crate::limits::MAX_DOCKER_CONFIG_BYTES;
use crate::store::read_bounded;
use crate::{OciError, PullOptions};
use docker_credential::{CredentialRetrievalError, DockerCredential};
use ignite_api::DOCKER_HUB;
use std::fs::File;
use std::path::Path;

/// As whom to pull.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Credentials {
    Anonymous,
    Password {
        user: String,
        password: String,
    },
    /// An OAuth2 refresh token, as some registries' logins leave.
    IdentityToken(String),
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Credentials::Anonymous => f.write_str("Anonymous"),
            Credentials::Password { user, .. } => {
                f.debug_struct("Password").field("user", user).finish_non_exhaustive()
            }
            Credentials::IdentityToken(_) => f.write_str("IdentityToken(..)"),
        }
    }
}

/// Looks up `registry` (`docker.io`, `host:port`) for `repository` in Docker's `config.json`, then in the files of
/// containers-auth.json(5); without a file, or an entry there, anonymous. Blocks while a credential helper runs.
pub(crate) fn find_credentials(
    registry: &str,
    repository: &str,
    options: &PullOptions,
) -> Result<Credentials, OciError> {
    let docker = options.docker_config_dir.iter().map(|dir| dir.join("config.json"));
    for file in docker.chain(options.auth_files.iter().cloned()) {
        match find_in(&file, registry, repository)? {
            Credentials::Anonymous => {}
            found => return Ok(found),
        }
    }
    Ok(Credentials::Anonymous)
}

fn find_in(config: &Path, registry: &str, repository: &str) -> Result<Credentials, OciError> {
    let failed =
        |reason: String| OciError::Credentials { registry: registry.to_owned(), config: config.to_owned(), reason };
    let file = match File::open(config) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Credentials::Anonymous),
        other => other.map_err(|error| failed(error.to_string()))?,
    };
    let bytes = read_bounded(file, MAX_DOCKER_CONFIG_BYTES)
        .map_err(|error| failed(error.to_string()))?
        .ok_or_else(|| failed(format!("larger than {MAX_DOCKER_CONFIG_BYTES} bytes")))?;
    for key in keys(registry, repository) {
        match docker_credential::get_credential_from_reader(bytes.as_slice(), &key) {
            Ok(DockerCredential::UsernamePassword(user, password)) if !user.is_empty() => {
                return Ok(Credentials::Password { user, password });
            }
            Ok(DockerCredential::IdentityToken(token)) if !token.is_empty() => {
                return Ok(Credentials::IdentityToken(token));
            }
            Ok(_) | Err(CredentialRetrievalError::NoCredentialConfigured) => {}
            // Helpers have no better way to say that they know nothing (docker-credential-helpers, `credentials.go`).
            Err(CredentialRetrievalError::HelperFailure { stdout, stderr, .. })
                if stdout.contains("credentials not found") || stderr.contains("credentials not found") => {}
            Err(CredentialRetrievalError::HelperFailure { helper, stdout, stderr }) => {
                let said = crate::document::printable(format!("{} {}", stdout.trim(), stderr.trim()).trim());
                return Err(failed(format!("{helper} failed: {said}")));
            }
            Err(error) => return Err(failed(error.to_string())),
        }
    }
    Ok(Credentials::Anonymous)
}

/// Under which keys a registry's credentials are stored: Docker's tools use the registry, containers-auth.json(5) also a
/// repository or a part of its path, the longest first.
fn keys(registry: &str, repository: &str) -> Vec<String> {
    let mut keys = Vec::new();
    let mut path = format!("{registry}/{repository}");
    while path.len() > registry.len() {
        keys.push(path.clone());
        path.truncate(path.rfind('/').unwrap_or_default());
    }
    match registry {
        DOCKER_HUB => keys.extend([&config_key(registry), hub::HOST, DOCKER_HUB].map(str::to_owned)),
        other => keys.push(config_key(other)),
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;

    fn with_config(text: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.json"), text).unwrap();
        dir
    }

    fn find(registry: &str, dir: &Path) -> Result<Credentials, OciError> {
        let options = PullOptions { docker_config_dir: Some(dir.to_owned()), ..PullOptions::default() };
        find_credentials(registry, "team/app", &options)
    }

    #[test]
    fn the_longest_key_of_an_auth_file_counts() {
        let auth = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let (docker, containers) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let file = containers.path().join("auth.json");
        let text = format!(
            r#"{{"auths":{{"reg.lan":{{"auth":"{}"}},"reg.lan/team":{{"auth":"{}"}}}}}}"#,
            auth("all:1"),
            auth("team:2")
        );
        std::fs::write(&file, text).unwrap();
        let options = PullOptions {
            docker_config_dir: Some(docker.path().to_owned()),
            auth_files: vec![file],
            ..PullOptions::default()
        };
        for (repository, name) in [("team/app", "team"), ("team", "team"), ("teams/app", "all"), ("x", "all")] {
            match find_credentials("reg.lan", repository, &options).unwrap() {
                Credentials::Password { user, .. } => assert_eq!(user, name, "{repository}"),
                other => panic!("{repository}: {other:?}"),
            }
        }
    }

    #[test]
    fn credentials_are_found_by_registry() {
        let auth = base64::engine::general_purpose::STANDARD.encode("joe:se:cret");
        let dir = with_config(&format!(
            r#"{{"auths":{{"127.0.0.1:5000":{{"auth":"{auth}"}},"https://index.docker.io/v1/":{{"auth":"{auth}"}},
            "token.example":{{"auth":"{auth}","identitytoken":"refresh"}}}}}}"#
        ));
        let joe = Credentials::Password { user: "joe".to_owned(), password: "se:cret".to_owned() };
        let find = |registry| find(registry, dir.path()).unwrap();
        assert_eq!(find("127.0.0.1:5000"), joe);
        assert_eq!(find("docker.io"), joe);
        assert_eq!(find("token.example"), Credentials::IdentityToken("refresh".to_owned()));
        assert_eq!(find("127.0.0.1:5001"), Credentials::Anonymous);
    }

    #[test]
    fn no_configuration_is_anonymous_and_a_broken_one_an_error() {
        let empty = tempfile::tempdir().unwrap();
        assert_eq!(find("x", empty.path()).unwrap(), Credentials::Anonymous);
        assert_eq!(find_credentials("x", "a", &PullOptions::default()).unwrap(), Credentials::Anonymous);
        let broken = with_config("{");
        let error = find("x", broken.path()).unwrap_err();
        assert!(matches!(error, OciError::Credentials { .. }));
        assert!(error.hint().unwrap().contains("config.json"));
    }

    #[test]
    fn a_missing_helper_is_an_error_that_names_the_registry() {
        let dir = with_config(r#"{"credHelpers":{"reg.example":"does-not-exist-here"}}"#);
        assert!(find("reg.example", dir.path()).unwrap_err().to_string().contains("reg.example"));
        assert_eq!(find("other.example", dir.path()).unwrap(), Credentials::Anonymous);
    }

    #[test]
    fn secrets_are_not_shown() {
        let shown = format!("{:?}", Credentials::Password { user: "joe".into(), password: "secret".into() });
        assert!(!shown.contains("secret"), "{shown}");
    }
}
