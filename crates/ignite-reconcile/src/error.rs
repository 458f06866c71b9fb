//! What is wrong with a part of what is wanted; the rest goes on without it.

/// Something in a set that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", place(.file, .line))]
pub struct LoadProblem {
    /// File, relative to the set's root; empty: the root itself.
    pub file: String,
    /// Line, counted from 1; absent: not about one line.
    pub line: Option<u64>,
    /// What is wrong, without control characters.
    pub message: String,
}

fn place(file: &str, line: &Option<u64>) -> String {
    match (file, line) {
        ("", _) => String::new(),
        (file, Some(line)) => format!("{file}:{line}: "),
        (file, None) => format!("{file}: "),
    }
}
