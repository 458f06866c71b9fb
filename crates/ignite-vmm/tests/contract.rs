//! What every VMM must do, checked on every row: each of the driver table, and the fake.
//!
//! The guest is `tiny_guest/guest.c`, or for the fake a closure that does the same.

mod tiny_guest;

use ignite_vmm::fake::{FakeDriver, FakeGuest};
use ignite_vmm::firecracker::FirecrackerDriver;
use ignite_vmm::{
    Accelerator, BootSpec, Console, Drive, DriveLimits, Driver, Exit, ExitCause, IsolationWanted, Machine, Nic,
    NicBackend, RunDir, TrafficLimits, VmmError, drivers, huge_pages,
};
use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, PidfdFlags};
use std::future::Future;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tiny_guest::tiny_guest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Generous: the hosts these tests run on may be busy.
const DEADLINE: Duration = Duration::from_secs(60);

/// A driver, and what it needs to boot the tiny guest.
struct Row {
    driver: Arc<dyn Driver>,
    is_process: bool,
    dir: TempDir,
}

#[allow(clippy::print_stderr, reason = "a skipped row says why")]
fn rows() -> Vec<Row> {
    let mut rows = vec![row(Arc::new(FakeDriver::new(fake_guest)), false)];
    // Asked for by name it runs also where ordinary guests do not.
    let given = std::env::var_os("IGNITE_TEST_FIRECRACKER");
    match (&given, tiny_guest()) {
        (None, _) => {}
        (Some(_), None) => eprintln!("SKIPPED for firecracker: gcc cannot build the tiny guest here"),
        (Some(program), Some(_)) => rows.push(row(Arc::new(FirecrackerDriver::at(program)), true)),
    }
    for driver in drivers::all(&drivers::Programs::default()) {
        if driver.name() == "firecracker" && given.is_some() {
            continue;
        }
        match (driver.capabilities(), tiny_guest()) {
            (Err(error), _) => eprintln!("SKIPPED for {}: {error}", driver.name()),
            (Ok(_), None) => eprintln!("SKIPPED for {}: gcc cannot build the tiny guest here", driver.name()),
            (Ok(_), Some(_)) => rows.push(row(driver, true)),
        }
    }
    rows
}

/// The rows that start a process.
fn process_rows() -> Vec<Row> {
    rows().into_iter().filter(|row| row.is_process).collect()
}

fn row(driver: Arc<dyn Driver>, is_process: bool) -> Row {
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("initramfs"), "unused").unwrap();
    Row { driver, is_process, dir }
}

/// Machines of one host never share an id: their control groups are named by it.
fn unique_id() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("contract-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

async fn fake_guest(mut guest: FakeGuest) -> ExitCause {
    let line = guest.spec.cmdline.clone();
    guest.console.write_all(format!("tiny guest: {line}\n").as_bytes()).await.ok();
    match line.as_str() {
        "do=poweroff" => ExitCause::GuestPoweroff,
        "do=reset" => ExitCause::GuestReset,
        "do=panic" => ExitCause::GuestPanic,
        "do=echo" => {
            guest.console.write_all(b"echoing\n").await.ok();
            let (mut reader, mut writer) = tokio::io::split(guest.agent);
            tokio::io::copy(&mut reader, &mut writer).await.ok();
            std::future::pending().await
        }
        _ => std::future::pending().await,
    }
}

impl Row {
    fn name(&self) -> &'static str {
        self.driver.name()
    }

    fn kernel(&self) -> PathBuf {
        let Some((guest, guest64)) = tiny_guest() else { return "none".into() };
        if self.is_firecracker() { guest64.clone() } else { guest.clone() }
    }

    fn is_firecracker(&self) -> bool {
        self.name() == "firecracker"
    }

    /// What this VMM can tell of an end: Firecracker knows resets only.
    fn told(&self, cause: ExitCause) -> ExitCause {
        if self.is_firecracker() { ExitCause::GuestReset } else { cause }
    }

    fn spec(&self, order: &str) -> BootSpec {
        BootSpec {
            cmdline: format!("do={order}"),
            mem_size_mib: 64,
            accelerator: (self.name() != "firecracker").then_some(Accelerator::Tcg),
            ..BootSpec::new(unique_id(), self.kernel(), self.dir.path().join("initramfs"))
        }
    }

    async fn try_boot(&self, spec: &BootSpec) -> Result<Box<dyn Machine>, VmmError> {
        self.driver.boot(spec, &RunDir(self.dir.path().to_owned())).await
    }

    async fn boot(&self, order: &str) -> Box<dyn Machine> {
        self.try_boot(&self.spec(order)).await.unwrap_or_else(|error| panic!("{}: {error}", self.name()))
    }

    fn drive(&self, name: &str, is_read_only: bool) -> Drive {
        let path = self.dir.path().join(name);
        std::fs::File::create(&path).unwrap().set_len(1024 * 1024).unwrap();
        Drive { id: name.into(), path, is_read_only, is_pmem: false, limits: DriveLimits::default() }
    }
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.unwrap_or_else(|_| panic!("{what}: nothing within {DEADLINE:?}"))
}

