//! A guest that means harm: whatever it sends costs its own VM only, in bounded memory and time.

mod harness;

use harness::{Guest, Heard, Host, ask, machine, task};
use ignite_agent_protocol::codec::{put_control, put_frame, put_message};
use ignite_agent_protocol::frame::{CHANNEL_MORE, CONTROL_STREAM, Kind, MAX_PAYLOAD, STDOUT, TASK_STREAM};
use ignite_agent_protocol::message::*;
use ignite_api::Phase;
use ignite_supervisor::control::{ControlReply, ControlRequest};
use ignite_vmm::ExitCause;
use ignite_vmm::fake::FakeDriver;
use std::sync::Arc;
use tokio::sync::Notify;

/// What each guest sends, at least, unless it is cut off before.
const SENT_BYTES: usize = 64 << 20;
/// Length of what is sent once, and then the channel closed.
const HALF_A_FRAME: usize = 3;
/// What all of them together may cost: a small part of what one of them sends.
const ALLOWED_BYTES: u64 = 48 << 20;

/// What is sent over and over; empty: nothing at all.
fn attacks() -> Vec<(&'static str, Vec<u8>)> {
    let framed = |stream, kind, channel, payload: &[u8]| {
        let mut out = Vec::new();
        put_frame(&mut out, stream, kind, channel, payload);
        out
    };
    let full = vec![b'['; MAX_PAYLOAD];
    let mut nested = Vec::new();
    put_message(&mut nested, CONTROL_STREAM, Kind::Control, &vec![b'['; 200_000]);
    let mut log = Vec::new();
    put_control(&mut log, &GuestMessage::Log { level: "\u{1b}[2J".into(), message: "x\n".repeat(10_000) })
        .expect("json");
    let mut number = 1u64;
    let noise = std::iter::repeat_with(|| {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (number >> 56) as u8
    });
    vec![
        ("silence", Vec::new()),
        ("half a frame, and the end", vec![1, 2, 3]),
        ("noise", noise.take(65_536).collect()),
        ("zeros", vec![0; 65_536]),
        ("a message without end", framed(CONTROL_STREAM, Kind::Control, CHANNEL_MORE, &full)),
        ("a message nested without end", nested),
        ("log lines without end", log),
        ("output of streams that nobody has opened", framed(7_777, Kind::Data, STDOUT, &full)),
        ("output beyond every window", framed(TASK_STREAM, Kind::Data, STDOUT, &full)),
        ("windows beyond every number", framed(TASK_STREAM, Kind::Window, 0, &u32::MAX.to_le_bytes())),
        ("answers to what nobody has asked", framed(8_888, Kind::Opened, 0, b"{}")),
    ]
}

/// A block of it, many small frames at once, and how many of them are sent.
fn blocks(bytes: &[u8]) -> (Vec<u8>, usize) {
    match bytes.len() {
        0 => (Vec::new(), 0),
        HALF_A_FRAME => (bytes.to_vec(), 1),
        length => {
            let block = bytes.repeat((65_536 / length).max(1));
            let count = SENT_BYTES / block.len();
            (block, count)
        }
    }
}

fn peak_memory_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}

/// One test, so that the memory measured is that of nobody else.
#[tokio::test]
async fn whatever_a_guest_sends_costs_its_own_vm_only() {
    let neighbour = Host::new(machine());
    let attacked = Arc::new(Notify::new());
    let good = FakeDriver::new(|mut guest| async move {
        let mut agent = Guest::configured(&mut guest).await;
        loop {
            match agent.hear().await {
                Heard::Open(id) => {
                    let opened = serde_json::to_vec(&Opened::default()).expect("json");
                    agent.frame(id, Kind::Opened, 0, &opened).await;
                }
                Heard::Control(HostMessage::Shutdown { .. }) | Heard::Gone => return ExitCause::GuestPoweroff,
                _ => {}
            }
        }
    });
    let (ending, ()) = neighbour
        .run_with_deadline(std::time::Duration::from_secs(300), good, |socket| async move {
            let answers = || async {
                let (reply, _) = ask(&socket, &ControlRequest::Open { open: Open::Connect { port: 80 } }).await;
                assert!(matches!(reply, ControlReply::Streaming { .. }), "the neighbour: {reply:?}");
            };
            answers().await;
            let before = peak_memory_bytes();
            for (name, bytes) in attacks() {
                before_it_is_configured(name, bytes.clone()).await;
                answers().await;
                once_it_runs(name, bytes, attacked.clone()).await;
                answers().await;
                let grown = peak_memory_bytes().saturating_sub(before);
                assert!(grown < ALLOWED_BYTES, "{name}: {} MiB", grown >> 20);
            }
            ask(&socket, &ControlRequest::Stop { grace_ms: None, is_shutdown: false }).await;
        })
        .await;
    assert_eq!(ending.phase, Phase::Stopped, "the neighbour");
}

/// In place of a hello: the VM has not come up, and says so.
async fn before_it_is_configured(name: &'static str, bytes: Vec<u8>) {
    let mut host = Host::new(task(&["true"]));
    host.launch.boot_timeout_ms = 500;
    let driver = FakeDriver::new(move |mut guest| {
        let bytes = bytes.clone();
        async move {
            use tokio::io::AsyncWriteExt;
            let (block, count) = blocks(&bytes);
            for _ in 0..count {
                if guest.agent.write_all(&block).await.is_err() {
                    break;
                }
            }
            if bytes.len() == HALF_A_FRAME {
                drop(std::mem::replace(&mut guest.agent, tokio::io::duplex(1).0));
            }
            std::future::pending::<ExitCause>().await
        }
    });
    let ending = host.run(driver).await;
    assert_eq!(ending.phase, Phase::Failed, "{name}");
    assert!(ending.reason.is_some_and(|reason| !reason.is_empty() && reason.len() < 4_096), "{name}: no reason");
}

/// After it has come up: it can still be ended at once.
async fn once_it_runs(name: &'static str, bytes: Vec<u8>, attacked: Arc<Notify>) {
    let host = Host::new(machine());
    let done = attacked.clone();
    let driver = FakeDriver::new(move |mut guest| {
        let (bytes, done) = (bytes.clone(), done.clone());
        async move {
            let mut agent = Guest::configured(&mut guest).await;
            let (block, count) = blocks(&bytes);
            for _ in 0..count {
                if !agent.raw(&block).await {
                    break;
                }
            }
            done.notify_one();
            std::future::pending::<ExitCause>().await
        }
    });
    let (ending, ()) = host
        .run_with(driver, |socket| async move {
            attacked.notified().await;
            let (reply, _) = ask(&socket, &ControlRequest::Kill).await;
            assert!(matches!(reply, ControlReply::Ended { .. }), "{name}: {reply:?}");
        })
        .await;
    assert_eq!((ending.phase, ending.exit_code), (Phase::Stopped, 137), "{name}");
}
