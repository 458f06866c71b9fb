//! The embedded program boots real guests. Needs a kernel: set `IGNITE_TEST_KERNEL` to a `vmlinux` and
//! `IGNITE_TEST_MODULES` to its `lib/modules/<release>`; otherwise each test says that it is skipped.

#![allow(clippy::print_stderr, reason = "what was skipped and what was measured is said in the output")]

mod guest;

use guest::{Disks, Guest, Kernel, collect, configuration, feed, read_all, sh};
use ignite_agent_protocol::client::{Stream, StreamEvent};
use ignite_agent_protocol::message::{
    Dns, ExitingCause, FileToWrite, GuestMessage, HostMessage, HostsEntry, Interface, Open, Process, Role, Route,
    ShutdownAction, StreamExit, StreamRequest, WindowSize,
};

#[tokio::test]
async fn a_task_runs_and_ends_the_vm_with_its_code() {
    let Some(kernel) = Kernel::from_environment("a task") else { return };
    let disks = Disks::make(&kernel, &[]);
    let mut guest = Guest::boot(&kernel, &disks).await;
    let script = "echo out; echo err >&2; cat; id -u; pwd; echo $HOME $HOSTNAME; readlink /proc/1/exe; exit 7";
    let task = Process { stdin: true, user: "app".into(), working_dir: "/made/here".into(), ..sh(script) };
    let Stream { stdin, output } = guest.connection.task_stream().unwrap();
    let configured = guest.configure(configuration(Role::Task(task))).await;
    assert!(matches!(configured, GuestMessage::Configured { .. }), "{configured:?}");
    let feeding = feed(stdin, b"from the host\n".to_vec());
    let outcome = collect(output).await;
    feeding.await.unwrap();
    assert_eq!(outcome.stdout, "out\nfrom the host\n100\n/made/here\n/home/app vm\n");
    assert_eq!(outcome.stderr, "err\n");
    assert_eq!(outcome.exit, StreamExit::Exited { code: 7 });
    assert_eq!(guest.next_event().await, Some(GuestMessage::Exiting { cause: ExitingCause::TaskExited }));
    guest.wait_for_end().await;
    eprintln!("whole run {:.2?}; console: {:?}", guest.started.elapsed(), guest.console_text());
}

fn interface() -> Interface {
    Interface {
        mac: "52:54:00:00:00:02".into(),
        name: "lan0".into(),
        addresses: vec!["10.61.0.2/16".into(), "fd61::2/64".into()],
        routes: vec![
            Route { destination: "0.0.0.0/0".into(), gateway: Some("10.61.0.1".into()) },
            Route { destination: "192.0.2.0/24".into(), gateway: Some("172.16.0.1".into()) },
            Route { destination: "198.51.100.0/24".into(), gateway: None },
            Route { destination: "::/0".into(), gateway: Some("fd61::1".into()) },
        ],
        mtu: Some(1400),
    }
}

