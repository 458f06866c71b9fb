//! Limits of a VM's VMM: one that goes over them is stopped and says why, and its neighbour is not disturbed.

use ignite_e2e::images::busybox;
use ignite_e2e::wait::{BOOT, until};
use ignite_e2e::{Host, Report, Vm};
use std::fs;
use std::path::{Path, PathBuf};

/// Room that the limit is left above what the VMM has already: less than the guest takes next.
const ROOM: u64 = 16 << 20;

/// A limit of the control group: its file, by cgroup version, what it is set to, and what the VM's end is then called.
struct Limit {
    files: [(&'static str, &'static str); 2],
    room: u64,
    measure: &'static str,
    guest_takes: &'static str,
    reason: &'static str,
}

/// Limits are an administrator's to lower while a VM runs; so one is reached at once, however much room a VMM is given.
pub fn a_vmm_over_its_memory_or_its_threads_is_stopped_says_why_and_disturbs_nobody() -> Report {
    let host = Host::new();
    let neighbour = host.vm("neighbour");
    neighbour.run_in_background([busybox(), "sleep", "1000"]);
    let mut talk =
        neighbour.exec_with::<&str, _>([], ["sh", "-c", "while echo still here; do sleep 0.2; done"]).start();
    let isolation = neighbour.inspect()["status"]["isolation"].clone();
    for limit in [
        Limit {
            files: [("memory.limit_in_bytes", "memory.usage_in_bytes"), ("memory.max", "memory.current")],
            room: ROOM,
            measure: "memory-limit",
            guest_takes: "dd if=/dev/zero of=/filled bs=1M count=200",
            reason: "stopped: it went over its memory limit of ",
        },
        Limit {
            files: [("pids.max", "pids.current"), ("pids.max", "pids.current")],
            room: 0,
            measure: "pids-limit",
            // What is written at once makes the VMM want more threads for its disk than it has.
            guest_takes: "while :; do dd if=/dev/zero of=/filled bs=1M count=100 conv=fsync; rm /filled; done",
            reason: "stopped: it went over its limit of ",
        },
    ] {
        if isolation[limit.measure] != "applied" {
            return Err(format!("no {}: {}", limit.measure, isolation[limit.measure]));
        }
        goes_over(&host, &limit);
        neighbour.exec(["true"]).succeeds();
        assert!(talk.is_running(), "what went on in the neighbour has ended");
    }
    talk.prints_sometime("still here");
    talk.kill_now();
    host.does(["rm", "-f", neighbour.name()]).succeeds();
    host.assert_nothing_left();
    Ok(())
}

fn goes_over(host: &Host, limit: &Limit) {
    let vm = host.vm("hog");
    vm.run_in_background([busybox(), "sleep", "1000"]);
    let groups = groups_of(host, &vm);
    let (max, now) = files_of(&groups, limit);
    // What it takes for itself may grow between the reading and the writing, which then is refused.
    until("the limit to be lowered", BOOT, || {
        let used: u64 = fs::read_to_string(&now).ok()?.trim().parse().ok()?;
        fs::write(&max, (used + limit.room).to_string()).ok()
    });
    vm.sh(limit.guest_takes).fails();
    vm.becomes("Failed");
    let status = vm.inspect()["status"].clone();
    assert_eq!(status["exitCode"], 137);
    let reason = status["reason"].as_str().expect("a reason").to_owned();
    assert!(reason.starts_with(limit.reason), "{reason}");
    host.does(["ps", "-a"]).says(&format!("Failed: {}", limit.reason));
    let told = host.ignite(["events", "--since", "1h", "--until", "0s", "--format", "json", "-f"]);
    let told = told.args([&format!("vm={}", vm.name())]).finish();
    let last: serde_json::Value =
        serde_json::from_str(told.succeeds().text().lines().last().expect("an event")).expect("JSON");
    assert_eq!((&last["action"], &last["attributes"]["reason"]), (&"die".into(), &reason.into()), "{last}");
    until("the control groups to be gone", BOOT, || groups.iter().all(|group| !group.exists()).then_some(()));
    // It is no worse for it.
    vm.does("start").succeeds();
    vm.exec(["true"]).succeeds();
}

fn groups_of(host: &Host, vm: &Vm<'_>) -> Vec<PathBuf> {
    let record = host.run_dir().join("vm").join(vm.uid()).join("cgroups.json");
    let text = fs::read_to_string(record).expect("the record of the control groups");
    serde_json::from_str(&text).expect("paths")
}

/// The file of the limit, and that of what is used of it.
fn files_of(groups: &[PathBuf], limit: &Limit) -> (PathBuf, PathBuf) {
    let found = groups.iter().find_map(|group| {
        let (max, now) = limit.files.iter().find(|(max, _)| group.join(max).exists())?;
        Some((group.join(max), group.join(now)))
    });
    found.unwrap_or_else(|| panic!("no group of {groups:?} has {:?}", limit.files))
}

pub fn without_control_groups_a_vm_runs_and_says_so_and_a_strict_one_does_not() -> Report {
    if !Path::new("/sys/fs/cgroup").is_dir() || !rustix::process::geteuid().is_root() {
        return Err("needs root and /sys/fs/cgroup, which is taken away".into());
    }
    let host = Host::new().without_control_groups();
    let vm = host.vm("plain");
    vm.run_in_background([busybox(), "sleep", "1000"]);
    let isolation = vm.inspect()["status"]["isolation"].clone();
    for measure in ["memory-limit", "cpu-limit", "pids-limit"] {
        let said = isolation[measure].as_str().expect("each measure is told");
        assert!(said.contains("this host has no cgroup file system"), "{measure}: {said}");
    }
    assert_eq!(isolation["resource-limits"], "applied", "{isolation}");
    // What is left of the limits: the process's own.
    let pid = vm.vmm().expect("a VMM").pid;
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("its limits");
    let data = limits.lines().find(|line| line.starts_with("Max data size")).expect("a line of it");
    assert!(!data.contains("unlimited"), "{data}");
    host.ignite(["run", "-d", "--isolation", "strict", busybox(), "true"])
        .within(BOOT)
        .finish()
        .fails()
        .complains("isolation is strict")
        .complains("memory-limit (this host has no cgroup file system)");
    host.does(["rm", "-f", vm.name()]).succeeds();
    Ok(())
}
