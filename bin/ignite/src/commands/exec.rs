//! `ignite exec`: a command in a running VM.

use crate::commands::leftovers;
use crate::commands::run::{check_tty, exit_code};
use crate::context::Context;
use crate::env_file::{parse_env_flag, read_env_file};
use crate::report::UsageError;
use crate::session::{Ending, Relay, SignalPath};
use crate::signals::interruptible;
use crate::terminal;
use ignite_agent_protocol::message::Process;
use std::path::PathBuf;

/// Flags of `exec`.
#[derive(Debug, clap::Args)]
#[command(override_usage = "ignite exec [OPTIONS] VM COMMAND [ARG]...")]
pub struct Args {
    /// Send standard input
    #[arg(short, long)]
    pub interactive: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// Set an environment variable; NAME alone takes the value it has here
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// Read environment variables from a file
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<PathBuf>,
    /// User of the command: NAME|UID[:GROUP|GID]
    #[arg(short, long)]
    pub user: Option<String>,
    /// Working directory of the command
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// Flags without effect.
    #[command(flatten)]
    pub leftovers: leftovers::Ssh,
    /// Name or id
    pub vm: String,
    /// Command, with all that follows
    #[arg(required = true, trailing_var_arg = true)]
    pub command: Vec<String>,
}

/// Answers the command's exit code.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    check_tty(args.interactive, args.tty)?;
    args.leftovers.tell(context);
    let process = args.process()?;
    let engine = context.engine()?;
    let uid = engine.find_vm(&args.vm)?;
    let session = interruptible(engine.exec(&uid, process)).await?;
    let relay = Relay { stdin: args.interactive, tty: args.tty, detach_keys: None, signals: SignalPath::Session };
    match relay.run(session).await? {
        Ending::Exited(exit) => Ok(exit_code(&exit)),
        Ending::Detached => Ok(0),
        Ending::Abandoned(interrupted) => Err(interrupted.into()),
    }
}

impl Args {
    /// A command with standard input, `env` as [`Args::env`].
    pub fn of(vm: String, command: Vec<String>, tty: bool, env: Vec<String>) -> Args {
        let (env_file, user, workdir, leftovers) = (Vec::new(), None, None, leftovers::Ssh::default());
        Args { interactive: true, tty, env, env_file, user, workdir, leftovers, vm, command }
    }

    fn process(&self) -> anyhow::Result<Process> {
        let host = |name: &str| std::env::var(name).ok();
        let mut env = std::collections::BTreeMap::new();
        for path in &self.env_file {
            env.extend(read_env_file(path, &host)?.into_iter().map(|variable| (variable.name, variable.value)));
        }
        for text in &self.env {
            let variable = parse_env_flag(text, &host).map_err(|error| UsageError(error.to_string()))?;
            env.extend(variable.map(|variable| (variable.name, variable.value)));
        }
        let process = Process {
            args: self.command.clone(),
            env,
            user: self.user.clone().unwrap_or_default(),
            working_dir: self.workdir.clone().unwrap_or_default(),
            tty: self.tty,
            stdin: self.interactive,
            size: self.tty.then(terminal::size).flatten(),
            stop_signal: None,
        };
        Ok(process)
    }
}
