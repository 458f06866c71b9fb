//! The client against a scripted guest at the other end of an in-memory pipe.
#![cfg(feature = "client")]

use bytes::Bytes;
use ignite_agent_protocol::client::{Connection, ConnectionError, ControlEvents, OpenError, StreamEvent};
use ignite_agent_protocol::codec::{Decoder, put_control, put_frame};
use ignite_agent_protocol::frame::{
    FIRST_OPEN_STREAM, Header, INITIAL_WINDOW, Kind, MAX_GUEST_CONTROL, MAX_PAYLOAD, MAX_STREAMS, STDERR, STDIN,
    STDOUT, TASK_STREAM,
};
use ignite_agent_protocol::message::{
    ExitingCause, GuestMessage, HostMessage, Open, Opened, StreamExit, StreamRequest,
};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);

struct Guest {
    wire: DuplexStream,
    decoder: Decoder,
}

impl Guest {
    async fn frame(&mut self) -> (Header, Vec<u8>) {
        loop {
            if let Some((header, payload)) = self.decoder.next_frame().unwrap() {
                return (header, payload.to_vec());
            }
            let n = timeout(PATIENCE, self.wire.read(self.decoder.space())).await.unwrap().unwrap();
            assert_ne!(n, 0, "the host closed the channel");
            self.decoder.filled(n);
        }
    }

    async fn expect(&mut self, kind: Kind, stream: u32) -> Vec<u8> {
        let (header, payload) = self.frame().await;
        assert_eq!((header.kind, header.stream), (kind, stream));
        payload
    }

    async fn send(&mut self, stream: u32, kind: Kind, channel: u8, payload: &[u8]) {
        let mut bytes = Vec::new();
        put_frame(&mut bytes, stream, kind, channel, payload);
        self.wire.write_all(&bytes).await.unwrap();
    }

    async fn say(&mut self, message: &GuestMessage) {
        let mut bytes = Vec::new();
        put_control(&mut bytes, message).unwrap();
        self.wire.write_all(&bytes).await.unwrap();
    }

    async fn close(&mut self, stream: u32, exit: &StreamExit) {
        self.send(stream, Kind::Close, 0, &serde_json::to_vec(exit).unwrap()).await;
    }
}

fn pair() -> (Connection, ControlEvents, Guest) {
    let (host, guest) = tokio::io::duplex(1 << 20);
    let (connection, events) = Connection::start(host);
    (connection, events, Guest { wire: guest, decoder: Decoder::default() })
}

fn stat() -> Open {
    Open::Stat { path: "/x".into() }
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("nothing happened")
}

#[tokio::test]
async fn control_messages_go_both_ways() {
    let (connection, mut events, mut guest) = pair();
    connection.send(&HostMessage::Ping { nonce: 7 }).unwrap();
    let ping: HostMessage = serde_json::from_slice(&guest.expect(Kind::Control, 0).await).unwrap();
    assert_eq!(ping, HostMessage::Ping { nonce: 7 });
    guest.say(&GuestMessage::Pong { nonce: 7 }).await;
    assert_eq!(soon(events.recv()).await, Some(GuestMessage::Pong { nonce: 7 }));
}

#[tokio::test]
async fn a_guest_that_says_it_ends_is_answered() {
    let (_connection, mut events, mut guest) = pair();
    let exiting = GuestMessage::Exiting { cause: ExitingCause::TaskExited };
    guest.say(&exiting).await;
    let answer: HostMessage = serde_json::from_slice(&guest.expect(Kind::Control, 0).await).unwrap();
    assert_eq!(answer, HostMessage::Goodbye);
    assert_eq!(soon(events.recv()).await, Some(exiting));
}

