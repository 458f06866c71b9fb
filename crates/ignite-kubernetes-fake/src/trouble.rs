//! What a test does to requests.

use std::time::Duration;

/// What happens to a request instead of what it asks for, or beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// It is answered with this HTTP status, and nothing is done.
    Refused {
        /// The HTTP status.
        code: u16,
        /// Seconds in the header `Retry-After`.
        retry_after: Option<u64>,
    },
    /// It is done, and the answer is this HTTP status all the same: the good news is lost.
    DoneButRefused {
        /// The HTTP status.
        code: u16,
    },
    /// It is done and answered, this much later.
    Late(Duration),
    /// It is never answered, and nothing is done.
    Silent,
    /// The connection breaks, and nothing is done.
    Unreachable,
}

impl Trouble {
    /// Answered with this HTTP status, and nothing done.
    pub fn refused(code: u16) -> Trouble {
        Trouble::Refused { code, retry_after: None }
    }
}
