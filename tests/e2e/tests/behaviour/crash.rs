//! `kill -9` of each program at any moment: `ps` tells the truth afterwards, `rm -f` works, and nothing is left.

use ignite_e2e::images::{busybox, debian};
use ignite_e2e::processes::{self, signal};
use ignite_e2e::vmm::Vmm;
use ignite_e2e::wait::{BOOT, QUICK, until};
use ignite_e2e::{Host, Vm};
use rustix::process::Signal;
use std::time::Duration;

/// Moments after the beginning of a `run`, chosen to hit its phases: resolve and disk, VMM start, kernel, configure.
const MOMENTS_MS: [u64; 7] = [15, 60, 150, 400, 900, 1600, 2800];

pub fn eight_vms_started_at_once_all_run() {
    let host = Host::new();
    let vms: Vec<Vm<'_>> = (0..8).map(|n| host.vm(&format!("one-of-eight-{n}"))).collect();
    let starts: Vec<_> =
        vms.iter().map(|vm| vm.running(["-d", "--memory", "128MB", busybox(), "sleep", "1000"]).start()).collect();
    for start in starts {
        start.finish().succeeds();
    }
    for vm in &vms {
        assert_eq!(vm.phase(), "Running");
        vm.exec(["hostname"]).succeeds().prints(&format!("{}\n", vm.name()));
    }
    assert_eq!(host.vm_ids().len(), 8);
    let names: Vec<&str> = vms.iter().map(Vm::name).collect();
    host.ignite(["rm", "-f"]).args(names).finish().succeeds();
    host.assert_nothing_left();
}

pub fn nothing_is_left_when_the_cli_is_killed_during_run() {
    kill_during_run(|_, cli| cli);
}

pub fn nothing_is_left_when_the_supervisor_is_killed_during_run() {
    kill_during_run(|host, _| pid_of("ignite-spawn", host));
}

pub fn nothing_is_left_when_the_vmm_is_killed_during_run() {
    kill_during_run(|host, _| pid_of(Vmm::wanted().process_name(), host));
}

/// Kills what `victim` finds at each of the moments (or as soon after it as there is one).
fn kill_during_run(victim: impl Fn(&Host, u32) -> u32) {
    let host = Host::new();
    for moment in MOMENTS_MS {
        let vm = host.vm("victim");
        let run = vm.running(["-d", busybox(), "sleep", "1000"]).start();
        std::thread::sleep(Duration::from_millis(moment));
        signal(victim(&host, run.pid()), Signal::KILL);
        // Whoever is left decides in its own time: a client that lost its supervisor says so, a supervisor that lost its
        // client goes on.
        run.finish();
        tells_the_truth(&host, &vm);
        host.ignite(["rm", "-f", vm.name()]).within(BOOT).finish();
        assert_eq!(vm.phase(), "gone", "after a kill at {moment} ms");
        host.assert_nothing_left();
    }
    // The store is whole: the next VM runs.
    host.run(["--rm", busybox(), "true"]).succeeds();
    host.assert_nothing_left();
}

fn pid_of(name: &str, host: &Host) -> u32 {
    let found = || {
        let mut all = processes::touching(host.root());
        // A fork that has not executed its program yet has its parent's name.
        all.retain(|process| process.name.starts_with(name));
        all.first().map(|process| process.pid)
    };
    until(&format!("a process {name}"), BOOT, found)
}