async fn wait_for_line(console: &mut Console, line: &str) {
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains(line) {
        let mut byte = [0];
        soon(line, console.read_exact(&mut byte)).await.unwrap();
        seen.push(byte[0]);
    }
}

/// Waits until the process has ended (it may stay a zombie), or says that it has not.
fn ends_soon(pid: u32) -> bool {
    let Some(pid) = Pid::from_raw(pid as i32) else { return true };
    let Ok(pidfd) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else { return true };
    let timeout = rustix::event::Timespec { tv_sec: DEADLINE.as_secs() as i64, tv_nsec: 0 };
    rustix::event::poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout)).unwrap() == 1
}

#[tokio::test]
async fn a_guest_that_ends_says_why_as_often_as_asked() {
    for row in rows() {
        for (order, cause) in
            [("poweroff", ExitCause::GuestPoweroff), ("reset", ExitCause::GuestReset), ("panic", ExitCause::GuestPanic)]
        {
            let mut machine = row.boot(order).await;
            let expected = Exit { cause: row.told(cause), detail: String::new() };
            assert_eq!(soon(order, machine.wait()).await, expected, "{} {order}", row.name());
            assert_eq!(machine.wait().await, expected, "{}: asked again", row.name());
            assert_eq!(machine.pid(), None);
            machine.kill().await.unwrap();
            assert_eq!(machine.wait().await, expected, "{}: a kill afterwards changes nothing", row.name());
        }
    }
}

#[tokio::test]
async fn a_guest_that_breaks_its_processor_has_reset_itself() {
    for row in process_rows() {
        let exit = soon("its end", row.boot("fault").await.wait()).await;
        // PVM cannot emulate it, and says so.
        if row.is_firecracker() && exit.cause == ExitCause::VmmCrash {
            assert!(exit.detail.contains("KVM_EXIT_INTERNAL_ERROR"), "{}", exit.detail);
            continue;
        }
        assert_eq!(exit, Exit { cause: ExitCause::GuestReset, detail: String::new() }, "{}", row.name());
    }
}

#[tokio::test]
#[allow(clippy::print_stderr, reason = "what a host cannot show is said")]
async fn memory_of_huge_pages_is_the_hosts_or_the_start_is_refused() {
    let free = || -> u32 {
        let text = std::fs::read_to_string("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages");
        text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or_default()
    };
    for row in process_rows() {
        let spec = BootSpec { has_huge_pages: true, ..row.spec("hang") };
        if huge_pages::check(spec.mem_size_mib).is_err() {
            eprintln!("SKIPPED for {}: this host has no free huge pages; that it is refused is shown", row.name());
            let refused = row.try_boot(&spec).await.err();
            let is_told = |hint: &str| hint.contains("sysctl vm.nr_hugepages=") || hint.contains("--hugepages");
            assert!(matches!(&refused, Some(VmmError::Unsupported { hint, .. }) if is_told(hint)), "{refused:?}");
            continue;
        }
        let before = free();
        let mut machine = row.try_boot(&spec).await.unwrap_or_else(|error| panic!("{}: {error:?}", row.name()));
        wait_for_line(&mut machine.take_console().unwrap(), "tiny guest: do=hang").await;
        assert!(free() < before, "{}: no huge page is taken", row.name());
        machine.kill().await.unwrap();
        assert_eq!(free(), before, "{}: all are given back", row.name());
    }
}