#[tokio::test]
async fn a_vm_is_what_configure_says() {
    let Some(kernel) = Kernel::from_environment("identity") else { return };
    let disks = Disks::make(&kernel, &[]);
    let mut guest = Guest::boot(&kernel, &disks).await;
    let mut configure = configuration(Role::Idle);
    configure.hostname = "web.lan".into();
    configure.interfaces = vec![interface()];
    configure.dns = Some(Dns { servers: vec!["10.61.0.1".into()], search: vec!["lan".into()], options: vec![] });
    configure.hosts = vec![HostsEntry { address: "10.61.0.3".into(), names: vec!["db".into()] }];
    configure.peers = vec![HostsEntry { address: "10.61.0.4".into(), names: vec!["cache".into()] }];
    configure.ssh_authorized_keys = vec!["ssh-ed25519 AAAA me".into()];
    configure.files = vec![FileToWrite {
        path: "/srv/new/secret".into(),
        mode: 0o640,
        uid: 100,
        gid: 101,
        contents_hex: "6869".into(),
    }];
    let configured = guest.configure(configure).await;
    assert!(matches!(configured, GuestMessage::Configured { .. }), "{configured:?}");
    let table = [
        ("hostname; cat /etc/hostname", "web.lan\nweb.lan\n"),
        ("cat /etc/resolv.conf", "nameserver 10.61.0.1\nsearch lan\n"),
        (
            "tail -n 6 /etc/hosts | grep -v '^#'",
            "10.61.0.3\tdb\n10.61.0.2\tweb.lan web\nfd61::2\tweb.lan web\n10.61.0.4\tcache\n",
        ),
        ("stat -c '%a %u %g' /srv/new/secret; cat /srv/new/secret", "640 100 101\nhi"),
        (
            "stat -c %a /root/.ssh /root/.ssh/authorized_keys; cat /root/.ssh/authorized_keys",
            "700\n600\nssh-ed25519 AAAA me\n",
        ),
        ("cat /sys/class/net/lan0/mtu /sys/class/net/lan0/flags", "1400\n0x1003\n"),
        ("ip -4 -o addr show lan0 | grep -o 'inet [^ ]* brd [^ ]*'", "inet 10.61.0.2/16 brd 10.61.255.255\n"),
        ("ip -6 -o addr show lan0 | grep -o 'fd61[^ ]*'", "fd61::2/64\n"),
        (
            "ip route | grep -c -e 'default via 10.61.0.1 dev lan0' -e '192.0.2.0/24 via 172.16.0.1 dev lan0 onlink' -e '198.51.100.0/24 dev lan0'",
            "3\n",
        ),
        ("ip -6 route | grep -c 'default via fd61::1 dev lan0'", "1\n"),
        ("ip -o addr show lo | grep -c 127.0.0.1/8", "1\n"),
        ("date -u +%Y-%m-%d", "2027-01-15\n"),
        (
            "cat /var/lib/docker/seed; grep -c ' /var/lib/docker ext4 ' /proc/mounts; stat -f -c %t /",
            "seed1\n794c7630\n",
        ),
        ("ls -d /var/lib/docker; ls /lib/modules/$(uname -r)", "/var/lib/docker\nmodules.dep\n"),
        // A task gets no directory that its image does not have.
        ("ls /var/lib", "docker\n"),
        ("ls -l /dev/fd /dev/stdin | grep -o '/dev/.*'", "/dev/fd -> /proc/self/fd\n/dev/stdin -> /proc/self/fd/0\n"),
        (
            "for m in proc sysfs devtmpfs devpts tmpfs mqueue cgroup2 overlay; do grep -q \" $m \" /proc/mounts || echo no $m; done",
            "",
        ),
        ("ls /init /modules 2>&1 | grep -c 'No such file'", "2\n"),
        ("cat /proc/1/comm; readlink /proc/1/fd/0", "init\n/dev/console\n"),
    ];
    for (script, expected) in table {
        let outcome = guest.sh(script).await;
        assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), (expected, ""), "{script}");
    }
    let peers = vec![HostsEntry { address: "10.61.0.5".into(), names: vec!["late".into()] }];
    guest.connection.send(&HostMessage::SetPeers { peers }).unwrap();
    let outcome = guest.sh("tail -n 4 /etc/hosts | grep -v '^#'").await;
    assert_eq!(outcome.stdout, "fd61::2\tweb.lan web\n10.61.0.5\tlate\n", "{outcome:?}");
    guest.connection.send(&HostMessage::Shutdown { action: ShutdownAction::Poweroff, grace_ms: 1000 }).unwrap();
    assert_eq!(guest.next_event().await, Some(GuestMessage::Exiting { cause: ExitingCause::Poweroff }));
    guest.wait_for_end().await;
}

