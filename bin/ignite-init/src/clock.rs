//! Wall clock and entropy from the host.

use crate::error::{Doing, SetupError};
use rustix::fs::{Mode, OFlags};
use std::os::fd::AsRawFd;

/// Most bytes of entropy that are credited.
const MAX_ENTROPY: usize = 512;

/// Sets the clock to so many nanoseconds since the Unix epoch.
pub fn set(unix_ns: i64) -> Result<(), SetupError> {
    let time = libc::timespec { tv_sec: unix_ns.div_euclid(1_000_000_000), tv_nsec: unix_ns.rem_euclid(1_000_000_000) };
    // SAFETY: the time lives through the call.
    let set = unsafe { libc::clock_settime(libc::CLOCK_REALTIME, &time) };
    if set == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }.doing(|| "set the clock".to_owned())
}

/// Mixes the host's entropy into the pool and credits it.
pub fn add_entropy(entropy: &[u8]) -> Result<(), SetupError> {
    let entropy = &entropy[..entropy.len().min(MAX_ENTROPY)];
    let doing = || "add entropy".to_owned();
    let random = rustix::fs::open("/dev/urandom", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).doing(doing)?;
    // `struct rand_pool_info`: bits, bytes, data.
    let mut pool = [0u32; 2 + MAX_ENTROPY / 4];
    pool[0] = entropy.len() as u32 * 8;
    pool[1] = entropy.len() as u32;
    for (word, bytes) in pool[2..].iter_mut().zip(entropy.chunks(4)) {
        let mut four = [0; 4];
        four[..bytes.len()].copy_from_slice(bytes);
        *word = u32::from_ne_bytes(four);
    }
    // _IOW('R', 3, int[2]); the number is the same on every architecture that Ignite knows.
    const RNDADDENTROPY: u64 = 0x4008_5203;
    // SAFETY: the structure is as long as it says.
    let added = unsafe { libc::ioctl(random.as_raw_fd(), RNDADDENTROPY as _, pool.as_ptr()) };
    if added == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }.doing(doing)
}
