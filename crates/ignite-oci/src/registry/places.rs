//! Where an image is asked for: mirrors first, the registry itself last, each with what it needs to be trusted.

use super::endpoint::{Endpoint, Trust};
use super::hosts_toml::{HostEntry, read_hosts};
use super::registries_conf::{RegistriesConf, Route};
use crate::{OciError, PullOptions};
use ignite_api::{DOCKER_HUB, ImageReference};
use std::path::{Path, PathBuf};

/// The places to ask for `reference`, in order; at least one.
pub(crate) fn places(reference: &ImageReference, options: &PullOptions) -> Result<Vec<Endpoint>, OciError> {
    if let Some(dir) = &options.hosts_dir {
        let origin = Endpoint::new(reference, options)?;
        let server = format!("https://{}", origin.host);
        return match read_hosts(dir, &origin.registry, &server)? {
            Some(hosts) => Ok(hosts.into_iter().map(|host| of_host(&origin, host, options)).collect()),
            None => Ok(vec![with_certificates(origin, options)?]),
        };
    }
    let conf = RegistriesConf::read(&options.registries_conf)?;
    let name = format!("{}/{}", reference.registry, reference.repository);
    match conf.route(&name, short_name(reference), reference.digest.is_some()) {
        Route::Blocked { prefix } => Err(OciError::Blocked { reference: reference.to_string(), prefix }),
        Route::Places(places) => {
            let endpoints = places.into_iter().map(|place| {
                let invalid = || OciError::InvalidReference {
                    reference: place.name.clone(),
                    reason: "registries.conf makes it of no host and name",
                };
                let (registry, repository) = place.name.split_once('/').ok_or_else(invalid)?;
                let there = ImageReference {
                    registry: registry.to_owned(),
                    repository: repository.to_owned(),
                    ..reference.clone()
                };
                let mut endpoint = Endpoint::new(&there, options)?;
                if place.is_insecure {
                    endpoint.trust_anybody();
                }
                with_certificates(endpoint, options)
            });
            endpoints.collect()
        }
    }
}

/// What Docker completes to its own hub; `library/` is never written.
fn short_name(reference: &ImageReference) -> Option<&str> {
    let is_of_hub = reference.registry == DOCKER_HUB;
    is_of_hub.then(|| reference.repository.strip_prefix("library/").unwrap_or(&reference.repository))
}

/// Adds to an image that Docker Hub has not what a search list of `registries.conf` lets other tools find by its name.
pub(crate) fn with_other_meanings(error: OciError, reference: &ImageReference, options: &PullOptions) -> OciError {
    let is_missing =
        matches!(error, OciError::NotFound { .. } | OciError::Unauthorized { with_credentials: false, .. });
    let (Some(short), true, None) = (short_name(reference), is_missing, &options.hosts_dir) else { return error };
    // A file that cannot be read was an error before.
    let Ok(conf) = RegistriesConf::read(&options.registries_conf) else { return error };
    let others = conf.other_meanings(short);
    if others.is_empty() {
        return error;
    }
    OciError::NotOnHub { name: short.to_owned(), others, source: Box::new(error) }
}

fn of_host(origin: &Endpoint, host: HostEntry, options: &PullOptions) -> Endpoint {
    let is_origin = host.host == origin.host;
    let allowed = Endpoint::allows_plain(&host.host, options);
    Endpoint {
        registry: if is_origin { origin.registry.clone() } else { host.host.clone() },
        // The administrator wrote the scheme.
        may_be_plain: host.is_plain || (is_origin && allowed),
        base_path: host.base_path,
        namespace: (!is_origin).then(|| origin.registry.clone()),
        trust: Trust {
            accepts_any_certificate: host.skips_verification,
            authorities: host.authorities,
            identities: host.identities,
        },
        host: host.host,
        ..origin.clone()
    }
}

