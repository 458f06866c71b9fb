//! The real Firecracker that `IGNITE_TEST_FIRECRACKER` names, and a machine of the tiny guest for it.

use crate::tiny_guest::tiny_guest;
use ignite_vmm::firecracker::FirecrackerDriver;
use ignite_vmm::BootSpec;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

/// Names the program.
pub const FIRECRACKER: &str = "IGNITE_TEST_FIRECRACKER";

/// Its driver; `None`, told, where there is none.
#[allow(clippy::print_stderr, reason = "a skipped test says why")]
pub fn driver() -> Option<FirecrackerDriver> {
    match (std::env::var_os(FIRECRACKER), tiny_guest()) {
        (None, _) => eprintln!("SKIPPED: {FIRECRACKER} names no Firecracker"),
        (Some(_), None) => eprintln!("SKIPPED: gcc cannot build the tiny guest here"),
        (Some(program), Some(_)) => return Some(FirecrackerDriver::at(program)),
    }
    None
}

/// A machine that prints its command line and hangs. Machines of one host never share an id: their control groups are
/// named by it.
pub fn spec(dir: &Path) -> BootSpec {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let (_, kernel) = tiny_guest().unwrap();
    std::fs::write(dir.join("initramfs"), "unused").unwrap();
    let id = format!("real-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let machine = BootSpec::new(id, kernel, dir.join("initramfs"));
    BootSpec { cmdline: "do=hang".into(), mem_size_mib: 64, ..machine }
}
