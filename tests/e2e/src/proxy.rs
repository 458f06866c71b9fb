//! A TCP proxy on the loopback interface that cuts connections half-way, or is slow.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// Most that is carried at once.
const CHUNK_BYTES: usize = 8 * 1024;

#[derive(Debug)]
struct State {
    cuts_left: AtomicU32,
    bytes_carried: AtomicU64,
    /// After each chunk.
    pause: Duration,
}

/// A proxy; it ends when it is dropped.
#[derive(Debug)]
pub struct CuttingProxy {
    port: u16,
    state: Arc<State>,
    is_over: Arc<AtomicBool>,
}

impl CuttingProxy {
    /// Forwards to `upstream`. The first `cuts` connections that carry more than `after_bytes` towards the client end
    /// there.
    pub fn start(upstream: u16, cuts: u32, after_bytes: usize) -> CuttingProxy {
        CuttingProxy::start_with(upstream, cuts, after_bytes, Duration::ZERO)
    }

    /// Forwards to `upstream` about this many bytes per second towards the client, on each connection.
    pub fn start_slow(upstream: u16, bytes_per_second: u32) -> CuttingProxy {
        let pause = Duration::from_secs(1) * CHUNK_BYTES as u32 / bytes_per_second;
        CuttingProxy::start_with(upstream, 0, 0, pause)
    }

    fn start_with(upstream: u16, cuts: u32, after_bytes: usize, pause: Duration) -> CuttingProxy {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind a loopback port");
        let port = listener.local_addr().expect("address of a socket").port();
        let state = Arc::new(State { cuts_left: AtomicU32::new(cuts), bytes_carried: AtomicU64::new(0), pause });
        let is_over = Arc::new(AtomicBool::new(false));
        let (shared, over) = (Arc::clone(&state), Arc::clone(&is_over));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                let state = Arc::clone(&shared);
                std::thread::spawn(move || forward(client, upstream, &state, after_bytes));
            }
        });
        CuttingProxy { port, state, is_over }
    }

    /// The port clients connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How many connections are still to be cut.
    pub fn cuts_left(&self) -> u32 {
        self.state.cuts_left.load(Ordering::SeqCst)
    }

    /// Bytes sent towards clients so far.
    pub fn bytes_carried(&self) -> u64 {
        self.state.bytes_carried.load(Ordering::SeqCst)
    }
}

impl Drop for CuttingProxy {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

fn forward(client: TcpStream, upstream: u16, state: &State, after_bytes: usize) {
    let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, upstream)) else { return };
    let (Ok(mut requests), Ok(mut server_in)) = (client.try_clone(), server.try_clone()) else { return };
    let up = std::thread::spawn(move || {
        let _ = std::io::copy(&mut requests, &mut server_in);
        let _ = server_in.shutdown(Shutdown::Write);
    });
    answer(&client, &server, state, after_bytes);
    let _ = client.shutdown(Shutdown::Both);
    let _ = server.shutdown(Shutdown::Both);
    let _ = up.join();
}

fn answer(mut client: &TcpStream, mut server: &TcpStream, state: &State, after_bytes: usize) {
    let mut buffer = [0; CHUNK_BYTES];
    let mut sent = 0;
    while let Ok(count @ 1..) = server.read(&mut buffer) {
        sent += count;
        let is_cut = sent > after_bytes
            && state.cuts_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        if is_cut || client.write_all(&buffer[..count]).is_err() {
            return;
        }
        state.bytes_carried.fetch_add(count as u64, Ordering::SeqCst);
        if !state.pause.is_zero() {
            std::thread::sleep(state.pause);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_long_answer_is_cut_and_the_second_is_whole() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
        let upstream = listener.local_addr().expect("address").port();
        let server = std::thread::spawn(move || {
            for stream in listener.incoming().take(2).flatten() {
                let mut stream = stream;
                let _ = stream.write_all(&[7; 100_000]);
            }
        });
        let proxy = CuttingProxy::start(upstream, 1, 20_000);
        let read = || {
            let mut bytes = Vec::new();
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).expect("connect");
            let _ = stream.read_to_end(&mut bytes);
            bytes.len()
        };
        assert!(read() < 100_000);
        assert_eq!(proxy.cuts_left(), 0);
        assert_eq!(read(), 100_000);
        server.join().expect("the server ends");
    }
}
