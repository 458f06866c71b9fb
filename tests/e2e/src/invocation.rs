//! One call of a program: its arguments, what it reads, how long it may take.

use crate::outcome::Outcome;
use crate::processes;
use crate::wait::{BOOT, until};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};
use rustix::time::Timespec;
use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A call that has not been made yet.
#[derive(Debug)]
pub struct Invocation {
    command: Command,
    stdin: Option<Vec<u8>>,
    limit: Duration,
}

impl Invocation {
    /// A call of `program` with an empty standard input.
    pub fn new(program: impl AsRef<OsStr>) -> Invocation {
        Invocation { command: Command::new(program), stdin: None, limit: BOOT }
    }

    /// Adds arguments.
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Invocation {
        self.command.args(args);
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Invocation {
        self.command.env(name, value);
        self
    }

    /// What it reads, followed by the end of the file.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Invocation {
        self.stdin = Some(bytes.into());
        self
    }

    /// How long it may take; without this, as long as a slow boot.
    pub fn within(mut self, limit: Duration) -> Invocation {
        self.limit = limit;
        self
    }

    /// Makes the call and waits for its end.
    #[track_caller]
    pub fn finish(self) -> Outcome {
        self.start().finish()
    }

    /// Makes the call.
    #[track_caller]
    pub fn start(mut self) -> Running {
        let shown = shown(&self.command);
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        self.command.stdin(if self.stdin.is_some() { Stdio::piped() } else { Stdio::null() });
        let mut child = self.command.spawn().unwrap_or_else(|error| panic!("start `{shown}`: {error}"));
        let feeder = self.stdin.map(|bytes| {
            let mut pipe = child.stdin.take().expect("stdin is piped");
            // A program that ends before it has read everything is judged by its exit code, not by our EPIPE.
            std::thread::spawn(move || drop(pipe.write_all(&bytes)))
        });
        Running {
            stdout: Collector::of(child.stdout.take().expect("stdout is piped")),
            stderr: Collector::of(child.stderr.take().expect("stderr is piped")),
            child,
            feeder,
            shown,
            limit: self.limit,
            started: Instant::now(),
        }
    }

    /// The command, for those who start it otherwise (on a terminal).
    pub(crate) fn into_command(self) -> (Command, Duration) {
        (self.command, self.limit)
    }
}

/// A call that is being carried out; it is killed when it is dropped unfinished.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdout: Collector,
    stderr: Collector,
    feeder: Option<JoinHandle<()>>,
    shown: String,
    limit: Duration,
    started: Instant,
}

impl Running {
    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until standard output holds `text`.
    #[track_caller]
    pub fn prints_sometime(&mut self, text: &str) -> &mut Self {
        let what = format!("{text:?} on standard output of `{}`", self.shown);
        until(&what, self.limit, || {
            // Asked before the output is looked at, so that nothing it still printed is missed.
            let is_over = self.stdout.is_finished();
            let is_found = self.stdout.find(text, 0).is_some();
            assert!(
                is_found || !is_over,
                "`{}` ended without {text:?}: {}{}",
                self.shown,
                self.stdout.text(),
                self.stderr.text()
            );
            is_found.then_some(())
        });
        self
    }

    /// Sends it a signal.
    pub fn signal(&mut self, signal: Signal) -> &mut Self {
        processes::signal(self.pid(), signal);
        self
    }

    /// `kill -9`, and it is gone.
    pub fn kill_now(mut self) {
        self.signal(Signal::KILL);
        let _ = self.child.wait();
    }

