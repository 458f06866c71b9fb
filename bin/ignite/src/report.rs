//! Errors as people read them, and the exit codes that scripts read.
//!
//! ```text
//! error: could not pull redis:7
//!   caused by: registry answered 401
//! hint: log in with `ignite login`
//! ```

use crate::render::text::sanitize;
use crate::signals::Interrupted;
use anstyle::{AnsiColor, Style};
use ignite_api::error_chain::distinct_messages;
use ignite_engine::EngineError;
use std::io::{self, Write};

/// Any error but those below.
const FAILURE: u8 = 1;
/// Unknown command, flag or value.
const USAGE: u8 = 2;
/// `run` or `exec` failed before the command was started, as in Docker.
const BEFORE_COMMAND: u8 = 125;
/// The reader of our output has left: 128 + SIGPIPE.
const OUTPUT_CLOSED: u8 = 141;

const ERROR: Style = AnsiColor::Red.on_default().bold();
const WARNING: Style = AnsiColor::Yellow.on_default().bold();
const HINT: Style = AnsiColor::Cyan.on_default().bold();

/// Which command failed, as far as its exit code depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// `run`: its exit code is the task's.
    Run,
    /// `exec`: its exit code is the command's.
    Exec,
    /// Any other.
    Other,
}

/// An error of ours with the next command to type.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Hinted {
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

/// What a user asked for cannot be meant; the exit code is that of a usage error.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// Some of several objects failed; each was reported where it happened.
#[derive(Debug, thiserror::Error)]
#[error("some objects failed")]
pub struct SomeFailed;

/// Prints clap's message (or help, or version) and answers the exit code.
pub fn usage(error: &clap::Error, caller: Caller) -> u8 {
    let printed = error.print();
    match (error.use_stderr(), printed) {
        (true, _) => usage_code(caller),
        (false, Ok(())) => 0,
        (false, Err(_)) => OUTPUT_CLOSED,
    }
}

fn usage_code(caller: Caller) -> u8 {
    match caller {
        Caller::Run | Caller::Exec => BEFORE_COMMAND,
        Caller::Other => USAGE,
    }
}

/// Prints why a command failed, where that is news, and answers the exit code.
pub fn failure(error: &anyhow::Error, caller: Caller) -> u8 {
    let is_known = error.is::<Interrupted>() || error.is::<SomeFailed>() || is_output_closed(error);
    if !is_known {
        print(error);
    }
    failure_code(error, caller)
}

fn failure_code(error: &anyhow::Error, caller: Caller) -> u8 {
    if let Some(interrupted) = error.downcast_ref::<Interrupted>() {
        return interrupted.exit_code();
    }
    if is_output_closed(error) {
        return OUTPUT_CLOSED;
    }
    if error.is::<UsageError>() {
        return usage_code(caller);
    }
    match caller {
        Caller::Run | Caller::Exec => {
            error.downcast_ref::<EngineError>().map_or(BEFORE_COMMAND, EngineError::exit_code)
        }
        Caller::Other => FAILURE,
    }
}

/// Prints an error, its causes and its hint.
pub fn print(error: &anyhow::Error) {
    let mut err = anstream::stderr().lock();
    // Nothing is left to do when standard error is gone.
    let _ = write_error(&mut err, error);
}

/// A line for people that is no error.
pub fn note(text: &str) {
    let _ = writeln!(anstream::stderr(), "{}", sanitize(text));
}

/// The same, on a line of its own where a terminal's cursor may stand behind a prompt of the guest.
pub fn note_after_session(text: &str) {
    let _ = writeln!(anstream::stderr(), "\n{}", sanitize(text));
}

/// A line for people about something that may be wrong.
pub fn warning(text: &str) {
    let _ = writeln!(anstream::stderr(), "{WARNING}warning:{WARNING:#} {}", sanitize(text));
}

fn write_error(out: &mut impl Write, error: &anyhow::Error) -> io::Result<()> {
    let messages = distinct_messages(error.as_ref());
    for (depth, message) in messages.iter().enumerate() {
        let message = indent(&sanitize_lines(message), if depth == 0 { "  " } else { "    " });
        match depth {
            0 => writeln!(out, "{ERROR}error:{ERROR:#} {message}")?,
            _ => writeln!(out, "  caused by: {message}")?,
        }
    }
    if let Some(hint) = hint_of(error) {
        writeln!(out, "{HINT}hint:{HINT:#} {}", indent(&sanitize_lines(&hint), "      "))?;
    }
    Ok(())
}

fn hint_of(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(|cause| {
        let own = cause.downcast_ref::<Hinted>().map(|hinted| hinted.hint.clone());
        own.or_else(|| cause.downcast_ref::<EngineError>().and_then(EngineError::hint))
    })
}

fn is_output_closed(error: &anyhow::Error) -> bool {
    // Only our own writes fail with a bare io::Error; the engine's are wrapped in its error.
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn sanitize_lines(text: &str) -> String {
    text.lines().map(sanitize).collect::<Vec<_>>().join("\n")
}

fn indent(text: &str, by: &str) -> String {
    text.replace('\n', &format!("\n{by}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    fn rendered(error: &anyhow::Error) -> String {
        let mut out = anstream::StripStream::new(Vec::new());
        write_error(&mut out, error).unwrap();
        String::from_utf8(out.into_inner()).unwrap()
    }

    #[test]
    fn a_chain_is_printed_without_repetition_and_with_its_hint() {
        let root = Hinted { message: "connection refused".into(), hint: "start the registry".into() };
        let error = Err::<(), _>(root)
            .context("reading the manifest: connection refused")
            .context("could not pull redis:7")
            .unwrap_err();
        assert_eq!(
            rendered(&error),
            "error: could not pull redis:7\n  caused by: reading the manifest: connection refused\nhint: start the registry\n"
        );
    }

    #[test]
    fn control_characters_of_foreign_text_are_not_printed_raw() {
        let error = anyhow::anyhow!("registry says \u{1b}[2J\u{7}boo\nsecond line");
        assert_eq!(rendered(&error), "error: registry says \\u{1b}[2J\\u{7}boo\n  second line\n");
    }

    #[test]
    fn exit_codes_are_those_of_docker_before_a_command_runs() {
        let error = anyhow::Error::new(UsageError("bad".into()));
        for (caller, code) in [(Caller::Run, 125), (Caller::Exec, 125), (Caller::Other, 2)] {
            assert_eq!(failure_code(&error, caller), code, "{caller:?}");
        }
        let error = anyhow::anyhow!("no such image");
        for (caller, code) in [(Caller::Run, 125), (Caller::Exec, 125), (Caller::Other, 1)] {
            assert_eq!(failure_code(&error, caller), code, "{caller:?}");
        }
        assert_eq!(failure_code(&Interrupted { signal: 2 }.into(), Caller::Run), 130);
        assert_eq!(failure_code(&io::Error::from(io::ErrorKind::BrokenPipe).into(), Caller::Other), 141);
    }
}
