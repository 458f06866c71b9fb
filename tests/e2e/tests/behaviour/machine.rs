//! Machines: an image that boots its own init.

use ignite_e2e::images::debian;
use ignite_e2e::wait::{BOOT, until};
use ignite_e2e::{Host, Vm};

pub fn a_machine_keeps_its_files_and_ends_cleanly() {
    let host = Host::shared();
    let vm = host.vm("debian");
    // An image with an init and no command is a machine, and a machine starts in the background without being asked.
    vm.run(["--memory", "512MB", debian()]).succeeds();
    is_up(&vm);
    vm.exec(["cat", "/proc/1/comm"]).prints("systemd\n");
    vm.exec(["hostname"]).prints(&format!("{}\n", vm.name()));
    let host_kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("the host's kernel");
    vm.exec(["uname", "-r"]).succeeds().does_not_say(host_kernel.trim());
    vm.sh("echo kept > /root/file; mkdir -p /srv/dir; rm /etc/debian_version; sync").succeeds();
    let mut console = host.terminal(["attach", vm.name()]);
    console.types("\r").shows("login:").types("\x10\x11");
    console.finish().succeeds();

    vm.does("stop").succeeds();
    let object = vm.inspect();
    assert_eq!((&object["status"]["phase"], &object["status"]["exitCode"]), (&"Stopped".into(), &0.into()));

    vm.does("start").succeeds();
    vm.sh("cat /root/file; ls -d /srv/dir; test ! -e /etc/debian_version").succeeds().prints("kept\n/srv/dir\n");
    let journal = until("the journal of the boot before", BOOT, || {
        let outcome = vm.exec(["journalctl", "--no-pager", "-b", "-1"]);
        (outcome.code == 0).then_some(outcome)
    });
    journal.says("Reached target poweroff.target").does_not_say("was corrupted or uncleanly shut down");
    vm.does("kill").succeeds();
    assert_eq!(vm.inspect()["status"]["exitCode"], 137);
}

/// Waits until systemd has done all its starting, and checks that nothing of it failed. `Running` says only that init is
/// on its way; until it listens, `systemctl` says `offline`.
fn is_up(vm: &Vm<'_>) {
    let state = until("systemd to be up", BOOT, || {
        let state = vm.exec(["systemctl", "is-system-running", "--wait"]);
        (!matches!(state.line().as_str(), "" | "offline" | "starting" | "initializing")).then_some(state)
    });
    state.prints("running\n").succeeds();
}

pub fn a_guest_that_powers_off_or_reboots_ends_as_documented() {
    let host = Host::shared();
    let vm = host.vm("ends");
    vm.run([debian()]).succeeds();
    is_up(&vm);
    let waiting = host.ignite(["wait", vm.name()]).start();
    // The connection may go before the command has an answer.
    vm.exec(["systemctl", "poweroff"]);
    waiting.finish().succeeds().prints("0\n");
    vm.becomes("Stopped");
    host.assert_no_process_of(&vm);

    // A reboot is the guest's own affair: the VM stays the same, and runs.
    vm.does("start").succeeds();
    is_up(&vm);
    let boot_id = || vm.exec(["cat", "/proc/sys/kernel/random/boot_id"]);
    let before = boot_id().succeeds().line();
    vm.exec(["systemctl", "reboot"]);
    until("the guest to be back", BOOT, || {
        let now = boot_id();
        (now.code == 0 && now.line() != before).then_some(())
    });
    assert_eq!(vm.phase(), "Running");
}
