//! Frames: what travels on the wire, and how it is cut from a byte stream.
//!
//! ```text
//!  0        4         8      9         10        12
//!  +--------+---------+------+---------+---------+-----------------+
//!  | length | stream  | kind | channel | zero    | payload ...     |
//!  | u32 LE | u32 LE  | u8   | u8      | u16     | `length` bytes  |
//!  +--------+---------+------+---------+---------+-----------------+
//! ```

use thiserror::Error;

/// Bytes of a frame's header.
pub const HEADER_LEN: usize = 12;
/// Largest payload of a frame, in bytes. A longer length is a protocol error: the connection is dropped.
pub const MAX_PAYLOAD: usize = 64 * 1024;
/// Largest control message after reassembly, in bytes. Control messages longer than a frame continue in following
/// `Control` frames with [`CHANNEL_MORE`] set on all but the last.
pub const MAX_CONTROL: usize = 16 * 1024 * 1024;
/// Largest control message a guest may send, in bytes: its messages are short, and the host trusts none of them.
pub const MAX_GUEST_CONTROL: usize = 256 * 1024;
/// Largest `Open` after reassembly, in bytes; a longer one than a frame continues as control messages do.
pub const MAX_OPEN: usize = 4 * 1024 * 1024;
/// Bytes that may be in flight on one channel of one stream before the receiver has granted more with `Window`.
pub const INITIAL_WINDOW: u32 = 256 * 1024;
/// Streams open at the same time on one connection; an `Open` past it is answered by `Close`.
pub const MAX_STREAMS: usize = 256;
/// Stream of control messages.
pub const CONTROL_STREAM: u32 = 0;
/// Stream that carries the task's standard streams; opened by `Configure`, never by `Open`.
pub const TASK_STREAM: u32 = 1;
/// First stream number a host may `Open`.
pub const FIRST_OPEN_STREAM: u32 = 2;

/// Channel of a `Data`, `Eof` or `Window` frame: standard input, host to guest.
pub const STDIN: u8 = 0;
/// Standard output (with a terminal: everything), guest to host.
pub const STDOUT: u8 = 1;
/// Standard error, guest to host.
pub const STDERR: u8 = 2;
/// In a `Control` or `Open` frame: the message continues in the next such frame of the same stream.
pub const CHANNEL_MORE: u8 = 1;

/// What a frame means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// JSON of [`crate::message::HostMessage`] or [`crate::message::GuestMessage`] on stream 0.
    Control = 1,
    /// Host to guest: JSON of [`crate::message::Open`], in as many frames as it needs.
    Open = 2,
    /// Guest to host: JSON of [`crate::message::Opened`]; what was asked for has started.
    Opened = 3,
    /// Raw bytes of a channel.
    Data = 4,
    /// No more `Data` on this channel from this side.
    Eof = 5,
    /// u32 LE: the receiver of the channel's data grants so many bytes more.
    Window = 6,
    /// Host to guest: JSON of [`crate::message::StreamRequest`] (signal, resize).
    Request = 7,
    /// Guest to host: JSON of [`crate::message::StreamExit`], the stream's last frame. Host to guest: empty, the host
    /// has lost interest and the guest ends what runs behind it.
    Close = 8,
}

impl Kind {
    /// The kind with this number, if there is one.
    pub fn from_u8(n: u8) -> Option<Kind> {
        Some(match n {
            1 => Kind::Control,
            2 => Kind::Open,
            3 => Kind::Opened,
            4 => Kind::Data,
            5 => Kind::Eof,
            6 => Kind::Window,
            7 => Kind::Request,
            8 => Kind::Close,
            _ => return None,
        })
    }
}

/// A decoded frame header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Payload bytes that follow, at most [`MAX_PAYLOAD`].
    pub length: u32,
    /// Stream the frame belongs to.
    pub stream: u32,
    /// What the payload is.
    pub kind: Kind,
    /// Channel within the stream.
    pub channel: u8,
}

/// Why bytes are not a frame; the connection cannot go on.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum FrameError {
    /// The length exceeds [`MAX_PAYLOAD`].
    #[error("frame of {0} bytes exceeds the limit of {MAX_PAYLOAD}")]
    TooLong(u32),
    /// The kind is not one of [`Kind`].
    #[error("unknown frame kind {0}")]
    UnknownKind(u8),
    /// The reserved bytes are not zero.
    #[error("reserved header bytes are {0:#06x}, not zero")]
    Reserved(u16),
}

impl Header {
    /// The header's bytes.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        out[0..4].copy_from_slice(&self.length.to_le_bytes());
        out[4..8].copy_from_slice(&self.stream.to_le_bytes());
        out[8] = self.kind as u8;
        out[9] = self.channel;
        out
    }

    /// Reads a header; every field is checked.
    pub fn decode(bytes: &[u8; HEADER_LEN]) -> Result<Header, FrameError> {
        let length = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        if length as usize > MAX_PAYLOAD {
            return Err(FrameError::TooLong(length));
        }
        let reserved = u16::from_le_bytes([bytes[10], bytes[11]]);
        if reserved != 0 {
            return Err(FrameError::Reserved(reserved));
        }
        let kind = Kind::from_u8(bytes[8]).ok_or(FrameError::UnknownKind(bytes[8]))?;
        let stream = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
        Ok(Header { length, stream, kind, channel: bytes[9] })
    }
}
