//! Ends the machine.

use crate::channel::Channel;
use crate::root::Disks;
use ignite_agent_protocol::message::ShutdownAction;
use std::path::Path;
use std::time::{Duration, Instant};

/// Time that processes have between SIGTERM and SIGKILL when the machine ends over their heads.
const TERM_GRACE: Duration = Duration::from_secs(2);
/// Time that killed processes have to go; one that hangs in the kernel is left behind.
const KILL_GRACE: Duration = Duration::from_secs(5);

/// How a machine's init is told to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InitRequest {
    /// Send PID 1 this signal.
    Signal(i32),
    /// Run this program.
    Program(&'static str),
    /// There is no init that could be asked.
    Nothing,
}

/// What is known of a machine's init.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InitKind {
    /// `/run/systemd/system` exists.
    Systemd,
    /// Its program is busybox.
    Busybox,
    /// Something else, with or without the usual programs.
    Other {
        /// `/sbin/poweroff` and `/sbin/reboot` are there.
        has_programs: bool,
    },
}

/// Decides how to tell this init.
///
/// Sources: systemd(1) "SIGNALS"; busybox `init/init.c` (SIGUSR2 powers off, SIGTERM reboots).
pub fn request(kind: InitKind, action: ShutdownAction) -> InitRequest {
    match (kind, action) {
        (InitKind::Systemd, ShutdownAction::Poweroff) => InitRequest::Signal(libc::SIGRTMIN() + 4),
        (InitKind::Systemd, ShutdownAction::Reboot) => InitRequest::Signal(libc::SIGRTMIN() + 5),
        (InitKind::Busybox, ShutdownAction::Poweroff) => InitRequest::Signal(libc::SIGUSR2),
        (InitKind::Busybox, ShutdownAction::Reboot) => InitRequest::Signal(libc::SIGTERM),
        (InitKind::Other { has_programs: true }, ShutdownAction::Poweroff) => InitRequest::Program("/sbin/poweroff"),
        (InitKind::Other { has_programs: true }, ShutdownAction::Reboot) => InitRequest::Program("/sbin/reboot"),
        (InitKind::Other { has_programs: false }, _) => InitRequest::Nothing,
    }
}

/// Looks what PID 1 is.
pub fn init_kind() -> InitKind {
    let exe = std::fs::read_link("/proc/1/exe").unwrap_or_default();
    if Path::new("/run/systemd/system").is_dir() {
        InitKind::Systemd
    } else if exe.file_name().is_some_and(|name| name == "busybox" || name == "busybox.static") {
        InitKind::Busybox
    } else {
        let has_programs = Path::new("/sbin/poweroff").exists() && Path::new("/sbin/reboot").exists();
        InitKind::Other { has_programs }
    }
}

/// Under Firecracker a guest ends its machine by a reset; a power-off would only halt it.
pub fn effective(action: ShutdownAction, channel: Option<&Channel>) -> ShutdownAction {
    if channel.is_some_and(Channel::is_vsock) { ShutdownAction::Reboot } else { action }
}

/// Kills every other process and waits, for a limited time, for those that are this process's children.
pub fn kill_everything(with_grace: bool) {
    // SAFETY: signals only; PID 1 and this process are spared.
    unsafe {
        if with_grace {
            libc::kill(-1, libc::SIGTERM);
            wait_for_children(TERM_GRACE);
        }
        libc::kill(-1, libc::SIGKILL);
    }
    wait_for_children(KILL_GRACE);
}

/// Waits until there is no child any more. SIGCHLD is blocked, so none is missed between looking and waiting.
fn wait_for_children(limit: Duration) {
    let deadline = Instant::now() + limit;
    while has_children() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        // SAFETY: the set is initialised and the time lives through the call.
        unsafe {
            let mut set = std::mem::zeroed();
            libc::sigemptyset(&mut set);
            libc::sigaddset(&mut set, libc::SIGCHLD);
            let wait = libc::timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
            libc::sigtimedwait(&set, std::ptr::null_mut(), &wait);
        }
    }
}

/// Reaps; whether a child is left.
fn has_children() -> bool {
    loop {
        // SAFETY: no status is asked for.
        match unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) } {
            0 => return true,
            -1 => return false,
            _ => {}
        }
    }
}

/// Writes everything to the disks and stops the machine. Does not return.
pub fn stop_machine(action: ShutdownAction, disks: &Disks) -> ! {
    // SAFETY: plain system calls.
    unsafe {
        libc::sync();
        disks.remount_read_only();
        let order = match action {
            ShutdownAction::Poweroff => [libc::RB_POWER_OFF, libc::RB_AUTOBOOT],
            ShutdownAction::Reboot => [libc::RB_AUTOBOOT, libc::RB_POWER_OFF],
        };
        for command in order {
            libc::reboot(command);
        }
        loop {
            libc::pause();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_init_is_told_in_its_own_way() {
        use ShutdownAction::{Poweroff, Reboot};
        let table = [
            (InitKind::Systemd, Poweroff, InitRequest::Signal(38)),
            (InitKind::Systemd, Reboot, InitRequest::Signal(39)),
            (InitKind::Busybox, Poweroff, InitRequest::Signal(12)),
            (InitKind::Busybox, Reboot, InitRequest::Signal(15)),
            (InitKind::Other { has_programs: true }, Poweroff, InitRequest::Program("/sbin/poweroff")),
            (InitKind::Other { has_programs: true }, Reboot, InitRequest::Program("/sbin/reboot")),
            (InitKind::Other { has_programs: false }, Poweroff, InitRequest::Nothing),
        ];
        for (kind, action, expected) in table {
            assert_eq!(request(kind, action), expected, "{kind:?} {action:?}");
        }
    }
}
