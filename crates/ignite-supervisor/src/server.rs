//! The control socket's server: each connection is one task with one request.

use crate::console::write_console;
use crate::control::{Channel, ControlReply, ControlRequest, Reader, SessionCommand, SessionEvent, Writer};
use crate::error::SupervisorError;
use crate::private_socket;
use crate::restart::AskedBy;
use crate::shared::{Command, Shared, TaskInput, executed_for, exit_event, feed_stdin};
use bytes::Bytes;
use ignite_agent_protocol::client::{OpenError, Stream, StreamEvent};
use ignite_agent_protocol::message::{Open, Opened, StreamExit, StreamRequest};
use std::future::Future;
use std::io;
use std::path::Path;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};

/// Connections served at a time; more wait in the socket's backlog.
const MAX_CONNECTIONS: usize = 512;
/// Time a client has to say what it wants.
const REQUEST_DEADLINE: Duration = Duration::from_secs(10);
/// Time the guest has to start what an `Open` asks for.
const OPEN_DEADLINE: Duration = Duration::from_secs(60);

/// The running server.
#[derive(Debug)]
pub struct Server {
    accepting: JoinHandle<JoinSet<()>>,
    close: oneshot::Sender<()>,
}

impl Server {
    /// Listens on `socket` (mode 0600) and serves until [`Server::drain`].
    pub fn start(socket: &Path, shared: Shared) -> Result<Server, SupervisorError> {
        let failed = |source| SupervisorError::Listen { path: socket.to_owned(), source };
        let listener = private_socket::bind(socket).map_err(failed)?;
        let (close, closed) = oneshot::channel::<()>();
        let accepting = tokio::spawn(async move {
            let handle = |stream| serve(stream, shared.clone());
            private_socket::serve(listener, "control socket", MAX_CONNECTIONS, closed, handle).await
        });
        Ok(Server { accepting, close })
    }

    /// Accepts nobody any more and waits until those who are there have taken what is theirs, at most so long.
    pub async fn drain(self, deadline: Duration) {
        let _ = self.close.send(());
        let Ok(mut connections) = self.accepting.await else { return };
        let all = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(deadline, all).await.is_err() {
            tracing::warn!("a client did not take its output within {} s", deadline.as_secs());
        }
    }
}

async fn serve(stream: UnixStream, shared: Shared) {
    let mut channel = Channel::new(stream);
    let Ok(Ok(request)) = tokio::time::timeout(REQUEST_DEADLINE, channel.receive_message::<ControlRequest>()).await
    else {
        return;
    };
    // A client that has gone is no error of ours.
    let _ = answer(request, channel, &shared).await;
}

async fn answer(request: ControlRequest, mut channel: Channel, shared: &Shared) -> io::Result<()> {
    match request {
        ControlRequest::Stop { grace_ms, is_shutdown } => {
            let by = if is_shutdown { AskedBy::Host } else { AskedBy::User };
            end(channel, shared, |reply| Command::Stop { grace_ms, by, reply }).await
        }
        ControlRequest::Kill => end(channel, shared, |reply| Command::Kill { reply }).await,
        ControlRequest::Pause => {
            let reply = command(shared, |reply| Command::Pause { reply }).await;
            channel.send_message(&reply).await
        }
        ControlRequest::Resume => {
            let reply = command(shared, |reply| Command::Resume { reply }).await;
            channel.send_message(&reply).await
        }
        ControlRequest::Signal { .. } if shared.is_paused() => channel.send_message(&denied("it is paused")).await,
        ControlRequest::Signal { signal } => {
            let reply = match shared.is_task {
                true => match shared.task_requests.send(StreamRequest::Signal { signal }) {
                    Ok(()) => ControlReply::Done,
                    Err(_) => denied("it has ended"),
                },
                false => denied("a machine's init takes no signal from outside; use stop, or exec kill in it"),
            };
            channel.send_message(&reply).await
        }
        ControlRequest::Wait => {
            let ending = shared.ended().await;
            channel.send_message(&ControlReply::Ended { ending }).await
        }
        ControlRequest::Attach { stdin } if shared.is_task => attach_task(channel, shared, stdin).await,
        ControlRequest::Attach { .. } => channel.send_message(&denied("it is a machine: attach to its console")).await,
        ControlRequest::Console => attach_console(channel, shared).await,
        ControlRequest::Follow => follow(channel, shared).await,
        ControlRequest::Open { open } => open_stream(channel, shared, open).await,
    }
}

