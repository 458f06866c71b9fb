//! One stream of the channel in the guest: what runs behind it, its input, its outputs and their windows.

use crate::spawn::Child;
use crate::wire::Wire;
use ignite_agent_protocol::frame::{INITIAL_WINDOW, Kind, MAX_PAYLOAD, STDERR, STDIN, STDOUT};
use ignite_agent_protocol::message::StreamExit;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// Time between SIGHUP and SIGKILL for a process whose stream the host has closed.
const HANGUP_GRACE: Duration = Duration::from_secs(2);
/// Longest report of a worker, in bytes.
const MAX_REPORT: usize = 8192;

/// What runs behind a stream.
#[derive(Debug)]
pub enum Work {
    /// A process of the guest, the leader of its own group and session.
    Process {
        /// Its id.
        pid: i32,
        /// Its end, once it has been reaped.
        exit: Option<StreamExit>,
    },
    /// A forked part of this program that reports its own end.
    Worker {
        /// Its id.
        pid: i32,
        /// Where it reports.
        report: OwnedFd,
        /// It has been reaped.
        is_reaped: bool,
    },
    /// A TCP connection; `is_connecting` until it is there.
    Connection {
        /// The answer to `Open` is still owed.
        is_connecting: bool,
    },
}

#[derive(Debug)]
struct Input {
    fd: OwnedFd,
    queue: VecDeque<u8>,
    is_ended: bool,
    /// Bytes taken by the process and not yet granted again.
    consumed: u32,
}

#[derive(Debug)]
struct Output {
    fd: OwnedFd,
    window: u32,
}

/// A stream.
#[derive(Debug)]
pub struct Stream {
    id: u32,
    work: Work,
    input: Option<Input>,
    outputs: [Option<Output>; 2],
    is_terminal: bool,
    /// The host has closed it; set to when the process is killed.
    kill_at: Option<Instant>,
    is_killed: bool,
}

impl Stream {
    /// A stream in front of a started process or worker.
    pub fn of_child(id: u32, child: Child) -> Stream {
        let is_terminal = child.stderr.is_none() && child.report.is_none();
        let work = match child.report {
            Some(report) => Work::Worker { pid: child.pid, report, is_reaped: false },
            None => Work::Process { pid: child.pid, exit: None },
        };
        Self::new(id, work, child.stdin, child.stdout, child.stderr, is_terminal)
    }

    /// A stream in front of a TCP connection that is being made.
    pub fn of_connection(id: u32, socket: OwnedFd) -> io::Result<Stream> {
        let input = socket.try_clone()?;
        Ok(Self::new(id, Work::Connection { is_connecting: true }, Some(input), socket, None, false))
    }

    fn new(
        id: u32,
        work: Work,
        stdin: Option<OwnedFd>,
        stdout: OwnedFd,
        stderr: Option<OwnedFd>,
        is_terminal: bool,
    ) -> Stream {
        let output = |fd| Output { fd, window: INITIAL_WINDOW };
        Stream {
            id,
            work,
            input: stdin.map(|fd| Input { fd, queue: VecDeque::new(), is_ended: false, consumed: 0 }),
            outputs: [Some(output(stdout)), stderr.map(output)],
            is_terminal,
            kill_at: None,
            is_killed: false,
        }
    }

    /// The process or worker behind it.
    pub fn pid(&self) -> Option<i32> {
        match &self.work {
            Work::Process { pid, exit: None } | Work::Worker { pid, is_reaped: false, .. } => Some(*pid),
            Work::Process { exit: Some(_), .. } | Work::Worker { is_reaped: true, .. } | Work::Connection { .. } => {
                None
            }
        }
    }

    /// Its process has been reaped with this wait status.
    pub fn reaped(&mut self, status: i32) {
        match &mut self.work {
            Work::Process { exit, .. } => {
                exit.get_or_insert(exit_of(status));
            }
            Work::Worker { is_reaped, .. } => *is_reaped = true,
            Work::Connection { .. } => {}
        }
    }

    /// What to poll: the descriptor, the events, and the channel to hand to [`Stream::ready`].
    pub fn interests(&self, has_room: bool) -> impl Iterator<Item = (i32, libc::c_short, u8)> {
        let is_connecting = matches!(self.work, Work::Connection { is_connecting: true });
        let input = self.input.as_ref().map(|input| {
            let wants = is_connecting || !input.queue.is_empty();
            (input.fd.as_raw_fd(), if wants { libc::POLLOUT } else { 0 }, STDIN)
        });
        // A terminal is watched for output only: with nothing to write, its hang-up is seen there.
        let input = input.filter(|(_, events, _)| !self.is_terminal || *events != 0);
        let lane = move |output: &Option<Output>, channel| {
            let output = output.as_ref().filter(|output| output.window > 0 && has_room && !is_connecting)?;
            Some((output.fd.as_raw_fd(), libc::POLLIN, channel))
        };
        let outputs = [lane(&self.outputs[0], STDOUT), lane(&self.outputs[1], STDERR)];
        input.into_iter().chain(outputs.into_iter().flatten())
    }

