//! The guest of the contract suite: a kernel of a few hundred bytes, built from `guest.c`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Names a directory where the guest is already, for those who cannot write where it is built.
pub const BUILT: &str = "IGNITE_TEST_TINY_GUEST";

/// The guest as a 32-bit image, and as a 64-bit one, which is all that Firecracker loads; the code is the same. Built once;
/// `None` where that is not possible.
pub fn tiny_guest() -> Option<&'static (PathBuf, PathBuf)> {
    static GUEST: OnceLock<Option<(PathBuf, PathBuf)>> = OnceLock::new();
    // In the build's own directory: nobody is there at the end of a test program to remove it.
    let built = std::env::var_os(BUILT).map(|dir| (Path::new(&dir).join("guest"), Path::new(&dir).join("guest64")));
    GUEST.get_or_init(|| built.or_else(|| build(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("tiny-guest")))).as_ref()
}

fn build(dir: &Path) -> Option<(PathBuf, PathBuf)> {
    std::fs::create_dir_all(dir).ok()?;
    // Another run may read what is there.
    let made = |name: &str| dir.join(format!("{name}.{}", std::process::id()));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tiny_guest/guest.c");
    let compiled = Command::new("gcc")
        .args(["-m32", "-O1", "-ffreestanding", "-fno-pic", "-fno-stack-protector", "-fcf-protection=none"])
        .args(["-fno-asynchronous-unwind-tables", "-nostdlib", "-static", "-Wl,--build-id=none"])
        .args(["-Wl,-Ttext-segment=0x200000", "-Wl,-e,start", "-o"])
        .args([&made("guest"), &source])
        .status();
    let converted = Command::new("objcopy")
        .args(["-I", "elf32-i386", "-O", "elf64-x86-64"])
        .args([&made("guest"), &made("guest64")])
        .status();
    let is_done = |status: std::io::Result<std::process::ExitStatus>| status.is_ok_and(|status| status.success());
    if !is_done(compiled) || !is_done(converted) {
        return None;
    }
    for name in ["guest", "guest64"] {
        std::fs::rename(made(name), dir.join(name)).ok()?;
    }
    Some((dir.join("guest"), dir.join("guest64")))
}
