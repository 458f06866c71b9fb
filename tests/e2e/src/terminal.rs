//! A command on a terminal: something types, something looks at the screen.

use crate::invocation::{Collector, Invocation, exit_code, shown, wait_for_exit};
use crate::outcome::Outcome;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::Child;
use std::time::{Duration, Instant};

/// A command that runs on a terminal of its own; it is killed when it is dropped unfinished.
#[derive(Debug)]
pub struct Terminal {
    child: Child,
    master: File,
    screen: Collector,
    /// How much of the screen's text earlier expectations have used up.
    seen: usize,
    shown: String,
    limit: Duration,
    started: Instant,
}

impl Terminal {
    /// Starts `invocation` on a terminal of 24 lines and 80 columns, as leader of a session of its own.
    #[track_caller]
    pub fn open(invocation: Invocation) -> Terminal {
        let (mut command, limit) = invocation.env("TERM", "xterm").into_command();
        let shown = shown(&command);
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("open a pty");
        grantpt(&master).expect("grant a pty");
        unlockpt(&master).expect("unlock a pty");
        let name = ptsname(&master, Vec::new()).expect("name of a pty").into_string().expect("pty names are ASCII");
        let slave = OpenOptions::new().read(true).write(true).open(name).expect("open the pty's other end");
        set_size(&master, 24, 80);

        let end = || slave.try_clone().expect("clone a descriptor");
        command.stdin(end()).stdout(end()).stderr(end());
        // SAFETY: between fork and exec only async-signal-safe system calls are made, on the child's own state.
        unsafe {
            command.pre_exec(|| {
                // A shell starts its background jobs with the keys' signals ignored, and the tests may be one.
                for signal in [libc::SIGINT, libc::SIGQUIT] {
                    libc::signal(signal, libc::SIG_DFL);
                }
                rustix::process::setsid()?;
                rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
                Ok(())
            });
        }
        let child = command.spawn().unwrap_or_else(|error| panic!("start `{shown}`: {error}"));
        // The command holds the other end's copies; they go with it, and then reading the master ends.
        drop(command);
        drop(slave);
        let master = File::from(master);
        let screen = Collector::of(master.try_clone().expect("clone a descriptor"));
        Terminal { child, master, screen, seen: 0, shown, limit, started: Instant::now() }
    }

    /// Waits until `text` appears after everything that was expected before.
    #[track_caller]
    pub fn shows(&mut self, text: &str) -> &mut Self {
        let what = format!("{text:?} on the terminal of `{}`", self.shown);
        let started = Instant::now();
        let end = loop {
            // Asked before the screen is looked at, so that nothing it still showed is missed.
            let is_over = self.screen.is_finished();
            if let Some(at) = self.screen.find(text, self.seen) {
                break at + text.len();
            }
            let screen = self.screen.text();
            assert!(!is_over, "`{}` ended without {text:?}; it showed:\n{screen}", self.shown);
            assert!(started.elapsed() < self.limit, "waited in vain for {what}; it showed:\n{screen}");
            std::thread::sleep(Duration::from_millis(20));
        };
        self.seen = end;
        self
    }

    /// Types, byte by byte as written: `\r` is Enter, `\x03` is Ctrl-C.
    #[track_caller]
    pub fn types(&mut self, keys: &str) -> &mut Self {
        self.master.write_all(keys.as_bytes()).expect("type on the terminal");
        self
    }

    /// Changes the window's size.
    pub fn resizes(&mut self, rows: u16, cols: u16) -> &mut Self {
        set_size(&self.master, rows, cols);
        self
    }

    /// Waits for the end; standard output of the outcome is all that was shown.
    #[track_caller]
    pub fn finish(mut self) -> Outcome {
        let left = self.limit.saturating_sub(self.started.elapsed());
        let Some(status) = wait_for_exit(&mut self.child, left) else {
            let screen = self.screen.text();
            panic!("`{}` took longer than {} s; it showed:\n{screen}", self.shown, self.limit.as_secs());
        };
        Outcome {
            command: self.shown.clone(),
            code: exit_code(status),
            stdout: self.screen.finish(&self.shown),
            stderr: Vec::new(),
            took: self.started.elapsed(),
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn set_size(master: &impl std::os::fd::AsFd, rows: u16, cols: u16) {
    let size = Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(master, size).expect("set the window's size");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_on_a_terminal_sees_its_size_keys_and_ctrl_c() {
        let invocation = Invocation::new("sh").env("PS1", "$ ").within(Duration::from_secs(20));
        let mut terminal = Terminal::open(invocation);
        terminal.types("stty size\r").shows("24 80");
        terminal.resizes(31, 99).types("stty size\r").shows("31 99");
        terminal.types("cat\r").types("x\r").shows("x\r\nx\r\n").types("\x03").shows("^C");
        terminal.types("echo after=$?\r").shows("after=130");
        terminal.types("exit 5\r");
        terminal.finish().exits(5);
    }
}
