//! What can be wrong with a template, and where.

/// A template that cannot be read or rendered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("template, line {line}, column {column}: {problem}")]
pub struct TemplateError {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong there.
    pub problem: Problem,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The text is longer than [`crate::MAX_TEMPLATE_BYTES`].
    #[error("longer than {} bytes", crate::MAX_TEMPLATE_BYTES)]
    TooLong,
    /// Blocks or parentheses nest deeper than [`crate::MAX_DEPTH`].
    #[error("nested deeper than {}", crate::MAX_DEPTH)]
    TooDeep,
    /// The rendering takes more than [`crate::MAX_STEPS`] steps.
    #[error("more than {} steps", crate::MAX_STEPS)]
    TooManySteps,
    /// The result, or what was computed for it, is longer than [`crate::MAX_OUTPUT_BYTES`].
    #[error("output longer than {} bytes", crate::MAX_OUTPUT_BYTES)]
    TooMuchOutput,
    /// `{{` without `}}`.
    #[error("unclosed action: }}}} is missing")]
    UnclosedAction,
    /// `/*` without `*/}}`.
    #[error("unclosed comment: */}}}} is missing")]
    UnclosedComment,
    /// A text literal without its end.
    #[error("unterminated quoted string")]
    UnterminatedString,
    /// A character that means nothing here.
    #[error("unexpected {0:?}")]
    UnexpectedCharacter(char),
    /// A word that means nothing here.
    #[error("unexpected {found}; {expected} is expected")]
    Unexpected {
        /// What stands there.
        found: String,
        /// What should.
        expected: &'static str,
    },
    /// A number that is no whole number of 64 bits.
    #[error("bad number {0:?}: a whole number is expected")]
    BadNumber(String),
    /// An escape that Go does not know.
    #[error("unknown escape \\{0} in a quoted string")]
    BadEscape(char),
    /// `if`, `with` or `range` without `end`.
    #[error("{{{{{0}}}}} has no {{{{end}}}}")]
    MissingEnd(&'static str),
    /// No function has that name.
    #[error("function {name:?} not defined")]
    UnknownFunction {
        /// The name.
        name: String,
        /// The most similar name there is.
        nearest: Option<String>,
    },
    /// No variable has that name here.
    #[error("undefined variable {0:?}")]
    UnknownVariable(String),
    /// The object has no such field.
    #[error("can't find field {name:?}")]
    UnknownField {
        /// The name.
        name: String,
        /// The most similar field there is.
        nearest: Option<String>,
        /// All fields.
        fields: Vec<String>,
    },
    /// A field of something that has none.
    #[error("can't find field {name:?} in a value of type {kind}")]
    NoFields {
        /// The name.
        name: String,
        /// Type of the value.
        kind: &'static str,
    },
    /// Arguments behind something that takes none.
    #[error("arguments were given to something that is not a function")]
    NotAFunction,
    /// A function with too many or too few arguments.
    #[error("wrong number of arguments for {name}: {found}")]
    ArgumentCount {
        /// The function.
        name: String,
        /// How many there are.
        found: usize,
    },
    /// A function with an argument of a type it does not take.
    #[error("{name}: {expected} is expected, not a value of type {kind}")]
    ArgumentType {
        /// The function.
        name: String,
        /// What it takes.
        expected: &'static str,
        /// Type of the argument.
        kind: &'static str,
    },
    /// Values that cannot be compared.
    #[error("{name}: incompatible types for comparison: {left} and {right}")]
    Incomparable {
        /// The function.
        name: String,
        /// Type of the first.
        left: &'static str,
        /// Type of the second.
        right: &'static str,
    },
    /// A list has no such element.
    #[error("index out of range: {index} in a list of {len}")]
    IndexOutOfRange {
        /// The index.
        index: i64,
        /// How many elements there are.
        len: usize,
    },
    /// Something that has no elements.
    #[error("range can't iterate over a value of type {0}")]
    NotIterable(&'static str),
    /// A template that is only known to Go.
    #[error("{{{{{0}}}}} is not supported here")]
    Unsupported(String),
}

impl TemplateError {
    pub(crate) fn at(text: &str, offset: usize, problem: Problem) -> TemplateError {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = before.matches('\n').count() + 1;
        TemplateError { line, column: before[line_start..].chars().count() + 1, problem }
    }

    /// What to write instead, where that can be guessed.
    pub fn hint(&self) -> Option<String> {
        match &self.problem {
            Problem::UnknownField { nearest: Some(nearest), .. } => Some(format!("did you mean .{nearest}?")),
            Problem::UnknownField { fields, .. } if !fields.is_empty() => {
                Some(format!("it has: {}", fields.join(", ")))
            }
            Problem::UnknownFunction { nearest: Some(nearest), .. } => Some(format!("did you mean {nearest}?")),
            Problem::IndexOutOfRange { .. } => Some("test it first: {{if .List}}{{index .List 0}}{{end}}".to_owned()),
            _ => None,
        }
    }
}

/// The name that is most like `name`, if any is like it at all.
pub(crate) fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<String> {
    let wanted: String = name.chars().take(64).collect::<String>().to_lowercase();
    let scored = names.map(|known| (strsim::jaro_winkler(&wanted, &known.to_lowercase()), known));
    let best = scored.filter(|(score, _)| *score > 0.8).max_by(|a, b| a.0.total_cmp(&b.0));
    best.map(|(_, known)| known.to_owned())
}
