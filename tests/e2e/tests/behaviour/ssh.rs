//! `ssh`: the real client against a real sshd, in a machine that has no network at all.

use ignite_e2e::images::debian;
use ignite_e2e::wait::{BOOT, until};
use ignite_e2e::{Host, Outcome, Vm};

fn ssh(vm: &Vm<'_>, flags: &[&str], command: &str) -> Outcome {
    Host::shared().ignite(["ssh"]).args(flags).args([vm.name(), command]).finish()
}

pub fn ssh_needs_no_network_and_knows_the_vm_by_the_key_it_was_given() {
    let host = Host::shared();
    let vm = host.vm("ssh");
    vm.run(["--ssh", "--network", "none", debian()]).succeeds();
    // Nothing listens: said within the time that was given, with another way in.
    ssh(&vm, &["--timeout", "1"], "true").fails().complains("nothing listens on port 22").gives_a_hint();
    until("systemd to start sshd", BOOT, || (vm.exec(["systemctl", "start", "ssh"]).code == 0).then_some(()));

    ssh(&vm, &[], "hostname").succeeds().prints(&format!("{}\n", vm.name()));
    ssh(&vm, &[], "echo out; echo err >&2; exit 7").exits(7).prints("out\n").complains("err");
    let bytes: Vec<u8> = (0..1_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let echo = host.ignite(["vm", "ssh", vm.name(), "cat"]).stdin(bytes.clone()).finish();
    assert!(echo.succeeds().stdout == bytes, "what came back is not what was sent");
    let mut terminal = host.terminal(["ssh", vm.name()]);
    terminal.shows("# ").types("stty size; tty\r").shows("/dev/pts/").types("exit 3\r");
    terminal.finish().exits(3);

    // The private key and the list of known hosts are ours alone, and a key of one's own can be used.
    let dir = host.data_dir().join("vm").join(vm.uid());
    let key = host.path("own-key");
    let made =
        std::process::Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status();
    assert!(made.expect("ssh-keygen").success());
    let key = key.to_str().expect("UTF-8");
    ssh(&vm, &["-i", key], "true").exits(255).complains("Permission denied");
    host.does(["cp", &format!("{key}.pub"), &format!("{}:/root/.ssh/authorized_keys", vm.name())]).succeeds();
    ssh(&vm, &["-i", key], "echo mine").succeeds().prints("mine\n");

    // Another key than the one it was given at boot is refused.
    vm.sh("cd /etc/ssh && rm ssh_host_ed25519_key* && ssh-keygen -q -t ed25519 -N '' -f ssh_host_ed25519_key")
        .succeeds();
    vm.exec(["systemctl", "restart", "ssh"]).succeeds();
    ssh(&vm, &["-i", key], "true").exits(255).complains("IDENTIFICATION HAS CHANGED");

    // A VM that was given none, as this one would be, is asked for its keys over the agent channel.
    std::fs::remove_file(dir.join("known_hosts")).expect("the list of known hosts");
    ssh(&vm, &["-i", key], "echo again").succeeds().prints("again\n");
    let known = std::fs::read_to_string(dir.join("known_hosts")).expect("the list of known hosts");
    assert!(known.lines().count() == 3 && known.contains("ssh-ed25519"), "{known}");
    vm.does("kill").succeeds();
    ssh(&vm, &[], "true").fails().complains("is not running");
}
