//! The host's end of the channel: one connection, many streams.
//!
//! ```text
//!  Connection (Clone) --send/open--> outbox ---> [ task: writes | reads ] <---> the VM's byte stream
//!  ControlEvents <--- control messages ----------------+    |
//!  Stream { stdin, output } <--- per-stream queue, bounded by the windows granted
//! ```
//!
//! The guest is not trusted. What it sends is bounded per frame, per message, per stream and in the number of streams;
//! what breaks a bound ends the connection with a named [`ConnectionError`], and every stream ends with it. A slow
//! consumer of one stream holds up that stream only.

mod connection;
mod stream;

pub use connection::{Connection, ConnectionError, ControlEvents, OpenError};
pub use stream::{Stream, StreamEvent, StreamInput, StreamOutput, StreamRequests};
