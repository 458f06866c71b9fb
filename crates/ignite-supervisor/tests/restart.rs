//! Restart policies over the scripted VMM.

mod harness;

use harness::{Guest, Host, ask, machine, task};
use ignite_agent_protocol::message::StreamExit;
use ignite_api::{Phase, Uid, Vm};
use ignite_store::{Objects, Paths};
use ignite_supervisor::control::{ControlReply, ControlRequest};
use ignite_vmm::ExitCause;
use ignite_vmm::fake::FakeDriver;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// A host whose VM has this policy.
fn host(role: ignite_agent_protocol::message::Role, policy: &str) -> Host {
    let mut host = Host::new(role);
    host.launch.restart_policy = policy.parse().expect("a policy");
    want(&host.paths(), &host.launch.uid, policy);
    host
}

/// Stores what is wanted now, as `ignite update --restart` does.
fn want(paths: &Paths, uid: &Uid, policy: &str) {
    let vms: Objects<Vm> = Objects::new(paths.data());
    let mut vm = vms.read(uid).expect("the VM");
    vm.spec.restart_policy = policy.parse().expect("a policy");
    vms.write(&vm).expect("the VM is written");
}

/// A task that exits with each of these codes in turn, and then with 0.
fn exits(codes: &'static [u8]) -> FakeDriver {
    let boots = Arc::new(AtomicU32::new(0));
    FakeDriver::new(move |mut guest| {
        let code = codes.get(boots.fetch_add(1, Ordering::SeqCst) as usize).copied().unwrap_or(0);
        async move {
            let mut agent = Guest::configured(&mut guest).await;
            agent.exit_task(StreamExit::Exited { code }).await;
            ExitCause::GuestPoweroff
        }
    })
}

#[tokio::test]
async fn on_failure_is_tried_again_until_it_succeeds() {
    let host = host(task(&["job"]), "on-failure");
    let driver = exits(&[3, 4]);
    let ending = host.run(driver.clone()).await;
    assert_eq!((driver.booted().len(), ending.phase, ending.exit_code), (3, Phase::Stopped, 0));
    let status = host.status();
    assert_eq!((status.restarts, status.exit_code, status.reason), (2, Some(0), None));
}

#[tokio::test]
async fn on_failure_gives_up_after_its_retries_and_says_so() {
    let host = host(task(&["job"]), "on-failure:2");
    let driver = exits(&[9, 9, 9, 9]);
    let ending = host.run(driver.clone()).await;
    assert_eq!((driver.booted().len(), ending.exit_code), (3, 9));
    assert_eq!(host.status().reason.as_deref(), Some("given up after 2 restarts"));
}

#[tokio::test]
async fn always_comes_back_after_a_crash_of_its_vmm_until_it_is_stopped() {
    let host = host(machine(), "always");
    let boots = Arc::new(AtomicU32::new(0));
    let driver = FakeDriver::new(move |mut guest| {
        let boot = boots.fetch_add(1, Ordering::SeqCst);
        async move {
            let mut agent = Guest::configured(&mut guest).await;
            if boot < 2 {
                return ExitCause::VmmCrash;
            }
            agent.hear_shutdown().await;
            ExitCause::GuestPoweroff
        }
    });
    let booted = driver.clone();
    let (ending, reply) = host
        .run_with(driver.clone(), |socket| async move {
            while booted.booted().len() < 3 {
                tokio::task::yield_now().await;
            }
            ask(&socket, &ControlRequest::Stop { grace_ms: None, is_shutdown: false }).await.0
        })
        .await;
    assert!(matches!(reply, ControlReply::Ended { .. }), "{reply:?}");
    assert_eq!((driver.booted().len(), ending.phase), (3, Phase::Stopped));
    assert!(host.status().stopped_by_user);
}

#[tokio::test]
async fn a_stop_reaches_a_vm_that_waits_for_its_restart() {
    // The eighth wait is of 12.8 s: longer than this test.
    let host = host(task(&["job"]), "always");
    let driver = exits(&[1; 64]);
    let (ending, ()) = host
        .run_with(driver, |socket| async move {
            loop {
                let (reply, _) = ask(&socket, &ControlRequest::Pause).await;
                if reply == (ControlReply::Denied { reason: "it is being restarted".into() }) {
                    break;
                }
            }
            let reply = ask(&socket, &ControlRequest::Stop { grace_ms: None, is_shutdown: true }).await.0;
            assert!(matches!(reply, ControlReply::Ended { .. }), "{reply:?}");
        })
        .await;
    assert_eq!((ending.phase, ending.exit_code), (Phase::Stopped, 1));
    assert!(!host.status().stopped_by_user, "the host has stopped it");
}

#[tokio::test]
async fn what_never_came_up_is_not_tried_again() {
    let host = host(machine(), "always");
    let driver = FakeDriver::new(|_guest| async move { ExitCause::GuestPanic });
    let ending = host.run(driver.clone()).await;
    assert_eq!((driver.booted().len(), ending.phase), (1, Phase::Failed));
}

#[tokio::test]
async fn a_policy_that_was_changed_while_it_ran_counts() {
    let host = host(task(&["job"]), "always");
    let (paths, uid) = (host.paths(), host.launch.uid.clone());
    let boots = Arc::new(AtomicU32::new(0));
    let driver = FakeDriver::new(move |mut guest| {
        let boot = boots.fetch_add(1, Ordering::SeqCst);
        let (paths, uid) = (paths.clone(), uid.clone());
        async move {
            let mut agent = Guest::configured(&mut guest).await;
            if boot == 1 {
                want(&paths, &uid, "no");
            }
            agent.exit_task(StreamExit::Exited { code: 5 }).await;
            ExitCause::GuestPoweroff
        }
    });
    let ending = host.run(driver.clone()).await;
    assert_eq!((driver.booted().len(), ending.exit_code), (2, 5));
}
