//! What this host can really do for a guest: KVM that can be trusted, and how fast its clock ticks.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

/// The KVM device.
pub const KVM_DEVICE: &str = "/dev/kvm";
/// There when KVM is PVM: it runs on hosts that are guests themselves, and only kernels built for it run under it.
const PVM_MODULE: &str = "/sys/module/kvm_pvm";
/// `KVM_GET_API_VERSION` (`linux/kvm.h`): no argument.
const KVM_GET_API_VERSION: libc::c_ulong = 0xAE00;
/// The only version there has been since Linux 2.6.22.
const KVM_API_VERSION: i32 = 12;

/// Whether KVM can run an ordinary guest kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KvmVerdict {
    /// It can.
    Usable,
    /// It cannot, for this reason: one line for the user.
    Unusable(String),
}

/// What was found out about KVM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvmFacts {
    /// What opening the device gave.
    pub device: KvmDevice,
    /// The module is PVM.
    pub is_pvm: bool,
}

/// What opening [`KVM_DEVICE`] gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KvmDevice {
    /// It is not there.
    Absent,
    /// It is there, and not for this user.
    Denied,
    /// Opening or asking it failed with this `errno`.
    Broken(i32),
    /// It answered with this API version.
    Answers(i32),
}

/// Looks at KVM and judges it.
pub fn kvm() -> KvmVerdict {
    judge_kvm(probe_kvm())
}

/// Judges KVM by what was found out about it.
pub fn judge_kvm(facts: KvmFacts) -> KvmVerdict {
    let reason = match facts.device {
        KvmDevice::Absent => format!("this host has no {KVM_DEVICE}"),
        KvmDevice::Denied => format!("no permission to open {KVM_DEVICE}; add the user to the group that owns it"),
        KvmDevice::Broken(errno) => format!("{KVM_DEVICE} does not work: {}", io::Error::from_raw_os_error(errno)),
        KvmDevice::Answers(KVM_API_VERSION) if facts.is_pvm => {
            "this host's KVM is PVM, under which ordinary guest kernels do not run".to_owned()
        }
        KvmDevice::Answers(KVM_API_VERSION) => return KvmVerdict::Usable,
        KvmDevice::Answers(version) => format!("{KVM_DEVICE} speaks version {version}, not {KVM_API_VERSION}"),
    };
    KvmVerdict::Unusable(reason)
}

/// Finds out about KVM; under a millisecond.
pub fn probe_kvm() -> KvmFacts {
    KvmFacts { device: probe_device(), is_pvm: Path::new(PVM_MODULE).exists() }
}

fn probe_device() -> KvmDevice {
    match OpenOptions::new().read(true).write(true).open(KVM_DEVICE) {
        Ok(device) => api_version(&device),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound => KvmDevice::Absent,
            io::ErrorKind::PermissionDenied => KvmDevice::Denied,
            _ => KvmDevice::Broken(error.raw_os_error().unwrap_or(libc::EIO)),
        },
    }
}

fn api_version(device: &File) -> KvmDevice {
    // SAFETY: the descriptor is open for the whole call, and this request takes no argument and writes no memory.
    let version = unsafe { libc::ioctl(device.as_raw_fd(), KVM_GET_API_VERSION as _, 0) };
    if version < 0 {
        return KvmDevice::Broken(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO));
    }
    KvmDevice::Answers(version)
}

/// How long the time stamp counter is compared with the clock when nothing says its rate.
#[cfg(target_arch = "x86_64")]
const TSC_MEASUREMENT: Duration = Duration::from_millis(20);

/// Rate of this CPU's time stamp counter in kHz, from the first that knows it: sysfs, CPUID, `/proc/cpuinfo` where its
/// figure is the counter's, and else a measurement (which blocks for 20 ms). `None` where there is no such counter or it
/// is not constant.
pub fn tsc_khz() -> Option<u32> {
    #[cfg(target_arch = "x86_64")]
    {
        let sysfs = fs::read_to_string("/sys/devices/system/cpu/cpu0/tsc_freq_khz").ok();
        if let Some(khz) = sysfs.and_then(|text| text.trim().parse().ok()).and_then(plausible_khz) {
            return Some(khz);
        }
        let cpu_info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        if !has_flag(&cpu_info, "constant_tsc") {
            return None;
        }
        cpuid_khz().or_else(|| cpu_info_khz(&cpu_info)).or_else(measured_khz)
    }
    #[cfg(not(target_arch = "x86_64"))]
    None
}

