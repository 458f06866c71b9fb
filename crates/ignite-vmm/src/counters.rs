//! What a VMM itself counts of its machine's devices.

use serde::{Deserialize, Serialize};

/// Counted since the machine was booted; "received" and "sent" are the guest's view.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct VmmCounters {
    /// Reads that the guest's disks have done.
    pub disk_reads: u64,
    /// Writes that they have done.
    pub disk_writes: u64,
    /// Flushes that they have done.
    pub disk_flushes: u64,
    /// Requests that they could not do, or that made no sense.
    pub disk_failures: u64,
    /// Times that a limit has made a disk wait.
    pub disk_throttled: u64,
    /// Packets received.
    pub network_received_packets: u64,
    /// Packets sent.
    pub network_sent_packets: u64,
    /// Packets lost between the guest and its tap.
    pub network_failures: u64,
    /// Packets sent under another hardware address than the guest's own.
    pub network_spoofed_packets: u64,
    /// Times that a limit has made the traffic wait.
    pub network_throttled: u64,
    /// Bytes received on the virtio socket, which carries the agent's channel.
    pub vsock_received_bytes: u64,
    /// Bytes sent on it.
    pub vsock_sent_bytes: u64,
}
