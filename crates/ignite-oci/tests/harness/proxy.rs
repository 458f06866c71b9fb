//! A proxy on loopback that counts requests and misbehaves as a test asks.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// A request as it came, header names in lower case.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub headers: HashMap<String, String>,
}

/// What to do with it.
pub enum Action {
    Forward,
    /// Forward, and close both connections after this many bytes of the answer's body.
    CutAfter(usize),
    /// Forward, and turn a bit of this byte of the answer's body.
    Corrupt(usize),
    /// Answer: status line's rest, headers, body.
    Respond(&'static str, Vec<(&'static str, String)>, String),
}

type Handler = dyn Fn(&Request, usize) -> Action + Send + Sync;

/// The proxy; its threads end on drop.
pub struct Proxy {
    pub address: String,
    requests: Arc<Mutex<Vec<Request>>>,
    stopped: Arc<AtomicBool>,
    listener: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Stands before `upstream`; `handler` sees each request and how many of the same method and path came before.
    pub fn start(upstream: &str, handler: impl Fn(&Request, usize) -> Action + Send + Sync + 'static) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let requests: Arc<Mutex<Vec<Request>>> = Arc::default();
        let stopped = Arc::new(AtomicBool::new(false));
        let handler: Arc<Handler> = Arc::new(handler);
        let upstream: SocketAddr = upstream.parse().unwrap();
        let thread = std::thread::spawn({
            let (requests, stopped) = (Arc::clone(&requests), Arc::clone(&stopped));
            move || {
                for client in listener.incoming().map_while(Result::ok) {
                    if stopped.load(Ordering::SeqCst) {
                        return;
                    }
                    let (requests, handler) = (Arc::clone(&requests), Arc::clone(&handler));
                    // Ends with its connection, which the test's client closes.
                    std::thread::spawn(move || {
                        let _ = serve(client, upstream, &requests, &*handler);
                    });
                }
            }
        });
        Proxy { address, requests, stopped, listener: Some(thread) }
    }

    /// The requests whose path contains `part`.
    pub fn requests(&self, part: &str) -> Vec<Request> {
        self.requests.lock().unwrap().iter().filter(|request| request.path.contains(part)).cloned().collect()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(&self.address);
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
    }
}

fn serve(
    mut client: TcpStream,
    upstream: SocketAddr,
    seen: &Mutex<Vec<Request>>,
    handler: &Handler,
) -> std::io::Result<()> {
    let head = read_head(&mut client)?;
    let text = String::from_utf8_lossy(&head).into_owned();
    let mut lines = text.split("\r\n");
    let mut first = lines.next().unwrap_or_default().split(' ');
    let (method, path) = (first.next().unwrap_or_default().to_owned(), first.next().unwrap_or_default().to_owned());
    let headers = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let request = Request { method: method.clone(), path: path.clone(), headers };
    let before = {
        let mut seen = seen.lock().unwrap();
        let before = seen.iter().filter(|other| other.method == method && other.path == path).count();
        seen.push(request.clone());
        before
    };
    let action = handler(&request, before);
    if let Action::Respond(status, headers, body) = &action {
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let length = body.len();
        return write!(
            client,
            "HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
    }
    let mut server = TcpStream::connect(upstream)?;
    server.write_all(text.trim_end_matches("\r\n").as_bytes())?;
    server.write_all(b"\r\nConnection: close\r\n\r\n")?;
    let head = read_head(&mut server)?;
    client.write_all(&head)?;
    let mut buffer = vec![0; 16 << 10];
    let mut sent = 0;
    loop {
        let limit = match action {
            Action::CutAfter(limit) => (limit - sent).min(buffer.len()),
            _ => buffer.len(),
        };
        if limit == 0 {
            return Ok(());
        }
        let count = server.read(&mut buffer[..limit])?;
        if count == 0 {
            return Ok(());
        }
        if let Action::Corrupt(at) = action
            && (sent..sent + count).contains(&at)
        {
            buffer[at - sent] ^= 1;
        }
        client.write_all(&buffer[..count])?;
        sent += count;
    }
}

fn read_head(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        head.push(byte[0]);
    }
    Ok(head)
}
