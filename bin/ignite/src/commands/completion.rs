//! `ignite completion`: a script with which a shell asks this program for what could come next.

use crate::candidates::VARIABLE;
use clap_complete::env::{Bash, EnvCompleter, Fish, Zsh};
use std::io::Write;

/// A file of zsh's `fpath` is the body of a function, which is called for the first completion.
const AUTOLOADED: &[u8] = b"\nif [[ $funcstack[1] = _ignite ]]; then _clap_dynamic_completer_ignite \"$@\"; fi\n";

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
    /// Who writes a script that asks nobody.
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
    let shell: &dyn EnvCompleter = match args.shell {
        Shell::Bash => &Bash,
        Shell::Zsh => &Zsh,
        Shell::Fish => &Fish,
    };
    let mut script = Vec::new();
    shell.write_registration(VARIABLE, "ignite", "ignite", "ignite", &mut script)?;
    if args.shell == Shell::Zsh {
        script.extend(AUTOLOADED);
    }
    let mut out = std::io::stdout().lock();
    out.write_all(&script)?;
    out.flush()?;
    Ok(0)
}
