//! What the guest uses, read from `/proc`.

use ignite_agent_protocol::message::GuestUsage;
use std::{fs, io};

/// Milliseconds of a tick of `/proc/stat`: USER_HZ is 100 on every architecture that we run on.
const TICK_MS: u64 = 10;
/// Bytes of a sector of `/proc/diskstats`, whatever the disk's own are.
const SECTOR: u64 = 512;

/// Reads it all.
pub fn read() -> io::Result<GuestUsage> {
    let mut usage = GuestUsage::default();
    add_cpus(&fs::read_to_string("/proc/stat")?, &mut usage);
    add_memory(&fs::read_to_string("/proc/meminfo")?, &mut usage);
    // A kernel without network or block statistics is no reason to say nothing.
    add_network(&fs::read_to_string("/proc/net/dev").unwrap_or_default(), &mut usage);
    add_disks(&fs::read_to_string("/proc/diskstats").unwrap_or_default(), &mut usage);
    let is_process = |entry: &fs::DirEntry| entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit);
    let processes = fs::read_dir("/proc")?.flatten().filter(is_process).count();
    usage.processes = u32::try_from(processes).unwrap_or(u32::MAX);
    Ok(usage)
}

fn numbers(words: &str) -> Vec<u64> {
    words.split_ascii_whitespace().map_while(|word| word.parse().ok()).collect()
}

/// `cpu  user nice system idle iowait irq softirq steal ...` for all, `cpuN ...` for each.
fn add_cpus(stat: &str, usage: &mut GuestUsage) {
    for line in stat.lines() {
        if let Some(all) = line.strip_prefix("cpu ") {
            // Neither idle nor waiting; nor what the host has stolen, which is not used by the guest.
            let busy = numbers(all).into_iter().take(7).enumerate().filter(|(index, _)| !matches!(index, 3 | 4));
            usage.cpu_busy_ms = busy.map(|(_, ticks)| ticks.saturating_mul(TICK_MS)).fold(0, u64::saturating_add);
        } else if line.starts_with("cpu") {
            usage.cpus += 1;
        }
    }
}

fn add_memory(meminfo: &str, usage: &mut GuestUsage) {
    let field = |name: &str| {
        let kib = meminfo.lines().find_map(|line| line.strip_prefix(name)).map(numbers).unwrap_or_default();
        kib.first().map_or(0, |kib| kib.saturating_mul(1024))
    };
    usage.memory_total = field("MemTotal:");
    usage.memory_available = field("MemAvailable:");
}

/// `  eth0: bytes packets errs drop fifo frame compressed multicast  bytes ...`
fn add_network(dev: &str, usage: &mut GuestUsage) {
    for (name, counters) in dev.lines().filter_map(|line| line.split_once(':')) {
        let counters = numbers(counters);
        if name.trim() != "lo" && counters.len() >= 9 {
            usage.net_received = usage.net_received.saturating_add(counters[0]);
            usage.net_sent = usage.net_sent.saturating_add(counters[8]);
        }
    }
}

/// `major minor name reads merged sectors ms writes merged sectors ms ...`; partitions would count twice.
fn add_disks(diskstats: &str, usage: &mut GuestUsage) {
    for line in diskstats.lines() {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let is_whole = |name: &str| {
            name.strip_prefix("vd").is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_lowercase()))
        };
        if words.len() > 9 && is_whole(words[2]) {
            let bytes = |word: &str| word.parse::<u64>().unwrap_or(0).saturating_mul(SECTOR);
            usage.disk_read = usage.disk_read.saturating_add(bytes(words[5]));
            usage.disk_written = usage.disk_written.saturating_add(bytes(words[9]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_of_proc_is_understood() {
        let mut usage = GuestUsage::default();
        add_cpus("cpu  100 2 30 4000 500 6 7 8 0 0\ncpu0 1 2 3\ncpu1 1 2 3\nintr 5\n", &mut usage);
        add_memory("MemTotal:  480000 kB\nMemFree: 1 kB\nMemAvailable: 400000 kB\n", &mut usage);
        let dev = "Inter-|   Receive\n face |bytes\n    lo: 9 9 9 9 9 9 9 9 9 9\n  eth0: 1500 1 0 0 0 0 0 0 700 5 0 0 0 0 0 0\n";
        add_network(dev, &mut usage);
        let disks = " 254 0 vda 10 0 80 1 0 0 0 0\n 254 1 vda1 10 0 80 1 0 0 0 0\n 254 16 vdb 1 0 2 1 5 0 40 0\n 7 0 loop0 1 1 1 1 1 1 1\n";
        add_disks(disks, &mut usage);
        let expected = GuestUsage {
            cpu_busy_ms: (100 + 2 + 30 + 6 + 7) * 10,
            cpus: 2,
            memory_total: 480_000 * 1024,
            memory_available: 400_000 * 1024,
            net_received: 1500,
            net_sent: 700,
            disk_read: 82 * 512,
            disk_written: 40 * 512,
            processes: 0,
        };
        assert_eq!(usage, expected);
    }

    #[test]
    fn nonsense_counts_as_nothing() {
        let mut usage = GuestUsage::default();
        add_cpus("cpu x y\n", &mut usage);
        add_memory("MemTotal: lots\n", &mut usage);
        add_network("eth0: 1 2\n::\n", &mut usage);
        add_disks("vda\n1 2 vda a b c d e f g h\n", &mut usage);
        assert_eq!(usage, GuestUsage::default());
    }

    #[test]
    fn this_system_has_cpus_memory_and_processes() {
        let usage = read().unwrap();
        assert!(usage.cpus > 0 && usage.memory_total > usage.memory_available && usage.processes > 0, "{usage:?}");
    }
}
