//! What is changed, and what is measured, while a VM runs.

use ignite_e2e::Host;
use ignite_e2e::images::busybox;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

/// `stats` against the guest's own `/proc`, idle and busy; one boot. Then what `update` and `rename` do to what runs.
pub fn stats_agree_with_the_guest_and_what_runs_is_updated_and_renamed() {
    let host = Host::new();
    let vm = host.vm("measured");
    vm.run_in_background(["--memory", "256MB", busybox(), "sleep", "3600"]);
    let stats = |name: &str| host.does(["stats", "--no-stream", "--format", "json", name]).succeeds().json();

    // What the counters say is between what the guest says before and after.
    let total = number(&vm.sh("awk '/MemTotal/{print $2}' /proc/meminfo").text()) * 1024;
    let written = || number(&vm.sh("awk '$3 ~ /^vd[a-z]+$/{n+=$10} END{print n}' /proc/diskstats").text()) * 512;
    vm.sh("dd if=/dev/zero of=/filled bs=1M count=8 2>/dev/null; sync").succeeds();
    let before = written();
    let seen = stats(vm.name());
    let after = written();
    let guest = &seen["guest"];
    let of = |field: &str| guest[field].as_u64().unwrap_or_else(|| panic!("{field} in {seen}"));
    assert_eq!(of("memoryTotalBytes"), total, "{seen}");
    assert!(total <= 256 << 20 && of("memoryUsedBytes") < total, "{seen}");
    let disk = of("diskWrittenBytes");
    assert!(before >= 8 << 20 && (before..=after).contains(&disk), "{before} {disk} {after}");
    assert_eq!(of("cpus"), 1);
    assert!(seen["host"]["memoryBytes"].as_u64().is_some_and(|bytes| bytes > 0), "{seen}");

    // A guest that computes is busy, and its VMM with it: the guest cannot get more than its VMM has been given.
    vm.sh("(while :; do :; done) >/dev/null 2>&1 & sleep 1").succeeds();
    let cpu = |seen: &serde_json::Value, side: &str| seen[side]["cpuPercent"].as_f64().expect("a percentage");
    let busy = stats(vm.name());
    assert!(cpu(&busy, "guest") > 2.0 * cpu(&seen, "guest") && cpu(&busy, "guest") <= 110.0, "{seen} {busy}");
    assert!(cpu(&busy, "host") > 0.0, "{busy}");
    host.does(["stats", "--no-stream"]).succeeds().says("MEM USAGE / LIMIT").says(vm.name());

    // Prometheus is told the same, where Weave Ignite's VMs told it.
    let socket = host.data_dir().join("vm").join(vm.uid()).join("prometheus.sock");
    let mut scrape = UnixStream::connect(&socket).expect("a socket beside the VM");
    scrape.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("ask");
    let mut told = String::new();
    scrape.read_to_string(&mut told).expect("hear");
    let sample = |name: &str| {
        let line = told
            .lines()
            .find(|line| line.starts_with(&format!("{name}{{")))
            .unwrap_or_else(|| panic!("{name} in {told}"));
        line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok()).expect("a value")
    };
    assert_eq!(sample("ignite_vm_memory_limit_bytes"), f64::from(256 << 20));
    assert!(
        sample("ignite_vm_cpu_seconds_total") > 0.0 && sample("ignite_vm_disk_written_bytes_total") >= 0.0,
        "{told}"
    );

    let pid = vm.supervisor().expect("a supervisor").pid;
    host.does(["update", "--cpus", "2", "--label", "tier=db", "--stop-timeout", "1", vm.name()])
        .succeeds()
        .complains("next start");
    host.does(["rename", vm.name(), "renamed"]).succeeds().prints("");
    let object = host.does(["inspect", "vm", "renamed"]).succeeds().json();
    assert_eq!(object["spec"]["cpus"], 2);
    assert_eq!(object["metadata"]["labels"]["tier"], "db");
    host.does(["exec", "renamed", "nproc"]).succeeds().prints("1\n");
    host.does(["inspect", "vm", vm.name()]).fails();
    assert_eq!(object["status"]["runtime"]["id"], pid.to_string(), "the same supervisor goes on");
    host.does(["stats", "--no-stream", "no-such-vm"]).fails().complains("no-such-vm");
    host.does(["rm", "-f", "renamed"]).succeeds();
    host.assert_nothing_left();
}

fn number(text: &str) -> u64 {
    text.trim().parse().unwrap_or_else(|_| panic!("a number: {text:?}"))
}
