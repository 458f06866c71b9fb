//! What the event loop and the control connections share.

use crate::console::Console;
use crate::control::{Ending, SessionEvent};
use crate::fanout::Fanout;
use crate::restart::AskedBy;
use bytes::Bytes;
use ignite_agent_protocol::client::{Connection, StreamInput};
use ignite_agent_protocol::message::StreamRequest;
use ignite_api::Phase;
use ignite_vmm::machine::Console as ConsoleStream;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::WriteHalf;
use tokio::sync::{Mutex, Notify, mpsc, oneshot, watch};
use tokio::time::Instant;

/// A request that only the event loop can decide.
#[derive(Debug)]
pub enum Command {
    /// Stop gracefully, killing after so many milliseconds.
    Stop {
        /// Absent: the VM's own stop timeout.
        grace_ms: Option<u64>,
        /// Who wants it.
        by: AskedBy,
        /// Whether it was accepted.
        reply: oneshot::Sender<Result<(), String>>,
    },
    /// End the VMM now.
    Kill {
        /// Whether it was accepted.
        reply: oneshot::Sender<Result<(), String>>,
    },
    /// Stop executing the guest.
    Pause {
        /// Whether it was done.
        reply: oneshot::Sender<Result<(), String>>,
    },
    /// Go on executing it.
    Resume {
        /// Whether it was done.
        reply: oneshot::Sender<Result<(), String>>,
    },
}

/// What goes into the task's standard input.
#[derive(Debug)]
pub enum TaskInput {
    /// Bytes, and who is to be told that they have been taken.
    Bytes(Bytes, mpsc::UnboundedSender<u32>),
    /// Its end.
    Close,
}

/// Moves queued input into a program's standard input, telling each sender what has been taken; returns when every sender
/// has gone.
pub async fn feed_stdin(queue: &mut mpsc::UnboundedReceiver<TaskInput>, stdin: &mut StreamInput) {
    while let Some(input) = queue.recv().await {
        match input {
            TaskInput::Bytes(bytes, grant) => {
                let count = bytes.len() as u32;
                let _ = stdin.write(bytes).await;
                let _ = grant.send(count);
            }
            TaskInput::Close => stdin.close(),
        }
    }
}

/// What the event loop and the control connections share; cheap to clone.
#[derive(Clone)]
pub struct Shared {
    /// Requests for the event loop.
    pub commands: mpsc::Sender<Command>,
    /// The VM runs a task.
    pub is_task: bool,
    /// Whoever is attached to the task.
    pub task_listeners: Fanout,
    /// Bytes for the task's standard input; kept until the task's stream exists. Each client's share is bounded by its window.
    pub task_input: mpsc::UnboundedSender<TaskInput>,
    /// Signals and sizes for the task.
    pub task_requests: mpsc::UnboundedSender<StreamRequest>,
    /// Told when the first client has attached.
    pub attached: Arc<Notify>,
    /// The console.
    pub console: Console,
    /// Where to type into the console; absent while there is no machine.
    pub console_input: Arc<Mutex<Option<WriteHalf<ConsoleStream>>>>,
    /// The agent; absent until the guest is configured.
    pub agent: watch::Receiver<Option<Connection>>,
    /// The phase.
    pub phase: watch::Receiver<Phase>,
    /// How it ended; absent until everything has been undone and stored.
    pub ending: watch::Receiver<Option<Ending>>,
    /// Woken whenever a log has grown.
    pub grown: Arc<Notify>,
}

impl Shared {
    /// Waits for the end.
    pub async fn ended(&self) -> Ending {
        let mut ending = self.ending.clone();
        match ending.wait_for(Option::is_some).await {
            Ok(value) => value.clone(),
            Err(_) => None,
        }
        .unwrap_or(Ending {
            phase: Phase::Failed,
            exit_code: 255,
            reason: Some("the supervisor is gone".into()),
        })
    }

    /// The guest is not executed.
    pub fn is_paused(&self) -> bool {
        *self.phase.borrow() == Phase::Paused
    }

    /// The agent of the running guest; waits for it while the VM starts. `None`: the VM ends.
    pub async fn running_agent(&self) -> Option<Connection> {
        let mut agent = self.agent.clone();
        tokio::select! {
            connection = agent.wait_for(Option::is_some) => connection.ok().and_then(|c| c.clone()),
            _ = self.ended() => None,
        }
    }
}

/// Returns when the guest has been executed for so long from now on: its pauses do not count.
pub async fn executed_for(mut phase: watch::Receiver<Phase>, mut left: Duration) {
    loop {
        // An error is the end of the VM, which others tell.
        let _ = phase.wait_for(|phase| *phase != Phase::Paused).await;
        let since = Instant::now();
        let is_over = tokio::select! {
            () = tokio::time::sleep(left) => true,
            Ok(_) = phase.wait_for(|phase| *phase == Phase::Paused) => false,
        };
        if is_over {
            return;
        }
        left = left.saturating_sub(since.elapsed());
    }
}

/// The event that tells attached clients how their VM ended.
pub fn exit_event(ending: &Ending) -> SessionEvent {
    use ignite_agent_protocol::message::StreamExit;
    SessionEvent::Exit(match (&ending.reason, ending.phase) {
        (Some(reason), Phase::Failed) => StreamExit::Failed { code: ending.exit_code, message: reason.clone() },
        _ => StreamExit::Exited { code: ending.exit_code },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_deadline_of_a_guest_passes_while_it_is_paused() {
        let phase = watch::Sender::new(Phase::Paused);
        let deadline = executed_for(phase.subscribe(), Duration::from_millis(1));
        tokio::pin!(deadline);
        let early = tokio::time::timeout(Duration::from_millis(50), &mut deadline).await;
        assert!(early.is_err(), "it has passed");
        phase.send_replace(Phase::Running);
        deadline.await;
    }
}
