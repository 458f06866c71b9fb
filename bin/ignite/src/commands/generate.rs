//! `ignite generate`: files for other programs.

use crate::commands::print;
use crate::context::Context;
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
    let quoted = |path: &Path| {
        format!("\"{}\"", path.display().to_string().replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%"))
    };
    let (program, data_dir) = (quoted(program), quoted(data_dir));
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
         ExecStart={program} --data-dir {data_dir} restore\n\
         ExecStop={program} --data-dir {data_dir} stop --all --host-shutdown\n\
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
    fn paths_stay_words_of_systemd() {
        let unit = unit(Path::new("/opt/a b/ignite"), Path::new("/100%/\"x\""), true);
        assert!(unit.contains("ExecStart=\"/opt/a b/ignite\" --data-dir \"/100%%/\\\"x\\\"\" restore\n"), "{unit}");
        assert!(unit.ends_with("WantedBy=default.target\n"), "{unit}");
    }
}
