//! Requests to Firecracker's API on its Unix socket: bounded in time and size, errors with request and message.

use crate::foreign_text::plain;
use crate::machine::VmmError;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;

/// How long a request may take: they are answered by an idle loop, on a host that may not be.
const REQUEST_DEADLINE: Duration = Duration::from_secs(30);
/// Longest answer that is read; the largest, the whole configuration, is a few KiB.
const MAX_ANSWER: usize = 64 * 1024;

/// A client of one Firecracker.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    socket: PathBuf,
}

impl Client {
    pub(crate) fn new(socket: PathBuf) -> Self {
        Client { socket }
    }

    /// Whether its socket is there and accepts.
    pub(crate) async fn is_listening(&self) -> bool {
        UnixStream::connect(&self.socket).await.is_ok()
    }

    /// `GET path`; the answer's body.
    pub(crate) async fn get(&self, path: &str) -> Result<Value, VmmError> {
        self.request(Method::GET, path, None).await
    }

    /// `PUT path` with a body.
    pub(crate) async fn put(&self, path: &str, body: &Value) -> Result<(), VmmError> {
        self.request(Method::PUT, path, Some(body)).await.map(drop)
    }

    /// `PATCH path` with a body.
    pub(crate) async fn patch(&self, path: &str, body: &Value) -> Result<(), VmmError> {
        self.request(Method::PATCH, path, Some(body)).await.map(drop)
    }

    async fn request(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, VmmError> {
        let shown = match body {
            Some(body) => format!("{method} {path} {body}"),
            None => format!("{method} {path}"),
        };
        let answered = async {
            let stream = UnixStream::connect(&self.socket).await.map_err(|error| error.to_string())?;
            exchange(stream, method, path, body).await
        };
        match tokio::time::timeout(REQUEST_DEADLINE, answered).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(detail)) => Err(VmmError::Control { vmm: "firecracker", request: shown, detail }),
            Err(_) => {
                let detail = format!("no answer for {} s", REQUEST_DEADLINE.as_secs());
                Err(VmmError::Control { vmm: "firecracker", request: shown, detail })
            }
        }
    }
}

/// One request on a fresh connection; what went wrong, in words.
async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> Result<Value, String> {
    let failed = |error: hyper::Error| error.to_string();
    let mut http = hyper::client::conn::http1::Builder::new();
    let (mut sender, connection) =
        http.max_buf_size(MAX_ANSWER).handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "localhost")
        .header("accept", "application/json")
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body.map(Value::to_string).unwrap_or_default())))
        .map_err(|error| error.to_string())?;
    let answered = async {
        let response = sender.send_request(request).await.map_err(failed)?;
        let status = response.status();
        let collected = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        let bytes = collected.map_err(|error| error.to_string())?.to_bytes();
        let value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        match status.is_success() {
            true => Ok(value),
            false => Err(format!("{}: {}", status.as_u16(), message(&value))),
        }
    };
    // The connection is driven here and not in a task: it ends with the request.
    tokio::pin!(answered, connection);
    tokio::select! {
        result = &mut answered => result,
        ended = &mut connection => match ended {
            // What it had read by then is the answer's.
            Ok(()) => answered.await,
            Err(error) => Err(error.to_string()),
        },
    }
}

/// What a refusal says: printable, bounded.
fn message(answer: &Value) -> String {
    let text = answer.get("fault_message").or_else(|| answer.get("error")).and_then(Value::as_str);
    plain(text.unwrap_or("it does not say why"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// Asks a peer that answers these bytes, whatever it is asked, and hangs up.
    async fn ask(answer: Vec<u8>) -> Result<Value, String> {
        let (ours, mut theirs) = tokio::io::duplex(4096);
        let peer = async move {
            let mut request = [0; 1024];
            let _ = theirs.read(&mut request).await;
            let _ = theirs.write_all(&answer).await;
        };
        let body = json!({ "guest_cid": 3 });
        let (result, ()) = tokio::join!(exchange(ours, Method::PUT, "/vsock", Some(&body)), peer);
        result
    }

    fn answer(status: u16, text: &str) -> Vec<u8> {
        format!("HTTP/1.1 {status} \r\nContent-Length: {}\r\n\r\n{text}", text.len()).into_bytes()
    }

    #[tokio::test]
    async fn answers_are_understood() {
        assert_eq!(ask(answer(200, "{\"a\": 17}")).await, Ok(json!({ "a": 17 })));
        assert_eq!(ask(b"HTTP/1.1 204 \r\n\r\n".to_vec()).await, Ok(Value::Null));
    }

    #[tokio::test]
    async fn refusals_tell_their_message_plainly() {
        let refused = answer(400, r#"{"fault_message": "bad\npath"}"#);
        assert_eq!(ask(refused).await, Err("400: bad path".to_owned()));
        assert_eq!(ask(answer(500, "<html>")).await, Err("500: it does not say why".to_owned()));
    }

    #[tokio::test]
    async fn an_answer_beyond_all_measure_is_not_read() {
        let long = ask(answer(200, &"x".repeat(MAX_ANSWER + 1))).await;
        assert!(long.is_err(), "{long:?}");
        let endless_head = [b"HTTP/1.1 200 \r\nX: ".as_slice(), &vec![b'x'; 2 * MAX_ANSWER]].concat();
        assert!(ask(endless_head).await.is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_answer_makes_it_panic_or_hang(bytes in proptest::collection::vec(any::<u8>(), 0..600), is_http in any::<bool>()) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let head: &[u8] = if is_http { b"HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n" } else { b"" };
            let asked = async { tokio::time::timeout(Duration::from_secs(30), ask([head, &bytes].concat())).await };
            prop_assert!(runtime.block_on(asked).is_ok());
        }
    }
}