/// Adds what `certs.d` has for the endpoint's host (containers-certs.d(5)): `*.crt` are authorities, `*.cert` with `*.key`
/// who we are.
pub(super) fn with_certificates(mut endpoint: Endpoint, options: &PullOptions) -> Result<Endpoint, OciError> {
    for dir in &options.certificate_dirs {
        for name in [&endpoint.registry, &endpoint.host] {
            let dir = dir.join(name);
            let files = list(&dir)?;
            let with_end = |end: &str| -> Vec<PathBuf> {
                files.iter().filter(|path| path.extension().is_some_and(|ext| ext == end)).cloned().collect()
            };
            endpoint.trust.authorities.extend(with_end("crt"));
            for certificate in with_end("cert") {
                let key = certificate.with_extension("key");
                if !key.is_file() {
                    let reason = format!("its key {} is not there", key.display());
                    return Err(OciError::ClientCertificate { path: certificate, reason });
                }
                endpoint.trust.identities.push((certificate, key));
            }
            for key in with_end("key") {
                let certificate = key.with_extension("cert");
                if !certificate.is_file() {
                    let reason = format!("it is not there, and its key {} is", key.display());
                    return Err(OciError::ClientCertificate { path: certificate, reason });
                }
            }
            if endpoint.registry == endpoint.host {
                break;
            }
        }
    }
    Ok(endpoint)
}

fn list(dir: &Path) -> Result<Vec<PathBuf>, OciError> {
    let entries = match std::fs::read_dir(dir) {
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        other => other.map_err(|source| OciError::ReadSource { path: dir.to_owned(), source })?,
    };
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_found_by_host_and_port() {
        let dir = tempfile::tempdir().unwrap();
        let host = dir.path().join("reg.lan:5000");
        std::fs::create_dir(&host).unwrap();
        for name in ["ca.crt", "me.cert", "me.key", "notes.txt"] {
            std::fs::write(host.join(name), "").unwrap();
        }
        let options = PullOptions { certificate_dirs: vec![dir.path().to_owned()], ..PullOptions::default() };
        let found = places(&"reg.lan:5000/a".parse().unwrap(), &options).unwrap();
        assert_eq!(found[0].trust.authorities, [host.join("ca.crt")]);
        assert_eq!(found[0].trust.identities, [(host.join("me.cert"), host.join("me.key"))]);
        assert!(places(&"reg.lan:5001/a".parse().unwrap(), &options).unwrap()[0].trust.authorities.is_empty());
        for (gone, says) in [("me.key", "me.cert: its key "), ("me.cert", "me.cert: it is not there, and its key ")] {
            std::fs::remove_file(host.join(gone)).unwrap();
            let error = places(&"reg.lan:5000/a".parse().unwrap(), &options).unwrap_err().to_string();
            assert!(error.contains(says) && error.contains("me.key"), "{error}");
            std::fs::write(host.join(gone), "").unwrap();
        }
    }

    #[test]
    fn an_image_that_is_missing_is_looked_for_where_other_tools_would() {
        let dir = tempfile::tempdir().unwrap();
        let conf = dir.path().join("registries.conf");
        std::fs::write(&conf, "unqualified-search-registries = ['r.lan', 'docker.io']\n").unwrap();
        let options = PullOptions { registries_conf: vec![conf], ..PullOptions::default() };
        let told = |name: &str, error| with_other_meanings(error, &name.parse().unwrap(), &options);
        let missing = || OciError::NotFound { reference: "x".to_owned() };
        let error = told("team/app", missing());
        assert!(error.hint().unwrap().contains("r.lan/team/app"), "{error:?}");
        assert!(matches!(error.failure(), OciError::NotFound { .. }), "{error:?}");
        assert!(told("redis", missing()).hint().unwrap().contains("r.lan/redis"));
        assert!(matches!(told("q.lan/redis", missing()), OciError::NotFound { .. }));
        assert!(matches!(told("redis", OciError::WorkerLost), OciError::WorkerLost));
    }

    #[test]
    fn a_blocked_registry_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let conf = dir.path().join("registries.conf");
        std::fs::write(&conf, "[[registry]]\nlocation = 'docker.io'\nblocked = true\n").unwrap();
        let options = PullOptions { registries_conf: vec![conf], ..PullOptions::default() };
        assert!(matches!(places(&"redis".parse().unwrap(), &options), Err(OciError::Blocked { .. })));
    }
}
