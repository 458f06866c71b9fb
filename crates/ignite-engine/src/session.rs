//! `exec` and `attach`: a VM's streams.

use crate::engine::{Engine, title};
use crate::error::EngineError;
use crate::launch::env_map;
use bytes::Bytes;
use ignite_agent_protocol::message::{Open, Process, StreamRequest, WindowSize};
use ignite_api::{Uid, Vm};
use ignite_supervisor::control::{ControlReply, ControlRequest, Reader, SessionCommand, Writer};
use std::io;

pub use ignite_supervisor::control::SessionEvent;

/// How to attach.
#[derive(Debug, Clone, Default)]
pub struct AttachOptions {
    /// Standard input will be sent.
    pub stdin: bool,
    /// Size of the terminal.
    pub size: Option<WindowSize>,
}

/// A VM's streams. Dropping both halves leaves: an attached task goes on, an exec is ended (SIGHUP).
#[derive(Debug)]
pub struct Session {
    input: SessionInput,
    output: SessionOutput,
}

/// What goes in.
#[derive(Debug)]
pub struct SessionInput {
    writer: Writer,
}

/// What comes out.
#[derive(Debug)]
pub struct SessionOutput {
    reader: Reader,
    name: String,
}

impl Session {
    /// The two directions.
    pub fn split(self) -> (SessionInput, SessionOutput) {
        (self.input, self.output)
    }
}

impl SessionInput {
    /// Sends bytes of standard input; waits while the program does not read. The output must be read meanwhile.
    pub async fn write(&mut self, bytes: Bytes) -> io::Result<()> {
        self.writer.send_command(&SessionCommand::Stdin(bytes)).await
    }

    /// Ends standard input.
    pub async fn close_stdin(&mut self) -> io::Result<()> {
        self.writer.send_command(&SessionCommand::CloseStdin).await
    }

    /// Sends a signal or the terminal's new size.
    pub async fn request(&mut self, request: StreamRequest) -> io::Result<()> {
        self.writer.send_command(&SessionCommand::Request(request)).await
    }
}

impl SessionOutput {
    /// What comes next; `Exit` is the last. Cancel-safe.
    pub async fn next(&mut self) -> Result<SessionEvent, EngineError> {
        let failed = |source| EngineError::Control { name: self.name.clone(), source };
        match self.reader.next_event().await {
            Ok(Some(event)) => Ok(event),
            Ok(None) => Err(failed(io::Error::new(io::ErrorKind::UnexpectedEof, "its supervisor is gone"))),
            Err(error) => Err(failed(error)),
        }
    }
}

impl Engine {
    /// Runs a process in a running VM. What the request leaves open (environment, user, working directory) is the image's.
    pub async fn exec(&self, uid: &Uid, process: Process) -> Result<Session, EngineError> {
        let vm = self.executing("exec in", uid).await?;
        let process = self.complete(&vm, uid, process)?;
        self.open_session(&vm, uid, &ControlRequest::Open { open: Open::Exec(process) }).await
    }

    /// Attaches to a task's streams, or to a machine's serial console.
    pub async fn attach(&self, uid: &Uid, options: AttachOptions) -> Result<Session, EngineError> {
        let vm = self.executing("attach to", uid).await?;
        let mut session = self.attach_now(&vm, uid, options.stdin).await?;
        if let Some(size) = options.size
            && vm.spec.tty
        {
            let resized = session.input.request(StreamRequest::Resize(size)).await;
            resized.map_err(|source| self.control_error(&vm, source))?;
        }
        Ok(session)
    }

    pub(crate) async fn attach_now(&self, vm: &Vm, uid: &Uid, stdin: bool) -> Result<Session, EngineError> {
        let request = match vm.status.role.as_deref() {
            Some("machine") => ControlRequest::Console,
            _ => ControlRequest::Attach { stdin },
        };
        self.open_session(vm, uid, &request).await
    }

    pub(crate) async fn open_session(
        &self,
        vm: &Vm,
        uid: &Uid,
        request: &ControlRequest,
    ) -> Result<Session, EngineError> {
        let (reply, channel) = self.ask(vm, uid, request).await?;
        match reply {
            ControlReply::Streaming { .. } => {
                let (reader, writer) = channel.split();
                Ok(Session { input: SessionInput { writer }, output: SessionOutput { reader, name: title(vm) } })
            }
            other => Err(self.expect_done(vm, other).err().unwrap_or_else(|| {
                self.control_error(vm, io::Error::new(io::ErrorKind::InvalidData, "an unexpected answer"))
            })),
        }
    }

    fn complete(&self, vm: &Vm, uid: &Uid, mut process: Process) -> Result<Process, EngineError> {
        let image = self.image_of(uid)?;
        let own = self.with_secret_env(vm)?.process_for(&image.status.config);
        let mut env = env_map(&own);
        env.append(&mut process.env);
        process.env = env;
        if process.user.is_empty() {
            process.user.clone_from(&own.user);
        }
        if process.working_dir.is_empty() {
            process.working_dir.clone_from(&own.working_dir);
        }
        Ok(process)
    }
}
