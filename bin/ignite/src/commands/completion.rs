//! `ignite completion`: a script for a shell.

use crate::cli::Cli;
use clap::CommandFactory;
use std::io::Write;

/// Flags of `completion`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Shell
    #[arg(value_enum, default_value = "bash")]
    pub shell: Shell,
}

/// The shells we know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Shell {
    /// `source <(ignite completion bash)`
    Bash,
    /// `ignite completion zsh > "${fpath[1]}/_ignite"`
    Zsh,
    /// `ignite completion fish | source`
    Fish,
}

impl Shell {
    /// Who writes its scripts.
    pub fn generator(self) -> clap_complete::Shell {
        match self {
            Shell::Bash => clap_complete::Shell::Bash,
            Shell::Zsh => clap_complete::Shell::Zsh,
            Shell::Fish => clap_complete::Shell::Fish,
        }
    }
}

/// Prints the script.
pub fn run(args: Args) -> anyhow::Result<u8> {
    // The generator panics when its writer fails: it writes to memory.
    let mut script = Vec::new();
    clap_complete::generate(args.shell.generator(), &mut Cli::command(), "ignite", &mut script);
    std::io::stdout().lock().write_all(&script)?;
    Ok(0)
}
