//! `ignite run`: create and start; a task's streams are ours until it ends.

use crate::commands::attach;
use crate::commands::create::{interruptible_create, uid_of, wishes};
use crate::commands::leftovers;
use crate::commands::print_line;
use crate::commands::vm_flags::VmFlags;
use crate::context::Context;
use crate::detach_keys::DetachKeys;
use crate::render::progress::ProgressBars;
use crate::report::{self, UsageError};
use crate::session::{Ending, Relay, SignalPath};
use crate::signals::{Interrupted, interruptible};
use crate::terminal;
use ignite_agent_protocol::message::StreamExit;
use ignite_api::{Uid, Vm};
use ignite_engine::{AttachOptions, Engine, Session, StartMode};

/// Flags of `run`.
#[derive(Debug, clap::Args)]
#[command(override_usage = "ignite run [OPTIONS] IMAGE [COMMAND] [ARG]...")]
pub struct Args {
    /// Start in the background and print the id
    #[arg(short, long)]
    pub detach: bool,
    /// Keys that leave a terminal without ending the command [default: ctrl-p,ctrl-q]
    #[arg(long, value_name = "KEYS")]
    pub detach_keys: Option<DetachKeys>,
    /// Send signals that come here to the task (not with a terminal); false: they end us only
    #[arg(long, value_name = "BOOL", default_value_t = true, default_missing_value = "true", num_args = 0..=1,
        require_equals = true, action = clap::ArgAction::Set)]
    pub sig_proxy: bool,
    /// Flags without effect.
    #[command(flatten)]
    pub leftovers: leftovers::Run,
    /// The VM.
    #[command(flatten)]
    pub vm: VmFlags,
}

/// Answers the task's exit code.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    if !args.detach {
        check_tty(args.vm.interactive, args.vm.tty)?;
    }
    args.leftovers.tell(context);
    let mut wishes = wishes(&args.vm, context)?;
    match wishes.pop() {
        Some(wish) if wishes.is_empty() => run_one(&args, wish, context).await,
        last => {
            // Only one VM can have our streams: several go to the background.
            let args = Args { detach: true, ..args };
            for wish in wishes.into_iter().chain(last) {
                run_one(&args, wish, context).await?;
            }
            Ok(0)
        }
    }
}

async fn run_one(args: &Args, wish: Vm, context: &Context) -> anyhow::Result<u8> {
    let engine = context.engine()?;
    let progress = context.progress();
    let vm = interruptible_create(wish, &args.vm, context, &progress).await?;
    let uid = uid_of(&vm)?;
    let is_machine = vm.status.role.as_deref() == Some("machine");
    let options = AttachOptions { stdin: vm.spec.stdin, size: terminal::size() };
    let mode = if args.detach || is_machine { StartMode::Background } else { StartMode::Foreground(options.clone()) };
    let started = start_or_undo(context, &vm, uid, mode, &progress).await?;
    progress.finish();
    if let Some(session) = started {
        return relay(args, engine, &vm, uid, session).await;
    }
    print_line(uid)?;
    if is_machine && !args.detach {
        if vm.spec.stdin || vm.spec.tty {
            return attach_console(args, engine, &vm, uid, options).await;
        }
        context.note(&format!("{} boots in the background; get in: ignite exec -it {0} sh", vm.metadata.name));
    }
    Ok(0)
}

/// Docker's rule: a terminal cannot be given to a command whose input is typed on none.
pub fn check_tty(interactive: bool, tty: bool) -> anyhow::Result<()> {
    if interactive && tty && !terminal::stdin_is_terminal() {
        return Err(UsageError("the input device is not a TTY".into()).into());
    }
    Ok(())
}

/// Starts the VM; when it is not to be waited for any more, or fails and was to be removed, nothing of it is left.
async fn start_or_undo(
    context: &Context,
    vm: &Vm,
    uid: &Uid,
    mode: StartMode,
    progress: &ProgressBars,
) -> anyhow::Result<Option<Session>> {
    let engine = context.engine()?;
    match interruptible(engine.start(uid, mode, progress.listener())).await {
        Ok(started) => {
            progress.finish();
            context.tell_notes(&started.notes);
            Ok(started.session)
        }
        Err(error) => {
            progress.finish();
            let undone = if vm.spec.auto_remove {
                engine.remove(uid, true).await
            } else if error.is::<Interrupted>() {
                engine.kill(uid, None).await.map(drop)
            } else {
                Ok(())
            };
            // A VM that never came up cannot be killed, and one that removed itself is gone: both are what is wanted.
            if let Err(undone) = undone {
                tracing::debug!("cleaning up after the failed start: {undone}");
            }
            Err(error)
        }
    }
}

async fn relay(args: &Args, engine: &Engine, vm: &Vm, uid: &Uid, session: Session) -> anyhow::Result<u8> {
    let relay = Relay {
        stdin: vm.spec.stdin,
        tty: vm.spec.tty,
        detach_keys: Some(args.detach_keys.clone().unwrap_or_default()),
        signals: if args.sig_proxy { SignalPath::Task(engine, uid) } else { SignalPath::Us },
    };
    match relay.run(session).await? {
        Ending::Exited(exit) => Ok(exit_code(&exit)),
        Ending::Detached => {
            report::note_after_session(&format!(
                "left {0}, which goes on; come back: ignite attach {0}",
                vm.metadata.name
            ));
            Ok(0)
        }
        Ending::Abandoned(interrupted) => {
            report::warning("the command ignores signals: its VM is ended");
            engine.kill(uid, None).await?;
            Err(interrupted.into())
        }
    }
}

async fn attach_console(
    args: &Args,
    engine: &Engine,
    vm: &Vm,
    uid: &Uid,
    options: AttachOptions,
) -> anyhow::Result<u8> {
    let stdin = options.stdin;
    let session = interruptible(engine.attach(uid, options)).await?;
    let detach_keys = args.detach_keys.clone().unwrap_or_default();
    attach::Connection { stdin, tty: true, detach_keys, signals: SignalPath::Us }.relay(vm, session).await
}

/// The exit code of a process that has ended; says why when it could not be started.
pub fn exit_code(exit: &StreamExit) -> u8 {
    if let StreamExit::Failed { message, .. } = exit {
        report::print(&anyhow::anyhow!("{message}"));
    }
    exit.exit_code()
}
