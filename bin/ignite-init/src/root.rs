//! Mounts the root file system and makes it `/`.

use crate::devices::{Uevents, find_disk};
use crate::direct;
use crate::error::{Doing, SetupError};
use crate::rooted::Rooted;
use ignite_agent_protocol::message::{Disk, Root};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::mount::{MountFlags, mount, mount_bind, mount_move, mount_remount};
use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Where the root is put together, in the initramfs.
pub const NEW_ROOT: &str = "/newroot";
const BASE: &str = "/base";
const WRITABLE: &str = "/writable";
const MODULES_DISK: &str = "/modules-disk";

/// Mounted disks that stay below the root; remounted read-only at the end.
#[derive(Debug, Default)]
pub struct Disks {
    writable: Vec<OwnedFd>,
}

impl Disks {
    /// One more, by its mount.
    pub fn add_writable(&mut self, mounted: OwnedFd) {
        self.writable.push(mounted);
    }

    /// Makes every writable file system clean: nothing can be lost any more. Best effort; the journal covers the rest.
    pub fn remount_read_only(&self) {
        let _ = mount_remount("/", MountFlags::RDONLY, c"");
        for disk in &self.writable {
            let _ = mount_remount(format!("/proc/self/fd/{}", disk.as_raw_fd()), MountFlags::RDONLY, c"");
        }
    }
}

/// Mounts the root at [`NEW_ROOT`].
///
/// A task gets only those of the directories beside the overlay that its image has; in a machine anything may be
/// installed later.
pub fn mount_root(root: &Root, is_task: bool, uevents: &Uevents) -> Result<Disks, SetupError> {
    match root {
        Root::Private { disk } => {
            let mounted = mount_disk(disk, NEW_ROOT, MountFlags::empty(), uevents)?;
            Ok(Disks { writable: vec![mounted] })
        }
        Root::Overlay { base, writable, direct_dirs } => {
            mount_disk(base, BASE, MountFlags::RDONLY, uevents)?;
            let disk = mount_disk(writable, WRITABLE, MountFlags::empty(), uevents)?;
            mount_overlay()?;
            let new_root = Rooted::open(Path::new(NEW_ROOT)).doing(|| "open the root".to_owned())?;
            for directory in direct_dirs {
                let is_there = new_root.open_at(Path::new(directory), OFlags::PATH, Mode::empty()).is_ok();
                if is_task && !is_there {
                    continue;
                }
                direct::mount(&new_root, Path::new(WRITABLE), directory)?;
            }
            Ok(Disks { writable: vec![disk] })
        }
    }
}

fn mount_disk(disk: &Disk, target: &str, flags: MountFlags, uevents: &Uevents) -> Result<OwnedFd, SetupError> {
    let what = match disk {
        Disk::Serial(serial) => format!("disk {serial}"),
        Disk::Index(index) => format!("disk number {index}"),
        Disk::Pmem(index) => format!("persistent memory number {index}"),
    };
    let device = uevents.wait_for(&what, || find_disk(disk))?;
    let doing = || format!("mount {what} ({})", device.display());
    ensure_initramfs_dir(target)?;
    let mounted = match disk {
        // The host's pages themselves, with no copy in the guest's cache; an ext4 or a kernel that cannot mounts as ever.
        Disk::Pmem(_) => {
            mount(&device, target, "ext4", flags, Some(c"dax")).or_else(|_| mount(&device, target, "ext4", flags, None))
        }
        Disk::Serial(_) | Disk::Index(_) => mount(&device, target, "ext4", flags, None),
    };
    mounted.doing(doing)?;
    rustix::fs::open(target, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).doing(doing)
}

fn ensure_initramfs_dir(path: &str) -> Result<(), SetupError> {
    std::fs::create_dir_all(path).doing(|| format!("make {path}"))
}

fn mount_overlay() -> Result<(), SetupError> {
    ensure_initramfs_dir(NEW_ROOT)?;
    let upper = Path::new(WRITABLE).join("upper");
    if !upper.exists() {
        make_upper(&upper)?;
    }
    let work = Path::new(WRITABLE).join("work");
    std::fs::create_dir_all(&work).doing(|| format!("make {}", work.display()))?;
    let options = |more: &str| {
        CString::new(format!("lowerdir={BASE},upperdir={WRITABLE}/upper,workdir={WRITABLE}/work{more}"))
            .unwrap_or_default()
    };
    // With redirects a directory of the base can be renamed; without, rename(2) answers EXDEV as in a container.
    let with_redirect = options(",redirect_dir=on");
    let mounted = mount("overlay", NEW_ROOT, "overlay", MountFlags::empty(), Some(with_redirect.as_c_str()));
    let mounted = match mounted {
        Err(rustix::io::Errno::INVAL) => {
            let plain = options("");
            mount("overlay", NEW_ROOT, "overlay", MountFlags::empty(), Some(plain.as_c_str()))
        }
        mounted => mounted,
    };
    mounted.doing(|| "mount the overlay of base and writable disk".to_owned())
}

