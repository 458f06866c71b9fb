//! Tasks: a command in an image without an init.

use ignite_e2e::images::{busybox, redis};
use ignite_e2e::invocation::Invocation;
use ignite_e2e::registry::free_port;
use ignite_e2e::wait::{BOOT, QUICK, until};
use ignite_e2e::{Host, Terminal};
use rustix::process::Signal;
use std::time::Duration;

pub fn the_exit_code_of_the_command_is_that_of_run() {
    Host::shared().run(["--rm", busybox(), "sh", "-c", "exit 7"]).exits(7).prints("");
}

pub fn stdin_reaches_the_command_and_comes_back_exactly() {
    let host = Host::shared();
    host.ignite(["run", "-i", "--rm", busybox(), "cat"]).stdin("hi\n").finish().succeeds().prints("hi\n");
}

pub fn a_task_has_the_environment_user_directory_and_streams_asked_for() {
    let host = Host::shared();
    let env_file = host.file("task.env", "# a comment\n\nFROM_FILE=a b=c\nBOTH=file\n");
    let vm = host.vm("web");
    let script = "echo $FROM_FLAG,$FROM_FILE,$BOTH,$HOME,$(id -un):$(id -gn):$(id -Gn),$(pwd),$(hostname); echo oops >&2; exit 3";
    let env_file = env_file.to_str().expect("a UTF-8 path");
    let outcome = vm.run([
        "--rm",
        "-e",
        "FROM_FLAG=1",
        "-e",
        "BOTH=flag",
        "--env-file",
        env_file,
        "-u",
        "app",
        "-w",
        "/var/www",
        busybox(),
        "sh",
        "-c",
        script,
    ]);
    let expected = format!("1,a b=c,flag,/home,app:app:app tape,/var/www,{}\n", vm.name());
    outcome.exits(3).prints(&expected).complains("oops");
    assert_eq!(vm.phase(), "gone", "--rm removes the VM");
}

pub fn the_entrypoint_can_be_replaced() {
    Host::shared().run(["--rm", "--entrypoint", "echo", busybox(), "-n", "hello"]).succeeds().prints("hello");
}

pub fn what_cannot_be_run_exits_as_in_docker() {
    let host = Host::shared();
    host.run(["--rm", busybox(), "no-such-program"]).exits(127).complains("no-such-program");
    host.run(["--rm", busybox(), "/etc/passwd"]).exits(126).complains("/etc/passwd");
    host.run(["--rm", "oci:/no/such/layout", "true"]).exits(125).complains("/no/such/layout");
}

pub fn a_terminal_is_a_real_one() {
    let host = Host::shared();
    let mut terminal = host.terminal(["run", "-it", "--rm", busybox(), "sh"]);
    // The shell's prompt says that it runs; from then on it is typed to.
    terminal.shows("# ").types("tty; stty size\r").shows("/dev/").shows("24 80");
    terminal.resizes(40, 132).types("stty size\r").shows("40 132");
    // The shell's own line editing must be over before something is typed to the command.
    terminal
        .types("echo go; cat\r")
        .shows("\r\ngo\r\n")
        .types("typed\r")
        .shows("typed\r\ntyped\r\n")
        .types("\x03")
        .shows("^C");
    terminal.types("echo after=$?\r").shows("after=130");
    edit_with_vi(&mut terminal);
    terminal.types("exit 5\r");
    terminal.finish().exits(5);
}

fn edit_with_vi(terminal: &mut Terminal) {
    // Its own line at the bottom, and not the shell's echo of what was typed: vi throws away what came before it was ready.
    terminal.types("vi /tmp/note\r").shows("- /tmp/note");
    terminal.types("iwritten in vi\x1b").shows("written in vi").types(":wq\r");
    terminal.shows("# ").types("cat /tmp/note; echo =\r").shows("written in vi\r\n=");
}

pub fn a_signal_to_run_reaches_the_command() {
    let script = "trap 'echo asked to end; exit 9' TERM; echo ready; while :; do sleep 0.1; done";
    let mut running = Host::shared().ignite(["run", "--rm", busybox(), "sh", "-c", script]).start();
    running.prints_sometime("ready").signal(Signal::TERM);
    running.finish().exits(9).says("asked to end");
}

pub fn redis_serves_its_port_without_an_init() {
    let host = Host::shared();
    let vm = host.vm("redis");
    let port = free_port();
    vm.run_in_background(["-p", &format!("127.0.0.1:{port}:6379"), redis()]);
    let redis_cli = |command: &[&str]| {
        Invocation::new("redis-cli")
            .args(["-p", &port.to_string()])
            .args(command)
            .within(Duration::from_secs(20))
            .finish()
    };
    until("redis to answer", BOOT, || (redis_cli(&["ping"]).line() == "PONG").then_some(()));
    redis_cli(&["set", "key", "value"]).succeeds();
    redis_cli(&["get", "key"]).succeeds().prints("value\n");
    // The entrypoint runs as the image's user, in the image's directory.
    vm.sh("id -un; readlink /proc/$(pidof redis-server)/cwd").prints("redis\n/data\n");
    host.does(["ps"]).succeeds().says(&format!("127.0.0.1:{port}->6379/tcp"));
    vm.does("stop").succeeds();
    assert_eq!(redis_cli(&["ping"]).code, 1, "a stopped VM's port is closed");
}

