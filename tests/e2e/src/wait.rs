//! Waiting for a condition of the outside world, with a deadline that names itself.

use std::time::{Duration, Instant};

/// How long a boot, or anything that contains one, may take on a slow and busy host without KVM.
pub const BOOT: Duration = Duration::from_secs(180);

/// How long something without a boot may take.
pub const QUICK: Duration = Duration::from_secs(60);

/// Waits until `probe` gives a value. The conditions are other processes' (a phase, a port, a file), which give no event
/// to a stranger, so this looks again after a short pause.
///
/// # Panics
/// When `limit` has passed: with `what`.
pub fn until<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(started.elapsed() < limit, "waited {} s in vain for: {what}", limit.as_secs());
        std::thread::sleep(Duration::from_millis(20));
    }
}
