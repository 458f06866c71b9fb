//! `exec`: commands in a running VM, which these tests share.

use ignite_e2e::images::busybox;
use ignite_e2e::wait::QUICK;
use ignite_e2e::{Host, Terminal, Vm};
use std::sync::{Mutex, MutexGuard};

static SHARED: Mutex<Option<Vm<'static>>> = Mutex::new(None);

/// The VM these tests share, started by the first. It stays until [`end_shared_vm`].
pub(super) fn with_vm(test: impl FnOnce(&Vm<'static>)) {
    let name = {
        let mut shared = lock();
        let vm = shared.get_or_insert_with(|| {
            let vm = Host::shared().vm("shared");
            vm.run_in_background(["-e", "FROM_RUN=1", busybox(), "sleep", "100000"]);
            vm
        });
        vm.name().to_string()
    };
    // Another handle of the same VM, so that tests run side by side; dropping it must not remove the VM.
    let handle = std::mem::ManuallyDrop::new(Host::shared().existing_vm(name));
    test(&handle);
}

/// Removes the shared VM.
pub fn end_shared_vm() {
    drop(lock().take());
}

fn lock() -> MutexGuard<'static, Option<Vm<'static>>> {
    SHARED.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

pub fn the_exit_code_is_the_commands() {
    with_vm(|vm| {
        vm.exec(["true"]).succeeds().prints("");
        vm.sh("exit 42").exits(42);
        vm.sh("kill -9 $$").exits(137);
    });
}

pub fn what_cannot_be_run_exits_as_in_docker() {
    with_vm(|vm| {
        vm.exec(["no-such-program"]).exits(127).complains("no-such-program");
        vm.exec(["/etc/passwd"]).exits(126).complains("/etc/passwd");
        vm.exec(["/etc"]).exits(126);
        vm.exec_with(["-u", "nobody-knows"], ["true"]).finish().fails().complains("nobody-knows");
    });
    Host::shared().does(["exec", "no-such-vm", "true"]).gives_a_hint().complains("no-such-vm");
}

pub fn streams_are_separate_and_binary_clean() {
    with_vm(|vm| {
        vm.sh("echo out; echo err >&2").succeeds().prints("out\n").complains("err");
        // Without -i the command has no input, even when the caller has.
        vm.exec_with::<&str, _>([], ["cat"]).stdin("ignored").finish().succeeds().prints("");
        let all_bytes: Vec<u8> = (0..=255).collect();
        let outcome = vm.exec_with(["-i"], ["cat"]).stdin(all_bytes.clone()).finish();
        assert_eq!(outcome.succeeds().stdout, all_bytes);
        // A command that does not read its input to the end ends all the same.
        vm.exec_with(["-i"], ["head", "-c", "1"]).stdin(vec![b'x'; 1 << 20]).finish().succeeds().prints("x");
    });
}

pub fn environment_user_and_directory_are_those_asked_for() {
    with_vm(|vm| {
        vm.sh("echo $FROM_RUN,$FROM_EXEC,$PWD,$(id -u),$HOME").prints("1,,/,0,/root\n");
        let outcome = vm.exec_with(
            ["-e", "FROM_EXEC=a b", "-w", "/var/www", "-u", "app"],
            ["sh", "-c", "echo $FROM_EXEC,$PWD,$(id -u):$(id -g),$HOME"],
        );
        outcome.finish().succeeds().prints("a b,/var/www,1000:1000,/home\n");
        vm.exec_with(["-u", "1234:26"], ["sh", "-c", "id -u; id -g"]).finish().succeeds().prints("1234\n26\n");
    });
}

pub fn a_terminal_has_a_size_that_follows_and_ctrl_c() {
    with_vm(|vm| {
        let mut terminal = Terminal::open(vm.exec_with(["-it"], ["sh"]));
        terminal.shows("# ").types("stty size; echo $TERM\r").shows("24 80").shows("xterm");
        terminal.resizes(50, 100).types("stty size\r").shows("50 100");
        terminal
            .types("echo go; sleep 1000\r")
            .shows("\r\ngo\r\n")
            .types("\x03")
            .shows("^C")
            .types("echo after=$?\r")
            .shows("after=130");
        terminal.types("\x04");
        terminal.finish().succeeds();
        // Without a terminal of one's own -t is refused, as Docker does.
        vm.exec_with(["-it"], ["sh"]).within(QUICK).finish().fails().complains("not a TTY");
    });
}

pub fn many_at_once_do_not_mix() {
    with_vm(|vm| {
        let running: Vec<_> = (0..8)
            .map(|n| {
                vm.exec_with(["-i"], ["sh", "-c", &format!("read x; echo {n}:$x; exit {n}")])
                    .stdin(format!("in{n}\n"))
                    .start()
            })
            .collect();
        for (n, one) in running.into_iter().enumerate() {
            one.finish().exits(n as i32).prints(&format!("{n}:in{n}\n"));
        }
    });
}

pub fn some_megabytes_arrive_unchanged() {
    with_vm(|vm| {
        // Xorshift: bytes in which a lost or doubled chunk shows.
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let bytes: Vec<u8> = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[0]
        })
        .take(3 << 20)
        .collect();
        let outcome = vm.exec_with(["-i"], ["cat"]).stdin(bytes.clone()).finish();
        assert!(outcome.succeeds().stdout == bytes, "{} bytes came back, other than sent", outcome.stdout.len());
    });
}
