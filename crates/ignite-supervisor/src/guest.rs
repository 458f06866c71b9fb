//! The guest's side of a boot: from the agent's first word to `Configured`, and the task's streams from then on.

use crate::error::SupervisorError;
use crate::fanout::Fanout;
use crate::guest_network;
use crate::launch::Launch;
use crate::shared::{TaskInput, feed_stdin};
use crate::task_log::{LogStream, TaskLog};
use ignite_agent_protocol::PROTOCOL_VERSION;
use ignite_agent_protocol::client::{Connection, ControlEvents, Stream, StreamEvent};
use ignite_agent_protocol::message::{Configure, GuestMessage, HostMessage, Role, StreamExit, StreamRequest};
use ignite_network::Attachment;
use std::future::Future;
use std::sync::Arc;
use tokio::sync::{Mutex, Notify, mpsc, watch};
use tokio::task::JoinHandle;

/// Bytes of host entropy given to a guest.
const ENTROPY_BYTES: usize = 64;

/// What the guest is to become: the launch's template with what only the attached network and this moment know.
pub fn configure_for(launch: &Launch, attachment: &Attachment) -> Result<Configure, SupervisorError> {
    let mut configure = launch.configure.clone();
    guest_network::fill_in(&mut configure, &launch.network, attachment)?;
    configure.entropy = entropy()?;
    Ok(configure)
}

fn entropy() -> Result<String, SupervisorError> {
    let mut bytes = [0u8; ENTROPY_BYTES];
    let mut filled = 0;
    while filled < bytes.len() {
        let got = rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty());
        filled += got.map_err(|e| SupervisorError::Entropy(e.into()))?;
    }
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Greets the guest, waits for `gate`, configures it. Returns when it is `Configured`.
///
/// `task` gets the task's stream just before the guest may start it, so that none of its output is missed.
pub async fn bring_up(
    connection: &Connection,
    events: &mut ControlEvents,
    configure: Configure,
    gate: impl Future<Output = ()>,
    task: impl FnOnce(Stream),
) -> Result<(), SupervisorError> {
    match next_message(connection, events).await? {
        GuestMessage::Hello { protocol, kernel_release, uptime_ms, .. } if protocol == PROTOCOL_VERSION => {
            tracing::info!("kernel {kernel_release:?} said hello {uptime_ms} ms after its start");
        }
        GuestMessage::Hello { protocol, .. } => {
            return Err(SupervisorError::Protocol { guest: protocol, host: PROTOCOL_VERSION });
        }
        other => return Err(SupervisorError::Agent { detail: format!("the guest began with {}", name_of(&other)) }),
    }
    gate.await;
    if matches!(configure.role, Role::Task(_))
        && let Some(stream) = connection.task_stream()
    {
        task(stream);
    }
    let unix_ns = i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(0);
    let configure = Configure { unix_ns, ..configure };
    connection
        .send(&HostMessage::Configure(Box::new(configure)))
        .map_err(|e| SupervisorError::Agent { detail: e.to_string() })?;
    loop {
        match next_message(connection, events).await? {
            GuestMessage::Configured { uptime_ms } => {
                tracing::info!("configured {uptime_ms} ms after the kernel's start");
                return Ok(());
            }
            GuestMessage::ConfigureFailed { step, message, exit_code } => {
                return Err(SupervisorError::Configure {
                    step: printable(&step),
                    message: printable(&message),
                    exit_code,
                });
            }
            GuestMessage::Log { level, message } => log_guest(&level, &message),
            GuestMessage::Hello { .. } | GuestMessage::Exiting { .. } | GuestMessage::Pong { .. } => {}
        }
    }
}

async fn next_message(connection: &Connection, events: &mut ControlEvents) -> Result<GuestMessage, SupervisorError> {
    events.recv().await.ok_or_else(|| SupervisorError::Agent {
        detail: connection.lost().map_or_else(|| "it closed".to_owned(), |error| error.to_string()),
    })
}

fn name_of(message: &GuestMessage) -> &'static str {
    match message {
        GuestMessage::Hello { .. } => "Hello",
        GuestMessage::Configured { .. } => "Configured",
        GuestMessage::ConfigureFailed { .. } => "ConfigureFailed",
        GuestMessage::Exiting { .. } => "Exiting",
        GuestMessage::Pong { .. } => "Pong",
        GuestMessage::Log { .. } => "Log",
    }
}

/// Text of the guest on one line without control characters, at most 1,000 characters.
pub fn printable(text: &str) -> String {
    text.chars().take(1000).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Puts a line of the guest into the supervisor's log.
pub fn log_guest(level: &str, message: &str) {
    match level {
        "error" | "warn" => tracing::warn!("guest: {}", printable(message)),
        _ => tracing::info!("guest: {}", printable(message)),
    }
}

/// Where the task's streams meet their log and their listeners.
#[derive(Debug, Clone)]
pub struct TaskPlumbing {
    /// Whoever is attached.
    pub listeners: Fanout,
    /// The log.
    pub log: Arc<std::sync::Mutex<TaskLog>>,
    /// Woken when the log has grown.
    pub grown: Arc<Notify>,
    /// Input from attached clients.
    pub input: Arc<Mutex<mpsc::UnboundedReceiver<TaskInput>>>,
    /// Signals and sizes from attached clients.
    pub requests: Arc<Mutex<mpsc::UnboundedReceiver<StreamRequest>>>,
    /// How the task ended.
    pub exit: watch::Sender<Option<StreamExit>>,
}

impl TaskPlumbing {
    /// Moves the task's bytes until its stream ends; output is logged and given to every listener, which holds the guest
    /// up when they are slow.
    pub fn connect(&self, stream: Stream) -> JoinHandle<()> {
        let requests = stream.requests();
        let Stream { mut stdin, mut output } = stream;
        let plumbing = self.clone();
        tokio::spawn(async move {
            let read = async {
                while let Some(event) = output.recv().await {
                    plumbing.take(event).await;
                }
            };
            let write = async {
                feed_stdin(&mut *plumbing.input.lock().await, &mut stdin).await;
                std::future::pending::<()>().await;
            };
            let control = async {
                let mut queue = plumbing.requests.lock().await;
                while let Some(request) = queue.recv().await {
                    let _ = requests.send(request);
                }
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = read => {}
                () = write => {}
                () = control => {}
            }
        })
    }

    async fn take(&self, event: StreamEvent) {
        use crate::control::SessionEvent;
        let (stream, bytes) = match event {
            StreamEvent::Stdout(bytes) => (LogStream::Stdout, bytes),
            StreamEvent::Stderr(bytes) => (LogStream::Stderr, bytes),
            StreamEvent::StdoutEnd | StreamEvent::Lost(_) => return,
            StreamEvent::Exit(exit) => {
                let exit = match exit {
                    StreamExit::Failed { code, message } => StreamExit::Failed { code, message: printable(&message) },
                    exit => exit,
                };
                self.exit.send_replace(Some(exit));
                return;
            }
        };
        let logged = self.log.lock().unwrap_or_else(std::sync::PoisonError::into_inner).append(stream, &bytes);
        if let Err(error) = logged {
            tracing::warn!("{}", error.chain());
        }
        self.grown.notify_waiters();
        let event = match stream {
            LogStream::Stdout => SessionEvent::Stdout(bytes),
            LogStream::Stderr => SessionEvent::Stderr(bytes),
        };
        self.listeners.send(&event).await;
    }
}
