//! The local terminal: its size, and raw mode that is left on every way out.

use ignite_agent_protocol::message::WindowSize;
use rustix::termios::{self, LocalModes, OptionalActions, Termios};
use std::io::{self, IsTerminal};
use std::sync::Mutex;

/// Settings the terminal had before raw mode; absent: it is not raw.
static ORIGINAL: Mutex<Option<Termios>> = Mutex::new(None);

/// Raw mode of standard input's terminal while this lives.
#[derive(Debug)]
pub struct RawMode(());

impl RawMode {
    /// Enters raw mode: every key goes to the guest, none to our own line discipline.
    pub fn enter() -> io::Result<RawMode> {
        change(OptionalActions::Now, Termios::make_raw)?;
        Ok(RawMode(()))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        restore();
    }
}

/// What is typed at standard input's terminal is not shown while this lives.
#[derive(Debug)]
pub struct NoEcho(());

impl NoEcho {
    /// Stops showing; the end of a line still goes to the reader.
    pub fn enter() -> io::Result<NoEcho> {
        change(OptionalActions::Flush, |termios| termios.local_modes.remove(LocalModes::ECHO))?;
        Ok(NoEcho(()))
    }
}

impl Drop for NoEcho {
    fn drop(&mut self) {
        restore();
    }
}

/// While this lives, a typed Ctrl-C is not shown as `^C`, which would push what is drawn out of its place.
#[derive(Debug)]
pub struct HiddenKeys(());

impl HiddenKeys {
    /// Absent where standard input is no terminal of ours: a job in the background would be stopped for touching it.
    pub fn enter() -> Option<HiddenKeys> {
        let stdin = io::stdin();
        let foreground = termios::tcgetpgrp(&stdin).ok()?;
        let mut termios = termios::tcgetattr(&stdin).ok()?;
        if foreground != rustix::process::getpgrp() || !termios.local_modes.contains(LocalModes::ECHOCTL) {
            return None;
        }
        termios.local_modes.remove(LocalModes::ECHOCTL);
        termios::tcsetattr(&stdin, OptionalActions::Now, &termios).ok()?;
        Some(HiddenKeys(()))
    }
}

impl Drop for HiddenKeys {
    fn drop(&mut self) {
        let stdin = io::stdin();
        if let Ok(mut termios) = termios::tcgetattr(&stdin) {
            termios.local_modes.insert(LocalModes::ECHOCTL);
            let _ = termios::tcsetattr(&stdin, OptionalActions::Now, &termios);
        }
    }
}

/// Leaves raw mode before a panic is reported: a release build aborts without running destructors.
pub fn restore_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        restore();
        report(info);
    }));
}

/// Size of the terminal we show things on, if there is one.
pub fn size() -> Option<WindowSize> {
    let of_stdout = termios::tcgetwinsize(io::stdout());
    let size = of_stdout.or_else(|_| termios::tcgetwinsize(io::stdin())).ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some(WindowSize { rows: size.ws_row, cols: size.ws_col })
}

/// True when keys are typed on standard input.
pub fn stdin_is_terminal() -> bool {
    io::stdin().is_terminal()
}

/// Changes the settings of standard input's terminal; [`restore`] undoes that.
fn change(when: OptionalActions, by: impl FnOnce(&mut Termios)) -> io::Result<()> {
    let stdin = io::stdin();
    let original = termios::tcgetattr(&stdin)?;
    let mut changed = original.clone();
    by(&mut changed);
    // First: a panic may come between.
    *lock() = Some(original);
    termios::tcsetattr(&stdin, when, &changed).inspect_err(|_| restore())?;
    Ok(())
}

fn restore() {
    if let Some(original) = lock().take() {
        // Drain: the last output of the guest is shown under the settings it was meant for.
        let _ = termios::tcsetattr(io::stdin(), OptionalActions::Drain, &original);
    }
}

fn lock() -> std::sync::MutexGuard<'static, Option<Termios>> {
    ORIGINAL.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
