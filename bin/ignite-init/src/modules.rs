//! Loads the kernel modules of the initramfs in the order it lists them.

use rustix::fs::{Mode, OFlags};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// Directory of the modules in the initramfs.
pub const DIRECTORY: &str = "/modules";

const MODULE_INIT_COMPRESSED_FILE: libc::c_int = 4;

/// Loads every module of `/modules/order`; one that is there already is fine. Returns what failed, for the log: a module
/// that matters shows as a missing device.
pub fn load_all() -> Vec<String> {
    let order = match std::fs::read_to_string(Path::new(DIRECTORY).join("order")) {
        Ok(order) => order,
        // A kernel with everything built in.
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(e) => return vec![format!("read {DIRECTORY}/order: {e}")],
    };
    let failed = |path: PathBuf| load(&path).err().map(|e| format!("load {}: {e}", path.display()));
    parse_order(&order).into_iter().filter_map(failed).collect()
}

/// One path a line, relative to `/modules`; empty lines and `#` comments are skipped.
fn parse_order(order: &str) -> Vec<PathBuf> {
    let lines = order.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| Path::new(DIRECTORY).join(line)).collect()
}

fn load(path: &Path) -> io::Result<()> {
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let is_compressed = path.extension().is_some_and(|extension| extension != "ko");
    let flags = if is_compressed { MODULE_INIT_COMPRESSED_FILE } else { 0 };
    // SAFETY: the descriptor and the empty parameter string live through the call.
    let loaded = unsafe { libc::syscall(libc::SYS_finit_module, file.as_raw_fd(), c"".as_ptr(), flags) };
    match loaded {
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
}