/// What `ps` says is what is: a VM that runs answers, one that does not has no process.
fn tells_the_truth(host: &Host, vm: &Vm<'_>) {
    // A start that goes on without its client ends in one of these.
    until("the VM to be anything but Starting or Stopping", BOOT, || {
        (!matches!(vm.phase().as_str(), "Starting" | "Stopping")).then_some(())
    });
    // A VMM that was killed this very moment is noticed a moment later, by who waits for it; then `ps` says so.
    if vm.phase() == "Running" && vm.exec(["true"]).code != 0 {
        until("what does not answer not to be called Running", QUICK, || (vm.phase() != "Running").then_some(()));
    }
    match vm.phase().as_str() {
        "Running" => {
            vm.exec(["true"]).succeeds();
        }
        "gone" => {
            host.does(["ps", "-a"]).succeeds().does_not_say(vm.name());
        }
        phase => {
            host.does(["ps", "-a"]).succeeds().says(vm.name());
            host.assert_no_process_of(vm);
            assert!(matches!(phase, "Created" | "Failed" | "Stopped"), "phase {phase}");
        }
    }
}

pub fn a_killed_import_leaves_nothing_and_can_be_repeated() {
    let host = Host::new();
    for moment in [10, 50, 200, 500, 1000] {
        let import = host.ignite(["image", "import", debian()]).start();
        std::thread::sleep(Duration::from_millis(moment));
        import.kill_now();
    }
    host.does(["image", "ls"]).succeeds();
    host.does(["image", "import", debian()]).succeeds();
    host.does(["image", "ls"]).succeeds().says("debian-systemd");
    host.assert_nothing_left();
}

pub fn killing_the_cli_of_a_running_task_leaves_the_task_running() {
    let host = Host::new();
    let vm = host.vm("task");
    let mut run = vm.running([busybox(), "sh", "-c", "echo ready; sleep 1000"]).start();
    run.prints_sometime("ready");
    run.kill_now();
    assert_eq!(vm.phase(), "Running");
    vm.does("logs").succeeds().prints("ready\n");
    vm.exec(["true"]).succeeds();
    host.ignite(["rm", "-f", vm.name()]).finish().succeeds();
    host.assert_nothing_left();
}

pub fn killing_the_supervisor_of_a_running_vm_is_told_by_ps() {
    kill_while_running(|vm| vm.supervisor().expect("a supervisor").pid);
}

pub fn killing_the_vmm_of_a_running_vm_is_told_by_ps() {
    kill_while_running(|vm| vm.vmm().expect("a VMM").pid);
}

fn kill_while_running(victim: impl Fn(&Vm<'_>) -> u32) {
    let host = Host::new();
    let vm = host.vm("victim");
    vm.run_in_background([busybox(), "sh", "-c", "[ -e /file ] || echo kept > /file; sync; sleep 1000"]);
    until("the file", QUICK, || vm.sh("cat /file").line().eq("kept").then_some(()));
    signal(victim(&vm), Signal::KILL);
    vm.becomes("Failed");
    host.assert_no_process_of(&vm);
    assert!(vm.inspect()["status"]["reason"].is_string(), "a failure has a reason");
    host.does(["ps"]).succeeds().does_not_say(vm.name());
    // It can be started again, with its files.
    vm.does("start").succeeds();
    vm.sh("cat /file").succeeds().prints("kept\n");
    host.ignite(["rm", "-f", vm.name()]).finish().succeeds();
    host.assert_nothing_left();
}

pub fn killing_the_supervisor_or_the_vmm_during_a_stop_is_a_stop() {
    let host = Host::new();
    for program in ["ignite-spawn", Vmm::wanted().process_name(), "cli"] {
        let vm = host.vm("stopping");
        vm.run_in_background([busybox(), "sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 1; done"]);
        until("the trap", QUICK, || vm.does("logs").text().contains("deaf").then_some(()));
        let stop = host.ignite(["stop", vm.name()]).start();
        std::thread::sleep(Duration::from_millis(300));
        let victim = if program == "cli" { stop.pid() } else { pid_of(program, &host) };
        signal(victim, Signal::KILL);
        stop.finish();
        until("the VM to have ended", BOOT, || matches!(vm.phase().as_str(), "Stopped" | "Failed").then_some(()));
        host.assert_no_process_of(&vm);
        host.does(["rm", vm.name()]).succeeds();
        host.assert_nothing_left();
    }
}
