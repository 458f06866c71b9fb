//! How a command ended, and the expectations a test has of it.

use std::fmt;
use std::time::Duration;

/// How a command ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// What was typed.
    pub command: String,
    /// The exit code; 128 + signal when a signal ended it.
    pub code: i32,
    /// Standard output; of a terminal, everything it showed.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
    /// Wall time.
    pub took: Duration,
}

impl Outcome {
    /// Exit code 0.
    #[track_caller]
    pub fn succeeds(&self) -> &Self {
        self.exits(0)
    }

    /// This exit code.
    #[track_caller]
    pub fn exits(&self, code: i32) -> &Self {
        self.expect(self.code == code, format_args!("exit code {code}"))
    }

    /// Any exit code but 0.
    #[track_caller]
    pub fn fails(&self) -> &Self {
        self.expect(self.code != 0, format_args!("a failure"))
    }

    /// Exactly this on standard output.
    #[track_caller]
    pub fn prints(&self, text: &str) -> &Self {
        self.expect(self.stdout == text.as_bytes(), format_args!("exactly {text:?} on standard output"))
    }

    /// This somewhere on standard output.
    #[track_caller]
    pub fn says(&self, text: &str) -> &Self {
        self.expect(self.text().contains(text), format_args!("{text:?} on standard output"))
    }

    /// This nowhere on standard output.
    #[track_caller]
    pub fn does_not_say(&self, text: &str) -> &Self {
        self.expect(!self.text().contains(text), format_args!("no {text:?} on standard output"))
    }

    /// This somewhere on standard error.
    #[track_caller]
    pub fn complains(&self, text: &str) -> &Self {
        self.expect(self.errors().contains(text), format_args!("{text:?} on standard error"))
    }

    /// A failure that is explained: an error, and the next thing to type.
    #[track_caller]
    pub fn gives_a_hint(&self) -> &Self {
        self.fails().complains("hint:")
    }

    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard output without white space around it.
    pub fn line(&self) -> String {
        self.text().trim().to_string()
    }

    /// Standard error as text.
    pub fn errors(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|error| panic!("expected JSON ({error}) of {self}"))
    }

    #[track_caller]
    fn expect(&self, is_met: bool, what: fmt::Arguments<'_>) -> &Self {
        assert!(is_met, "expected {what} of {self}");
        self
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`, which exited with {} after {:.1} s", self.command, self.code, self.took.as_secs_f64())?;
        write_stream(f, "stdout", &self.stdout)?;
        write_stream(f, "stderr", &self.stderr)
    }
}

const MOST_SHOWN: usize = 4000;

fn write_stream(f: &mut fmt::Formatter<'_>, name: &str, bytes: &[u8]) -> fmt::Result {
    if bytes.is_empty() {
        return Ok(());
    }
    let shown = &bytes[bytes.len().saturating_sub(MOST_SHOWN)..];
    let cut = if shown.len() < bytes.len() { " (its end)" } else { "" };
    write!(f, "\n--- {name}{cut}:\n{}", String::from_utf8_lossy(shown).trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(code: i32, stdout: &str, stderr: &str) -> Outcome {
        Outcome {
            command: "ignite run".into(),
            code,
            stdout: stdout.into(),
            stderr: stderr.into(),
            took: Duration::from_secs(1),
        }
    }

    #[test]
    fn met_expectations_chain() {
        outcome(125, "", "error: no such image\nhint: type this\n").exits(125).prints("").gives_a_hint();
    }

    #[test]
    fn an_unmet_expectation_shows_the_command_and_its_output() {
        let panic = std::panic::catch_unwind(|| {
            outcome(1, "out", "err").succeeds();
        })
        .expect_err("exit code 1 is no success");
        let message = panic.downcast_ref::<String>().expect("a message");
        for part in ["exit code 0", "`ignite run`", "exited with 1", "out", "err"] {
            assert!(message.contains(part), "{part:?} is missing in {message}");
        }
    }
}
