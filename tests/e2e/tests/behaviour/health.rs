//! Health checks: what is looked at, and who hears of it.

use ignite_e2e::Host;
use ignite_e2e::images::busybox;
use ignite_e2e::wait::{BOOT, until};

pub fn a_vm_becomes_healthy_and_unhealthy_when_its_file_goes_and_everyone_is_told() {
    let host = Host::new();
    let vm = host.vm("app");
    let check =
        ["--health-cmd", "echo looked | tee -a /looks; cat /ok", "--health-interval", "300ms", "--health-retries", "2"];
    let task = [busybox(), "sh", "-c", "echo yes >/ok; exec sleep 1000"];
    vm.run_in_background(check.iter().copied().chain(task));
    let state = || vm.inspect()["status"]["health"]["state"].as_str().unwrap_or_default().to_owned();
    let status = || host.ignite(["ps"]).finish().succeeds().text();
    until("it to be healthy", BOOT, || (state() == "healthy").then_some(()));
    assert!(status().contains("(healthy)"), "{}", status());
    // A steady state writes nothing, however often it is looked at.
    let record = host.data_dir().join("vm").join(vm.uid()).join("metadata.json");
    let written = || std::fs::metadata(&record).and_then(|metadata| metadata.modified()).expect("the object");
    let looks = || vm.exec(["cat", "/looks"]).succeeds().text().lines().count();
    let (before, at) = (looks(), written());
    until("three more looks", BOOT, || (looks() >= before + 3).then_some(()));
    assert_eq!(written(), at);
    vm.exec(["rm", "/ok"]).succeeds();
    until("it to be unhealthy", BOOT, || (state() == "unhealthy").then_some(()));
    assert!(status().contains("(unhealthy)"), "{}", status());
    let health = vm.inspect()["status"]["health"].clone();
    assert_eq!(health["failingStreak"], 2, "{health}");
    assert!(health["output"].as_str().unwrap_or_default().starts_with("looked\ncat: "), "{health}");
    let events = host
        .ignite(["events", "--since", "1h", "--until", "0s", "--format", "json", "--filter", "event=health_status"])
        .finish()
        .succeeds()
        .text();
    let told: Vec<_> = events.lines().map(|line| line.contains("\"unhealthy\"")).collect();
    assert_eq!(told, [false, true], "{events}");
    assert_eq!(vm.phase(), "Running", "who only looks does not end it");
}
