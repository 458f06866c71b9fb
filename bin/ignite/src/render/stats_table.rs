//! What VMs use: the difference of two samples, as a row and as JSON.

use crate::render::table;
use ignite_engine::Sample;
use serde::Serialize;
use std::time::Duration;

/// What a VM uses.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// Its id.
    pub uid: String,
    /// Its name.
    pub name: String,
    /// Its VMM, seen by the host.
    pub host: HostUsage,
    /// What its guest says of itself; `null` when it does not answer.
    pub guest: Option<GuestUsage>,
}

/// The VMM as a process.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HostUsage {
    /// CPU between the samples; 100 is one CPU. 0 without an earlier sample.
    pub cpu_percent: f64,
    /// Resident memory, in bytes.
    pub memory_bytes: u64,
}

/// The guest, by its own counters.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GuestUsage {
    /// CPU between the samples; 100 is one CPU.
    pub cpu_percent: f64,
    /// CPUs that it has.
    pub cpus: u32,
    /// Memory that is not available to new programs, in bytes.
    pub memory_used_bytes: u64,
    /// Memory that its kernel manages, in bytes.
    pub memory_total_bytes: u64,
    /// Since its start.
    pub net_received_bytes: u64,
    /// Since its start.
    pub net_sent_bytes: u64,
    /// Since its start.
    pub disk_read_bytes: u64,
    /// Since its start.
    pub disk_written_bytes: u64,
    /// Processes, kernel threads included.
    pub processes: u32,
}

impl Usage {
    /// What it used from one sample to the next.
    pub fn between(before: Option<&Sample>, now: &Sample) -> Usage {
        let elapsed = before.map_or(Duration::ZERO, |before| now.at.duration_since(before.at));
        let host_cpu = before.map_or(Duration::ZERO, |before| now.host.cpu.saturating_sub(before.host.cpu));
        let guest = now.guest.map(|guest| {
            let busy_before = before.and_then(|before| before.guest).map(|guest| guest.cpu_busy_ms);
            let busy = guest.cpu_busy_ms.saturating_sub(busy_before.unwrap_or(guest.cpu_busy_ms));
            GuestUsage {
                cpu_percent: percent(Duration::from_millis(busy), elapsed),
                cpus: guest.cpus,
                memory_used_bytes: guest.memory_total.saturating_sub(guest.memory_available),
                memory_total_bytes: guest.memory_total,
                net_received_bytes: guest.net_received,
                net_sent_bytes: guest.net_sent,
                disk_read_bytes: guest.disk_read,
                disk_written_bytes: guest.disk_written,
                processes: guest.processes,
            }
        });
        Usage {
            uid: now.vm.metadata.uid.as_ref().map(ToString::to_string).unwrap_or_default(),
            name: now.vm.metadata.name.clone(),
            host: HostUsage { cpu_percent: percent(host_cpu, elapsed), memory_bytes: now.host.memory_bytes },
            guest,
        }
    }
}

/// With two decimals.
fn percent(part: Duration, whole: Duration) -> f64 {
    if whole.is_zero() {
        return 0.0;
    }
    (part.as_secs_f64() / whole.as_secs_f64() * 10_000.0).round() / 100.0
}

/// The table of `ignite stats`.
pub fn render(usages: &[Usage]) -> String {
    let header = [
        "VM ID",
        "NAME",
        "CPU %",
        "GUEST CPU %",
        "MEM USAGE / LIMIT",
        "MEM %",
        "HOST MEM",
        "NET I/O",
        "BLOCK I/O",
        "PIDS",
    ];
    table::render(header, usages.iter().map(row).collect())
}

fn row(usage: &Usage) -> [String; 10] {
    let unknown = || "--".to_owned();
    let of_guest = |cell: &dyn Fn(&GuestUsage) -> String| usage.guest.as_ref().map_or_else(unknown, cell);
    let pair = |a: u64, b: u64| format!("{} / {}", bytes(a), bytes(b));
    [
        usage.uid.clone(),
        usage.name.clone(),
        format!("{:.2}%", usage.host.cpu_percent),
        of_guest(&|guest| format!("{:.2}%", guest.cpu_percent)),
        of_guest(&|guest| pair(guest.memory_used_bytes, guest.memory_total_bytes)),
        of_guest(&|guest| match guest.memory_total_bytes {
            0 => unknown(),
            total => format!("{:.2}%", guest.memory_used_bytes as f64 / total as f64 * 100.0),
        }),
        bytes(usage.host.memory_bytes),
        of_guest(&|guest| pair(guest.net_received_bytes, guest.net_sent_bytes)),
        of_guest(&|guest| pair(guest.disk_read_bytes, guest.disk_written_bytes)),
        of_guest(&|guest| guest.processes.to_string()),
    ]
}

/// As Docker's `stats`: `0B`, `1.5KiB`, `120.3MiB`; four digits at most.
fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = match value {
        _ if unit == 0 => 0,
        v if v < 10.0 => 2,
        v if v < 100.0 => 1,
        _ => 0,
    };
    format!("{value:.digits$}{}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        for (count, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (1536, "1.50KiB"),
            (20 << 20, "20.0MiB"),
            (512 << 20, "512MiB"),
            (3 << 30, "3.00GiB"),
            (u64::MAX, "16384PiB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn a_guest_that_does_not_answer_has_dashes() {
        let host = HostUsage { cpu_percent: 12.5, memory_bytes: 1 << 20 };
        let silent = Usage { uid: "0123".into(), name: "silent".into(), host: host.clone(), guest: None };
        let guest = GuestUsage {
            cpu_percent: 99.0,
            cpus: 1,
            memory_used_bytes: 1 << 20,
            memory_total_bytes: 4 << 20,
            net_received_bytes: 0,
            net_sent_bytes: 10,
            disk_read_bytes: 2048,
            disk_written_bytes: 0,
            processes: 40,
        };
        let talking = Usage { uid: "4567".into(), name: "talking".into(), host, guest: Some(guest) };
        insta::assert_snapshot!(render(&[silent, talking]));
    }

    #[test]
    fn percents_are_of_one_cpu() {
        assert_eq!(percent(Duration::from_millis(1500), Duration::from_secs(1)), 150.0);
        assert_eq!(percent(Duration::from_secs(1), Duration::from_secs(3)), 33.33);
        assert_eq!(percent(Duration::from_secs(1), Duration::ZERO), 0.0);
    }
}
