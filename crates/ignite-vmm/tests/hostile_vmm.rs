//! A VMM that its guest has taken over: whatever it answers costs its own VM only, in bounded memory and time.

use ignite_vmm::firecracker::FirecrackerDriver;
use ignite_vmm::qemu::QemuDriver;
use ignite_vmm::{BootSpec, Driver, ExitCause, RunDir, VmmError};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// Far below what a command may take: none of these answers has to be waited out.
const DEADLINE: Duration = Duration::from_secs(25);
/// What all of them together may cost: a part of what any of them that goes on for ever sends.
const ALLOWED_BYTES: u64 = 8 << 20;
/// Most bytes of an error.
const MAX_ERROR: usize = 6 * 1024;

/// What it answers, by `hostile_vmm/vmm.c`.
const MODES: [&str; 12] = [
    "closes",
    "dies",
    "half-closed",
    "garbage",
    "zeros",
    "endless",
    "endless-answer",
    "nested",
    "many-headers",
    "floods",
    "shouts",
    "talks",
];

#[allow(clippy::print_stderr, reason = "a skipped test says why")]
fn build(dir: &Path) -> Option<PathBuf> {
    let program = dir.join("vmm");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile_vmm/vmm.c");
    let built = Command::new("gcc").args(["-static", "-O1", "-w", "-o"]).args([&program, &source]).status();
    if !built.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: gcc cannot build a static program here");
        return None;
    }
    Some(program)
}

fn spec(dir: &Path, id: String) -> BootSpec {
    let file = dir.join("anything");
    std::fs::write(&file, "").unwrap();
    BootSpec::new(id, file.clone(), file)
}

fn peak_memory_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

fn children() -> String {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    tasks.map(|task| std::fs::read_to_string(task.path().join("children")).unwrap_or_default()).collect()
}

/// One test, so that the memory measured is that of nobody else.
#[tokio::test]
async fn whatever_a_vmm_answers_costs_its_own_vm_only() {
    let dir = TempDir::new().unwrap();
    let Some(built) = build(dir.path()) else { return };
    for vmm in ["qemu", "firecracker"] {
        let before = peak_memory_bytes();
        let mut meetings = tokio::task::JoinSet::new();
        for name in MODES.iter().flat_map(|mode| [(*mode).to_owned(), format!("late-{mode}")]) {
            let program = dir.path().join(&name);
            if !program.exists() {
                std::fs::copy(&built, &program).unwrap();
            }
            let driver: Box<dyn Driver> = match vmm {
                "qemu" => Box::new(QemuDriver::at(&program)),
                _ => Box::new(FirecrackerDriver::at(&program)),
            };
            let dir = dir.path().to_owned();
            meetings.spawn(async move {
                let told = tokio::time::timeout(DEADLINE, meet(driver.as_ref(), &dir, &name)).await;
                (told.unwrap_or_else(|_| panic!("{} {name}: it does not end", driver.name())), name)
            });
        }
        while let Some(met) = meetings.join_next().await {
            let (told, name) = met.expect("it does not panic");
            check(vmm, &name, told.as_ref());
        }
        assert_eq!(children(), "", "{vmm}: a process is left");
        let grown = peak_memory_bytes().saturating_sub(before);
        assert!(grown < ALLOWED_BYTES, "{vmm}: {} KiB", grown >> 10);
    }
}

/// What is told of it: at the start, or when it is asked to pause.
async fn meet(driver: &dyn Driver, dir: &Path, name: &str) -> Option<VmmError> {
    let id = format!("hostile-{}-{}-{name}", std::process::id(), driver.name());
    let run_dir = dir.join(&id);
    std::fs::create_dir(&run_dir).unwrap();
    let mut machine = match driver.boot(&spec(dir, id), &RunDir(run_dir)).await {
        Ok(machine) => machine,
        Err(error) => {
            assert!(!name.starts_with("late-"), "{name}: {error}");
            return Some(error);
        }
    };
    let told = machine.pauser().expect("it can be paused").pause().await.err();
    machine.kill().await.unwrap();
    let exit = machine.wait().await;
    assert!(matches!(exit.cause, ExitCause::Killed | ExitCause::VmmCrash | ExitCause::GuestPanic), "{name}: {exit:?}");
    told
}

fn check(vmm: &str, name: &str, told: Option<&VmmError>) {
    // An answer is an answer, whatever is in it that nobody reads.
    let Some(error) = told else { panic!("{vmm} {name}: nothing is told") };
    let text = error.to_string();
    assert!(text.len() < MAX_ERROR && !text.contains(char::is_control), "{vmm} {name}: {} bytes {text}", text.len());
    let said: &[&str] = match (vmm, name.trim_start_matches("late-")) {
        (_, "shouts") => &["[2Jno", "!!!"],
        ("firecracker", "nested") => &["400: it does not say why"],
        _ => &[],
    };
    assert!(text.to_lowercase().contains(vmm), "{vmm} {name}: {text}");
    assert!(said.iter().all(|word| text.contains(word)), "{vmm} {name}: {text}");
}