    /// True until it has ended.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for the end.
    #[track_caller]
    pub fn finish(mut self) -> Outcome {
        let left = self.limit.saturating_sub(self.started.elapsed());
        let Some(status) = wait_for_exit(&mut self.child, left) else {
            let _ = self.child.kill();
            let _ = self.child.wait();
            panic!(
                "`{}` took longer than {} s; until then it printed:\n{}\n{}",
                self.shown,
                self.limit.as_secs(),
                self.stdout.text(),
                self.stderr.text()
            );
        };
        if let Some(feeder) = self.feeder.take() {
            let _ = feeder.join();
        }
        Outcome {
            command: self.shown.clone(),
            code: exit_code(status),
            stdout: self.stdout.finish(&self.shown),
            stderr: self.stderr.finish(&self.shown),
            took: self.started.elapsed(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.is_running() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Waits for a child's end for at most `limit`; absent: it still runs.
pub(crate) fn wait_for_exit(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    if let Ok(Some(status)) = child.try_wait() {
        return Some(status);
    }
    let pid = Pid::from_child(child);
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).expect("pidfd of an unreaped child");
    let timeout = Timespec { tv_sec: limit.as_secs().try_into().unwrap_or(i64::MAX), tv_nsec: 0 };
    let ended = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout)).is_ok_and(|ready| ready > 0);
    ended.then(|| child.wait().expect("wait for a child that has ended"))
}

/// As a shell shows it.
pub(crate) fn exit_code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}

/// The command as it would be typed.
pub(crate) fn shown(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program()).file_name().unwrap_or_default().to_os_string();
    let words: Vec<OsString> = std::iter::once(program).chain(command.get_args().map(OsStr::to_os_string)).collect();
    words.iter().map(|word| quoted(&word.to_string_lossy())).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &str) -> String {
    let is_plain = !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_./:=@,%+".contains(c));
    if is_plain { word.to_string() } else { format!("'{word}'") }
}

/// Reads a stream to its end in a thread, and can be looked at meanwhile.
#[derive(Debug)]
pub(crate) struct Collector {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Collector {
    pub(crate) fn of(mut stream: impl Read + Send + 'static) -> Collector {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&bytes);
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 16 * 1024];
            // A pty says EIO when its last user is gone: the end, like 0.
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                shared.lock().expect("no holder panics").extend_from_slice(&buffer[..count]);
            }
        });
        Collector { bytes, reader: Some(reader) }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().expect("no holder panics")).into_owned()
    }

    /// Where `text` begins at or after `start`.
    pub(crate) fn find(&self, text: &str, start: usize) -> Option<usize> {
        let bytes = self.bytes.lock().expect("no holder panics");
        bytes[start..].windows(text.len()).position(|window| window == text.as_bytes()).map(|at| start + at)
    }

    /// The stream has ended, and all of it has been read.
    pub(crate) fn is_finished(&self) -> bool {
        self.reader.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Everything that was read. A process that has ended but whose output is held open by a child it left behind is an
    /// error: callers of `$(ignite run -d ...)` would hang.
    #[track_caller]
    pub(crate) fn finish(&mut self, whose: &str) -> Vec<u8> {
        let reader = self.reader.take().expect("finished once");
        until(&format!("the end of the output of `{whose}`, which has exited"), Duration::from_secs(10), || {
            reader.is_finished().then_some(())
        });
        self.bytes.lock().expect("no holder panics").clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::AssertUnwindSafe;

    fn sh(script: &str) -> Invocation {
        Invocation::new("sh").args(["-c", script]).within(Duration::from_secs(20))
    }

    #[test]
    fn stdin_goes_in_and_both_outputs_come_out() {
        sh("cat; echo oops >&2; exit 7").stdin("hi\n").finish().exits(7).prints("hi\n").complains("oops");
    }

    #[test]
    fn a_signal_is_shown_as_a_shell_shows_it() {
        sh("kill -9 $$").finish().exits(137);
    }

    #[test]
    fn output_can_be_awaited_while_the_command_runs() {
        let mut running = sh("echo ready; read line; echo $line").stdin("done\n").start();
        running.prints_sometime("ready");
        running.finish().prints("ready\ndone\n");
    }

    #[test]
    fn a_command_that_takes_too_long_is_killed_and_named() {
        let running = Invocation::new("sleep").args(["1000"]).within(Duration::from_secs(1)).start();
        let pid = running.pid();
        let panic = std::panic::catch_unwind(AssertUnwindSafe(|| running.finish())).expect_err("it cannot finish");
        assert!(panic.downcast_ref::<String>().is_some_and(|m| m.contains("`sleep 1000` took longer than 1 s")));
        assert!(!processes::is_alive(pid));
    }
}
