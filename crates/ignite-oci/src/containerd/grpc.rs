//! gRPC over HTTP/2 on a Unix socket: calls, streams, statuses (gRPC "PROTOCOL-HTTP2.md").
//!
//! A request is HEADERS and length-prefixed messages; an answer is HEADERS, messages, and trailers with the status.
//! Why not a ready framework: this is all of gRPC that is spoken here, and those bring code generators and a compiler
//! for `.proto` files into every build.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Method, Request};
use prost::Message;
use std::future::poll_fn;
use std::path::Path;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

/// Largest message taken.
const MAX_MESSAGE_BYTES: usize = 16 << 20;
/// Compression flag and length.
const PREFIX_BYTES: usize = 5;
const WINDOW_BYTES: u32 = 4 << 20;

/// Status codes that are told apart (gRPC "Status codes").
pub(super) const NOT_FOUND: u32 = 5;
pub(super) const ALREADY_EXISTS: u32 = 6;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum GrpcError {
    /// The server's own answer.
    #[error("{message}")]
    Status {
        /// A gRPC status code.
        code: u32,
        /// What it says.
        message: String,
    },
    /// The connection broke.
    #[error("{0}")]
    Connection(#[from] h2::Error),
    /// What came is no gRPC.
    #[error("{0}")]
    Malformed(String),
    /// Nothing came.
    #[error("no answer within {} s", .0.as_secs())]
    Timeout(Duration),
}

/// A connection to a server; closed on drop.
pub(super) struct Channel {
    sender: SendRequest<Bytes>,
    metadata: HeaderMap,
    deadline: Duration,
    driver: JoinHandle<()>,
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Channel {
    /// Connects to the socket at `path`; `deadline` bounds each answer.
    pub(super) async fn connect(path: &Path, deadline: Duration) -> std::io::Result<Channel> {
        let socket = UnixStream::connect(path).await?;
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(WINDOW_BYTES).initial_connection_window_size(WINDOW_BYTES);
        let (sender, connection) = builder.handshake(socket).await.map_err(std::io::Error::other)?;
        let driver = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the connection to containerd ended");
            }
        });
        Ok(Channel { sender, metadata: HeaderMap::new(), deadline, driver })
    }

    /// Sends `value` as metadata with every call from now on.
    pub(super) fn set_metadata(&mut self, name: &'static str, value: &str) -> Result<(), GrpcError> {
        let value = HeaderValue::from_str(value).map_err(|_| malformed("metadata that fits no header"))?;
        self.metadata.insert(name, value);
        Ok(())
    }

    /// One request, one answer. `method` is `package.Service/Method`.
    pub(super) async fn call<Req: Message, Res: Message + Default>(
        &self,
        method: &str,
        request: &Req,
    ) -> Result<Res, GrpcError> {
        let mut answers = self.call_stream(method, request).await?;
        let answer = answers.next().await?.ok_or_else(|| malformed("an answer without a message"))?;
        match answers.next().await? {
            None => Ok(answer),
            Some(_) => Err(malformed("more than one answer")),
        }
    }

    /// One request, many answers.
    pub(super) async fn call_stream<Req: Message, Res: Message + Default>(
        &self,
        method: &str,
        request: &Req,
    ) -> Result<Answers<Res>, GrpcError> {
        let (mut requests, answers) = self.open(method).await?;
        match requests.transmit(request, true).await {
            // A server that answers before it has read all: its answer says why.
            Ok(()) | Err(GrpcError::Connection(_)) => Ok(answers),
            Err(error) => Err(error),
        }
    }

    /// Both sides stream.
    pub(super) async fn open<Res: Message + Default>(
        &self,
        method: &str,
    ) -> Result<(Requests, Answers<Res>), GrpcError> {
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.uri_mut() =
            format!("http://containerd/{method}").parse().map_err(|_| malformed("a method that makes no URI"))?;
        let headers = request.headers_mut();
        headers.clone_from(&self.metadata);
        headers.insert("content-type", HeaderValue::from_static("application/grpc"));
        headers.insert("te", HeaderValue::from_static("trailers"));
        let deadline = self.deadline;
        let mut sender = within(deadline, self.sender.clone().ready()).await?;
        let (answer, stream) = sender.send_request(request, false)?;
        let answers =
            Answers { state: AnswerState::Waiting(answer), buffer: BytesMut::new(), deadline, _of: Default::default() };
        Ok((Requests { stream, deadline }, answers))
    }
}

/// The requests of a call.
pub(super) struct Requests {
    stream: SendStream<Bytes>,
    deadline: Duration,
}

impl Requests {
    /// Sends one; waits while the server is behind.
    pub(super) async fn send(&mut self, message: &impl Message) -> Result<(), GrpcError> {
        self.transmit(message, false).await
    }

    async fn transmit(&mut self, message: &impl Message, is_last: bool) -> Result<(), GrpcError> {
        let mut bytes = frame(message).freeze();
        while bytes.has_remaining() {
            self.stream.reserve_capacity(bytes.len());
            let stream = &mut self.stream;
            let granted =
                match tokio::time::timeout(self.deadline, poll_fn(|context| stream.poll_capacity(context))).await {
                    Err(_) => return Err(GrpcError::Timeout(self.deadline)),
                    Ok(None) => return Err(malformed("the server stopped listening")),
                    Ok(Some(granted)) => granted?,
                };
            let piece = bytes.split_to(granted.min(bytes.len()));
            self.stream.send_data(piece, is_last && bytes.is_empty())?;
        }
        Ok(())
    }

    /// No more will come.
    pub(super) fn finish(&mut self) -> Result<(), GrpcError> {
        Ok(self.stream.send_data(Bytes::new(), true)?)
    }
}

