//! `ignite attach`: a running task's streams, or a machine's serial console.

use crate::commands::run::{check_tty, exit_code};
use crate::context::Context;
use crate::detach_keys::DetachKeys;
use crate::report;
use crate::session::{Ending, Relay, SignalPath};
use crate::signals::interruptible;
use crate::terminal;
use ignite_api::Vm;
use ignite_engine::{AttachOptions, Session};

/// Flags of `attach`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only look: send nothing
    #[arg(long)]
    pub no_stdin: bool,
    /// Keys that leave without ending anything: characters or ctrl-<letter>, separated by commas [default: ctrl-p,ctrl-q]
    #[arg(long, value_name = "KEYS")]
    pub detach_keys: Option<DetachKeys>,
    /// Send signals that come here to the task (not with a terminal); false: they end us only
    #[arg(long, value_name = "BOOL", default_value_t = true, default_missing_value = "true", num_args = 0..=1,
        require_equals = true, action = clap::ArgAction::Set)]
    pub sig_proxy: bool,
    /// Name or id
    pub vm: String,
}

/// Answers the task's exit code.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    let engine = context.engine()?;
    let uid = engine.find_vm(&args.vm)?;
    let vm = engine.inspect(&uid).await?;
    let is_task = vm.status.role.as_deref() != Some("machine");
    let tty = vm.spec.tty || !is_task;
    let stdin = !args.no_stdin && (vm.spec.stdin || !is_task);
    if is_task {
        check_tty(stdin, tty)?;
    }
    let session = interruptible(engine.attach(&uid, AttachOptions { stdin, size: terminal::size() })).await?;
    let is_proxy = is_task && args.sig_proxy && !tty;
    let connection = Connection {
        stdin,
        tty,
        detach_keys: args.detach_keys.unwrap_or_default(),
        signals: if is_proxy { SignalPath::Task(engine, &uid) } else { SignalPath::Us },
    };
    connection.relay(&vm, session).await
}

/// A connection to something that goes on without us.
pub struct Connection<'a> {
    /// Send our standard input.
    pub stdin: bool,
    /// It has a terminal.
    pub tty: bool,
    /// Keys that leave it.
    pub detach_keys: DetachKeys,
    /// What becomes of signals.
    pub signals: SignalPath<'a>,
}

impl Connection<'_> {
    /// Relays until the task ends or we leave.
    pub async fn relay(self, vm: &Vm, session: Session) -> anyhow::Result<u8> {
        let Connection { stdin, tty, detach_keys, signals } = self;
        let relay = Relay { stdin, tty, detach_keys: Some(detach_keys), signals };
        match relay.run(session).await? {
            Ending::Exited(exit) => Ok(exit_code(&exit)),
            Ending::Detached => {
                report::note_after_session(&format!(
                    "left {0}, which goes on; come back: ignite attach {0}",
                    vm.metadata.name
                ));
                Ok(0)
            }
            Ending::Abandoned(interrupted) => Err(interrupted.into()),
        }
    }
}