#[tokio::test]
async fn what_the_guest_prints_is_read_from_the_console() {
    for row in rows() {
        let mut machine = row.boot("hang").await;
        let mut console = machine.take_console().unwrap();
        assert!(machine.take_console().is_none(), "{}: it is taken once", row.name());
        wait_for_line(&mut console, "tiny guest: do=hang").await;
    }
}

#[tokio::test]
async fn the_agent_channel_carries_bytes_both_ways() {
    for row in rows() {
        let mut machine = row.boot("echo").await;
        wait_for_line(&mut machine.take_console().unwrap(), "echoing").await;
        let channel = machine.take_agent_channel().unwrap();
        assert!(machine.take_agent_channel().is_none(), "{}: it is taken once", row.name());
        let (mut reader, mut writer) = tokio::io::split(channel);
        let sent: Vec<u8> = (0..20_000_u32).map(|number| (number * 31 % 251) as u8).collect();
        let mut received = vec![0; sent.len()];
        let both = async { tokio::join!(writer.write_all(&sent), reader.read_exact(&mut received)) };
        let (written, read) = soon("echo", both).await;
        written.unwrap();
        read.unwrap();
        assert!(sent == received, "{}: not the bytes that were sent", row.name());
    }
}

#[tokio::test]
async fn killing_ends_it_and_may_be_repeated() {
    for row in rows() {
        let mut machine = row.boot("hang").await;
        let pid = machine.pid();
        assert_eq!(pid.is_some(), row.is_process, "{}", row.name());
        soon("kill", machine.kill()).await.unwrap();
        machine.kill().await.unwrap();
        assert_eq!(machine.wait().await, Exit { cause: ExitCause::Killed, detail: String::new() }, "{}", row.name());
        assert_eq!(machine.pid(), None);
        assert!(pid.is_none_or(|pid| !Path::new(&format!("/proc/{pid}")).exists()), "{}: it is reaped", row.name());
    }
}

#[tokio::test]
async fn waiting_may_be_given_up_and_taken_up_again() {
    for row in rows() {
        let mut machine = row.boot("hang").await;
        for _ in 0..3 {
            let given_up = tokio::time::timeout(Duration::from_millis(5), machine.wait()).await;
            assert!(given_up.is_err(), "{}: it runs", row.name());
        }
        machine.kill().await.unwrap();
        assert_eq!(machine.wait().await.cause, ExitCause::Killed, "{}", row.name());
    }
}

#[tokio::test]
async fn dropping_a_machine_kills_and_reaps_it() {
    for row in process_rows() {
        let machine = row.boot("hang").await;
        let pid = machine.pid().unwrap();
        drop(machine);
        assert!(!Path::new(&format!("/proc/{pid}")).exists(), "{}", row.name());
    }
    let fake = FakeDriver::new(fake_guest);
    let row = row(Arc::new(fake.clone()), false);
    let machine = row.boot("hang").await;
    assert_eq!(fake.running(), 1);
    drop(machine);
    soon("the fake's end", fake.all_ended()).await;
}

#[tokio::test]
async fn a_machine_dies_with_the_thread_that_booted_it() {
    for row in process_rows() {
        let spec = BootSpec { drives: vec![row.drive("disk", false)], ..row.spec("hang") };
        let disk = spec.drives[0].path.clone();
        let dir = RunDir(row.dir.path().to_owned());
        let driver = row.driver.clone();
        let booting = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let machine = runtime.block_on(driver.boot(&spec, &dir)).unwrap_or_else(|error| panic!("{error}"));
            let pid = machine.pid().unwrap();
            // As if the thread's process had been killed: nothing is dropped.
            std::mem::forget(machine);
            pid
        });
        assert!(ends_soon(booting.join().unwrap()), "{}", row.name());
        ignite_vmm::jail::remove_leftovers(row.dir.path()).unwrap();
        let owner = std::fs::metadata(disk).unwrap().uid();
        assert_eq!(owner, rustix::process::geteuid().as_raw(), "{}: its disk stays its user's", row.name());
    }
}

