//! What can fail between the kernel's hand-over and the guest's readiness.

use std::io;
use thiserror::Error;

/// A failed operation of the set-up.
#[derive(Debug, Error)]
pub enum SetupError {
    /// A system call on something.
    #[error("{doing}: {source}")]
    Os {
        /// What was being done, and to what.
        doing: String,
        /// Why it failed.
        source: io::Error,
    },
    /// A device that never appeared.
    #[error("{what} did not appear within {seconds} s")]
    Missing {
        /// The device.
        what: String,
        /// The deadline.
        seconds: u64,
    },
    /// A value of `Configure` that is not what it should be.
    #[error("{what} {value:?} is not valid")]
    Invalid {
        /// What the value is.
        what: &'static str,
        /// The value.
        value: String,
    },
    /// The kernel refused a network setting.
    #[error("{doing}: {source}")]
    Network {
        /// Interface and setting.
        doing: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The task or init could not be started.
    #[error(transparent)]
    Launch(#[from] LaunchError),
}

impl SetupError {
    /// Docker's exit code for it.
    pub fn exit_code(&self) -> u8 {
        match self {
            SetupError::Launch(error) => error.exit_code(),
            SetupError::Os { .. }
            | SetupError::Missing { .. }
            | SetupError::Invalid { .. }
            | SetupError::Network { .. } => 125,
        }
    }
}

/// Why a process could not be started.
#[derive(Debug, Error)]
pub enum LaunchError {
    /// No arguments at all.
    #[error("no command given")]
    NoCommand,
    /// A string of the command holds a NUL byte.
    #[error("{0} contains a NUL byte")]
    Nul(&'static str),
    /// No such user.
    #[error("unable to find user {0}: no matching entries in passwd file")]
    NoUser(String),
    /// No such group.
    #[error("unable to find group {0}: no matching entries in group file")]
    NoGroup(String),
    /// A step before the program was executed.
    #[error("{doing}: {source}")]
    Prepare {
        /// The step.
        doing: String,
        /// Why it failed.
        source: io::Error,
    },
    /// Not in `PATH`, or no such file.
    #[error("exec: {0:?}: executable file not found")]
    NotFound(String),
    /// It exists and cannot be executed.
    #[error("exec: {program:?}: {source}")]
    NotExecutable {
        /// The program.
        program: String,
        /// Why it failed.
        source: io::Error,
    },
}

impl LaunchError {
    /// Docker's exit code for it.
    pub fn exit_code(&self) -> u8 {
        match self {
            LaunchError::NotFound(_) => 127,
            LaunchError::NotExecutable { .. } => 126,
            LaunchError::NoCommand
            | LaunchError::Nul(_)
            | LaunchError::NoUser(_)
            | LaunchError::NoGroup(_)
            | LaunchError::Prepare { .. } => 125,
        }
    }
}

/// Names the operation that an error belongs to.
pub trait Doing<T> {
    /// Turns the error into [`SetupError::Os`].
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, SetupError>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, SetupError> {
        self.map_err(|e| SetupError::Os { doing: what(), source: e.into() })
    }
}
