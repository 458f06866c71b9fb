//! Where an image is asked for: mirrors first, the registry itself last, each with what it needs to be trusted.

use super::endpoint::{Endpoint, Trust};
use super::hosts_toml::{HostEntry, read_hosts};
use super::registries_conf::{RegistriesConf, Route};
use crate::{OciError, PullOptions};
use ignite_api::ImageReference;
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
    // What Docker completes to its own hub; `library/` is never written.
    let short = (reference.registry == "docker.io")
        .then(|| reference.repository.strip_prefix("library/").unwrap_or(&reference.repository));
    match conf.route(&name, short, reference.digest.is_some()) {
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
    fn a_blocked_registry_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let conf = dir.path().join("registries.conf");
        std::fs::write(&conf, "[[registry]]\nlocation = 'docker.io'\nblocked = true\n").unwrap();
        let options = PullOptions { registries_conf: vec![conf], ..PullOptions::default() };
        assert!(matches!(places(&"redis".parse().unwrap(), &options), Err(OciError::Blocked { .. })));
    }
}
