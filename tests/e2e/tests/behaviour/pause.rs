//! `pause` and `unpause`: a guest that is not executed, and that goes on as if nothing had been but time.

use ignite_e2e::Host;
use ignite_e2e::images::busybox;
use ignite_e2e::wait::BOOT;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long the guest is paused: far more than its clock may be wrong by afterwards.
const PAUSE: Duration = Duration::from_secs(4);

pub fn a_paused_vm_is_shown_refuses_what_needs_its_guest_and_goes_on_with_the_right_time() {
    let host = Host::new();
    let vm = host.vm("paused");
    vm.run_in_background([busybox(), "sh", "-c", "while :; do echo tick; sleep 0.1; done"]);
    vm.sh("date +%s").succeeds();
    vm.does("unpause").fails().complains("it is not paused");
    vm.does("pause").prints(&format!("{}\n", vm.name()));
    assert_eq!(vm.phase(), "Paused");
    assert_eq!(vm.inspect()["status"]["running"], true, "as old readers expect it");
    host.does(["ps"]).says("(Paused)").says(vm.name());
    host.does(["ps", "-a", "--filter", "status=paused", "-q"]).prints(&format!("{}\n", vm.uid()));

    // The programs that asked for it have ended long ago; who keeps it paused is its supervisor. Nothing is written by it.
    let written = || host.does(["logs", vm.name()]).text().len();
    let before = written();
    std::thread::sleep(PAUSE);
    assert_eq!(written(), before, "a paused guest has written something");
    for refused in [
        vm.exec(["true"]),
        vm.does("attach"),
        host.does(["cp", &format!("{}:/etc/hosts", vm.name()), "-"]),
        host.does(["kill", "-s", "TERM", vm.name()]),
        vm.does("start"),
        vm.does("pause"),
    ] {
        refused.fails().complains("it is paused").complains(&format!("ignite unpause {}", vm.name()));
    }
    vm.exec(["true"]).exits(125);
    host.does(["stats", "--no-stream", vm.name()]).succeeds();

    vm.does("unpause").prints(&format!("{}\n", vm.name()));
    assert_eq!(vm.phase(), "Running");
    // What the guest says lies between what the host says before and after, give or take a second; `date` cuts off parts.
    let early = now();
    let guest: u64 = vm.sh("date +%s").text().trim().parse().expect("seconds");
    let late = now();
    assert!((early - 1..=late + 1).contains(&guest), "{early} {guest} {late}");
    ignite_e2e::wait::until("the task to go on", BOOT, || (written() > before).then_some(()));
    let told = host.ignite(["events", "--since", "1h", "--until", "0s", "--format", "json"]).finish();
    let actions: Vec<String> = told.succeeds().text().lines().map(super::events::action).collect();
    assert_eq!(actions, ["create", "start", "pause", "unpause"]);

    // Every way out of a pause.
    vm.does("pause").succeeds();
    host.does(["stop", "-t", "5", vm.name()]).succeeds();
    assert_eq!((vm.phase(), vm.inspect()["status"]["exitCode"].clone()), ("Stopped".into(), 143.into()));
    vm.does("pause").fails().complains("it is not running").complains("ignite start");
    vm.does("start").succeeds();
    vm.does("pause").succeeds();
    host.does(["restart", "-t", "5", vm.name()]).succeeds();
    vm.exec(["true"]).succeeds();
    vm.does("pause").succeeds();
    vm.does("kill").succeeds();
    assert_eq!(vm.inspect()["status"]["exitCode"], 137);
    vm.does("start").succeeds();
    vm.does("pause").succeeds();
    host.does(["rm", "-f", vm.name()]).succeeds();
    host.assert_nothing_left();
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}
