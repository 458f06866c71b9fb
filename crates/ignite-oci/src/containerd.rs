//! containerd's API, as far as images need it: its services over gRPC on a Unix socket.
//!
//! ```text
//!  sources/containerd ── client ── grpc (HTTP/2 frames)
//!                          └────── messages (protobuf)
//! ```

mod client;
mod grpc;
mod messages;

pub(crate) use client::{Containerd, Target};