pub fn cpus_memory_disk_and_network_are_those_asked_for() {
    let script = "nproc; awk '/MemTotal/{print $2}' /proc/meminfo; df -k / | awk 'END{print $2}'; ls /sys/class/net";
    let outcome = Host::shared().run([
        "--rm",
        "--cpus",
        "2",
        "--memory",
        "256MB",
        "--size",
        "1GB",
        "--network",
        "none",
        busybox(),
        "sh",
        "-c",
        script,
    ]);
    let text = outcome.succeeds().text();
    let lines: Vec<&str> = text.lines().collect();
    let [cpus, memory, disk, interface] = lines[..] else { panic!("expected four lines of {outcome}") };
    assert_eq!((cpus, interface), ("2", "lo"));
    let kib = |text: &str| text.parse::<u64>().unwrap_or_else(|_| panic!("expected a number of {outcome}"));
    assert!((180_000..=262_144).contains(&kib(memory)), "memory of {outcome}");
    assert!((900_000..=1_048_576).contains(&kib(disk)), "disk of {outcome}");
}

pub fn a_private_root_disk_is_a_plain_ext4() {
    let script = "awk '$2==\"/\"{t=$3} END{print t}' /proc/mounts; echo kept > /file; sync; cat /file; df -k / | awk 'END{print ($2>900000)}'";
    let host = Host::shared();
    host.run(["--rm", "--root-disk", "private", "--size", "1GB", busybox(), "sh", "-c", script])
        .succeeds()
        .prints("ext4\nkept\n1\n");
}

pub fn a_task_in_the_background_can_be_followed_attached_and_awaited() {
    let host = Host::shared();
    let vm = host.vm("background");
    let script = "echo started; echo warned >&2; until [ -e /go ]; do sleep 0.1; done; echo finished; exit 4";
    let id = vm.running(["-d", busybox(), "sh", "-c", script]).finish().succeeds().line();
    assert_eq!(id, vm.uid(), "run -d prints the id and nothing else");
    until("the first line in the log", QUICK, || vm.does("logs").text().contains("started").then_some(()));

    let mut attached = host.ignite(["attach", vm.name()]).start();
    let mut followed = host.ignite(["logs", "-f", vm.name()]).start();
    followed.prints_sometime("started");
    let waiting = host.ignite(["wait", vm.name()]).start();
    vm.exec(["touch", "/go"]).succeeds();
    attached.prints_sometime("finished");
    attached.finish().exits(4);
    followed.finish().succeeds().says("finished");
    waiting.finish().succeeds().prints("4\n");

    let object = vm.inspect();
    assert_eq!((&object["status"]["phase"], &object["status"]["exitCode"]), (&"Stopped".into(), &4.into()));
    vm.does("logs").succeeds().prints("started\nfinished\n").complains("warned");
}

pub fn a_stopped_task_keeps_its_files_and_starts_again() {
    let host = Host::shared();
    let vm = host.vm("again");
    let script = "trap 'exit 0' TERM; date +%N >> /starts; rm -f /etc/group; while :; do sleep 0.1; done";
    vm.create([busybox(), "sh", "-c", script]).succeeds();
    assert_eq!(vm.phase(), "Created");
    vm.does("start").succeeds();
    until("the first start's line", QUICK, || (vm.sh("wc -l < /starts").line() == "1").then_some(()));
    vm.does("restart").succeeds();
    until("the second start's line", QUICK, || (vm.sh("wc -l < /starts").line() == "2").then_some(()));
    vm.exec(["test", "-e", "/etc/group"]).exits(1);
    vm.does("stop").succeeds();
    assert_eq!(vm.phase(), "Stopped");
    vm.does("stop").succeeds();
    vm.does("rm").succeeds();
}

pub fn a_task_that_ignores_sigterm_is_killed_in_time() {
    let host = Host::shared();
    let vm = host.vm("stubborn");
    vm.run_in_background([
        "--stop-timeout",
        "2",
        busybox(),
        "sh",
        "-c",
        "trap '' TERM; echo deaf; while :; do sleep 1; done",
    ]);
    until("the trap", QUICK, || vm.does("logs").text().contains("deaf").then_some(()));
    let outcome = vm.does("stop");
    outcome.succeeds();
    assert!((2.0..60.0).contains(&outcome.took.as_secs_f64()), "the grace of 2 s of {outcome}");
    assert_eq!(vm.inspect()["status"]["exitCode"], 137);
}
