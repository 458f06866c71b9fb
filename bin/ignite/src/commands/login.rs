//! `ignite login`: credentials of a registry, tried and kept.

use crate::context::Context;
use crate::render::text::sanitize;
use crate::report::UsageError;
use crate::signals::interruptible;
use crate::terminal::NoEcho;
use anyhow::Context as _;
use ignite_api::DOCKER_HUB;
use ignite_engine::{Keeper, registry_of};
use std::io::{self, BufRead, IsTerminal, Read, Write};

/// Longest password that is read, in bytes: tokens are some thousand long.
const MAX_PASSWORD: u64 = 64 << 10;

/// Flags of `login`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// User
    #[arg(short, long, value_name = "NAME")]
    pub username: Option<String>,
    /// Take the password, or a token in its place, from standard input
    #[arg(long)]
    pub password_stdin: bool,
    /// Registry: a host name with a dot or a port
    #[arg(value_name = "REGISTRY", default_value = DOCKER_HUB)]
    pub registry: String,
}

/// Asks for what is missing, and the registry whether it is right.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    let registry = registry_of(&args.registry);
    let user = match args.username {
        Some(user) => user,
        None if args.password_stdin => {
            return Err(UsageError("--password-stdin needs --username NAME as well".into()).into());
        }
        None => ask("Username: ", Typing::Shown).await?,
    };
    let password = match args.password_stdin {
        true => {
            let mut text = String::new();
            io::stdin().take(MAX_PASSWORD).read_to_string(&mut text).context("read the password")?;
            text.trim_end_matches(['\r', '\n']).to_owned()
        }
        false => ask("Password: ", Typing::Hidden).await?,
    };
    if user.is_empty() || password.is_empty() {
        return Err(UsageError("a user and a password are needed".into()).into());
    }
    let kept = context.engine()?.login(registry, &user, &password).await?;
    let place = match kept {
        Keeper::File(path) => format!("kept in {}, where whoever reads it can use them", path.display()),
        Keeper::Helper(helper) => format!("kept by docker-credential-{helper}"),
    };
    context.note(&format!("logged in to {} as {}; {}", sanitize(registry), sanitize(&user), sanitize(&place)));
    Ok(0)
}

/// What is typed is not shown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Typing {
    Shown,
    Hidden,
}

/// Asks at the terminal, which is as before when the user would rather not answer.
async fn ask(prompt: &str, typing: Typing) -> anyhow::Result<String> {
    if !io::stdin().is_terminal() {
        return Err(UsageError(
            "there is no terminal to ask at: say --username NAME --password-stdin, with the password on standard input"
                .into(),
        )
        .into());
    }
    let is_hidden = typing == Typing::Hidden;
    let silence = is_hidden.then(NoEcho::enter).transpose().context("hide what is typed")?;
    write!(io::stderr(), "{prompt}")?;
    let line = interruptible(async {
        let read = || {
            let mut line = String::new();
            io::stdin().lock().take(MAX_PASSWORD).read_line(&mut line).map(|_| line)
        };
        tokio::task::spawn_blocking(read).await?.context("read what is typed")
    })
    .await;
    drop(silence);
    if is_hidden {
        writeln!(io::stderr())?;
    }
    Ok(line?.trim_end_matches(['\r', '\n']).to_owned())
}
