//! The initramfs: the guest's init and the kernel modules it needs to find its disks.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use crate::DiskError;
use crate::ext4::{ImageFile, Visibility};
use crate::initrd;
use crate::kernel::{BOOT_MODULES, BOOT_ORDER};

/// Directories that an init mounts things on.
const DIRECTORIES: [&str; 8] = ["dev", "proc", "sys", "run", "tmp", "newroot", "root", "modules"];
const DIR: u32 = 0o040755;
const FILE: u32 = 0o100644;
const PROGRAM: u32 = 0o100755;
const CHAR_DEVICE: u32 = 0o020600;
/// Modules of a boot set; imports write about thirty.
const MAX_MODULES: usize = 512;

/// Writes the initramfs of the kernel imported to `kernel_dir`, with `init_program` as `/init`, to `dest`.
///
/// An uncompressed newc cpio archive (Documentation/driver-api/early-userspace/buffer-format.rst): `/init` (0755), the
/// modules `/modules/NN-name.ko` with `/modules/order` naming them in loading order, one per line, empty directories to
/// mount on, and `/dev/console`. Uncompressed because inflating costs a guest more than the host's page cache does. The
/// kernel's own initrd, where one was imported with it, stands before all this: `/init` is ours whatever that holds. The
/// same input gives the same bytes; the file appears under its name complete, or not at all.
pub fn write_initramfs(kernel_dir: &Path, init_program: &[u8], dest: &Path) -> Result<(), DiskError> {
    let modules_dir = kernel_dir.join(BOOT_MODULES);
    let order_path = modules_dir.join(BOOT_ORDER);
    let order =
        fs::read_to_string(&order_path).map_err(|source| DiskError::ReadFile { path: order_path.clone(), source })?;

    let mut archive = Archive { image: ImageFile::create(dest)?, len: 0, inode: 0 };
    archive.add_initrd(&initrd::kept(kernel_dir))?;
    for directory in DIRECTORIES {
        archive.add(directory, DIR, (0, 0), b"")?;
    }
    archive.add("dev/console", CHAR_DEVICE, (5, 1), b"")?;
    archive.add("init", PROGRAM, (0, 0), init_program)?;
    archive.add("modules/order", FILE, (0, 0), order.as_bytes())?;
    for (count, name) in order.lines().enumerate() {
        if count >= MAX_MODULES || name.is_empty() || name.contains('/') {
            let reason = format!("its list of modules is damaged at {name:?}");
            return Err(DiskError::BadKernel { path: order_path, reason });
        }
        let path = modules_dir.join(name);
        let content = fs::read(&path).map_err(|source| DiskError::ReadFile { path, source })?;
        archive.add(&format!("modules/{name}"), FILE, (0, 0), &content)?;
    }
    archive.add("TRAILER!!!", 0, (0, 0), b"")?;
    let Archive { image, len, .. } = archive;
    image.publish(len, Visibility::Shared)
}

struct Archive {
    image: ImageFile,
    len: u64,
    inode: u32,
}

impl Archive {
    fn add(&mut self, name: &str, mode: u32, device: (u32, u32), content: &[u8]) -> Result<(), DiskError> {
        self.inode += 1;
        let links = if mode & 0o170000 == 0o040000 { 2 } else { 1 };
        // Inode, mode, owner, group, links, time, size, device, device of a node, name's length, checksum.
        let fields = [
            self.inode,
            mode,
            0,
            0,
            links,
            0,
            content.len() as u32,
            0,
            0,
            device.0,
            device.1,
            name.len() as u32 + 1,
            0,
        ];
        let mut header = String::from("070701");
        for field in fields {
            header.push_str(&format!("{field:08x}"));
        }
        self.append(header.as_bytes())?;
        self.append(name.as_bytes())?;
        self.append(b"\0")?;
        self.align()?;
        self.append(content)?;
        self.align()
    }

    fn add_initrd(&mut self, path: &Path) -> Result<(), DiskError> {
        let failed = |source| DiskError::ReadFile { path: path.into(), source };
        let mut initrd = match File::open(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(failed)?,
        };
        let mut buffer = vec![0; 256 << 10];
        loop {
            match initrd.read(&mut buffer).map_err(failed)? {
                0 => return self.align(),
                count => self.append(&buffer[..count])?,
            }
        }
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), DiskError> {
        self.image.write_at(self.len, bytes)?;
        self.len += bytes.len() as u64;
        Ok(())
    }

    fn align(&mut self) -> Result<(), DiskError> {
        let padding = self.len.next_multiple_of(4) - self.len;
        self.append(&[0; 4][..padding as usize])
    }
}
