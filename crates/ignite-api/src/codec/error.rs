//! Why a manifest cannot be read, with the place it is about.

/// A manifest that cannot be read.
///
/// Its text is one line of bounded length and free of control characters, whatever the manifest holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeError {
    /// Line, counted from 1; 0: not about one line.
    pub line: u64,
    /// Column in characters, counted from 1; 0: not about one column.
    pub column: u64,
    /// Field, e.g. `spec.network.ports[0].hostPort`; empty: not about one field.
    pub path: String,
    /// What is wrong.
    pub problem: DecodeProblem,
}

/// What is wrong with a manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeProblem {
    /// The input is larger than it may be.
    #[error("it is larger than {limit} bytes")]
    TooLarge {
        /// Largest input.
        limit: usize,
    },
    /// The input is not UTF-8.
    #[error("it is not UTF-8 text")]
    NotText,
    /// There are more documents than there may be.
    #[error("it has more than {limit} documents")]
    TooManyDocuments {
        /// Most documents.
        limit: usize,
    },
    /// One object is expected and there is none.
    #[error("it holds no object: apiVersion and kind are expected")]
    NoDocument,
    /// One object is expected and there are more.
    #[error("one object is expected, and here a second one begins")]
    SeveralDocuments,
    /// Nesting or the number of nodes, comments, anchors or aliases is beyond what a manifest needs.
    #[error("it has too many parts, too many aliases or too deep a nesting")]
    TooComplex,
    /// The text is neither YAML nor JSON.
    #[error("invalid syntax: {message}")]
    Syntax {
        /// What the parser says.
        message: String,
    },
    /// A mandatory field is absent.
    #[error("required field `{field}` is missing")]
    MissingField {
        /// The field.
        field: &'static str,
    },
    /// No such field; what is known there.
    #[error("unknown field `{field}`{}", suggest(nearest, known))]
    UnknownField {
        /// The field.
        field: String,
        /// Known field that looks like it.
        nearest: Option<&'static str>,
        /// Every field that is known there.
        known: Vec<&'static str>,
    },
    /// A field is there twice.
    #[error("field `{field}` is there twice")]
    DuplicateField {
        /// The field.
        field: String,
    },
    /// None of the values the field can have.
    #[error("unknown value `{value}`{}", suggest(nearest, known))]
    UnknownValue {
        /// The value.
        value: String,
        /// Known value that looks like it.
        nearest: Option<&'static str>,
        /// Every known value.
        known: Vec<&'static str>,
    },
    /// The value has another type or is not valid by itself.
    #[error("{message}")]
    InvalidValue {
        /// What is expected.
        message: String,
    },
    /// An object of another kind is expected.
    #[error("a {expected} is expected, this is a {found}")]
    UnexpectedKind {
        /// What is expected.
        expected: &'static str,
        /// What is there.
        found: &'static str,
    },
}

impl std::error::Error for DecodeError {}

impl std::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.line, self.column) {
            (0, _) => {}
            (line, 0) => write!(f, "line {line}: ")?,
            (line, column) => write!(f, "line {line}, column {column}: ")?,
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        write!(f, "{}", self.problem)
    }
}

impl DecodeError {
    pub(super) fn whole(problem: DecodeProblem) -> DecodeError {
        DecodeError::at(0, 0, "", problem)
    }

    pub(super) fn at(line: u64, column: u64, path: &str, problem: DecodeProblem) -> DecodeError {
        DecodeError { line, column, path: printable(path), problem }
    }
}

fn suggest(nearest: &Option<&'static str>, known: &[&'static str]) -> String {
    match nearest {
        Some(nearest) => format!("; did you mean `{nearest}`?"),
        None if known.is_empty() => String::new(),
        None => format!("; known here: {}", known.join(", ")),
    }
}

/// The known word that `word` most probably stands for.
pub(super) fn nearest(word: &str, known: &[&'static str]) -> Option<&'static str> {
    // Comparing is quadratic, and what is longer than this resembles no field.
    if word.len() > 64 {
        return None;
    }
    let lower = word.to_lowercase();
    let distance = |candidate: &str| strsim::damerau_levenshtein(&lower, &candidate.to_lowercase());
    let best = known.iter().map(|candidate| (distance(candidate), *candidate)).min()?;
    (best.0 <= word.chars().count().div_ceil(3)).then_some(best.1)
}

/// Foreign text for one line of a terminal: control characters escaped, at most 200 characters.
pub(super) fn printable(text: &str) -> String {
    let mut out = String::new();
    for (index, c) in text.chars().enumerate() {
        if index == 200 {
            out.push('…');
            break;
        }
        // Bidirectional and other format characters can make a line look like another one.
        let is_format =
            matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
        match c.is_control() || is_format {
            true => out.extend(c.escape_unicode()),
            false => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_close_or_absent() {
        let known = ["cpus", "memory", "diskSize", "copyFiles", "command", "env"];
        for (word, expected) in [
            ("cpu", Some("cpus")),
            ("CPUs", Some("cpus")),
            ("memroy", Some("memory")),
            ("disksize", Some("diskSize")),
            ("disk_size", Some("diskSize")),
            ("comand", Some("command")),
            ("env", Some("env")),
            ("replicas", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, &known), expected, "{word}");
        }
        assert_eq!(nearest(&"c".repeat(1 << 20), &known), None);
    }

    #[test]
    fn foreign_text_cannot_drive_a_terminal() {
        assert_eq!(printable("a\u{1b}[31m\n\u{202e}"), "a\\u{1b}[31m\\u{a}\\u{202e}");
        assert_eq!(printable(&"x".repeat(1000)).chars().count(), 201);
    }
}