#[tokio::test]
async fn processes_are_as_in_a_container() {
    let Some(kernel) = Kernel::from_environment("exec") else { return };
    let disks = Disks::make(&kernel, &[("opt/not-executable", "x", 0o644), ("opt/bad-format", "\u{1}\u{2}", 0o755)]);
    let mut guest = Guest::boot(&kernel, &disks).await;
    guest.configure(configuration(Role::Idle)).await;

    // Exit codes, as Docker has them.
    let program = |name: &str| Process { args: vec![name.into()], ..Process::default() };
    let codes = [
        (program("no-such-program"), 127),
        (program("/no/such/program"), 127),
        (program("/opt/not-executable"), 126),
        (program("/opt/bad-format"), 126),
        (program("/opt"), 126),
        (Process { user: "nobody-here".into(), ..sh("true") }, 125),
        (Process { args: vec![], ..Process::default() }, 125),
        (sh("exit 3"), 3),
        (sh("kill -9 $$"), 137),
    ];
    for (process, code) in codes {
        let outcome = guest.exec(process.clone()).await;
        assert_eq!(outcome.exit.exit_code(), code, "{process:?}: {outcome:?}");
    }

    // Users, environment, directory.
    let env = [("PATH".to_owned(), "/bin:/sbin".to_owned()), ("A".to_owned(), "x y".to_owned())].into();
    let process = Process { user: "app".into(), env, working_dir: "/tmp".into(), ..sh("id; pwd; env | sort; umask") };
    let outcome = guest.exec(process).await;
    assert_eq!(
        outcome.stdout,
        "uid=100(app) gid=101(app) groups=44(extra)\n/tmp\nA=x y\nHOME=/home/app\nHOSTNAME=vm\nPATH=/bin:/sbin\nPWD=/tmp\nSHLVL=1\n0022\n"
    );
    // Signals and file descriptors of the agent are not inherited.
    let outcome = guest.sh("grep -E 'SigBlk|SigIgn' /proc/self/status; ls /proc/self/fd").await;
    assert_eq!(outcome.stdout, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n0\n1\n2\n3\n");

    // A background process that keeps the output open is not waited for.
    let outcome = guest.sh("echo started; sleep 1000 &").await;
    assert_eq!((outcome.stdout.as_str(), outcome.exit), ("started\n", StreamExit::Exited { code: 0 }));

    // Large amounts in both directions, through windows, while another stream works.
    let size = 3 << 20;
    let data: Vec<u8> = (0..size).map(|i: usize| (i * 7 + i / 251) as u8).collect();
    let (_, stream) = guest
        .open(Open::Exec(Process { stdin: true, ..sh("md5sum; head -c 3000000 /dev/zero | tr '\\0' x") }))
        .await
        .unwrap();
    let Stream { stdin, output } = stream;
    let feeding = feed(stdin, data.clone());
    assert_eq!(guest.sh("echo meanwhile").await.stdout, "meanwhile\n");
    let outcome = collect(output).await;
    feeding.await.unwrap();
    assert_eq!(outcome.stdout.len(), 36 + 3_000_000);
    assert!(outcome.stdout.starts_with(&md5(&data)), "{}", &outcome.stdout[..40]);

    // A stream that nobody reads holds up nobody.
    let (_, slow) = guest.open(Open::Exec(sh("yes"))).await.unwrap();
    assert_eq!(guest.sh("echo meanwhile").await.stdout, "meanwhile\n");
    drop(slow);
    let outcome =
        guest.sh("for i in 1 2 3 4 5 6 7 8 9; do pidof yes >/dev/null || break; sleep 1; done; pidof yes").await;
    assert_eq!(outcome.stdout, "", "closing ends what runs");

    // Signals.
    let (_, stream) =
        guest.open(Open::Exec(sh("trap 'echo got; exit 5' INT; echo ready; while :; do sleep 1; done"))).await.unwrap();
    let Stream { stdin: _stdin, mut output } = stream;
    let Some(StreamEvent::Stdout(ready)) = output.recv().await else { panic!() };
    assert_eq!(ready, "ready\n");
    output.request(StreamRequest::Signal { signal: 2 }).unwrap();
    let outcome = collect(output).await;
    assert_eq!((outcome.stdout.as_str(), outcome.exit), ("got\n", StreamExit::Exited { code: 5 }));

    // Many at once.
    let many = (0..40).map(|i| guest.exec(sh(&format!("echo {i}; exit {i}"))));
    for (i, outcome) in join_all(many).await.into_iter().enumerate() {
        assert_eq!((outcome.stdout, outcome.exit.exit_code()), (format!("{i}\n"), i as u8));
    }
    let zombies = guest.sh("ps -o stat | grep -c Z").await;
    assert_eq!(zombies.stdout, "0\n");

    let mut times = Vec::new();
    for _ in 0..20 {
        let start = std::time::Instant::now();
        guest.exec(Process { args: vec!["/bin/true".into()], ..Process::default() }).await;
        times.push(start.elapsed());
    }
    times.sort();
    eprintln!("exec /bin/true: min {:.2?} median {:.2?} max {:.2?}", times[0], times[10], times[19]);

    // The image's own poweroff ends an idle VM.
    guest.sh("poweroff").await;
    assert_eq!(guest.next_event().await, Some(GuestMessage::Exiting { cause: ExitingCause::Poweroff }));
    guest.wait_for_end().await;
}

async fn join_all<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut pending: Vec<_> = futures.map(|f| (Box::pin(f), None)).collect();
    std::future::poll_fn(|context| {
        let mut is_pending = false;
        for (future, output) in &mut pending {
            if output.is_none() {
                match future.as_mut().poll(context) {
                    std::task::Poll::Ready(ready) => *output = Some(ready),
                    std::task::Poll::Pending => is_pending = true,
                }
            }
        }
        if is_pending { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
    })
    .await;
    pending.into_iter().filter_map(|(_, output)| output).collect()
}

fn md5(data: &[u8]) -> String {
    use std::io::Write;
    let mut child = std::process::Command::new("md5sum")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(data).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()[..32].to_owned()
}

#[tokio::test]
async fn terminals_work() {
    let Some(kernel) = Kernel::from_environment("tty") else { return };
    let disks = Disks::make(&kernel, &[]);
    let mut guest = Guest::boot(&kernel, &disks).await;
    guest.configure(configuration(Role::Idle)).await;
    let size = Some(WindowSize { rows: 33, cols: 77 });
    let shell = Process {
        tty: true,
        stdin: true,
        size,
        user: "app".into(),
        ..Process { args: vec!["sh".into()], ..Process::default() }
    };
    let (opened, stream) = guest.open(Open::Exec(shell)).await.unwrap();
    assert!(opened.pid.is_some());
    let requests = stream.requests();
    let Stream { mut stdin, mut output } = stream;
    let mut seen = String::new();
    let mut expect = async |output: &mut ignite_agent_protocol::client::StreamOutput, wanted: &str| {
        while !seen.contains(wanted) {
            match tokio::time::timeout(guest::PATIENCE, output.recv()).await.unwrap_or_else(|_| panic!("{seen:?}")) {
                Some(StreamEvent::Stdout(bytes)) => seen.push_str(&String::from_utf8_lossy(&bytes)),
                other => panic!("{other:?} after {seen:?}"),
            }
        }
        seen.clear();
    };
    stdin.write("stty size; tty; echo $TERM; echo done-$((1+1))\n".into()).await.unwrap();
    expect(&mut output, "done-2").await;
    stdin.write("stty size | tr ' ' x\n".into()).await.unwrap();
    expect(&mut output, "33x77").await;
    requests.send(StreamRequest::Resize(WindowSize { rows: 50, cols: 132 })).unwrap();
    stdin.write("stty size | tr ' ' x; echo in-$((2+2)); sleep 1000\n".into()).await.unwrap();
    expect(&mut output, "50x132").await;
    expect(&mut output, "in-4").await;
    // Ctrl-C reaches the program in the foreground, once it is there, and not the shell.
    guest.sh("while ! grep -q '^sleep' /proc/[0-9]*/cmdline; do :; done; for p in $(pidof sleep); do while [ $(cut -d' ' -f5 /proc/$p/stat) != $(cut -d' ' -f8 /proc/$p/stat) ]; do :; done; done").await;
    stdin.write("\u{3}".into()).await.unwrap();
    stdin.write("echo code-$?; exit 9\n".into()).await.unwrap();
    expect(&mut output, "code-130").await;
    assert_eq!(collect(output).await.exit, StreamExit::Exited { code: 9 });
    let last = Process { tty: true, ..sh("seq 1 5000") };
    let (_, stream) = guest.open(Open::Exec(last)).await.unwrap();
    assert!(read_all(stream).await.stdout.ends_with("4999\r\n5000\r\n"), "nothing is lost at the end of a terminal");
}

#[tokio::test]
async fn files_are_copied_and_ports_reached() {
    let Some(kernel) = Kernel::from_environment("copy") else { return };
    let disks = Disks::make(&kernel, &[]);
    let mut guest = Guest::boot(&kernel, &disks).await;
    guest.configure(configuration(Role::Idle)).await;
    guest.sh("mkdir -p /data/sub; head -c 700000 /dev/urandom >/data/sub/big; ln -s sub/big /data/link; chown app /data/sub/big; chmod 4711 /data/sub/big").await;
    let (_, stream) = guest.open(Open::CopyOut { path: "/data".into(), follow: false }).await.unwrap();
    let Stream { stdin, mut output } = stream;
    drop(stdin);
    let mut archive = Vec::new();
    let exit = loop {
        match output.recv().await.unwrap() {
            StreamEvent::Stdout(bytes) => archive.extend(bytes),
            StreamEvent::Exit(exit) => break exit,
            _ => {}
        }
    };
    assert_eq!(exit, StreamExit::Exited { code: 0 });
    guest.sh("mkdir /copy").await;
    let (_, stream) = guest.open(Open::CopyIn { path: "/copy".into(), keep_owner: true }).await.unwrap();
    let Stream { stdin, output } = stream;
    let feeding = feed(stdin, archive);
    assert_eq!(collect(output).await.exit, StreamExit::Exited { code: 0 });
    feeding.await.unwrap();
    let same = guest
        .sh("cmp /data/sub/big /copy/data/sub/big && stat -c '%U %a' /copy/data/sub/big; readlink /copy/data/link")
        .await;
    assert_eq!(same.stdout, "app 4711\nsub/big\n");

    // Failures say what failed.
    for open in [
        Open::CopyOut { path: "/none".into(), follow: false },
        Open::CopyIn { path: "/none".into(), keep_owner: false },
    ] {
        assert!(guest.open(open).await.is_err());
    }
    let (_, stream) = guest.open(Open::CopyIn { path: "/copy".into(), keep_owner: false }).await.unwrap();
    let Stream { stdin, output } = stream;
    drop(feed(stdin, vec![b'x'; 4096]));
    let StreamExit::Failed { code: 125, message } = collect(output).await.exit else { panic!() };
    assert!(message.contains("copy"), "{message}");

    // A copy that nobody reads holds up the end of nothing else.
    let (_, cat) = guest.open(Open::Exec(Process { stdin: true, ..sh("cat") })).await.unwrap();
    guest.sh("head -c 3000000 /dev/zero >/data/large").await;
    let (_, _stalled) = guest.open(Open::CopyOut { path: "/data/large".into(), follow: false }).await.unwrap();
    assert_eq!(read_all(cat).await.exit, StreamExit::Exited { code: 0 });

    let (opened, _) = guest.open(Open::Stat { path: "/data/link".into() }).await.unwrap();
    let stat = opened.stat.unwrap();
    assert_eq!((stat.mode & 0o170_000, stat.link_target.as_deref()), (0o120_000, Some("sub/big")));

    assert!(guest.open(Open::Connect { port: 9 }).await.is_err());
    let (_, server) = guest.open(Open::Exec(sh("nc -l -p 7000 -e tr a-z A-Z & sleep 1; echo up; wait"))).await.unwrap();
    let Stream { stdin: _stdin, output: mut server } = server;
    assert!(matches!(server.recv().await, Some(StreamEvent::Stdout(_))));
    let (_, stream) = guest.open(Open::Connect { port: 7000 }).await.unwrap();
    let Stream { stdin, output } = stream;
    let feeding = feed(stdin, b"through the guest".to_vec());
    let outcome = collect(output).await;
    feeding.await.unwrap();
    assert_eq!((outcome.stdout.as_str(), outcome.exit), ("THROUGH THE GUEST", StreamExit::Exited { code: 0 }));
}

#[tokio::test]
async fn what_was_written_is_there_at_the_next_boot() {
    let Some(kernel) = Kernel::from_environment("restart") else { return };
    let disks = Disks::make(&kernel, &[]);
    let before = std::fs::read(disks.path("base")).unwrap();
    for (script, expected) in [
        ("echo 1 >/root/file; echo 2 >/var/lib/docker/more; rm /var/lib/docker/seed; mv /usr/lib /usr/lib2", ""),
        ("cat /root/file /var/lib/docker/more; ls /var/lib/docker; ls -d /usr/lib2", "1\n2\nmore\n/usr/lib2\n"),
    ] {
        let mut guest = Guest::boot(&kernel, &disks).await;
        let task = guest.connection.task_stream().unwrap();
        let mut configure = configuration(Role::Task(sh(script)));
        configure.modules = None;
        guest.configure(configure).await;
        let outcome = read_all(task).await;
        assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), (expected, ""));
        guest.wait_for_end().await;
    }
    assert!(std::fs::read(disks.path("base")).unwrap() == before, "the base is never written");
    // The writable disk was unmounted cleanly.
    let state =
        std::process::Command::new("/usr/sbin/dumpe2fs").arg("-h").arg(disks.path("writable")).output().unwrap();
    let state = String::from_utf8(state.stdout).unwrap();
    assert!(!state.contains("needs_recovery"), "{state}");
}

