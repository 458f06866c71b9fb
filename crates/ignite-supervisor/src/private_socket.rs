//! Unix sockets that only their user may connect to.

use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use tokio::net::UnixListener;

/// Listens at `path`, with mode 0600. Where there is something already, that is an error.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// The names of a socket, which go when this is dropped.
#[derive(Debug)]
pub struct SocketNames {
    path: PathBuf,
    link: Option<PathBuf>,
}

impl SocketNames {
    /// Listens at `path` like [`bind`], and gives it `link` as another name, for who looks elsewhere: the path of a socket has
    /// 107 bytes at the most. What somebody who was killed has left at either is replaced.
    pub fn bind(path: PathBuf, link: Option<PathBuf>) -> io::Result<(UnixListener, SocketNames)> {
        remove(&path)?;
        let listener = bind(&path)?;
        let names = SocketNames { path, link };
        if let Some(link) = &names.link {
            remove(link)?;
            symlink(&names.path, link)?;
        }
        Ok((listener, names))
    }
}

impl Drop for SocketNames {
    fn drop(&mut self) {
        for name in [Some(&self.path), self.link.as_ref()].into_iter().flatten() {
            let _ = remove(name);
        }
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_replaces_what_was_left_is_private_and_goes_with_its_names() {
        let dir = tempfile::tempdir().unwrap();
        let (path, link) = (dir.path().join("a.sock"), dir.path().join("b.sock"));
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        symlink("/nonexistent", &link).unwrap();
        assert!(bind(&path).is_err());
        let (listener, names) = SocketNames::bind(path.clone(), Some(link.clone())).unwrap();
        let mode = std::fs::metadata(&link).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let (_client, accepted) = tokio::join!(tokio::net::UnixStream::connect(&link), listener.accept());
        accepted.unwrap();
        drop(names);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
