//! A VM's whole life over the scripted VMM: no process is started, every end is played.

mod harness;

use harness::{Guest, Heard, Host, ask, machine, task};
use ignite_agent_protocol::frame::{self, Kind, STDOUT, TASK_STREAM};
use ignite_agent_protocol::message::*;
use ignite_api::Phase;
use ignite_supervisor::control::{ControlReply, ControlRequest, Ending, SessionCommand, SessionEvent};
use ignite_supervisor::task_log;
use ignite_vmm::ExitCause;
use ignite_vmm::fake::FakeDriver;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::io::AsyncWriteExt;

#[tokio::test]
async fn a_task_runs_its_output_is_logged_and_its_code_is_the_vms() {
    let host = Host::new(task(&["greet"]));
    let ending = host
        .run(FakeDriver::new(|mut guest| async move {
            let mut agent = Guest::configured(&mut guest).await;
            agent.frame(TASK_STREAM, Kind::Data, STDOUT, b"hello\n").await;
            agent.exit_task(StreamExit::Exited { code: 7 }).await;
            ExitCause::GuestPoweroff
        }))
        .await;
    assert_eq!(ending, Ending { phase: Phase::Stopped, exit_code: 7, reason: None });
    let status = host.status();
    assert_eq!((status.phase, status.exit_code, status.running), (Phase::Stopped, Some(7), false));
    assert!(status.start_time.is_some() && status.finish_time.is_some());
    let log = std::fs::read(host.paths().vm_task_log(&host.launch.uid)).expect("the log");
    assert_eq!(task_log::Entry::decode(&log).expect("an entry").bytes, b"hello\n");
}

#[tokio::test]
async fn an_attached_client_gets_all_output_in_order_and_the_exit_last() {
    let mut host = Host::new(task(&["cat"]));
    host.launch.is_foreground = true;
    let driver = FakeDriver::new(|mut guest| async move {
        let mut agent = Guest::configured(&mut guest).await;
        loop {
            match agent.hear().await {
                Heard::Data(bytes) => {
                    agent.frame(TASK_STREAM, Kind::Window, frame::STDIN, &(bytes.len() as u32).to_le_bytes()).await;
                    agent.frame(TASK_STREAM, Kind::Data, STDOUT, &bytes).await;
                }
                Heard::Eof => break,
                _ => {}
            }
        }
        agent.exit_task(StreamExit::Exited { code: 0 }).await;
        ExitCause::GuestPoweroff
    });
    // More than every window on the way.
    let sent: Vec<u8> = (0..1_500_000u32).map(|n| (n % 251) as u8).collect();
    let expected = sent.clone();
    let (ending, received) = host
        .run_with(driver, |socket| async move {
            let (reply, channel) = ask(&socket, &ControlRequest::Attach { stdin: true }).await;
            assert!(matches!(reply, ControlReply::Streaming { .. }), "{reply:?}");
            let (mut reader, mut writer) = channel.split();
            let write = async {
                for chunk in sent.chunks(50_000) {
                    writer.send_command(&SessionCommand::Stdin(chunk.to_vec().into())).await.expect("send");
                }
                writer.send_command(&SessionCommand::CloseStdin).await.expect("close");
            };
            let read = async {
                let mut received = Vec::new();
                loop {
                    match reader.next_event().await.expect("read").expect("an exit comes") {
                        SessionEvent::Stdout(bytes) => received.extend_from_slice(&bytes),
                        SessionEvent::Stderr(_) => panic!("nothing is written there"),
                        SessionEvent::Exit(exit) => {
                            assert_eq!(exit, StreamExit::Exited { code: 0 });
                            return received;
                        }
                    }
                }
            };
            tokio::join!(write, read).1
        })
        .await;
    assert_eq!(ending.exit_code, 0);
    assert!(received == expected, "{} of {} bytes", received.len(), expected.len());
}

#[tokio::test]
async fn a_stop_reaches_the_guest_and_is_answered_when_all_is_stored() {
    let host = Host::new(machine());
    let driver = FakeDriver::new(|mut guest| async move {
        let mut agent = Guest::configured(&mut guest).await;
        agent.hear_shutdown().await;
        ExitCause::GuestPoweroff
    });
    let (ending, reply) = host
        .run_with(driver, |socket| async move {
            // An exec waits until the guest runs, so the stop after it finds it running.
            let (reply, _) = ask(&socket, &ControlRequest::Stop { grace_ms: None, is_shutdown: false }).await;
            reply
        })
        .await;
    let ControlReply::Ended { ending: told } = reply else { panic!("{reply:?}") };
    assert_eq!(told, ending);
    assert_eq!(ending.phase, Phase::Stopped);
}