fn denied(reason: &str) -> ControlReply {
    ControlReply::Denied { reason: reason.to_owned() }
}

async fn command(shared: &Shared, make: impl FnOnce(oneshot::Sender<Result<(), String>>) -> Command) -> ControlReply {
    let (reply, answer) = oneshot::channel();
    if shared.commands.send(make(reply)).await.is_err() {
        return denied("it has ended");
    }
    match answer.await {
        Ok(Ok(())) => ControlReply::Done,
        Ok(Err(reason)) => ControlReply::Denied { reason },
        // The loop ended before it answered: the VM has ended meanwhile.
        Err(_) => ControlReply::Done,
    }
}

async fn end(
    mut channel: Channel,
    shared: &Shared,
    make: impl FnOnce(oneshot::Sender<Result<(), String>>) -> Command,
) -> io::Result<()> {
    let reply = match command(shared, make).await {
        ControlReply::Done => ControlReply::Ended { ending: shared.ended().await },
        other => other,
    };
    channel.send_message(&reply).await
}

/// Runs both directions of a session until the output has ended or the client has left.
async fn both(output: impl Future<Output = io::Result<()>>, input: impl Future<Output = ()>) -> io::Result<()> {
    tokio::select! {
        result = output => result,
        () = input => Ok(()),
    }
}

async fn attach_task(mut channel: Channel, shared: &Shared, stdin: bool) -> io::Result<()> {
    let mut events = shared.task_listeners.listen();
    channel.send_message(&ControlReply::Streaming { opened: Opened::default() }).await?;
    shared.attached.notify_one();
    let (mut reader, mut writer) = channel.split();
    let (grant, mut granted) = mpsc::unbounded_channel();
    let output = async {
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => writer.send_event(&event).await?,
                    None => break,
                },
                Some(count) = granted.recv() => writer.grant(count).await?,
            }
        }
        writer.send_event(&exit_event(&shared.ended().await)).await
    };
    let input = async {
        loop {
            match reader.next_command().await {
                SessionCommand::Stdin(bytes) if stdin => {
                    let _ = shared.task_input.send(TaskInput::Bytes(bytes, grant.clone()));
                }
                SessionCommand::CloseStdin if stdin => drop(shared.task_input.send(TaskInput::Close)),
                SessionCommand::Stdin(_) | SessionCommand::CloseStdin => {}
                SessionCommand::Request(request) => drop(shared.task_requests.send(request)),
                SessionCommand::Leave => return,
            }
        }
    };
    both(output, input).await
}

async fn wait_for_leave(reader: &mut Reader) {
    while reader.next_command().await != SessionCommand::Leave {}
}

async fn attach_console(mut channel: Channel, shared: &Shared) -> io::Result<()> {
    let mut events = shared.console.listeners.listen();
    channel.send_message(&ControlReply::Streaming { opened: Opened::default() }).await?;
    shared.attached.notify_one();
    let (mut reader, mut writer) = channel.split();
    let output = async {
        while let Some(event) = events.recv().await {
            writer.send_event(&event).await?;
        }
        writer.send_event(&exit_event(&shared.ended().await)).await
    };
    let input = async {
        loop {
            match reader.next_command().await {
                SessionCommand::Stdin(bytes) => {
                    if let Some(console) = shared.console_input.lock().await.as_mut() {
                        let _ = write_console(console, &bytes).await;
                    }
                }
                SessionCommand::CloseStdin | SessionCommand::Request(_) => {}
                SessionCommand::Leave => return,
            }
        }
    };
    both(output, input).await
}