#[tokio::test]
async fn failures_of_the_set_up_are_named_and_end_the_vm() {
    let Some(kernel) = Kernel::from_environment("failures") else { return };
    let disks = Disks::make(&kernel, &[]);
    let no_disk = {
        let mut configure = configuration(Role::Idle);
        configure.interfaces = vec![Interface { addresses: vec!["bad".into()], ..interface() }];
        configure
    };
    let no_program = configuration(Role::Task(Process { args: vec!["nothing".into()], ..Process::default() }));
    let no_init = configuration(Role::Machine { args: vec!["/sbin/nothing".into()], env: Default::default() });
    let table = [
        (no_disk, "configure the network", 125),
        (no_program, "start the command", 127),
        (no_init, "start the command", 127),
    ];
    for (configure, expected_step, expected_code) in table {
        let mut guest = Guest::boot(&kernel, &disks).await;
        match guest.configure(configure).await {
            GuestMessage::ConfigureFailed { step, message, exit_code } => {
                eprintln!("{step}: {message}");
                assert_eq!((step.as_str(), exit_code), (expected_step, expected_code));
            }
            other => panic!("{other:?}"),
        }
        guest.wait_for_end().await;
    }
}

#[tokio::test]
async fn a_task_is_stopped_by_its_signal_then_killed() {
    let Some(kernel) = Kernel::from_environment("stop") else { return };
    let disks = Disks::make(&kernel, &[]);
    let stop = |grace_ms| HostMessage::Shutdown { action: ShutdownAction::Poweroff, grace_ms };
    let polite =
        Process { stop_signal: Some(12), ..sh("trap 'echo bye; exit 4' USR2; echo up; while :; do sleep 1; done") };
    let stubborn = sh("trap '' TERM; echo up; while :; do sleep 1; done");
    for (task, grace_ms, code) in [(polite, 60_000, 4), (stubborn, 500, 137)] {
        let mut guest = Guest::boot(&kernel, &disks).await;
        let Stream { stdin: _stdin, mut output } = guest.connection.task_stream().unwrap();
        guest.configure(configuration(Role::Task(task))).await;
        let Some(StreamEvent::Stdout(up)) = output.recv().await else { panic!() };
        assert_eq!(up, "up\n");
        guest.connection.send(&stop(grace_ms)).unwrap();
        assert_eq!(collect(output).await.exit.exit_code(), code);
        assert_eq!(guest.next_event().await, Some(GuestMessage::Exiting { cause: ExitingCause::TaskExited }));
        guest.wait_for_end().await;
    }
}

#[tokio::test]
async fn a_host_that_comes_back_is_greeted() {
    let Some(kernel) = Kernel::from_environment("reconnect") else { return };
    let disks = Disks::make(&kernel, &[]);
    let mut guest = Guest::boot(&kernel, &disks).await;
    guest.configure(configuration(Role::Idle)).await;
    let (_, _lost) = guest.open(Open::Exec(sh("exec sleep 1000"))).await.unwrap();
    let mut guest = guest.reconnect().await;
    assert!(matches!(guest.next_event().await, Some(GuestMessage::Configured { .. })));
    let outcome = guest.sh("for i in 1 2 3 4 5; do pidof sleep >/dev/null || break; sleep 1; done; pidof sleep").await;
    assert_eq!(outcome.stdout, "", "what the lost host had opened is ended");
    let idle =
        guest.sh("a=$(cut -d' ' -f14 /proc/1/stat); sleep 2; echo $(($(cut -d' ' -f14 /proc/1/stat) - a))").await;
    assert!(idle.stdout.trim().parse::<u32>().unwrap() < 20, "the agent does not spin: {idle:?}");
}