#[tokio::test]
async fn a_guest_that_ignores_a_stop_is_killed_after_its_time() {
    let host = Host::new(machine());
    let (running, is_running) = tokio::sync::watch::channel(false);
    let driver = FakeDriver::new(move |mut guest| {
        let running = running.clone();
        async move {
            let _agent = Guest::configured(&mut guest).await;
            running.send_replace(true);
            guest.power_button.pressed().await;
            std::future::pending::<ExitCause>().await
        }
    });
    let (ending, ()) = host
        .run_with(driver, |socket| async move {
            let mut is_running = is_running;
            is_running.wait_for(|r| *r).await.expect("runs");
            let uid_phase = ask(&socket, &ControlRequest::Stop { grace_ms: Some(200), is_shutdown: false }).await.0;
            assert!(matches!(uid_phase, ControlReply::Ended { .. }), "{uid_phase:?}");
        })
        .await;
    assert_eq!(ending.phase, Phase::Stopped);
    // Either the stop found it running and timed out, or it found it starting.
    assert!(ending.exit_code == 137 || ending.exit_code == 125, "{ending:?}");
}

#[tokio::test]
async fn a_guest_that_never_speaks_runs_into_the_boot_deadline() {
    let mut host = Host::new(task(&["true"]));
    host.launch.boot_timeout_ms = 300;
    let ending = host
        .run(FakeDriver::new(|guest| async move {
            // All of it, or the agent channel would close.
            let mut guest = guest;
            let all = &mut guest;
            all.console.write_all(b"Kernel panic - not syncing\n").await.expect("print");
            std::future::pending::<ExitCause>().await
        }))
        .await;
    assert_eq!(ending.phase, Phase::Failed);
    let reason = ending.reason.expect("a reason");
    assert!(reason.contains("come up") && reason.contains("not syncing"), "{reason}");
}

#[tokio::test]
async fn a_boot_that_fails_leaves_a_failed_vm_with_the_reason() {
    let host = Host::new(task(&["true"]));
    let driver = FakeDriver::new(|_| async { ExitCause::VmmCrash }).failing_boot("no such device");
    let ending = host.run(driver).await;
    assert_eq!((ending.phase, ending.exit_code), (Phase::Failed, 125));
    assert!(host.status().reason.is_some_and(|reason| reason.contains("no such device")));
}

#[tokio::test]
async fn a_command_that_is_not_there_gives_dockers_code() {
    let host = Host::new(task(&["nonsense"]));
    let ending = host
        .run(FakeDriver::new(|mut guest| async move {
            let mut agent = Guest::hello(&mut guest).await;
            agent.hear().await;
            let step = "start the task".to_owned();
            let message = "nonsense: not\nfound\x1b[0m".to_owned();
            agent.say(&GuestMessage::ConfigureFailed { step, message, exit_code: 127 }).await;
            ExitCause::GuestPoweroff
        }))
        .await;
    assert_eq!((ending.phase, ending.exit_code), (Phase::Failed, 127));
    assert!(!ending.reason.expect("a reason").chars().any(char::is_control));
}

#[tokio::test]
async fn a_crash_of_the_vmm_is_a_failure_and_clients_hear_of_it() {
    let host = Host::new(machine());
    let driver = FakeDriver::new(|mut guest| async move {
        let _agent = Guest::configured(&mut guest).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        ExitCause::VmmCrash
    });
    let (ending, reply) =
        host.run_with(driver, |socket| async move { ask(&socket, &ControlRequest::Wait).await.0 }).await;
    assert_eq!((ending.phase, ending.exit_code), (Phase::Failed, 255));
    assert_eq!(reply, ControlReply::Ended { ending });
}

#[tokio::test]
async fn a_machine_that_reboots_is_booted_again() {
    let host = Host::new(machine());
    let boots = Arc::new(AtomicU32::new(0));
    let driver = FakeDriver::new(move |mut guest| {
        let boot = boots.fetch_add(1, Ordering::SeqCst);
        async move {
            let _agent = Guest::configured(&mut guest).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
            if boot == 0 { ExitCause::GuestReset } else { ExitCause::GuestPoweroff }
        }
    });
    let ending = host.run(driver.clone()).await;
    assert_eq!(driver.booted().len(), 2);
    assert_eq!((ending.phase, ending.exit_code), (Phase::Stopped, 0));
}

#[tokio::test]
async fn a_machine_that_only_reboots_is_given_up() {
    let host = Host::new(machine());
    let driver = FakeDriver::new(|mut guest| async move {
        let _agent = Guest::configured(&mut guest).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
        ExitCause::GuestReset
    });
    let ending = host.run(driver.clone()).await;
    assert_eq!(ending.phase, Phase::Failed);
    assert!(driver.booted().len() <= 4);
}

#[tokio::test]
async fn a_vm_that_removes_itself_leaves_no_object() {
    let mut host = Host::new(task(&["true"]));
    host.launch.auto_remove = true;
    host.run(FakeDriver::new(|mut guest| async move {
        let mut agent = Guest::configured(&mut guest).await;
        agent.exit_task(StreamExit::Exited { code: 0 }).await;
        ExitCause::GuestPoweroff
    }))
    .await;
    assert!(!host.paths().vm(&host.launch.uid).exists());
}

