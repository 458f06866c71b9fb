//! What a live VM takes of its host, read from the kernel's account of its VMM.

use ignite_api::{Uid, Vm};
use ignite_store::Paths;
use ignite_vmm::VmmCounters;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// Bytes of a block as `st_blocks` counts (stat(2)).
const BLOCK: u64 = 512;

/// What a VM takes of its host.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// Processor time of the VMM, and so of the guest.
    pub cpu: Duration,
    /// Resident memory of the VMM, in bytes: guest memory that has been touched, and the VMM's own.
    pub memory_bytes: u64,
    /// Bytes the VMM has read from disks.
    pub read_bytes: u64,
    /// Bytes the VMM has written to disks.
    pub written_bytes: u64,
    /// What the guest has received and sent, where the VM has a network of its own on the host (CNI).
    pub network: Option<NetworkUsage>,
    /// What the VMM itself counts, where it does (Firecracker).
    pub counters: Option<VmmCounters>,
}

impl Usage {
    /// What a VM takes; `None`: it does not run, or is about to end. Blocks for some reads below `/proc`.
    pub fn of_vm(vm: &Vm, paths: &Paths) -> Option<Usage> {
        let uid = vm.metadata.uid.as_ref().filter(|_| vm.status.phase.is_live())?;
        let run_dir = paths.run_vm(uid);
        let pid = crate::vmm_record::pid(&run_dir)?;
        let proc = Path::new("/proc").join(pid.to_string());
        let is_cni = vm.status.network.as_ref().is_some_and(|network| network.plugin.starts_with("cni"));
        Some(Usage {
            cpu: cpu(&fs::read_to_string(proc.join("stat")).ok()?)?,
            memory_bytes: memory(&fs::read_to_string(proc.join("statm")).ok()?)?,
            network: is_cni.then(|| network(&fs::read_to_string(proc.join("net/dev")).ok()?)).flatten(),
            counters: crate::vmm_counters::read(&run_dir),
            ..io(&fs::read_to_string(proc.join("io")).unwrap_or_default())
        })
    }

    /// Bytes that a VM's writable disk takes of the host, whether it runs or not.
    pub fn of_disk(uid: &Uid, paths: &Paths) -> Option<u64> {
        Some(fs::metadata(paths.vm_disk(uid)).ok()?.blocks() * BLOCK)
    }

    /// Processor time and resident memory of a process: a number, or `self`.
    pub fn of_process(pid: &str) -> Option<(Duration, u64)> {
        let proc = Path::new("/proc").join(pid);
        let cpu = cpu(&fs::read_to_string(proc.join("stat")).ok()?)?;
        Some((cpu, memory(&fs::read_to_string(proc.join("statm")).ok()?)?))
    }
}

/// Bytes by the guest's view.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NetworkUsage {
    /// Bytes received.
    pub received_bytes: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
}

/// proc_pid_stat(5): fields 14 and 15, in clock ticks, after a name that may hold anything.
fn cpu(stat: &str) -> Option<Duration> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    Some(Duration::from_secs_f64(ticks as f64 / per_second as f64))
}

/// proc_pid_statm(5): the second number, in pages.
fn memory(statm: &str) -> Option<u64> {
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// proc_pid_io(5).
fn io(text: &str) -> Usage {
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
    };
    Usage { read_bytes: field("read_bytes"), written_bytes: field("write_bytes"), ..Usage::default() }
}

/// proc_pid_net(5): the taps of the VM's namespace. What a tap sends is what the guest receives.
fn network(text: &str) -> Option<NetworkUsage> {
    let mut usage = NetworkUsage::default();
    for line in text.lines() {
        let Some((name, rest)) = line.split_once(':') else { continue };
        if name.trim() == "lo" || !name.trim().starts_with("tap") && !name.trim().starts_with("vm") {
            continue;
        }
        let numbers: Vec<u64> = rest.split_whitespace().filter_map(|number| number.parse().ok()).collect();
        usage.sent_bytes += numbers.first()?;
        usage.received_bytes += numbers.get(8)?;
    }
    Some(usage)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_accounts_are_read() {
        let stat = "7 (qemu) (x) y) S 1 7 7 0 -1 4194560 10 0 0 0 150 50 0 0 20 0 3 0 100 1000 20";
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        assert_eq!(cpu(stat), Some(Duration::from_secs_f64(200.0 / ticks)));
        assert_eq!(memory("100 3 2 1 0 5 0"), Some(3 * rustix::param::page_size() as u64));
        let usage = io("rchar: 9\nread_bytes: 4096\nwrite_bytes: 8192\ncancelled_write_bytes: 1\n");
        assert_eq!((usage.read_bytes, usage.written_bytes), (4096, 8192));
        let dev = "Inter-|   Receive\n face |bytes\n    lo: 5 0 0 0 0 0 0 0 5 0 0 0 0 0 0 0\n  eth0: 1 0 0 0 0 0 0 0 2 0 0 0 0 0 0 0\n  tap0: 10 0 0 0 0 0 0 0 20 0 0 0 0 0 0 0\n";
        assert_eq!(network(dev), Some(NetworkUsage { received_bytes: 20, sent_bytes: 10 }));
        assert_eq!((cpu(""), memory(""), cpu("1 (a")), (None, None, None));
    }
}
