//! `ignite start`: VMs that exist.

use crate::commands::attach;
use crate::commands::leftovers;
use crate::commands::many::for_each_vm;
use crate::commands::run::check_tty;
use crate::context::Context;
use crate::detach_keys::DetachKeys;
use crate::report::UsageError;
use crate::session::SignalPath;
use crate::signals::interruptible;
use crate::terminal;
use ignite_engine::{AttachOptions, StartMode};

/// Flags of `start`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Connect to the task's streams, and end with its exit code
    #[arg(short, long)]
    pub attach: bool,
    /// Connect, and send standard input too
    #[arg(short, long)]
    pub interactive: bool,
    /// Keys that leave a terminal without ending the command [default: ctrl-p,ctrl-q]
    #[arg(long, value_name = "KEYS")]
    pub detach_keys: Option<DetachKeys>,
    /// Flags without effect.
    #[command(flatten)]
    pub leftovers: leftovers::Start,
    /// Name or id
    #[arg(required = true, value_name = "VM")]
    pub vms: Vec<String>,
}

/// Prints what was started, or relays the one.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    args.leftovers.tell(context);
    if args.attach || args.interactive {
        return start_attached(args, context).await;
    }
    let progress = context.progress();
    let code = for_each_vm(&args.vms, context, async |engine, uid| {
        let started = engine.start(uid, StartMode::Background, progress.listener()).await?;
        progress.finish();
        context.tell_notes(&started.notes);
        Ok(())
    });
    code.await
}

async fn start_attached(args: Args, context: &Context) -> anyhow::Result<u8> {
    let [query] = args.vms.as_slice() else {
        return Err(UsageError("you cannot attach to several VMs at once".into()).into());
    };
    let engine = context.engine()?;
    let uid = engine.find_vm(query)?;
    let vm = engine.inspect(&uid).await?;
    let stdin = args.interactive && vm.spec.stdin;
    check_tty(stdin, vm.spec.tty)?;
    let options = AttachOptions { stdin, size: terminal::size() };
    let is_task = vm.status.role.as_deref() != Some("machine");
    let mode = if is_task { StartMode::Foreground(options.clone()) } else { StartMode::Background };
    let progress = context.progress();
    let started = interruptible(engine.start(&uid, mode, progress.listener())).await?;
    progress.finish();
    context.tell_notes(&started.notes);
    let session = match started.session {
        Some(session) => session,
        None => engine.attach(&uid, AttachOptions { stdin: args.interactive, ..options }).await?,
    };
    let connection = attach::Connection {
        stdin: if is_task { stdin } else { args.interactive },
        tty: vm.spec.tty || !is_task,
        detach_keys: args.detach_keys.unwrap_or_default(),
        signals: if is_task { SignalPath::Task(engine, &uid) } else { SignalPath::Us },
    };
    connection.relay(&vm, session).await
}