/// The answers of a call.
pub(super) struct Answers<Res> {
    state: AnswerState,
    buffer: BytesMut,
    deadline: Duration,
    _of: std::marker::PhantomData<fn() -> Res>,
}

enum AnswerState {
    Waiting(ResponseFuture),
    Body(RecvStream),
}

impl<Res: Message + Default> Answers<Res> {
    /// The next one; `None` after the last, when the status is good.
    pub(super) async fn next(&mut self) -> Result<Option<Res>, GrpcError> {
        if let AnswerState::Waiting(answer) = &mut self.state {
            let answer = within(self.deadline, answer).await?;
            if answer.status() != http::StatusCode::OK {
                return Err(malformed(&format!("HTTP status {}", answer.status())));
            }
            // A failed call may be all trailers.
            check_status(answer.headers(), false)?;
            self.state = AnswerState::Body(answer.into_body());
        }
        let AnswerState::Body(body) = &mut self.state else { return Ok(None) };
        loop {
            if let Some(message) = take_message(&mut self.buffer)? {
                return Res::decode(message).map(Some).map_err(|error| malformed(&error.to_string()));
            }
            match tokio::time::timeout(self.deadline, body.data()).await {
                Err(_) => return Err(GrpcError::Timeout(self.deadline)),
                Ok(Some(data)) => {
                    let data = data?;
                    body.flow_control().release_capacity(data.len())?;
                    self.buffer.extend_from_slice(&data);
                }
                Ok(None) => {
                    let trailers = within(self.deadline, body.trailers()).await?.unwrap_or_default();
                    check_status(&trailers, true)?;
                    return match self.buffer.is_empty() {
                        true => Ok(None),
                        false => Err(malformed("it ends within a message")),
                    };
                }
            }
        }
    }
}

async fn within<T>(
    deadline: Duration,
    work: impl std::future::Future<Output = Result<T, h2::Error>>,
) -> Result<T, GrpcError> {
    match tokio::time::timeout(deadline, work).await {
        Err(_) => Err(GrpcError::Timeout(deadline)),
        Ok(result) => Ok(result?),
    }
}

fn malformed(reason: &str) -> GrpcError {
    GrpcError::Malformed(format!("not what gRPC answers: {reason}"))
}

/// A message with its prefix.
fn frame(message: &impl Message) -> BytesMut {
    let len = message.encoded_len();
    let mut bytes = BytesMut::with_capacity(PREFIX_BYTES + len);
    bytes.put_u8(0);
    bytes.put_u32(len as u32);
    // Writing to a buffer that grows cannot fail.
    let _ = message.encode(&mut bytes);
    bytes
}

/// The first whole message of `buffer`, without its prefix.
fn take_message(buffer: &mut BytesMut) -> Result<Option<Bytes>, GrpcError> {
    let Some(prefix) = buffer.get(..PREFIX_BYTES) else { return Ok(None) };
    if prefix[0] != 0 {
        return Err(malformed("a compressed message"));
    }
    let len = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
    if len > MAX_MESSAGE_BYTES {
        return Err(malformed("a message of more than 16 MiB"));
    }
    if buffer.len() < PREFIX_BYTES + len {
        return Ok(None);
    }
    buffer.advance(PREFIX_BYTES);
    Ok(Some(buffer.split_to(len).freeze()))
}

/// Refuses a status other than 0; where it must be, also none.
fn check_status(headers: &HeaderMap, must_be_there: bool) -> Result<(), GrpcError> {
    let code = headers.get("grpc-status").and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
    match code {
        Some(0) => Ok(()),
        None if !must_be_there => Ok(()),
        None => Err(malformed("no status")),
        Some(code) => {
            let message = headers.get("grpc-message").map(|value| percent_decode(value.as_bytes())).unwrap_or_default();
            Err(GrpcError::Status { code, message: crate::document::printable(&message) })
        }
    }
}

fn percent_decode(bytes: &[u8]) -> String {
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [first, tail @ ..] = rest {
        let escaped = tail.get(..2).filter(|_| *first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match escaped.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                rest = &tail[2..];
            }
            None => {
                decoded.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::super::messages::GetImageRequest;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_message_is_taken_only_when_it_is_whole() {
        let framed = frame(&GetImageRequest { name: "redis".to_owned() });
        for cut in 0..framed.len() {
            let mut buffer = BytesMut::from(&framed[..cut]);
            assert!(take_message(&mut buffer).unwrap().is_none(), "{cut}");
        }
        let mut buffer = framed.clone();
        buffer.extend_from_slice(&framed);
        for _ in 0..2 {
            let message = take_message(&mut buffer).unwrap().unwrap();
            assert_eq!(GetImageRequest::decode(message).unwrap().name, "redis");
        }
        assert!(buffer.is_empty());
    }

    #[test]
    fn statuses_are_told_apart() {
        let mut headers = HeaderMap::new();
        assert!(check_status(&headers, false).is_ok());
        assert!(check_status(&headers, true).is_err());
        headers.insert("grpc-status", HeaderValue::from_static("0"));
        assert!(check_status(&headers, true).is_ok());
        headers.insert("grpc-status", HeaderValue::from_static("5"));
        headers.insert("grpc-message", HeaderValue::from_static("image %22x%22: not found"));
        let error = check_status(&headers, true).unwrap_err();
        assert!(
            matches!(&error, GrpcError::Status { code: NOT_FOUND, message } if message == "image \"x\": not found")
        );
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let mut buffer = BytesMut::from(&bytes[..]);
            while let Ok(Some(message)) = take_message(&mut buffer) {
                let _ = super::super::messages::WriteContentResponse::decode(message);
            }
            let _ = percent_decode(&bytes);
        }
    }
}
