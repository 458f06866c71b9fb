//! A session between our standard streams and a process in the guest.
//!
//! ```text
//!  stdin thread -> [detach keys] -> queue -> writer -> SessionInput
//!  signals, SIGWINCH ----------------^  \--> the VM's control socket (never behind a stuck standard input)
//!  stdout, stderr <------------------------- SessionOutput
//! ```

use crate::detach_keys::{DetachFilter, DetachKeys, Typed};
use crate::signals::{self, Interrupted, SIGINT, SIGPIPE, SIGTERM};
use crate::terminal::{self, RawMode};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use ignite_agent_protocol::message::{StreamExit, StreamRequest};
use ignite_api::Uid;
use ignite_engine::{Engine, Session, SessionEvent, SessionInput, SessionOutput};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

/// Bytes of standard input read at once.
const READ_LEN: usize = 32 << 10;
/// Bytes of standard input held while the guest does not read; the detach keys are found among them.
const MAX_QUEUED: usize = 1 << 20;
/// This many SIGINT or SIGTERM end a session whose process ignores them, as in Docker.
const IMPATIENCE: u32 = 3;

/// How a session is relayed.
pub struct Relay<'a> {
    /// Send our standard input.
    pub stdin: bool,
    /// The process has a terminal.
    pub tty: bool,
    /// Keys that leave the session; absent: leaving would end the process.
    pub detach_keys: Option<DetachKeys>,
    /// What becomes of signals we get.
    pub signals: SignalPath<'a>,
}

/// What becomes of signals we get while our terminal is not raw.
pub enum SignalPath<'a> {
    /// They go to the VM's task.
    Task(&'a Engine, &'a Uid),
    /// They go to the process at the other end of the session.
    Session,
    /// They end us.
    Us,
}

/// How a session ended.
#[derive(Debug)]
pub enum Ending {
    /// The process ended.
    Exited(StreamExit),
    /// The detach keys were typed.
    Detached,
    /// Signals were ignored too often.
    Abandoned(Interrupted),
}

impl Relay<'_> {
    /// Relays until the process ends or the session is left.
    pub async fn run(self, session: Session) -> anyhow::Result<Ending> {
        let is_raw = self.stdin && self.tty && terminal::stdin_is_terminal();
        // Listening comes before raw mode, so that no signal ends us inside of it.
        let mut local = Local::listen(&self, is_raw)?;
        let _raw = is_raw.then(RawMode::enter).transpose()?;
        let (input, mut output) = session.split();
        let (commands, queue) = mpsc::channel(1);
        let (output_closed, closed) = mpsc::channel(1);
        let writer = write_input(input, queue);
        let outgoing = local.pump(&self, commands, closed);
        let incoming = write_output(&mut output, output_closed);
        tokio::pin!(writer, outgoing, incoming);
        tokio::select! {
            biased;
            exit = &mut incoming => exit.map(Ending::Exited),
            ending = &mut outgoing => ending,
            never = &mut writer => match never {},
        }
    }
}

enum Command {
    Stdin(Bytes),
    CloseStdin,
    Request(StreamRequest),
}

/// Sends in order, and goes on taking what the other end no longer takes: how it ended comes from the output.
async fn write_input(mut input: SessionInput, mut queue: mpsc::Receiver<Command>) -> Infallible {
    let mut is_open = true;
    while let Some(command) = queue.recv().await {
        if is_open {
            let sent = match command {
                Command::Stdin(bytes) => input.write(bytes).await,
                Command::CloseStdin => input.close_stdin().await,
                Command::Request(request) => input.request(request).await,
            };
            is_open = sent.is_ok();
        }
    }
    // The input lives as long as the session: dropping it would leave the session.
    std::future::pending().await
}

/// Writes what the process says, until it has ended. A reader of ours that has left is told to `closed`, once.
async fn write_output(output: &mut SessionOutput, closed: mpsc::Sender<()>) -> anyhow::Result<StreamExit> {
    let (mut stdout, mut stderr) = (Some(tokio::io::stdout()), Some(tokio::io::stderr()));
    loop {
        let is_open = match output.next().await? {
            SessionEvent::Stdout(bytes) => write_all(&mut stdout, &bytes).await?,
            SessionEvent::Stderr(bytes) => write_all(&mut stderr, &bytes).await?,
            SessionEvent::Exit(exit) => return Ok(exit),
        };
        if !is_open {
            let _ = closed.try_send(());
        }
    }
}

