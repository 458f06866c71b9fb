//! Many cycles of start, stop, kill and crash of VMs in one CNI network, on a throw-away host: nothing of them remains, and
//! no address is given twice.
//!
//! `IGNITE_SOAK_CYCLES` says how many, `IGNITE_SOAK_SEED` repeats what an earlier run has drawn.

use ignite_e2e::images::busybox;
use ignite_e2e::processes::{self, signal};
use ignite_e2e::throwaway::Iptables;
use ignite_e2e::wait::{BOOT, until};
use ignite_e2e::{Host, Report, Throwaway, Vm};
use rustix::process::Signal;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Cycles of a run that says nothing else: seconds, not minutes.
const FEW_CYCLES: usize = 24;
/// VMs that live at the same time.
const WORKERS: usize = 4;
/// An interruption comes within this time of a start: plugins, boot and first moments of the guest fall into it.
const INTERRUPTED_WITHIN_MS: u64 = 1500;
/// A VM that has come up stays for less than this.
const DWELLS_MS: u64 = 500;

/// How a cycle ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Stop,
    Kill,
    Poweroff,
    VmmCrash,
    SupervisorCrash,
    InterruptedCli,
    InterruptedSupervisor,
    InterruptedVmm,
    InterruptedPlugin,
}

/// Drawn with these weights; interrupted starts cost no whole boot.
const ENDS: [(End, u64); 9] = [
    (End::Stop, 2),
    (End::Kill, 2),
    (End::Poweroff, 1),
    (End::VmmCrash, 2),
    (End::SupervisorCrash, 2),
    (End::InterruptedCli, 2),
    (End::InterruptedSupervisor, 4),
    (End::InterruptedVmm, 2),
    (End::InterruptedPlugin, 3),
];

/// What is known of all cycles.
#[derive(Default)]
struct Book {
    started: AtomicUsize,
    most: AtomicUsize,
    given: Mutex<BTreeSet<String>>,
    ends: Mutex<BTreeMap<End, usize>>,
}

#[allow(clippy::print_stderr, reason = "the result of a long run")]
pub fn cycles_of_start_stop_kill_and_crash_leave_nothing_and_give_no_address_twice() -> Report {
    let throwaway = Throwaway::new(Iptables::Nft)?;
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let cycles = number("IGNITE_SOAK_CYCLES").map_or(FEW_CYCLES, |cycles| cycles as usize);
    let seed = number("IGNITE_SOAK_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    let host = Host::on(&throwaway);
    let book = Book::default();
    let began = Instant::now();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS)
            .map(|index| {
                let (host, throwaway, book) = (&host, &throwaway, &book);
                let dice = Dice::new(seed.wrapping_mul(31).wrapping_add(index as u64));
                scope.spawn(move || work(host, throwaway, book, dice, cycles, index))
            })
            .collect();
        for worker in workers {
            assert!(worker.join().is_ok(), "a worker failed (IGNITE_SOAK_SEED={seed})");
        }
    });
    throwaway.assert_nothing_left();
    host.assert_nothing_left();
    let ends = book.ends.lock().expect("no panic");
    eprintln!(
        "soak: {cycles} cycles in {:.0} s with IGNITE_SOAK_SEED={seed}: {ends:?}; {} addresses given, up to {} at a time, none twice",
        began.elapsed().as_secs_f64(),
        book.given.lock().expect("no panic").len(),
        book.most.load(Ordering::SeqCst),
    );
    Ok(())
}

fn work(host: &Host, throwaway: &Throwaway, book: &Book, mut dice: Dice, cycles: usize, index: usize) {
    let vm = host.vm("soak");
    let port = format!("{}:7", 9000 + index);
    vm.create(["--network", "cni", "-p", &port, "--memory", "96MB", "--stop-timeout", "2", busybox(), "sleep", "9999"])
        .succeeds();
    while book.started.fetch_add(1, Ordering::SeqCst) < cycles {
        let end = dice.end();
        *book.ends.lock().expect("no panic").entry(end).or_default() += 1;
        cycle(host, &vm, book, &mut dice, end);
        assert_detached(host, throwaway, &vm, end);
    }
    host.does(["rm", vm.name()]).succeeds();
}

