//! Cuts frames from a byte stream and messages from frames; both ends use it, and it does no I/O.

use crate::frame::{CHANNEL_MORE, CONTROL_STREAM, FrameError, HEADER_LEN, Header, Kind, MAX_PAYLOAD};
use thiserror::Error;

/// Bytes the decoder buffers: two of the longest frames, so that reads stay long while a frame is incomplete.
const CAPACITY: usize = 2 * (HEADER_LEN + MAX_PAYLOAD);

/// Why a frame's payload is not the message it should be; the connection cannot go on.
#[derive(Debug, Error)]
pub enum MessageError {
    /// The parts together exceed the limit.
    #[error("message exceeds the limit of {0} bytes")]
    TooLong(usize),
    /// The bytes are not the JSON expected.
    #[error("message is not what it should be")]
    Json(#[from] serde_json::Error),
}

/// Appends one frame to `out`. `payload` is at most [`MAX_PAYLOAD`] long; more is the caller's bug and panics.
pub fn put_frame(out: &mut Vec<u8>, stream: u32, kind: Kind, channel: u8, payload: &[u8]) {
    assert!(payload.len() <= MAX_PAYLOAD, "a frame's payload is at most {MAX_PAYLOAD} bytes");
    let length = payload.len() as u32;
    out.extend_from_slice(&Header { length, stream, kind, channel }.encode());
    out.extend_from_slice(payload);
}

/// Appends a message (`Control` or `Open`) as one frame, or as several when it is longer than one.
pub fn put_message(out: &mut Vec<u8>, stream: u32, kind: Kind, message: &[u8]) {
    let mut rest = message;
    while rest.len() > MAX_PAYLOAD {
        let (part, tail) = rest.split_at(MAX_PAYLOAD);
        put_frame(out, stream, kind, CHANNEL_MORE, part);
        rest = tail;
    }
    put_frame(out, stream, kind, 0, rest);
}

/// Appends a control message of either side.
pub fn put_control<M: serde::Serialize>(out: &mut Vec<u8>, message: &M) -> Result<(), serde_json::Error> {
    put_message(out, CONTROL_STREAM, Kind::Control, &serde_json::to_vec(message)?);
    Ok(())
}

/// Cuts frames from what is read; it never holds more than two frames.
///
/// Reader's loop: read into [`Decoder::space`], tell [`Decoder::filled`], take frames with [`Decoder::next_frame`] until
/// it answers `None`.
#[derive(Debug)]
pub struct Decoder {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Decoder { buffer: vec![0; CAPACITY].into_boxed_slice(), start: 0, end: 0 }
    }
}

impl Decoder {
    /// Where the next read may put bytes; never empty once `next_frame` has answered `None`.
    pub fn space(&mut self) -> &mut [u8] {
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        } else if self.buffer.len() - self.end < HEADER_LEN + MAX_PAYLOAD {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        &mut self.buffer[self.end..]
    }

    /// `count` bytes of [`Decoder::space`] have been read.
    pub fn filled(&mut self, count: usize) {
        self.end = (self.end + count).min(self.buffer.len());
    }

    /// The next whole frame, or `None` until more has been read. After an error the stream is of no use.
    pub fn next_frame(&mut self) -> Result<Option<(Header, &[u8])>, FrameError> {
        let unread = &self.buffer[self.start..self.end];
        let Some(header) = unread.first_chunk::<HEADER_LEN>() else { return Ok(None) };
        let header = Header::decode(header)?;
        let whole = HEADER_LEN + header.length as usize;
        if unread.len() < whole {
            return Ok(None);
        }
        let from = self.start;
        self.start += whole;
        Ok(Some((header, &self.buffer[from + HEADER_LEN..from + whole])))
    }

    /// Whether part of a frame has been read: the peer ended in its middle.
    pub fn has_partial_frame(&self) -> bool {
        self.start != self.end
    }
}

/// Joins the parts of a message that needs more than one frame.
#[derive(Debug)]
pub struct Assembler {
    limit: usize,
    parts: Vec<u8>,
}

impl Assembler {
    /// Refuses messages longer than `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Assembler { limit, parts: Vec::new() }
    }

    /// Takes a frame's channel and payload; the message once it is complete.
    pub fn push<M: serde::de::DeserializeOwned>(
        &mut self,
        channel: u8,
        payload: &[u8],
    ) -> Result<Option<M>, MessageError> {
        if self.parts.len() + payload.len() > self.limit {
            return Err(MessageError::TooLong(self.limit));
        }
        if channel == CHANNEL_MORE {
            self.parts.extend_from_slice(payload);
            return Ok(None);
        }
        if self.parts.is_empty() {
            return Ok(Some(serde_json::from_slice(payload)?));
        }
        let mut whole = std::mem::take(&mut self.parts);
        whole.extend_from_slice(payload);
        Ok(Some(serde_json::from_slice(&whole)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::MAX_CONTROL;
    use crate::message::{GuestMessage, HostMessage};

    fn feed(decoder: &mut Decoder, mut bytes: &[u8], mut each: impl FnMut(Header, &[u8])) -> Result<(), FrameError> {
        while !bytes.is_empty() {
            let space = decoder.space();
            let n = space.len().min(bytes.len());
            space[..n].copy_from_slice(&bytes[..n]);
            decoder.filled(n);
            bytes = &bytes[n..];
            while let Some((header, payload)) = decoder.next_frame()? {
                each(header, payload);
            }
        }
        Ok(())
    }

    #[test]
    fn frames_come_out_as_they_went_in_however_the_bytes_are_cut() {
        let mut wire = Vec::new();
        put_frame(&mut wire, 1, Kind::Data, 1, &[7; MAX_PAYLOAD]);
        put_frame(&mut wire, 2, Kind::Eof, 0, &[]);
        put_frame(&mut wire, u32::MAX, Kind::Data, 2, b"last");
        for cut in [1, 7, HEADER_LEN, 1000, 65_000, wire.len()] {
            let mut decoder = Decoder::default();
            let mut seen = Vec::new();
            for part in wire.chunks(cut) {
                feed(&mut decoder, part, |h, p| seen.push((h.stream, h.kind, p.len()))).unwrap();
            }
            assert_eq!(seen, [(1, Kind::Data, MAX_PAYLOAD), (2, Kind::Eof, 0), (u32::MAX, Kind::Data, 4)]);
            assert!(!decoder.has_partial_frame());
        }
    }

    #[test]
    fn a_message_longer_than_a_frame_is_joined() {
        let message = GuestMessage::Log { level: "info".into(), message: "x".repeat(3 * MAX_PAYLOAD) };
        let mut wire = Vec::new();
        put_control(&mut wire, &message).unwrap();
        let mut assembler = Assembler::new(MAX_CONTROL);
        let mut joined = None;
        feed(&mut Decoder::default(), &wire, |h, p| joined = assembler.push::<GuestMessage>(h.channel, p).unwrap())
            .unwrap();
        assert_eq!(joined, Some(message));
    }

    #[test]
    fn a_message_past_the_limit_is_refused() {
        let mut assembler = Assembler::new(10);
        assert!(assembler.push::<HostMessage>(CHANNEL_MORE, &[b' '; 10]).unwrap().is_none());
        let error = assembler.push::<HostMessage>(0, b" ").unwrap_err();
        assert!(matches!(error, MessageError::TooLong(10)), "{error}");
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..4096)) {
            let mut assembler = Assembler::new(1024);
            let _ = feed(&mut Decoder::default(), &bytes, |h, p| {
                let _ = assembler.push::<GuestMessage>(h.channel, p);
            });
        }
    }
}
