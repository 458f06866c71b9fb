//! The contract between the host and `ignite-init`: one byte stream per VM, multiplexed, flow-controlled, versioned.
//!
//! ```text
//!  host (ignite-spawn)                                   guest (ignite-init)
//!     |  <------------------ Control Hello ----------------------  |   channel opened, version told
//!     |  ------------------- Control Configure ----------------->  |   disks, identity, network, what to run
//!     |  <------------------ Control Configured -----------------  |   root is mounted, task or init is starting
//!     |  <-- Data/Eof/Close on TASK_STREAM ... Window -->          |   the task's streams, if it is a task
//!     |  --- Open(stream n) --> <-- Opened/Data/Eof/Close(n) ---   |   exec, copy, connect: any number at once
//!     |  ------------------- Control Shutdown ------------------>  |
//!     |  <------------------ Control Exiting --------------------  |   why the guest is about to end
//!     |  ------------------- Control Goodbye ------------------->  |   all of it has arrived; the machine stops
//! ```
//!
//! Nothing here knows Linux: numbers (signals, modes) pass through. Everything received is bounded: a frame by
//! [`frame::MAX_PAYLOAD`], a control message by [`frame::MAX_CONTROL`], a stream by its [`frame::INITIAL_WINDOW`].

pub mod codec;
pub mod frame;
pub mod message;

#[cfg(feature = "client")]
pub mod client;

/// Generation of the protocol. The guest says its own in `Hello`; the host refuses one it does not know, because
/// `ignite-init` always comes from the initramfs this host made.
pub const PROTOCOL_VERSION: u32 = 1;

/// Name of the virtio-serial port (found in `/sys/class/virtio-ports/*/name`) that carries the stream under QEMU.
pub const SERIAL_PORT_NAME: &str = "org.ignite.agent.0";

/// Port the guest listens on where the stream is carried by vsock (Firecracker).
pub const VSOCK_PORT: u32 = 1024;