#[tokio::test]
async fn a_console_nobody_reads_does_not_keep_a_machine_from_being_ended() {
    for row in rows() {
        let mut machine = row.boot("flood").await;
        assert!(tokio::time::timeout(Duration::from_millis(200), machine.wait()).await.is_err());
        soon("kill", machine.kill()).await.unwrap();
    }
}

#[tokio::test]
async fn a_paused_guest_answers_when_it_is_resumed() {
    for row in rows() {
        let mut machine = row.boot("echo").await;
        wait_for_line(&mut machine.take_console().unwrap(), "echoing").await;
        let mut channel = machine.take_agent_channel().unwrap();
        machine.pauser().unwrap().pause().await.unwrap();
        machine.pauser().unwrap().pause().await.unwrap();
        channel.write_all(b"ping").await.unwrap();
        let mut answer = [0; 4];
        let early = tokio::time::timeout(Duration::from_millis(100), channel.read_exact(&mut answer)).await;
        assert!(early.is_err(), "{}: it answered while paused", row.name());
        machine.pauser().unwrap().resume().await.unwrap();
        soon("answer", channel.read_exact(&mut answer)).await.unwrap();
        assert_eq!(&answer, b"ping", "{}", row.name());
    }
}

#[tokio::test]
async fn a_spec_that_breaks_a_rule_is_refused() {
    for row in rows() {
        let spec = BootSpec { id: "a,b".into(), ..row.spec("hang") };
        let refused = row.try_boot(&spec).await;
        assert!(matches!(refused, Err(VmmError::InvalidSpec { field, .. }) if field == "id"), "{}", row.name());
    }
}

#[tokio::test]
async fn a_file_that_is_not_there_is_named() {
    for row in process_rows() {
        let missing = row.dir.path().join("missing");
        let drive = Drive {
            id: "gone".into(),
            path: missing.clone(),
            is_read_only: true,
            is_pmem: false,
            limits: DriveLimits::default(),
        };
        for spec in [
            BootSpec { kernel: missing.clone(), ..row.spec("hang") },
            BootSpec { drives: vec![drive], ..row.spec("hang") },
        ] {
            let refused = row.try_boot(&spec).await;
            assert!(matches!(refused, Err(VmmError::Open { path, .. }) if path == missing), "{}", row.name());
        }
    }
}

#[tokio::test]
async fn a_tap_that_is_not_there_is_named_and_not_made() {
    for row in process_rows() {
        for name in ["ignite-no-tap", "longer-than-any-interface"] {
            let backend = NicBackend::Tap { name: name.into(), netns: None };
            let nic = Nic { mac: "02:00:00:00:00:01".into(), mtu: None, backend, limits: TrafficLimits::default() };
            let refused = row.try_boot(&BootSpec { nics: vec![nic], ..row.spec("hang") }).await;
            assert!(matches!(refused, Err(VmmError::Open { path, .. }) if path.ends_with(name)), "{}", row.name());
        }
    }
}

#[tokio::test]
async fn a_kernel_that_is_none_fails_with_the_vmms_own_words() {
    for row in process_rows() {
        let spec = BootSpec { kernel: row.dir.path().join("initramfs"), ..row.spec("hang") };
        match row.try_boot(&spec).await {
            Err(VmmError::BootFailed { detail, .. }) => {
                assert!(!detail.is_empty() && !detail.contains('\n'), "{}: {detail:?}", row.name());
            }
            Err(other) => panic!("{}: {other}", row.name()),
            Ok(_) => panic!("{}: it booted", row.name()),
        }
    }
    let broken = row(Arc::new(FakeDriver::new(fake_guest).failing_boot("no firmware")), false);
    assert!(matches!(broken.try_boot(&broken.spec("hang")).await, Err(VmmError::BootFailed { .. })));
}

