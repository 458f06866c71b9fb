//! Firecracker's own metrics: lines of JSON, one a minute, each with what was counted since the line before.

use crate::counters::VmmCounters;
use serde_json::Value;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::unix::pipe;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Longest line that is read; one of a machine with twenty disks has a third of it.
const MAX_LINE: u64 = 64 * 1024;
/// Shortest time between two lines: a Firecracker that its guest has taken over must not keep us busy.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(50);

/// The sums of all lines so far, and whoever reads them.
#[derive(Debug)]
pub(super) struct Metrics {
    pub(super) counters: watch::Receiver<VmmCounters>,
    reader: JoinHandle<()>,
}

impl Metrics {
    /// Follows `stream` until its end.
    pub(super) fn follow(stream: File) -> io::Result<Metrics> {
        let stream = BufReader::new(pipe::Receiver::from_owned_fd(OwnedFd::from(stream))?);
        let (sums, counters) = watch::channel(VmmCounters::default());
        Ok(Metrics { counters, reader: tokio::spawn(read(stream, sums, SHORTEST_INTERVAL)) })
    }
}

impl Drop for Metrics {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

async fn read(mut stream: impl AsyncBufRead + Unpin, sums: watch::Sender<VmmCounters>, interval: Duration) {
    let mut line = Vec::new();
    loop {
        line.clear();
        // Of a longer line each piece is taken for a line, and is none.
        match (&mut stream).take(MAX_LINE).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        if let Ok(line @ Value::Object(_)) = serde_json::from_slice(&line) {
            sums.send_modify(|sums| add(sums, &line));
        }
        tokio::time::sleep(interval).await;
    }
}

/// Where a line has what is counted: its place, the device, and the device's counters of it.
type Counted = (fn(&mut VmmCounters) -> &mut u64, &'static str, &'static [&'static str]);

const COUNTED: [Counted; 12] = [
    (|c| &mut c.disk_reads, "block", &["read_count"]),
    (|c| &mut c.disk_writes, "block", &["write_count"]),
    (|c| &mut c.disk_flushes, "block", &["flush_count"]),
    (|c| &mut c.disk_failures, "block", &["execute_fails", "invalid_reqs_count"]),
    (|c| &mut c.disk_throttled, "block", &["rate_limiter_throttled_events"]),
    (|c| &mut c.network_received_packets, "net", &["rx_packets_count"]),
    (|c| &mut c.network_sent_packets, "net", &["tx_packets_count"]),
    (|c| &mut c.network_failures, "net", LOST_PACKETS),
    (|c| &mut c.network_spoofed_packets, "net", &["tx_spoofed_mac_count"]),
    (|c| &mut c.network_throttled, "net", &["rx_rate_limiter_throttled", "tx_rate_limiter_throttled"]),
    (|c| &mut c.vsock_received_bytes, "vsock", &["rx_bytes_count"]),
    (|c| &mut c.vsock_sent_bytes, "vsock", &["tx_bytes_count"]),
];

const LOST_PACKETS: &[&str] = &["rx_fails", "tx_fails", "tap_read_fails", "tap_write_fails", "tx_malformed_frames"];

/// Adds one line. What a version does not count is 0.
fn add(sums: &mut VmmCounters, line: &Value) {
    for (place, device, names) in COUNTED {
        let counts = names.iter().filter_map(|name| line.get(device)?.get(name)?.as_u64());
        let sum = place(sums);
        *sum = counts.fold(*sum, u64::saturating_add);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As Firecracker 1.17 has written it, with every device that it may have.
    const LINE: &str = include_str!("metrics/line.json");

    #[test]
    fn everything_that_is_counted_is_in_a_line_and_has_a_place_of_its_own() {
        let line: Value = serde_json::from_str(LINE).unwrap();
        let mut counters = VmmCounters::default();
        for (number, (place, device, names)) in (1..).zip(COUNTED) {
            *place(&mut counters) += number;
            assert_eq!(*place(&mut counters), number, "{device} {names:?}: the place is another's, too");
            for name in names {
                assert!(line[device][name].is_u64(), "{device} {name}");
            }
        }
        let places = serde_json::to_value(counters).unwrap();
        assert_eq!(places.as_object().unwrap().len(), COUNTED.len(), "{places}");
    }

    async fn read_all(said: &[u8]) -> VmmCounters {
        let (sums, counters) = watch::channel(VmmCounters::default());
        read(said, sums, Duration::ZERO).await;
        *counters.borrow()
    }

    #[tokio::test]
    async fn lines_are_added_up_and_what_is_none_is_passed_over() {
        let line = r#"{"utc_timestamp_ms": 1, "block": {"read_count": 2, "execute_fails": 1, "invalid_reqs_count": 1},
            "block_root": {"read_count": 2}, "net": {"tx_rate_limiter_throttled": 3}, "vsock": {"tx_bytes_count": 10}}"#
            .replace('\n', "");
        let huge = format!(r#"{{"net": {{"rx_packets_count": {}}}}}"#, u64::MAX);
        let too_long = format!("{}{}", " ".repeat(2 * MAX_LINE as usize), line.replace("block", "no block"));
        let said = [&line, "", "no JSON", "[1]", r#"{"block": {"read_count": -1}}"#, &too_long, &line, &huge, &huge];
        let expected = VmmCounters {
            disk_reads: 4,
            disk_failures: 4,
            network_throttled: 9,
            vsock_sent_bytes: 30,
            network_received_packets: u64::MAX,
            ..VmmCounters::default()
        };
        // The last piece of the long line is one.
        assert_eq!(read_all(said.join("\n").as_bytes()).await, expected);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_bytes_make_it_panic_or_hang(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(read_all(&bytes));
        }
    }
}