async fn follow(mut channel: Channel, shared: &Shared) -> io::Result<()> {
    let (mut reader, mut writer) = {
        channel.send_message(&ControlReply::Streaming { opened: Opened::default() }).await?;
        channel.split()
    };
    let output = async {
        loop {
            tokio::select! {
                () = shared.grown.notified() => writer.send_event(&SessionEvent::Stdout(Bytes::new())).await?,
                ending = shared.ended() => return writer.send_event(&exit_event(&ending)).await,
            }
        }
    };
    both(output, wait_for_leave(&mut reader)).await
}

async fn open_stream(mut channel: Channel, shared: &Shared, open: Open) -> io::Result<()> {
    if shared.is_paused() {
        return channel.send_message(&denied("it is paused")).await;
    }
    let Some(agent) = shared.running_agent().await else {
        return channel.send_message(&denied("it is not running")).await;
    };
    let opening = tokio::select! {
        opening = agent.open(&open) => Some(opening),
        () = executed_for(shared.phase.clone(), OPEN_DEADLINE) => None,
    };
    let (opened, stream) = match opening {
        Some(Ok(opened)) => opened,
        Some(Err(error)) => {
            let exit_code = match &error {
                OpenError::Refused(exit) => exit.exit_code(),
                OpenError::TooManyStreams | OpenError::TooLong(_) | OpenError::Connection(_) => 125,
            };
            return channel.send_message(&ControlReply::Failed { message: error.to_string(), exit_code }).await;
        }
        None => {
            let message = format!("the guest did not answer within {} s", OPEN_DEADLINE.as_secs());
            return channel.send_message(&ControlReply::Failed { message, exit_code: 125 }).await;
        }
    };
    channel.send_message(&ControlReply::Streaming { opened }).await?;
    let (reader, writer) = channel.split();
    relay(reader, writer, stream).await
}

/// Carries an agent stream to a client and back; dropping the stream's output tells the guest to end it.
async fn relay(mut reader: Reader, mut writer: Writer, stream: Stream) -> io::Result<()> {
    let requests = stream.requests();
    let Stream { mut stdin, output: mut events } = stream;
    let (grant, mut granted) = mpsc::unbounded_channel();
    let (to_stdin, mut stdin_queue) = mpsc::unbounded_channel();
    let output = async {
        loop {
            let event = tokio::select! {
                event = events.recv() => event,
                Some(count) = granted.recv() => {
                    writer.grant(count).await?;
                    continue;
                }
            };
            let event = match event {
                Some(StreamEvent::Stdout(bytes)) => SessionEvent::Stdout(bytes),
                Some(StreamEvent::Stderr(bytes)) => SessionEvent::Stderr(bytes),
                Some(StreamEvent::StdoutEnd) => continue,
                Some(StreamEvent::Exit(exit)) => SessionEvent::Exit(exit),
                Some(StreamEvent::Lost(error)) => {
                    SessionEvent::Exit(StreamExit::Failed { code: 255, message: format!("the VM has ended ({error})") })
                }
                None => return Ok(()),
            };
            writer.send_event(&event).await?;
        }
    };
    let feed = async {
        feed_stdin(&mut stdin_queue, &mut stdin).await;
        // The client has left; the other direction decides when the session is over.
        std::future::pending::<()>().await;
    };
    let take = async {
        loop {
            match reader.next_command().await {
                SessionCommand::Stdin(bytes) => {
                    let _ = to_stdin.send(TaskInput::Bytes(bytes, grant.clone()));
                }
                SessionCommand::CloseStdin => drop(to_stdin.send(TaskInput::Close)),
                SessionCommand::Request(request) => drop(requests.send(request)),
                SessionCommand::Leave => return,
            }
        }
    };
    let input = async {
        tokio::select! {
            () = feed => {}
            () = take => {}
        }
    };
    both(output, input).await
}
