//! Splitting a YAML stream into its documents, with the line each begins at.

use super::error::{DecodeError, DecodeProblem};

/// Longest input, in bytes.
pub const MAX_INPUT_LEN: usize = 1 << 20;
/// Most documents in one input.
pub const MAX_DOCUMENTS: usize = 256;

/// One document of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Document<'a> {
    /// Its text, with the `---` that opens it.
    pub(super) text: &'a str,
    /// Line of the stream its text begins at, counted from 1.
    pub(super) first_line: u64,
}

/// Splits at document markers and leaves out documents of blanks, comments and directives only.
///
/// A line that begins with `---` or `...` and is followed by white space or nothing is a marker wherever it stands, inside
/// of scalars as well (YAML 1.2.2 §9.1.2), so no parsing is needed to find them.
pub(super) fn split(input: &[u8]) -> Result<Vec<Document<'_>>, DecodeError> {
    if input.len() > MAX_INPUT_LEN {
        return Err(DecodeError::whole(DecodeProblem::TooLarge { limit: MAX_INPUT_LEN }));
    }
    let text = std::str::from_utf8(input).map_err(|error| {
        let valid = &input[..error.valid_up_to()];
        let line = 1 + valid.iter().filter(|b| **b == b'\n').count() as u64;
        DecodeError::at(line, 0, "", DecodeProblem::NotText)
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);

    let mut documents = Vec::new();
    let (mut start, mut start_line, mut position) = (0, 1, 0);
    for (line, number) in text.split_inclusive('\n').zip(1_u64..) {
        if is_marker(line, "---") {
            push(&mut documents, &text[start..position], start_line)?;
            (start, start_line) = (position, number);
        }
        position += line.len();
        if is_marker(line, "...") {
            push(&mut documents, &text[start..position], start_line)?;
            (start, start_line) = (position, number + 1);
        }
    }
    push(&mut documents, &text[start..], start_line)?;
    Ok(documents)
}

fn is_marker(line: &str, marker: &str) -> bool {
    line.strip_prefix(marker).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

fn push<'a>(documents: &mut Vec<Document<'a>>, text: &'a str, first_line: u64) -> Result<(), DecodeError> {
    if text.lines().all(is_without_content) {
        return Ok(());
    }
    if documents.len() == MAX_DOCUMENTS {
        let problem = DecodeProblem::TooManyDocuments { limit: MAX_DOCUMENTS };
        return Err(DecodeError::at(first_line, 1, "", problem));
    }
    documents.push(Document { text, first_line });
    Ok(())
}

fn is_without_content(line: &str) -> bool {
    let content = line.trim_start_matches("---").trim_start_matches("...").trim_start();
    content.is_empty() || content.starts_with('#') || line.starts_with('%')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_split_at_markers_and_know_their_line() {
        for (text, expected) in [
            ("", vec![]),
            ("# only a comment\n---\n\n---\n", vec![]),
            ("a: 1", vec![("a: 1", 1)]),
            ("---\na: 1\n---\nb: 2\n", vec![("---\na: 1\n", 1), ("---\nb: 2\n", 3)]),
            ("--- {a: 1}\r\n---\r\nb: 2", vec![("--- {a: 1}\r\n", 1), ("---\r\nb: 2", 2)]),
            ("a: 1\n...\nb: 2\n", vec![("a: 1\n...\n", 1), ("b: 2\n", 3)]),
            ("%YAML 1.2\n---\na: 1\n", vec![("---\na: 1\n", 2)]),
            ("\u{feff}a: 1", vec![("a: 1", 1)]),
            ("a: |\n  ---\n  x\n ---\n---b: 2\n", vec![("a: |\n  ---\n  x\n ---\n---b: 2\n", 1)]),
        ] {
            let documents = split(text.as_bytes()).unwrap();
            let found: Vec<_> = documents.iter().map(|document| (document.text, document.first_line)).collect();
            assert_eq!(found, expected, "{text:?}");
        }
    }

    #[test]
    fn too_much_input_is_refused() {
        let problem = |input: &[u8]| split(input).unwrap_err().problem;
        assert!(matches!(problem(&vec![b' '; MAX_INPUT_LEN + 1]), DecodeProblem::TooLarge { .. }));
        assert!(matches!(problem("---\na: 1\n".repeat(257).as_bytes()), DecodeProblem::TooManyDocuments { .. }));
        assert!(matches!(problem(b"a: \xff"), DecodeProblem::NotText));
    }
}