    /// A descriptor that was polled has something.
    pub fn ready(&mut self, channel: u8, events: libc::c_short, wire: &mut Wire, scratch: &mut [u8]) {
        if channel != STDIN {
            self.read_output(channel, wire, scratch);
        } else if matches!(self.work, Work::Connection { is_connecting: true }) {
            self.connected(wire);
        } else {
            if events & libc::POLLOUT != 0 {
                self.write_input(wire);
            }
            if events & (libc::POLLERR | libc::POLLHUP | libc::POLLNVAL) != 0 {
                // Nobody reads it any more.
                self.input = None;
            }
        }
    }

    /// Standard input from the host.
    pub fn push_input(&mut self, bytes: &[u8], wire: &mut Wire) {
        let Some(input) = &mut self.input else { return };
        if input.is_ended || input.queue.len() + bytes.len() > INITIAL_WINDOW as usize {
            return;
        }
        input.queue.extend(bytes);
        if !matches!(self.work, Work::Connection { is_connecting: true }) {
            self.write_input(wire);
        }
    }

    /// No more standard input follows.
    pub fn end_input(&mut self, wire: &mut Wire) {
        // A terminal has no end of input but the one that is typed.
        if let Some(input) = self.input.as_mut().filter(|_| !self.is_terminal) {
            input.is_ended = true;
            if !matches!(self.work, Work::Connection { is_connecting: true }) {
                self.write_input(wire);
            }
        }
    }

    /// The host grants more output.
    pub fn grant(&mut self, channel: u8, grant: u32) {
        let lane = usize::from(channel == STDERR);
        if let Some(output) = &mut self.outputs[lane] {
            output.window = output.window.saturating_add(grant).min(INITIAL_WINDOW);
        }
    }

    /// Sends the process group a signal.
    pub fn signal(&self, signal: i32) {
        if let (Some(pid), 1..=64) = (self.pid(), signal) {
            // SAFETY: the child has not been reaped, so the id is its own.
            unsafe { libc::kill(-pid, signal) };
        }
    }

    /// Sends the process alone a signal.
    pub fn signal_leader(&self, signal: i32) {
        if let (Some(pid), 1..=64) = (self.pid(), signal) {
            // SAFETY: the child has not been reaped, so the id is its own.
            unsafe { libc::kill(pid, signal) };
        }
    }