#[tokio::test]
async fn a_hostile_guest_costs_only_its_own_vm() {
    for garbage in [&b"\xff\xff\xff\xff garbage garbage"[..], &[0u8; 4096], b"{\"type\":\"hello\"}"] {
        let garbage = garbage.to_vec();
        let mut host = Host::new(task(&["true"]));
        host.launch.boot_timeout_ms = 2_000;
        let ending = host
            .run(FakeDriver::new(move |mut guest| {
                let garbage = garbage.clone();
                async move {
                    for _ in 0..100 {
                        if guest.agent.write_all(&garbage).await.is_err() {
                            break;
                        }
                    }
                    std::future::pending::<ExitCause>().await
                }
            }))
            .await;
        assert_eq!(ending.phase, Phase::Failed);
    }
}

#[tokio::test]
async fn an_exec_stream_is_carried_both_ways() {
    let host = Host::new(machine());
    let driver = FakeDriver::new(|mut guest| async move {
        let mut agent = Guest::configured(&mut guest).await;
        loop {
            match agent.hear().await {
                Heard::Open(stream) => {
                    let opened = serde_json::to_vec(&Opened { pid: Some(42), ..Opened::default() }).expect("json");
                    agent.frame(stream, Kind::Opened, 0, &opened).await;
                    agent.frame(stream, Kind::Data, STDOUT, b"out").await;
                    agent.frame(stream, Kind::Data, frame::STDERR, b"err").await;
                    let exit = serde_json::to_vec(&StreamExit::Exited { code: 3 }).expect("json");
                    agent.frame(stream, Kind::Close, 0, &exit).await;
                }
                Heard::Control(HostMessage::Shutdown { .. }) | Heard::Gone => return ExitCause::GuestPoweroff,
                _ => {}
            }
        }
    });
    let Role::Task(process) = task(&["true"]) else { panic!("a task") };
    let (_, events) = host
        .run_with(driver, |socket| async move {
            let (reply, channel) = ask(&socket, &ControlRequest::Open { open: Open::Exec(process) }).await;
            assert_eq!(reply, ControlReply::Streaming { opened: Opened { pid: Some(42), ..Opened::default() } });
            let (mut reader, _writer) = channel.split();
            let mut events = Vec::new();
            while let Some(event) = reader.next_event().await.expect("read") {
                let is_last = matches!(event, SessionEvent::Exit(_));
                events.push(event);
                if is_last {
                    break;
                }
            }
            let (_, _) = ask(&socket, &ControlRequest::Stop { grace_ms: None, is_shutdown: false }).await;
            events
        })
        .await;
    assert_eq!(
        events,
        [
            SessionEvent::Stdout("out".into()),
            SessionEvent::Stderr("err".into()),
            SessionEvent::Exit(StreamExit::Exited { code: 3 })
        ]
    );
}

#[tokio::test]
async fn what_was_asked_before_a_pause_is_answered_after_it() {
    let host = Host::new(machine());
    let driver = FakeDriver::new(|mut guest| async move {
        let mut agent = Guest::configured(&mut guest).await;
        let id = loop {
            match agent.hear().await {
                Heard::Open(id) => break id,
                Heard::Gone => panic!("nothing was asked"),
                _ => {}
            }
        };
        // The clock is set after the pause, and only then is there an answer.
        while !matches!(agent.hear().await, Heard::Control(HostMessage::SetClock { .. })) {}
        agent.frame(id, Kind::Opened, 0, &serde_json::to_vec(&Opened::default()).expect("json")).await;
        agent.hear_shutdown().await;
        ExitCause::GuestPoweroff
    });
    let (ending, ()) = host
        .run_with(driver, |socket| async move {
            let open = ControlRequest::Open { open: Open::Connect { port: 80 } };
            let opening = ask(&socket, &open);
            let pausing = async {
                while let (ControlReply::Denied { .. }, _) = ask(&socket, &ControlRequest::Pause).await {
                    tokio::task::yield_now().await;
                }
                // What is asked meanwhile is refused.
                let (reply, _) = ask(&socket, &open).await;
                assert_eq!(reply, ControlReply::Denied { reason: "it is paused".into() });
                assert_eq!(ask(&socket, &ControlRequest::Resume).await.0, ControlReply::Done);
            };
            let ((reply, _), ()) = tokio::join!(opening, pausing);
            assert!(matches!(reply, ControlReply::Streaming { .. }), "{reply:?}");
            ask(&socket, &ControlRequest::Stop { grace_ms: None, is_shutdown: false }).await;
        })
        .await;
    assert_eq!(ending.phase, Phase::Stopped);
}