/// False when this write found the reader gone; what follows is dropped.
async fn write_all<W: AsyncWrite + Unpin>(to: &mut Option<W>, bytes: &[u8]) -> io::Result<bool> {
    let Some(writer) = to else { return Ok(true) };
    let written = async {
        writer.write_all(bytes).await?;
        writer.flush().await
    };
    match written.await {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            *to = None;
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Our side: keys, signals, the size of the terminal.
struct Local {
    stdin: mpsc::Receiver<Vec<u8>>,
    signals: mpsc::Receiver<u8>,
    window: tokio::signal::unix::Signal,
    is_raw: bool,
}

impl Local {
    fn listen(relay: &Relay<'_>, is_raw: bool) -> io::Result<Local> {
        let ends_us = is_raw || matches!(relay.signals, SignalPath::Us);
        Ok(Local {
            stdin: if relay.stdin { read_stdin()? } else { mpsc::channel(1).1 },
            signals: if ends_us { signals::interrupting()? } else { signals::forwarded()? },
            window: signals::window_changes()?,
            is_raw,
        })
    }

    /// Passes on what happens here; returns only when the session is to be left.
    async fn pump(
        &mut self,
        relay: &Relay<'_>,
        commands: mpsc::Sender<Command>,
        mut output_closed: mpsc::Receiver<()>,
    ) -> anyhow::Result<Ending> {
        let mut filter = DetachFilter::new(match &relay.detach_keys {
            Some(keys) if relay.tty => keys.clone(),
            _ => DetachKeys::none(),
        });
        let mut queue: VecDeque<Command> = VecDeque::new();
        let mut queued_len = 0;
        let mut is_stdin_open = relay.stdin;
        let mut to_task = FuturesUnordered::new();
        let mut impatience = 0;
        if relay.tty {
            queue.extend(resize());
        }
        loop {
            let signal = tokio::select! {
                permit = commands.reserve(), if !queue.is_empty() => {
                    if let (Ok(permit), Some(command)) = (permit, queue.pop_front()) {
                        queued_len -= stdin_len(&command);
                        permit.send(command);
                    } else {
                        queue.clear();
                    }
                    continue;
                }
                typed = self.stdin.recv(), if is_stdin_open && queued_len < MAX_QUEUED => {
                    match typed.map(|bytes| filter.push(&bytes)) {
                        Some(Typed::Send(bytes)) => {
                            queued_len += bytes.len();
                            queue.push_back(Command::Stdin(bytes.into()));
                        }
                        Some(Typed::Detach(_)) => return Ok(Ending::Detached),
                        None => {
                            is_stdin_open = false;
                            queue.push_back(Command::CloseStdin);
                        }
                    }
                    continue;
                }
                Some(()) = self.window.recv(), if relay.tty => {
                    queue.extend(resize());
                    continue;
                }
                Some(()) = to_task.next(), if !to_task.is_empty() => continue,
                Some(()) = output_closed.recv() => SIGPIPE,
                Some(signal) = self.signals.recv() => signal,
            };
            let interrupted = Interrupted { signal };
            if signal != SIGPIPE && self.is_raw {
                return Err(interrupted.into());
            }
            if matches!(signal, SIGINT | SIGTERM) {
                impatience += 1;
            }
            match relay.signals {
                SignalPath::Us => return Err(interrupted.into()),
                _ if impatience >= IMPATIENCE => return Ok(Ending::Abandoned(interrupted)),
                SignalPath::Session => queue.push_back(Command::Request(StreamRequest::Signal { signal })),
                SignalPath::Task(engine, uid) => to_task.push(async move {
                    // A task that has just ended cannot be signalled; that it ended is told by its output.
                    let _ = engine.kill(uid, Some(signal)).await;
                }),
            }
        }
    }
}

fn stdin_len(command: &Command) -> usize {
    match command {
        Command::Stdin(bytes) => bytes.len(),
        Command::CloseStdin | Command::Request(_) => 0,
    }
}

fn resize() -> Option<Command> {
    terminal::size().map(|size| Command::Request(StreamRequest::Resize(size)))
}

/// Reads standard input in a thread of its own, which the end of the program does not wait for.
///
/// It may be a terminal, a pipe or a file: only a blocking read serves all three.
fn read_stdin() -> io::Result<mpsc::Receiver<Vec<u8>>> {
    let (sender, receiver) = mpsc::channel(1);
    std::thread::Builder::new().name("stdin".into()).spawn(move || {
        let mut buffer = vec![0; READ_LEN];
        loop {
            let len = match rustix::io::read(io::stdin(), &mut buffer) {
                Ok(0) => return,
                Ok(len) => len,
                Err(rustix::io::Errno::INTR) => continue,
                Err(rustix::io::Errno::AGAIN) if wait_readable().is_ok() => continue,
                Err(_) => return,
            };
            if sender.blocking_send(buffer[..len].to_vec()).is_err() {
                return;
            }
        }
    })?;
    Ok(receiver)
}

/// Waits for a standard input that someone has made non-blocking.
fn wait_readable() -> io::Result<()> {
    use rustix::event::{PollFd, PollFlags, poll};
    let stdin = io::stdin();
    poll(&mut [PollFd::new(&stdin, PollFlags::IN)], None)?;
    Ok(())
}