    /// The terminal, if it has one.
    pub fn terminal(&self) -> Option<BorrowedFd<'_>> {
        self.outputs[0].as_ref().filter(|_| self.is_terminal).map(|output| output.fd.as_fd())
    }

    /// The host has lost interest: ends what runs behind it.
    pub fn hang_up(&mut self) {
        self.input = None;
        self.outputs = [None, None];
        let signal = if matches!(self.work, Work::Worker { .. }) { libc::SIGKILL } else { libc::SIGHUP };
        self.signal(signal);
        self.kill_at = Some(Instant::now() + HANGUP_GRACE);
    }

    /// When [`Stream::kill_if_due`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        self.kill_at.filter(|_| !self.is_killed && self.pid().is_some())
    }

    /// Kills what has not gone after the hang-up.
    pub fn kill_if_due(&mut self, now: Instant) {
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            self.is_killed = true;
            self.signal(libc::SIGKILL);
        }
    }

    /// How the stream ended, once it has and all output has been read. What a process has left running keeps its output
    /// open; it is not waited for.
    pub fn settle(&mut self, wire: &mut Wire, scratch: &mut [u8]) -> Option<StreamExit> {
        match &self.work {
            Work::Connection { is_connecting: true } => None,
            Work::Connection { .. } => {
                let is_over = self.kill_at.is_some() || (self.input.is_none() && self.outputs[0].is_none());
                is_over.then_some(StreamExit::Exited { code: 0 })
            }
            Work::Process { exit, .. } => {
                let exit = exit.clone()?;
                self.drain(wire, scratch).then_some(exit)
            }
            Work::Worker { is_reaped, report, .. } => {
                let is_reaped = *is_reaped;
                let report = report.as_raw_fd();
                (is_reaped && self.drain(wire, scratch)).then(|| read_report(report))
            }
        }
    }

    /// Whether all that an ended process wrote has been sent.
    fn drain(&mut self, wire: &mut Wire, scratch: &mut [u8]) -> bool {
        for channel in [STDOUT, STDERR] {
            while self.read_output(channel, wire, scratch) {}
        }
        // What is left is held up by the host; an empty pipe was closed above or has nothing more.
        self.outputs.iter().flatten().all(|output| output.window > 0 && wire.has_room())
    }

    /// Reads once; whether there may be more now.
    fn read_output(&mut self, channel: u8, wire: &mut Wire, scratch: &mut [u8]) -> bool {
        let lane = &mut self.outputs[usize::from(channel == STDERR)];
        let Some(output) = lane else { return false };
        let wanted = scratch.len().min(output.window as usize).min(MAX_PAYLOAD);
        if wanted == 0 || !wire.has_room() {
            return false;
        }
        match rustix::io::read(&output.fd, &mut scratch[..wanted]) {
            Ok(n) if n > 0 => {
                output.window -= n as u32;
                wire.send_frame(self.id, Kind::Data, channel, &scratch[..n]);
                true
            }
            Err(rustix::io::Errno::AGAIN) => false,
            Err(rustix::io::Errno::INTR) => true,
            // End of file; of a terminal (EIO); of a connection that was reset.
            Ok(_) | Err(_) => {
                *lane = None;
                wire.send_frame(self.id, Kind::Eof, channel, &[]);
                false
            }
        }
    }

    fn write_input(&mut self, wire: &mut Wire) {
        let Some(input) = &mut self.input else { return };
        while !input.queue.is_empty() {
            match rustix::io::write(&input.fd, input.queue.as_slices().0) {
                Ok(n) => {
                    input.queue.drain(..n);
                    input.consumed += n as u32;
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => break,
                Err(_) => {
                    self.input = None;
                    return;
                }
            }
        }
        if input.consumed >= INITIAL_WINDOW / 2 {
            let grant = std::mem::take(&mut input.consumed);
            wire.send_frame(self.id, Kind::Window, STDIN, &grant.to_le_bytes());
        }
        if input.is_ended && input.queue.is_empty() {
            if matches!(self.work, Work::Connection { .. }) {
                let _ = rustix::net::shutdown(&input.fd, rustix::net::Shutdown::Write);
            }
            self.input = None;
        }
    }

    fn connected(&mut self, wire: &mut Wire) {
        let Some(input) = &self.input else { return };
        let error = match rustix::net::sockopt::socket_error(&input.fd) {
            Ok(Ok(())) => None,
            Ok(Err(e)) | Err(e) => Some(e),
        };
        self.work = Work::Connection { is_connecting: false };
        match error {
            None => {
                wire.send_json(self.id, Kind::Opened, &ignite_agent_protocol::message::Opened::default());
                self.write_input(wire);
            }
            Some(e) => {
                self.input = None;
                self.outputs = [None, None];
                let message = format!("connect: {}", io::Error::from(e));
                wire.send_json(self.id, Kind::Close, &StreamExit::Failed { code: 125, message });
                self.is_killed = true;
            }
        }
    }

    /// Its `Close` has been sent already.
    pub fn is_closed(&self) -> bool {
        self.is_killed && matches!(self.work, Work::Connection { .. })
    }
}

fn exit_of(status: i32) -> StreamExit {
    if libc::WIFSIGNALED(status) {
        StreamExit::Signaled { signal: libc::WTERMSIG(status) as u8 }
    } else {
        StreamExit::Exited { code: libc::WEXITSTATUS(status) as u8 }
    }
}

/// What a worker that has ended wrote into its pipe.
fn read_report(fd: i32) -> StreamExit {
    let mut bytes = vec![0; MAX_REPORT];
    // SAFETY: the buffer lives through the call; every writer has ended, so it does not wait.
    let n = unsafe { libc::read(fd, bytes.as_mut_ptr().cast(), bytes.len()) };
    let report = usize::try_from(n).ok().and_then(|n| serde_json::from_slice(&bytes[..n]).ok());
    report.unwrap_or_else(|| StreamExit::Failed { code: 125, message: "ended without a report".to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_statuses_become_exits() {
        assert_eq!(exit_of(7 << 8), StreamExit::Exited { code: 7 });
        assert_eq!(exit_of(9), StreamExit::Signaled { signal: 9 });
        assert_eq!(exit_of(0), StreamExit::Exited { code: 0 });
    }
}
