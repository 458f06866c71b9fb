//! Finds networks in their directories, and writes ours where there is none.

use crate::NetworkError;
use crate::cni::conf::{ConfProblem, MAX_CONF_BYTES, NetworkList};
use crate::cni::io_error;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Most files of a directory that are looked at.
const MAX_FILES: usize = 1024;
/// Name of our own network's file: early, as old Ignite had it.
const DEFAULT_FILE: &str = "10-ignite.conflist";
/// Our own network. `hairpinMode` lets a VM reach its own published ports; 0.4.0 is spoken by every plugin in use.
pub(crate) const DEFAULT_NETWORK: &str = r#"{
  "cniVersion": "0.4.0",
  "name": "ignite-cni-bridge",
  "plugins": [
    {
      "type": "bridge",
      "bridge": "ignite0",
      "isGateway": true,
      "isDefaultGateway": true,
      "hairpinMode": true,
      "ipMasq": true,
      "ipam": { "type": "host-local", "subnet": "10.61.0.0/16" }
    },
    { "type": "portmap", "capabilities": { "portMappings": true } },
    { "type": "firewall" }
  ]
}
"#;

/// A file of configuration and what it says.
pub(crate) type Loaded = (PathBuf, Result<NetworkList, NetworkError>);

/// Every configuration, in the order they count.
pub(crate) fn all(directories: &[PathBuf]) -> Result<Vec<Loaded>, NetworkError> {
    Ok(files(directories)?.into_iter().map(|path| (path.clone(), load(&path))).collect())
}

/// The network of this name, or the first one where none is named. `Ok(None)`: none is named, and none is there.
pub(crate) fn find(directories: &[PathBuf], name: Option<&str>) -> Result<Option<NetworkList>, NetworkError> {
    let mut broken = None;
    let mut known = Vec::new();
    for path in files(directories)? {
        match (load(&path), name) {
            (Ok(list), None) => return Ok(Some(list)),
            (Ok(list), Some(name)) if list.name == name => return Ok(Some(list)),
            (Ok(list), Some(_)) => known.push(list.name),
            // The first one is the one that is meant.
            (Err(error), None) => return Err(error),
            (Err(error), Some(_)) => {
                tracing::warn!("{error}");
                broken = broken.or(Some(error));
            }
        }
    }
    match (name, broken) {
        (None, _) => Ok(None),
        (Some(_), Some(error)) => Err(error),
        (Some(name), None) => Err(NetworkError::NoSuchNetwork { name: name.to_owned(), known }),
    }
}

/// The network of this name, or the first one; ours is written to the last directory where there is none at all.
pub(crate) fn ensure(directories: &[PathBuf], name: Option<&str>) -> Result<NetworkList, NetworkError> {
    if files(directories)?.is_empty() {
        write_default(directories)?;
    }
    match find(directories, name)? {
        Some(list) => Ok(list),
        None => Err(NetworkError::NoSuchNetwork { name: "cni".into(), known: Vec::new() }),
    }
}

fn write_default(directories: &[PathBuf]) -> Result<(), NetworkError> {
    let Some(directory) = directories.last() else { return Ok(()) };
    let path = directory.join(DEFAULT_FILE);
    let draft = directory.join(format!(".{DEFAULT_FILE}.{}", std::process::id()));
    let written = fs::create_dir_all(directory)
        .and_then(|()| File::create(&draft))
        .and_then(|mut file| file.write_all(DEFAULT_NETWORK.as_bytes()))
        .and_then(|()| fs::rename(&draft, &path));
    written.map_err(io_error("write", &path))
}

/// Configuration files in the order they count: directory by directory, in lexical order.
fn files(directories: &[PathBuf]) -> Result<Vec<PathBuf>, NetworkError> {
    let mut all = Vec::new();
    for directory in directories {
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(io_error("read", directory)(error)),
        };
        let paths = entries.take(MAX_FILES).flatten().map(|entry| entry.path());
        let mut found: Vec<PathBuf> = paths.filter(|path| is_configuration(path)).collect();
        found.sort();
        all.extend(found);
    }
    Ok(all)
}

fn is_configuration(path: &Path) -> bool {
    let is_hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
    let has_extension =
        path.extension().is_some_and(|extension| extension == "conf" || extension == "conflist" || extension == "json");
    !is_hidden && has_extension && path.is_file()
}

fn load(path: &Path) -> Result<NetworkList, NetworkError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_CONF_BYTES + 1).read_to_end(&mut bytes))
        .map_err(io_error("read", path))?;
    let parsed = if bytes.len() as u64 > MAX_CONF_BYTES {
        Err(ConfProblem::Json(format!("larger than {MAX_CONF_BYTES} bytes")))
    } else {
        NetworkList::parse(&bytes)
    };
    parsed.map_err(|source| NetworkError::BadNetwork { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    fn conf(name: &str) -> String {
        format!(r#"{{"cniVersion":"1.0.0","name":"{name}","type":"bridge"}}"#)
    }

    fn two_directories() -> (TempDir, Vec<PathBuf>) {
        let root = tempfile::tempdir().unwrap();
        let directories = vec![root.path().join("etc"), root.path().join("data/net.d")];
        fs::create_dir_all(&directories[0]).unwrap();
        (root, directories)
    }

    #[test]
    fn the_first_in_lexical_order_is_the_default() {
        let (_root, directories) = two_directories();
        for (file, name) in
            [("20-b.conflist", "b"), ("10-a.conf", "a"), ("05-no.txt", "no"), (".00-x.conf", "x"), ("30-c.json", "c")]
        {
            fs::write(directories[0].join(file), conf(name)).unwrap();
        }
        assert_eq!(ensure(&directories, None).unwrap().name, "a");
        assert_eq!(ensure(&directories, Some("c")).unwrap().name, "c");
        let error = ensure(&directories, Some("d")).unwrap_err().to_string();
        assert!(error.contains("\"d\"") && error.contains("a, b, c"), "{error}");
        assert!(!directories[1].exists(), "ours is written only where there is none");
    }

    #[test]
    fn ours_is_written_once_where_there_is_none() {
        let (_root, directories) = two_directories();
        assert_eq!(find(&directories, None).unwrap(), None);
        let ours = ensure(&directories, None).unwrap();
        assert_eq!(ours.programs(), ["bridge", "host-local", "portmap", "firewall"]);
        let file = directories[1].join(DEFAULT_FILE);
        fs::write(&file, conf("edited")).unwrap();
        assert_eq!(ensure(&directories, None).unwrap().name, "edited");
        assert_eq!(fs::read_dir(&directories[0]).unwrap().count(), 0, "the host's own directory is only read");
    }

    #[test]
    fn a_broken_file_is_named_where_it_is_in_the_way() {
        let (_root, directories) = two_directories();
        fs::write(directories[0].join("10-broken.conf"), r#"{"name":"a","cniVersion":"7","type":"x"}"#).unwrap();
        fs::write(directories[0].join("20-b.conf"), conf("b")).unwrap();
        assert_eq!(ensure(&directories, Some("b")).unwrap().name, "b");
        for name in [None, Some("c")] {
            let error = ensure(&directories, name).unwrap_err();
            let NetworkError::BadNetwork { path, source } = &error else { panic!("{error}") };
            assert!(path.ends_with("10-broken.conf") && source.to_string().contains("cniVersion"), "{error}");
        }
    }

    #[test]
    fn a_huge_file_is_refused() {
        let (_root, directories) = two_directories();
        fs::write(directories[0].join("a.conf"), vec![b' '; 1 << 21]).unwrap();
        assert!(matches!(find(&directories, None), Err(NetworkError::BadNetwork { .. })));
    }
}