#[tokio::test]
async fn a_writable_disk_belongs_to_one_machine_and_a_read_only_one_to_all() {
    for row in process_rows() {
        // With limits, of which a machine in use shows that its VMM knows them.
        let limits = DriveLimits { operations: Some(1_000), bytes: Some(10_000_000) };
        let limited = |name, is_read_only| Drive { limits, ..row.drive(name, is_read_only) };
        let (base, writable) = (limited("base", true), limited("writable", false));
        let shared = BootSpec { drives: vec![base.clone()], ..row.spec("hang") };
        let owned = BootSpec { drives: vec![base, writable.clone()], ..row.spec("hang") };
        let mut owner = row.try_boot(&owned).await.unwrap_or_else(|error| panic!("{error}"));
        let _other = row.try_boot(&shared).await.unwrap_or_else(|error| panic!("{error}"));
        match row.try_boot(&owned).await {
            Err(VmmError::BootFailed { detail, .. }) => {
                assert!(detail.contains(&writable.path.display().to_string()), "{}: {detail}", row.name());
            }
            Err(other) => panic!("{}: {other}", row.name()),
            Ok(_) => panic!("{}: two machines write to one disk", row.name()),
        }
        owner.kill().await.unwrap();
        // A child that another test has just forked holds the lock, too, until it executes its program.
        let deadline = Instant::now() + Duration::from_secs(10);
        while let Err(error) = row.try_boot(&owned).await {
            assert!(Instant::now() < deadline, "{}: the disk is not free again: {error}", row.name());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test]
async fn files_only_the_caller_may_read_are_booted_from() {
    use std::os::unix::fs::PermissionsExt;
    for row in process_rows() {
        let kernel = row.dir.path().join("private-kernel");
        std::fs::copy(row.kernel(), &kernel).unwrap();
        std::fs::set_permissions(&kernel, std::fs::Permissions::from_mode(0o600)).unwrap();
        let mut machine = row.try_boot(&BootSpec { kernel, ..row.spec("poweroff") }).await.unwrap();
        let cause = row.told(ExitCause::GuestPoweroff);
        assert_eq!(soon("poweroff", machine.wait()).await.cause, cause, "{}", row.name());
    }
}

#[tokio::test]
async fn a_vmm_that_is_killed_from_outside_has_crashed() {
    for row in process_rows() {
        let mut machine = row.boot("hang").await;
        let pid = Pid::from_raw(machine.pid().unwrap() as i32).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        let exit = soon("its end", machine.wait()).await;
        assert_eq!(exit.cause, ExitCause::VmmCrash, "{}", row.name());
        assert!(exit.detail.contains("signal 9"), "{}: {}", row.name(), exit.detail);
    }
}

#[tokio::test]
async fn a_vmm_inherits_nothing_and_keeps_no_privilege() {
    for row in process_rows() {
        let secret = std::fs::File::create(row.dir.path().join("secret")).unwrap();
        rustix::io::fcntl_setfd(&secret, rustix::io::FdFlags::empty()).unwrap();
        assert!(secret.as_raw_fd() > 2);
        let machine = row.boot("hang").await;
        let process = PathBuf::from(format!("/proc/{}", machine.pid().unwrap()));
        for descriptor in std::fs::read_dir(process.join("fd")).into_iter().flatten().flatten() {
            let target = std::fs::read_link(descriptor.path()).unwrap_or_default();
            assert!(!target.ends_with("secret"), "{}: inherited {}", row.name(), target.display());
        }
        let status = std::fs::read_to_string(process.join("status")).unwrap();
        let measures = machine.isolation();
        for (measure, line) in [
            ("no-new-privileges", "NoNewPrivs:\t1"),
            ("seccomp", "Seccomp:\t2"),
            ("unprivileged-user", "CapEff:\t0000000000000000"),
        ] {
            if measures[measure] == "applied" {
                assert!(status.contains(line), "{}: {measure}: {status}", row.name());
            }
        }
        assert_eq!(measures["no-new-privileges"], "applied", "{}: {measures:?}", row.name());
    }
}

#[tokio::test]
async fn isolation_that_is_switched_off_is_told_as_such() {
    for row in process_rows() {
        let spec = BootSpec { isolation: IsolationWanted::None, ..row.spec("poweroff") };
        let mut machine = row.try_boot(&spec).await.unwrap();
        let told = machine.isolation();
        assert!(told.values().all(|said| said.starts_with("not applied")), "{}: {told:?}", row.name());
        assert_eq!(soon("poweroff", machine.wait()).await.cause, row.told(ExitCause::GuestPoweroff));
    }
}
