//! Loads the kernel modules of the initramfs: in the order it lists them, each when it is needed and not before.
//!
//! ```text
//!  at once     what is not below: virtio's buses, the console (the agent's channel), disks, overlayfs, ext4
//!  by device   net, vsock, persistent memory: when the VMM has such a device
//!  machine     button, evdev: a task's PID 1 does not look at the power button
//!  late        rng, balloon, pvpanic: beside the task, when nothing else wants the CPU
//!  on demand   fuse
//! ```
//!
//! Loading a module costs about 10 ms under software emulation; a start that loads all of them is a quarter slower.

use rustix::fs::{Mode, OFlags};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// Directory of the modules in the initramfs.
pub const DIRECTORY: &str = "/modules";

const MODULE_INIT_COMPRESSED_FILE: libc::c_int = 4;
/// Virtio device types (virtio 1.2, section 5).
const VIRTIO_NET: u32 = 1;
const VIRTIO_VSOCK: u32 = 19;
const VIRTIO_PMEM: u32 = 27;

/// When a module is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Before the host is spoken to.
    AtOnce,
    /// As soon as there is a virtio device of this type.
    Device(u32),
    /// Before a machine's init starts.
    Machine,
    /// When there is time.
    Late,
    /// When something asks for it.
    OnDemand,
}

/// The modules that have not been loaded yet, in order.
#[derive(Debug, Default)]
pub struct Modules {
    waiting: Vec<PathBuf>,
}

impl Modules {
    /// Reads the list. A kernel with everything built in has none.
    pub fn read() -> io::Result<Modules> {
        match std::fs::read_to_string(Path::new(DIRECTORY).join("order")) {
            Ok(order) => Ok(Modules { waiting: parse_order(&order) }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Modules::default()),
            Err(e) => Err(e),
        }
    }

    /// Loads what is needed to find the host and the disks. Returns what failed, for the log: a module that matters shows
    /// as a missing device.
    pub fn load_first(&mut self) -> Vec<String> {
        let mut failures = self.load(|when| when == When::AtOnce);
        // The buses are there now, and with them the devices.
        let present = virtio_devices(Path::new("/sys/bus/virtio/devices"));
        failures.extend(self.load(|when| matches!(when, When::Device(kind) if present.contains(&kind))));
        failures
    }

    /// Loads what is needed at this time, in the listed order.
    pub fn load(&mut self, is_wanted: impl Fn(When) -> bool) -> Vec<String> {
        let (now, later) = self.waiting.drain(..).partition(|path| is_wanted(when(path)));
        self.waiting = later;
        let now: Vec<PathBuf> = now;
        now.iter().filter_map(|path| load(path).err().map(|e| format!("load {}: {e}", path.display()))).collect()
    }

    /// Loads what can wait in a process of its own that runs only when nothing else does. The initramfs is gone soon, so
    /// the files are opened now.
    pub fn load_late(&mut self) {
        let (late, rest) = self.waiting.drain(..).partition(|path: &PathBuf| when(path) == When::Late);
        self.waiting = rest;
        let files: Vec<_> = late.iter().filter_map(|path| open(path).ok()).collect();
        // SAFETY: this program has one thread, so the child may do all that the parent may; it only makes system calls.
        unsafe {
            if libc::fork() != 0 {
                return;
            }
            let idle = libc::sched_param { sched_priority: 0 };
            libc::sched_setscheduler(0, libc::SCHED_IDLE, &idle);
            for (file, flags) in &files {
                finit(file, *flags);
            }
            libc::_exit(0);
        }
    }
}