#[tokio::test]
async fn an_opened_stream_carries_both_directions_and_its_exit() {
    let (connection, _events, mut guest) = pair();
    let open = stat();
    let (opened, ()) = tokio::join!(connection.open(&open), async {
        assert_eq!(guest.expect(Kind::Open, 2).await, serde_json::to_vec(&stat()).unwrap());
        guest.send(2, Kind::Opened, 0, br#"{"pid":5}"#).await;
    });
    let (opened, mut stream) = opened.unwrap();
    assert_eq!(opened, Opened { pid: Some(5), ..Opened::default() });
    assert!(stream.stdin.write(Bytes::from_static(b"in")).await.unwrap());
    assert_eq!(guest.expect(Kind::Data, 2).await, b"in");
    stream.stdin.close();
    guest.expect(Kind::Eof, 2).await;
    stream.request(StreamRequest::Signal { signal: 2 }).unwrap();
    guest.expect(Kind::Request, 2).await;
    guest.send(2, Kind::Data, STDOUT, b"out").await;
    guest.send(2, Kind::Data, STDERR, b"err").await;
    guest.send(2, Kind::Eof, STDOUT, b"").await;
    guest.close(2, &StreamExit::Exited { code: 3 }).await;
    let mut seen = Vec::new();
    while let Some(event) = soon(stream.output.recv()).await {
        seen.push(format!("{event:?}"));
    }
    assert_eq!(seen, ["Stdout(b\"out\")", "Stderr(b\"err\")", "StdoutEnd", "Exit(Exited { code: 3 })"]);
    drop(stream);
    connection.send(&HostMessage::Ping { nonce: 1 }).unwrap();
    guest.expect(Kind::Control, 0).await;
}

#[tokio::test]
async fn a_refused_open_carries_the_guests_words() {
    let (connection, _events, mut guest) = pair();
    let open = stat();
    let failed = StreamExit::Failed { code: 127, message: "no such program".into() };
    let (opened, ()) = tokio::join!(connection.open(&open), async {
        guest.expect(Kind::Open, 2).await;
        guest.close(2, &failed).await;
    });
    let Err(OpenError::Refused(exit)) = opened else { panic!("opened") };
    assert_eq!(exit, failed);
}

#[tokio::test]
async fn the_task_stream_keeps_what_came_before_it_was_taken_and_is_given_once() {
    let (connection, _events, mut guest) = pair();
    guest.send(TASK_STREAM, Kind::Data, STDOUT, b"early").await;
    let mut task = connection.task_stream().unwrap();
    assert!(connection.task_stream().is_none());
    let Some(StreamEvent::Stdout(bytes)) = soon(task.output.recv()).await else { panic!() };
    assert_eq!(bytes, "early");
}

#[tokio::test]
async fn windows_are_granted_only_as_the_consumer_takes_data() {
    let (connection, mut events, mut guest) = pair();
    let mut task = connection.task_stream().unwrap();
    let chunk = vec![1; MAX_PAYLOAD];
    for _ in 0..INITIAL_WINDOW as usize / MAX_PAYLOAD {
        guest.send(TASK_STREAM, Kind::Data, STDOUT, &chunk).await;
    }
    // The stream is full, the connection is not.
    guest.say(&GuestMessage::Pong { nonce: 1 }).await;
    assert_eq!(soon(events.recv()).await, Some(GuestMessage::Pong { nonce: 1 }));
    let mut taken = 0;
    while taken < INITIAL_WINDOW as usize {
        match soon(task.output.recv()).await {
            Some(StreamEvent::Stdout(bytes)) => taken += bytes.len(),
            other => panic!("{other:?}"),
        }
    }
    let mut granted = 0;
    while granted < INITIAL_WINDOW {
        granted += u32::from_le_bytes(guest.expect(Kind::Window, TASK_STREAM).await.try_into().unwrap());
    }
    assert_eq!(granted, INITIAL_WINDOW);
}

#[tokio::test]
async fn data_past_the_window_ends_the_connection_and_every_stream() {
    let (connection, mut events, mut guest) = pair();
    let mut task = connection.task_stream().unwrap();
    let chunk = vec![1; MAX_PAYLOAD];
    for _ in 0..INITIAL_WINDOW as usize / MAX_PAYLOAD {
        guest.send(TASK_STREAM, Kind::Data, STDERR, &chunk).await;
    }
    guest.send(TASK_STREAM, Kind::Data, STDERR, b"!").await;
    assert_eq!(soon(events.recv()).await, None);
    assert!(matches!(connection.lost(), Some(ConnectionError::WindowExceeded { stream: TASK_STREAM, excess: 1 })));
    let mut last = None;
    while let Some(event) = soon(task.output.recv()).await {
        last = Some(event);
    }
    assert!(matches!(last, Some(StreamEvent::Lost(ConnectionError::WindowExceeded { .. }))), "{last:?}");
    assert!(task.stdin.write(Bytes::from_static(b"x")).await.is_err());
    assert!(matches!(connection.open(&stat()).await, Err(OpenError::Connection(_))));
}

#[tokio::test]
async fn standard_input_waits_for_the_guests_window() {
    let (connection, _events, mut guest) = pair();
    let mut task = connection.task_stream().unwrap();
    let writer = tokio::spawn(async move {
        task.stdin.write(Bytes::from(vec![7; INITIAL_WINDOW as usize + 5])).await.unwrap();
        task
    });
    let mut received = 0;
    while received < INITIAL_WINDOW as usize {
        received += guest.expect(Kind::Data, TASK_STREAM).await.len();
    }
    assert_eq!(received, INITIAL_WINDOW as usize);
    assert!(!writer.is_finished());
    guest.send(TASK_STREAM, Kind::Window, STDIN, &10u32.to_le_bytes()).await;
    assert_eq!(guest.expect(Kind::Data, TASK_STREAM).await, [7; 5]);
    soon(writer).await.unwrap();
}

#[tokio::test]
async fn a_window_larger_than_any_is_a_protocol_error() {
    let (connection, mut events, mut guest) = pair();
    guest.send(TASK_STREAM, Kind::Window, STDIN, &1u32.to_le_bytes()).await;
    assert_eq!(soon(events.recv()).await, None);
    assert!(matches!(connection.lost(), Some(ConnectionError::WindowGrant { stream: TASK_STREAM })));
}

#[tokio::test]
async fn dropping_a_stream_closes_it_and_late_frames_are_ignored() {
    let (connection, mut events, mut guest) = pair();
    let open = stat();
    let (opened, ()) = tokio::join!(connection.open(&open), async {
        guest.expect(Kind::Open, 2).await;
        guest.send(2, Kind::Opened, 0, b"{}").await;
    });
    drop(opened.unwrap());
    guest.expect(Kind::Eof, 2).await;
    guest.expect(Kind::Close, 2).await;
    guest.send(2, Kind::Data, STDOUT, b"late").await;
    guest.close(2, &StreamExit::Signaled { signal: 1 }).await;
    guest.send(2, Kind::Data, STDOUT, b"very late").await;
    guest.say(&GuestMessage::Pong { nonce: 3 }).await;
    assert_eq!(soon(events.recv()).await, Some(GuestMessage::Pong { nonce: 3 }));
}

#[tokio::test]
async fn a_dropped_open_tells_the_guest() {
    let (connection, _events, mut guest) = pair();
    let open = stat();
    assert!(timeout(Duration::from_millis(1), connection.open(&open)).await.is_err());
    guest.expect(Kind::Open, 2).await;
    guest.expect(Kind::Eof, 2).await;
    guest.expect(Kind::Close, 2).await;
}

#[tokio::test]
async fn streams_are_limited_in_number() {
    let (connection, _events, mut guest) = pair();
    let mut streams = Vec::new();
    for i in 0..MAX_STREAMS as u32 {
        let id = FIRST_OPEN_STREAM + i;
        let open = stat();
        let (opened, ()) = tokio::join!(connection.open(&open), async {
            guest.expect(Kind::Open, id).await;
            guest.send(id, Kind::Opened, 0, b"{}").await;
        });
        streams.push(opened.unwrap());
    }
    assert!(matches!(connection.open(&stat()).await, Err(OpenError::TooManyStreams)));
    guest.close(FIRST_OPEN_STREAM, &StreamExit::Exited { code: 0 }).await;
    while soon(streams[0].1.output.recv()).await.is_some() {}
    let open = stat();
    let (opened, ()) = tokio::join!(connection.open(&open), async {
        guest.expect(Kind::Open, FIRST_OPEN_STREAM + MAX_STREAMS as u32).await;
        guest.send(FIRST_OPEN_STREAM + MAX_STREAMS as u32, Kind::Opened, 0, b"{}").await;
    });
    opened.unwrap();
}

#[tokio::test]
async fn a_long_open_is_cut_into_frames() {
    let (connection, _events, mut guest) = pair();
    let open = Open::Stat { path: "p".repeat(MAX_PAYLOAD) };
    let (opened, ()) = tokio::join!(connection.open(&open), async {
        let (first, mut json) = guest.frame().await;
        assert_eq!((first.kind, first.channel), (Kind::Open, 1));
        let (second, rest) = guest.frame().await;
        assert_eq!((second.kind, second.channel), (Kind::Open, 0));
        json.extend(rest);
        assert_eq!(serde_json::from_slice::<Open>(&json).unwrap(), open);
        guest.send(2, Kind::Opened, 0, b"{}").await;
    });
    opened.unwrap();
}

#[tokio::test]
async fn an_endless_control_message_ends_the_connection() {
    let (connection, mut events, mut guest) = pair();
    for _ in 0..=MAX_GUEST_CONTROL / MAX_PAYLOAD {
        guest.send(0, Kind::Control, 1, &vec![b' '; MAX_PAYLOAD]).await;
    }
    assert_eq!(soon(events.recv()).await, None);
    assert!(matches!(connection.lost(), Some(ConnectionError::Message { kind: Kind::Control, .. })));
}

#[tokio::test]
async fn a_flood_of_logs_is_dropped_and_a_flood_of_answers_ends_the_connection() {
    let (connection, mut events, mut guest) = pair();
    for _ in 0..1000 {
        guest.say(&GuestMessage::Log { level: "info".into(), message: "noise".into() }).await;
    }
    guest.say(&GuestMessage::Pong { nonce: 9 }).await;
    while soon(events.recv()).await != Some(GuestMessage::Pong { nonce: 9 }) {}
    let mut flood = Vec::new();
    for nonce in 0..1000 {
        put_control(&mut flood, &GuestMessage::Pong { nonce }).unwrap();
    }
    guest.wire.write_all(&flood).await.unwrap();
    while soon(events.recv()).await.is_some() {}
    assert!(matches!(connection.lost(), Some(ConnectionError::Flood)));
}

#[tokio::test]
async fn the_peers_end_is_named() {
    let (connection, mut events, guest) = pair();
    drop(guest);
    assert_eq!(soon(events.recv()).await, None);
    assert!(matches!(connection.lost(), Some(ConnectionError::PeerClosed)));

    let (connection, mut events, mut guest) = pair();
    guest.wire.write_all(&[1, 2, 3]).await.unwrap();
    drop(guest);
    assert_eq!(soon(events.recv()).await, None);
    assert!(matches!(connection.lost(), Some(ConnectionError::Truncated)));
}

#[tokio::test]
async fn closing_or_dropping_every_handle_ends_the_connection() {
    let (connection, mut events, _guest) = pair();
    let mut task = connection.task_stream().unwrap();
    connection.close();
    assert_eq!(soon(events.recv()).await, None);
    assert!(matches!(soon(task.output.recv()).await, Some(StreamEvent::Lost(ConnectionError::Closed))));

    let (connection, mut events, mut guest) = pair();
    drop(connection);
    assert_eq!(soon(events.recv()).await, None);
    assert_eq!(guest.wire.read(&mut [0; 1]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_guest_that_never_reads_cannot_make_the_host_hoard() {
    let (host, _guest) = tokio::io::duplex(16);
    let (connection, mut events) = Connection::start(host);
    let noise = HostMessage::Configure(Box::new(configure_of_one_mib()));
    while connection.send(&noise).is_ok() {}
    assert_eq!(soon(events.recv()).await, None);
    assert!(matches!(connection.lost(), Some(ConnectionError::Backlog(_))));
}

fn configure_of_one_mib() -> ignite_agent_protocol::message::Configure {
    serde_json::from_value(serde_json::json!({
        "hostname": "h".repeat(1 << 20), "root": {"private": {"disk": {"index": 0}}}, "role": "idle"
    }))
    .unwrap()
}

fn any_frame() -> impl proptest::strategy::Strategy<Value = Vec<u8>> {
    use proptest::prelude::*;
    let payload = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..64),
        Just(br#"{"type":"exited","code":0}"#.to_vec()),
        Just(b"{}".to_vec()),
        Just(1u32.to_le_bytes().to_vec()),
    ];
    (0u32..4, 0u8..10, 0u8..4, payload).prop_map(|(stream, kind, channel, payload)| {
        let mut bytes = (payload.len() as u32).to_le_bytes().to_vec();
        bytes.extend(stream.to_le_bytes());
        bytes.extend([kind, channel, 0, 0]);
        bytes.extend(payload);
        bytes
    })
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(128))]
    #[test]
    fn no_bytes_from_the_guest_make_the_host_panic_or_hang(
        frames in proptest::collection::vec(any_frame(), 0..40),
        tail in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..64),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (connection, mut events, mut guest) = pair();
            let mut task = connection.task_stream().unwrap();
            let open = stat();
            let opening = connection.open(&open);
            let feeding = async {
                for frame in &frames {
                    let _ = guest.wire.write_all(frame).await;
                }
                let _ = guest.wire.write_all(&tail).await;
                drop(guest);
            };
            let (opened, ()) = soon(async { tokio::join!(opening, feeding) }).await;
            while soon(events.recv()).await.is_some() {}
            assert!(connection.lost().is_some());
            while soon(task.output.recv()).await.is_some() {}
            if let Ok((_, mut stream)) = opened {
                while soon(stream.output.recv()).await.is_some() {}
            }
        });
    }
}
