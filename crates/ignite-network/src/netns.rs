//! Named network namespaces, as `ip netns` has them: made, entered by a thread, and deleted.

use crate::NetworkError;
use crate::cni::io_error;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_bind, mount_bind_recursive, mount_change, unmount};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Where named namespaces are, for us and for `ip netns`.
const DIRECTORY: &str = "/run/netns";
/// The calling thread's own.
const OWN: &str = "/proc/thread-self/ns/net";
/// `NSFS_MAGIC` (`linux/magic.h`).
const NSFS_MAGIC: u64 = 0x6e73_6673;

/// The namespace of a VM.
pub(crate) fn path_of(vm_uid: &str) -> PathBuf {
    Path::new(DIRECTORY).join(format!("ignite-{vm_uid}"))
}

/// Container ids of the VMs that have a namespace here.
pub(crate) fn named_after_vms() -> Vec<String> {
    let entries = fs::read_dir(DIRECTORY).into_iter().flatten().flatten();
    let names =
        entries.filter(|entry| is_there(&entry.path())).filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.starts_with("ignite-")).collect()
}

/// Whether the path is a namespace: neither missing nor a file that one was mounted on before the host was rebooted.
pub(crate) fn is_there(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|found| found.f_type as u64 == NSFS_MAGIC)
}

/// Makes a namespace in which only loopback is up. One that is there already is an error.
pub(crate) async fn create(path: &Path) -> Result<(), NetworkError> {
    ensure_directory().map_err(io_error("prepare", Path::new(DIRECTORY)))?;
    let failed = io_error("make the network namespace", path);
    let target = path.to_owned();
    let made = in_thread(move || {
        OpenOptions::new().create_new(true).write(true).mode(0o444).open(&target)?;
        // SAFETY: concerns this thread only, which ends with this function.
        let unshared = unsafe { libc::unshare(libc::CLONE_NEWNET) };
        let mounted =
            if unshared < 0 { Err(io::Error::last_os_error()) } else { mount_bind(OWN, &target).map_err(Into::into) };
        if mounted.is_err() {
            let _ = fs::remove_file(&target);
        }
        mounted?;
        bring_loopback_up()
    });
    made.await.map_err(failed)
}

/// Deletes a namespace and what is in it; one that is not there is no error.
pub(crate) fn delete(path: &Path) -> Result<(), NetworkError> {
    match unmount(path, UnmountFlags::DETACH) {
        // EINVAL: a file without a mount, as after a reboot.
        Ok(()) | Err(Errno::NOENT | Errno::INVAL) => {}
        Err(errno) => return Err(io_error("unmount", path)(errno.into())),
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Does blocking work in a namespace, in a thread of its own.
pub(crate) async fn inside<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce() -> Result<T, NetworkError> + Send + 'static,
) -> Result<T, NetworkError> {
    let target = path.to_owned();
    let entered = in_thread(move || {
        let namespace = File::open(&target)?;
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        Ok(work())
    });
    entered.await.map_err(io_error("enter", path))?
}

async fn in_thread<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().name("netns".into()).spawn(move || {
        let _ = sender.send(work());
    })?;
    receiver.await.unwrap_or_else(|_| Err(io::Error::other("the thread ended without an answer")))
}

/// Makes the directory a shared mount, as `ip netns add` does, so that namespaces made here are seen, and deleted, in
/// every mount namespace that shares it. The lock is the one `ip` takes.
fn ensure_directory() -> io::Result<()> {
    fs::create_dir_all(DIRECTORY)?;
    let directory = rustix::fs::open(DIRECTORY, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::fs::flock(&directory, FlockOperation::LockExclusive)?;
    let share = || mount_change(DIRECTORY, MountPropagationFlags::SHARED | MountPropagationFlags::REC);
    match share() {
        // It is no mount yet.
        Err(Errno::INVAL) => {
            mount_bind_recursive(DIRECTORY, DIRECTORY)?;
            Ok(share()?)
        }
        result => Ok(result?),
    }
}

fn bring_loopback_up() -> io::Result<()> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: an all-zero `ifreq` is a valid one.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    let fd = std::os::fd::AsRawFd::as_raw_fd(&socket);
    // SAFETY: SIOCSIFFLAGS reads the request, which outlives the call.
    if unsafe { libc::ioctl(fd, libc::SIOCSIFFLAGS as _, &request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