fn cycle(host: &Host, vm: &Vm<'_>, book: &Book, dice: &mut Dice, end: End) {
    let starting = host.ignite(["start", vm.name()]).start();
    let is_interrupted = end >= End::InterruptedCli;
    if is_interrupted {
        std::thread::sleep(Duration::from_millis(dice.below(INTERRUPTED_WITHIN_MS)));
        let victims = match end {
            End::InterruptedCli => vec![starting.pid()],
            End::InterruptedVmm => vm.vmm().map(|process| process.pid).into_iter().collect(),
            End::InterruptedPlugin => plugins_of(vm),
            _ => vm.supervisor().map(|process| process.pid).into_iter().collect(),
        };
        for victim in victims {
            signal(victim, Signal::KILL);
        }
        starting.finish();
        // Whatever it has become, it can be ended; a victim that was not there yet was none.
        host.does(["kill", vm.name()]);
        return;
    }
    starting.finish().succeeds();
    assert_no_address_twice(host, book);
    std::thread::sleep(Duration::from_millis(dice.below(DWELLS_MS)));
    match end {
        End::Stop => drop(vm.does("stop").succeeds()),
        End::Kill => drop(vm.does("kill").succeeds()),
        End::Poweroff => drop(vm.exec(["poweroff", "-f"])),
        End::VmmCrash => signal(vm.vmm().expect("a VMM").pid, Signal::KILL),
        _ => signal(vm.supervisor().expect("a supervisor").pid, Signal::KILL),
    }
}

/// Looks at everybody who is in the network at this moment.
fn assert_no_address_twice(host: &Host, book: &Book) {
    let network = host.does(["network", "inspect", "ignite-cni-bridge"]).succeeds().json();
    let members = network["vms"].as_array().expect("VMs").iter();
    let addresses: Vec<String> =
        members.flat_map(|vm| vm["addresses"].as_array().expect("addresses")).map(ToString::to_string).collect();
    let distinct: BTreeSet<&String> = addresses.iter().collect();
    assert_eq!(distinct.len(), addresses.len(), "an address is given twice: {network}");
    book.most.fetch_max(addresses.len(), Ordering::SeqCst);
    book.given.lock().expect("no panic").extend(addresses);
}

/// The CNI plugins that a VM's supervisor has running.
fn plugins_of(vm: &Vm<'_>) -> Vec<u32> {
    let Some(supervisor) = vm.supervisor() else { return Vec::new() };
    let is_plugin = |process: &processes::Process| {
        !process.name.starts_with(ignite_e2e::vmm::Vmm::wanted().process_name()) && process.name != "ignite-spawn"
    };
    processes::descendants(supervisor.pid).into_iter().filter(is_plugin).map(|process| process.pid).collect()
}

/// When a VM has ended nothing of its attachment is there, whoever cleaned up.
fn assert_detached(host: &Host, throwaway: &Throwaway, vm: &Vm<'_>, end: End) {
    until("the VM to have ended", BOOT, || {
        matches!(vm.phase().as_str(), "Stopped" | "Failed" | "Created").then_some(())
    });
    let uid = vm.uid();
    let record = host.data_dir().join("vm").join(&uid).join("network-cni.json");
    assert!(!record.exists(), "{}: {end:?} left {}", vm.name(), record.display());
    let namespace = throwaway.call(["test", "-e", &format!("/run/netns/ignite-{uid}")]).finish();
    assert_ne!(namespace.code, 0, "{}: {end:?} left its namespace", vm.name());
    let leases = throwaway.call(["grep", "-rl", &uid, "/var/lib/cni"]).finish();
    leases.prints("");
    let rules = throwaway.call(["iptables-save"]).finish();
    rules.does_not_say(&uid);
}

/// Small random numbers that can be drawn again (xorshift).
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    fn end(&mut self) -> End {
        let mut drawn = self.below(ENDS.iter().map(|(_, weight)| weight).sum());
        for (end, weight) in ENDS {
            if drawn < weight {
                return end;
            }
            drawn -= weight;
        }
        End::Stop
    }
}