/// When the module in this file is needed; one that is not known is needed at once.
fn when(path: &Path) -> When {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let name = name.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start_matches('-');
    match name.split('.').next().unwrap_or_default().replace('-', "_").as_str() {
        "failover" | "net_failover" | "virtio_net" => When::Device(VIRTIO_NET),
        "vsock" | "vmw_vsock_virtio_transport_common" | "vmw_vsock_virtio_transport" => When::Device(VIRTIO_VSOCK),
        "libnvdimm" | "nd_virtio" | "virtio_pmem" | "nd_btt" | "nd_pmem" => When::Device(VIRTIO_PMEM),
        "button" | "evdev" => When::Machine,
        "virtio_rng" | "rng_core" | "virtio_balloon" | "pvpanic" | "pvpanic_mmio" => When::Late,
        "fuse" => When::OnDemand,
        _ => When::AtOnce,
    }
}

/// Types of the virtio devices in this directory of sysfs.
fn virtio_devices(directory: &Path) -> Vec<u32> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let kinds = entries.filter_map(|entry| {
        let kind = std::fs::read_to_string(entry.path().join("device")).ok()?;
        u32::from_str_radix(kind.trim().trim_start_matches("0x"), 16).ok()
    });
    kinds.collect()
}

/// One path a line, relative to `/modules`; empty lines and `#` comments are skipped.
fn parse_order(order: &str) -> Vec<PathBuf> {
    let lines = order.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| Path::new(DIRECTORY).join(line)).collect()
}

fn open(path: &Path) -> io::Result<(std::os::fd::OwnedFd, libc::c_int)> {
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let is_compressed = path.extension().is_some_and(|extension| extension != "ko");
    Ok((file, if is_compressed { MODULE_INIT_COMPRESSED_FILE } else { 0 }))
}

fn finit(file: &impl AsRawFd, flags: libc::c_int) -> libc::c_long {
    // SAFETY: the descriptor and the empty parameter string live through the call.
    unsafe { libc::syscall(libc::SYS_finit_module, file.as_raw_fd(), c"".as_ptr(), flags) }
}

fn load(path: &Path) -> io::Result<()> {
    let (file, flags) = open(path)?;
    match finit(&file, flags) {
        0 => Ok(()),
        _ => match io::Error::last_os_error() {
            e if e.raw_os_error() == Some(libc::EEXIST) => Ok(()),
            e => Err(e),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_loaded_in_the_listed_order() {
        let order = "virtio_ring.ko\n\n# comment\n kernel/drivers/virtio.ko.zst \nb.ko";
        let expected = ["/modules/virtio_ring.ko", "/modules/kernel/drivers/virtio.ko.zst", "/modules/b.ko"];
        assert_eq!(parse_order(order), expected.map(PathBuf::from));
        assert!(parse_order("").is_empty());
    }

    #[test]
    fn each_module_has_its_time() {
        for (file, expected) in [
            ("/modules/03-virtio_mmio.ko", When::AtOnce),
            ("/modules/05-overlay.ko", When::AtOnce),
            ("/modules/12-virtio_net.ko", When::Device(1)),
            ("/modules/kernel/drivers/net/net_failover.ko.xz", When::Device(1)),
            ("/modules/09-vmw_vsock_virtio_transport.ko", When::Device(19)),
            ("/modules/13-virtio-rng.ko", When::Late),
            ("/modules/14-button.ko", When::Machine),
            ("/modules/19-fuse.ko", When::OnDemand),
            ("/modules/20-somebody-elses.ko", When::AtOnce),
        ] {
            assert_eq!(when(Path::new(file)), expected, "{file}");
        }
    }

    #[test]
    fn devices_are_known_by_their_type() {
        let dir = tempfile::tempdir().unwrap();
        for (name, kind) in [("virtio0", "0x0002\n"), ("virtio1", "0x0013\n"), ("virtio2", "nonsense")] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
            std::fs::write(dir.path().join(name).join("device"), kind).unwrap();
        }
        let mut kinds = virtio_devices(dir.path());
        kinds.sort_unstable();
        assert_eq!(kinds, [2, 19]);
        assert!(virtio_devices(&dir.path().join("none")).is_empty());
    }
}