/// Rates outside of this are misread, not real.
#[cfg(any(target_arch = "x86_64", test))]
fn plausible_khz(khz: u64) -> Option<u32> {
    (100_000..=20_000_000).contains(&khz).then_some(khz as u32)
}

#[cfg(any(target_arch = "x86_64", test))]
fn has_flag(cpu_info: &str, flag: &str) -> bool {
    let flags = cpu_info.lines().find(|line| line.starts_with("flags"));
    flags.is_some_and(|line| line.split_ascii_whitespace().any(|word| word == flag))
}

/// `cpu MHz` is the counter's rate only where the kernel cannot read the core's real one (`aperfmperf`).
#[cfg(any(target_arch = "x86_64", test))]
fn cpu_info_khz(cpu_info: &str) -> Option<u32> {
    if has_flag(cpu_info, "aperfmperf") {
        return None;
    }
    let line = cpu_info.lines().find(|line| line.starts_with("cpu MHz"))?;
    let mhz: f64 = line.split(':').nth(1)?.trim().parse().ok()?;
    plausible_khz((mhz * 1000.0).round() as u64)
}

/// Leaf 0x15 (crystal and ratio), else what a hypervisor says (leaf 0x40000010).
#[cfg(target_arch = "x86_64")]
fn cpuid_khz() -> Option<u32> {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    let highest = __cpuid(0).eax;
    if highest >= 0x15 {
        let leaf = __cpuid_count(0x15, 0);
        if leaf.eax != 0 && leaf.ecx != 0 {
            return plausible_khz(u64::from(leaf.ecx) * u64::from(leaf.ebx) / u64::from(leaf.eax) / 1000);
        }
    }
    let is_guest = __cpuid(1).ecx & (1 << 31) != 0;
    if is_guest && __cpuid(0x4000_0000).eax >= 0x4000_0010 {
        return plausible_khz(u64::from(__cpuid(0x4000_0010).eax));
    }
    None
}

#[cfg(target_arch = "x86_64")]
fn measured_khz() -> Option<u32> {
    use std::time::Instant;
    let sample = || {
        // SAFETY: RDTSC exists on every x86-64 CPU and touches no memory.
        (Instant::now(), unsafe { core::arch::x86_64::_rdtsc() })
    };
    let (started, first) = sample();
    std::thread::sleep(TSC_MEASUREMENT);
    let (ended, last) = sample();
    let nanoseconds = ended.duration_since(started).as_nanos();
    let khz = u128::from(last.wrapping_sub(first)) * 1_000_000 / nanoseconds.max(1);
    plausible_khz(u64::try_from(khz).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kvm_is_judged_by_what_was_found() {
        let unusable = |device, is_pvm| match judge_kvm(KvmFacts { device, is_pvm }) {
            KvmVerdict::Unusable(reason) => reason,
            KvmVerdict::Usable => String::new(),
        };
        for (device, is_pvm, reason) in [
            (KvmDevice::Answers(12), false, ""),
            (KvmDevice::Answers(12), true, "PVM"),
            (KvmDevice::Answers(11), false, "version 11"),
            (KvmDevice::Absent, false, "no /dev/kvm"),
            (KvmDevice::Denied, true, "permission"),
            (KvmDevice::Broken(libc::ENODEV), false, "does not work"),
        ] {
            let said = unusable(device, is_pvm);
            assert!(said.contains(reason) && said.is_empty() == reason.is_empty(), "{device:?}: {said}");
            assert!(!said.contains('\n'));
        }
    }

    #[test]
    fn cpu_info_tells_the_rate_only_where_it_is_the_counters() {
        let cpu_info =
            |flags: &str, mhz: &str| format!("processor\t: 0\ncpu MHz\t\t: {mhz}\nflags\t\t: fpu {flags} sse\n");
        for (flags, mhz, expected) in [
            ("constant_tsc", "2596.124", Some(2_596_124)),
            ("constant_tsc aperfmperf", "800.0", None),
            ("constant_tsc", "nonsense", None),
            ("constant_tsc", "1.0", None),
            ("constant_tsc", "-2596", None),
        ] {
            assert_eq!(cpu_info_khz(&cpu_info(flags, mhz)), expected, "{flags} {mhz}");
        }
        assert_eq!(cpu_info_khz(""), None);
        assert!(!has_flag(&cpu_info("nonstop_constant_tsc", "1"), "constant_tsc"));
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn measured_and_told_rates_agree() {
        let (Some(told), Some(measured)) = (tsc_khz(), measured_khz()) else {
            return;
        };
        let difference = told.abs_diff(measured);
        assert!(difference < told / 100, "told {told} kHz, measured {measured} kHz");
    }
}