/// Makes the upper directory with the base root's owner and mode, which the merged root takes from it; under another name
/// first, so that it is whole when it exists.
fn make_upper(upper: &Path) -> Result<(), SetupError> {
    let doing = || format!("make {}", upper.display());
    let new = upper.with_extension("new");
    std::fs::create_dir_all(&new).doing(doing)?;
    let base = rustix::fs::stat(BASE).doing(doing)?;
    let owner = (rustix::fs::Uid::from_raw(base.st_uid), rustix::fs::Gid::from_raw(base.st_gid));
    rustix::fs::chown(&new, Some(owner.0), Some(owner.1)).doing(doing)?;
    rustix::fs::chmod(&new, Mode::from_raw_mode(base.st_mode & 0o7777)).doing(doing)?;
    std::fs::rename(&new, upper).doing(doing)
}

/// Mounts the kernel's modules, from their own disk, at `/lib/modules/<release>` of the new root.
pub fn mount_modules(disk: &Disk, new_root: &Rooted, uevents: &Uevents) -> Result<(), SetupError> {
    mount_disk(disk, MODULES_DISK, MountFlags::RDONLY, uevents)?;
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let target = PathBuf::from("/lib/modules").join(&release);
    let source = Path::new(MODULES_DISK).join("lib/modules").join(&release);
    let doing = || format!("mount the modules of {release} at {}", target.display());
    new_root.enter(&target, 0o755).doing(doing)?;
    let mounted = mount_bind(&source, ".").doing(doing);
    rustix::process::chdir("/").doing(doing)?;
    mounted
}

/// Mounts what a running system expects below the new root. `/proc`, `/sys` and `/dev` move there.
pub fn mount_system(new_root: &Rooted, is_task: bool) -> Result<(), SetupError> {
    for moved in ["/proc", "/sys", "/dev"] {
        let doing = || format!("move {moved} into the root");
        new_root.enter(Path::new(moved), 0o755).doing(doing)?;
        mount_move(moved, ".").doing(doing)?;
    }
    let kernel = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let shared = MountFlags::NOSUID | MountFlags::NODEV;
    let terminals = MountFlags::NOSUID | MountFlags::NOEXEC;
    let (task, machine) = (is_task, !is_task);
    // Source, target, type, flags, options, wanted, may be missing from the kernel. A task's /run is the image's, as in a
    // container; a machine's is where its init tells the agent that it is there (`init_ready`).
    let table = [
        ("devpts", "/dev/pts", "devpts", terminals, c"gid=5,mode=620,ptmxmode=666", true, false),
        ("shm", "/dev/shm", "tmpfs", shared, c"mode=1777", true, false),
        ("mqueue", "/dev/mqueue", "mqueue", kernel, c"", true, true),
        ("tmpfs", "/run", "tmpfs", shared, c"mode=755", machine, false),
        ("cgroup2", "/sys/fs/cgroup", "cgroup2", kernel, c"nsdelegate", task, true),
    ];
    for (source, target, kind, flags, options, is_wanted, is_optional) in table {
        if !is_wanted {
            continue;
        }
        let doing = || format!("mount {kind} at {target}");
        let entered = new_root.enter(Path::new(target), 0o755);
        let mounted = entered.and_then(|()| Ok(mount(source, ".", kind, flags, Some(options))?));
        match mounted {
            Err(_) if is_optional => {}
            mounted => mounted.doing(doing)?,
        }
    }
    rustix::process::chdir("/").doing(|| "leave the root".to_owned())?;
    link_devices(new_root)
}

fn link_devices(new_root: &Rooted) -> Result<(), SetupError> {
    let links = [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ];
    let doing = || "link the standard devices".to_owned();
    let dev = new_root.open_at(Path::new("/dev"), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).doing(doing)?;
    for (name, target) in links {
        match rustix::fs::symlinkat(target, &dev, name) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(e) => return Err(e).doing(doing),
        }
    }
    Ok(())
}

/// Frees the initramfs and makes the new root `/`, as switch_root(8).
pub fn switch() -> Result<(), SetupError> {
    let doing = || "switch to the root file system".to_owned();
    let initramfs = rustix::fs::open("/", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let initramfs = initramfs.doing(doing)?;
    rustix::process::chdir(NEW_ROOT).doing(doing)?;
    empty(&initramfs);
    mount_move(".", "/").doing(doing)?;
    rustix::process::chroot(".").doing(doing)?;
    rustix::process::chdir("/").doing(doing)
}

/// Removes everything on the file system of `directory`, to free its memory; other file systems mounted there stay.
fn empty(directory: &OwnedFd) {
    let Ok(home) = rustix::fs::fstat(directory) else { return };
    let Ok(entries) = rustix::fs::Dir::read_from(directory) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let Ok(stat) = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        if stat.st_dev != home.st_dev {
            continue;
        }
        if rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Directory {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            if let Ok(inner) = rustix::fs::openat(directory, name, flags, Mode::empty()) {
                empty(&inner);
            }
            let _ = rustix::fs::unlinkat(directory, name, AtFlags::REMOVEDIR);
        } else {
            let _ = rustix::fs::unlinkat(directory, name, AtFlags::empty());
        }
    }
}
