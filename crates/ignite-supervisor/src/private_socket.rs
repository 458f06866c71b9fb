//! Unix sockets that only their user may connect to.

use std::future::Future;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

/// Listens at `path`, with mode 0600. Where there is something already, that is an error.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Pause after a connection could not be taken: what is missing, such as a descriptor, is not there again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves each connection by a task of its own, `at_once` of them at a time, until `closed`. Gives those that are still served.
/// `name` is the socket's in the log.
pub(crate) async fn serve<F: Future<Output = ()> + Send + 'static>(
    listener: UnixListener,
    name: &str,
    at_once: usize,
    closed: impl Future,
    handle: impl Fn(UnixStream) -> F,
) -> JoinSet<()> {
    let mut closed = std::pin::pin!(closed);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = &mut closed => return connections,
            accepted = listener.accept(), if connections.len() < at_once => match accepted {
                Ok((stream, _)) => drop(connections.spawn(handle(stream))),
                Err(error) => {
                    tracing::warn!("{name}: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
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
