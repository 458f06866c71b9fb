//! `ignite generate`: files for other programs.

use crate::commands::print;
use crate::context::Context;
use crate::render::unit::command_line;
use anyhow::Context as _;
use std::path::Path;

/// What is generated.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Print a systemd unit that starts VMs by their restart policies when the host starts, and stops them with it
    Systemd(Systemd),
}

/// Flags of `generate systemd`.
#[derive(Debug, clap::Args)]
struct Systemd {
    /// A unit of the user's own manager (`systemctl --user`)
    #[arg(long)]
    user: bool,
}

/// Prints it.
pub fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    let Command::Systemd(flags) = args.command;
    let program = std::env::current_exe().context("could not find this program")?;
    print(&unit(&program, &context.settings.data_dir, flags.user))?;
    Ok(0)
}

/// systemd.service(5). `KillMode=none` would be deprecated; `process` leaves the supervisors to `ExecStop`, which asks them.
fn unit(program: &Path, data_dir: &Path, is_user: bool) -> String {
    let (program, data_dir) = (program.to_string_lossy(), data_dir.to_string_lossy());
    let line =
        |verb: &[&str]| command_line(&program, ["--data-dir", &*data_dir].into_iter().chain(verb.iter().copied()));
    let (start, stop) = (line(&["restore"]), line(&["stop", "--all", "--host-shutdown"]));
    let wanted_by = if is_user { "default.target" } else { "multi-user.target" };
    format!(
        "[Unit]\n\
         Description=Ignite VMs with a restart policy\n\
         Documentation=man:ignite-restore(1)\n\
         Wants=network-online.target\n\
         After=network-online.target\n\
         \n\
         [Service]\n\
         Type=oneshot\n\
         RemainAfterExit=yes\n\
         ExecStart={start}\n\
         ExecStop={stop}\n\
         KillMode=process\n\
         TimeoutStartSec=infinity\n\
         TimeoutStopSec=120\n\
         Delegate=yes\n\
         \n\
         [Install]\n\
         WantedBy={wanted_by}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_starts_what_runs_and_stops_all_with_the_host() {
        let unit = unit(Path::new("/opt/a b/ignite"), Path::new("/my $data"), true);
        for line in [
            "ExecStart=\"/opt/a b/ignite\" --data-dir \"/my $$data\" restore\n",
            "ExecStop=\"/opt/a b/ignite\" --data-dir \"/my $$data\" stop --all --host-shutdown\n",
            "WantedBy=default.target\n",
        ] {
            assert!(unit.contains(line), "{unit}");
        }
    }
}
