//! Every kind of end that a guest can make of itself, as the driver tells it.

use crate::real_firecracker::driver;
use crate::{DEADLINE, boot, console_until};
use ignite_vmm::{Exit, ExitCause};
use std::time::Duration;
use tempfile::TempDir;

/// Clock ticks that the process has run, user and kernel (proc_pid_stat(5)).
fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[tokio::test]
async fn a_reset_through_the_keyboard_controller_is_the_end() {
    let Some(driver) = driver() else { return };
    let dir = TempDir::new().unwrap();
    let mut machine = boot(&driver, dir.path(), "reset").await;
    let exit = tokio::time::timeout(DEADLINE, machine.wait()).await.unwrap();
    assert_eq!(exit, Exit { cause: ExitCause::GuestReset, detail: String::new() });
}

#[tokio::test]
#[allow(clippy::print_stderr, reason = "which of two ends was seen is told")]
async fn a_triple_fault_is_a_reset_or_what_kvm_cannot_emulate() {
    let Some(driver) = driver() else { return };
    let dir = TempDir::new().unwrap();
    let exit = tokio::time::timeout(DEADLINE, boot(&driver, dir.path(), "fault").await.wait()).await.unwrap();
    eprintln!("a triple fault: {exit:?}");
    match exit.cause {
        ExitCause::GuestReset => assert_eq!(exit.detail, ""),
        // The logger's words, which came through the pipe: PVM cannot emulate it, and says so.
        ExitCause::VmmCrash => assert!(exit.detail.contains("KVM_EXIT_INTERNAL_ERROR"), "{exit:?}"),
        _ => panic!("{exit:?}"),
    }
}

#[tokio::test]
async fn a_halt_is_no_end_and_takes_no_processor() {
    let Some(driver) = driver() else { return };
    let dir = TempDir::new().unwrap();
    let mut machine = boot(&driver, dir.path(), "halt").await;
    console_until(&mut machine.take_console().unwrap(), "halting\n").await;
    let pid = machine.pid().unwrap();
    let before = ticks(pid);
    let waited = tokio::time::timeout(Duration::from_secs(1), machine.wait()).await;
    assert!(waited.is_err(), "{waited:?}");
    let taken = ticks(pid) - before;
    assert!(taken < 50, "{taken} ticks of a second: it spins");
    // It stays what it is over a pause, and is ended from outside only.
    machine.pauser().unwrap().pause().await.unwrap();
    machine.pauser().unwrap().resume().await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(200), machine.wait()).await.is_err());
    machine.kill().await.unwrap();
    assert_eq!(machine.wait().await, Exit { cause: ExitCause::Killed, detail: String::new() });
}
