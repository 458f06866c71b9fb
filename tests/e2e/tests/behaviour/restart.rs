//! Restart policies: what comes back, when it is given up, and what a stop means.

use ignite_e2e::images::busybox;
use ignite_e2e::processes::signal;
use ignite_e2e::wait::{BOOT, until};
use ignite_e2e::{Host, Vm};
use rustix::process::Signal;

fn restarts(vm: &Vm<'_>) -> u64 {
    vm.inspect()["status"]["restarts"].as_u64().unwrap_or(0)
}

pub fn always_comes_back_after_its_vmm_or_its_supervisor_is_killed_until_it_is_stopped() {
    let host = Host::new();
    let vm = host.vm("service");
    vm.run_in_background(["--restart", "always", busybox(), "sh", "-c", "echo up; exec sleep 1000"]);
    signal(vm.vmm().expect("a VMM").pid, Signal::KILL);
    until("the VM to be up again", BOOT, || (restarts(&vm) == 1 && vm.phase() == "Running").then_some(()));
    vm.exec(["cat", "/proc/1/comm"]).succeeds();
    // Without its supervisor nobody is there to bring it back, until someone looks after it.
    signal(vm.supervisor().expect("a supervisor").pid, Signal::KILL);
    until("the VM to be lost", BOOT, || (vm.phase() == "Failed").then_some(()));
    host.ignite(["restore", "--lost"]).within(BOOT).finish().succeeds().prints(&format!("{}\n", vm.name()));
    vm.becomes("Running");
    vm.does("stop").succeeds();
    assert_eq!(vm.phase(), "Stopped");
    host.ignite(["restore", "--lost"]).within(BOOT).finish().succeeds().prints("");
    assert_eq!(vm.phase(), "Stopped", "it was stopped by someone");
    // The host starts: `always` runs again, whoever stopped it.
    host.ignite(["restore"]).within(BOOT).finish().succeeds().prints(&format!("{}\n", vm.name()));
    host.ignite(["stop", "--all", "--host-shutdown"]).within(BOOT).finish().succeeds();
    assert!(!vm.inspect()["status"]["stoppedByUser"].as_bool().unwrap_or(false));
}

pub fn on_failure_gives_up_after_its_retries() {
    let host = Host::new();
    let vm = host.vm("job");
    vm.run_in_background(["--restart", "on-failure:2", busybox(), "sh", "-c", "echo run; exit 3"]);
    until("it to be given up", BOOT, || (vm.phase() == "Stopped").then_some(()));
    assert_eq!(restarts(&vm), 2);
    assert_eq!(vm.inspect()["status"]["reason"], "given up after 2 restarts");
    vm.does("logs").succeeds().prints("run\nrun\nrun\n");
    vm.does("wait").prints("3\n");
}
