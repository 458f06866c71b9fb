//! `ignited systemd`: a unit file for a daemon, of the system or of a user.

use clap::Args as _;
use ignite::cli::GlobalFlags;
use ignite::context::Context;
use ignite::render::unit::command_line;
use ignite::report::UsageError;

/// Flags of `systemd`.
#[derive(Debug, clap::Args)]
#[command(long_about = "Prints a unit file that runs `ignited` with the given command.\n\n  \
                  ignited systemd daemon > /etc/systemd/system/ignited.service\n  \
                  ignited systemd --user gitops https://example.org/shop.git > ~/.config/systemd/user/ignited-shop.service")]
pub struct Args {
    /// For a user's own systemd
    #[arg(long)]
    pub user: bool,
    /// `daemon` or `gitops`, with its flags
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// Prints the unit.
pub fn run(args: Args, _: &Context) -> anyhow::Result<u8> {
    check(&args.command)?;
    let program = std::env::current_exe()?;
    ignite::commands::print(&unit(&program.to_string_lossy(), &args.command, args.user))?;
    Ok(0)
}

/// What systemd will start is parsed now, not when the host boots.
fn check(command: &[String]) -> anyhow::Result<()> {
    let usage = |error: clap::Error| UsageError(error.render().to_string());
    let parser = |name: &'static str| GlobalFlags::augment_args(clap::Command::new(name).no_binary_name(true));
    let parsed = match command.split_first().map(|(name, rest)| (name.as_str(), rest)) {
        Some(("daemon", rest)) => super::daemon::Args::augment_args(parser("daemon")).try_get_matches_from(rest),
        Some(("gitops", rest)) => super::gitops::Args::augment_args(parser("gitops")).try_get_matches_from(rest),
        _ => return Err(UsageError("daemon or gitops is expected, with its flags".into()).into()),
    };
    parsed.map(drop).map_err(|error| usage(error).into())
}

/// VMs outlive the daemon: only its own process is ended with it.
fn unit(program: &str, command: &[String], is_user: bool) -> String {
    let start = command_line(program, command.iter().map(String::as_str));
    let wanted_by = if is_user { "default.target" } else { "multi-user.target" };
    format!(
        "[Unit]\n\
         Description=Ignite: keeps microVMs as manifests say\n\
         Documentation=man:ignite(1)\n\
         Wants=network-online.target\n\
         After=network-online.target\n\
         \n\
         [Service]\n\
         ExecStart={start}\n\
         Restart=on-failure\n\
         RestartSec=2\n\
         # The daemon ends, its VMs go on.\n\
         KillMode=process\n\
         Environment=IGNITE_LOG_LEVEL=info\n\
         \n\
         [Install]\n\
         WantedBy={wanted_by}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_ends_the_daemon_and_not_its_vms() {
        let command = ["daemon", "--manifests", "/srv/my files"].map(str::to_owned);
        let text = unit("/usr/local/bin/ignited", &command, false);
        assert!(text.contains("ExecStart=/usr/local/bin/ignited daemon --manifests \"/srv/my files\"\n"), "{text}");
        assert!(text.contains("KillMode=process\n") && text.contains("WantedBy=multi-user.target\n"));
        assert!(unit("i", &command, true).contains("WantedBy=default.target\n"));
    }

    #[test]
    fn a_command_that_cannot_be_meant_is_refused_now() {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        for line in
            ["daemon", "daemon --resync 5", "daemon --data-dir /d", "gitops https://example.org/a.git --branch b"]
        {
            assert!(check(&words(line)).is_ok(), "{line}");
        }
        for line in ["status", "daemon --nonsense", "gitops", "daemon --resync 0"] {
            assert!(check(&words(line)).is_err(), "{line}");
        }
    }
}
