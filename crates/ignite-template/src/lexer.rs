//! A template's text as pieces of text and actions made of tokens.

use crate::error::Problem;
use crate::value::Value;

/// What is wrong, and at which byte.
pub(crate) type Fail = (usize, Problem);

/// A piece of the template.
#[derive(Debug)]
pub(crate) enum Piece {
    /// Text that is copied.
    Text(String),
    /// What stands between `{{` and `}}`; `at` is where the action begins.
    Action { at: usize, tokens: Vec<Token> },
}

#[derive(Debug, Clone)]
pub(crate) struct Token {
    pub at: usize,
    /// Whether white space stands before it: `.A.B` is one operand, `.A .B` is two.
    pub is_spaced: bool,
    pub kind: TokenKind,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum TokenKind {
    Word(String),
    Field(String),
    Variable(String),
    Literal(Value),
    Dot,
    Pipe,
    Open,
    Close,
    Comma,
    Declare,
    Assign,
}

pub(crate) fn lex(text: &str) -> Result<Vec<Piece>, Fail> {
    let mut pieces = Vec::new();
    let (mut position, mut trims_start) = (0, false);
    loop {
        let open = text[position..].find("{{").map(|at| position + at);
        let mut copied = unescape(&text[position..open.unwrap_or(text.len())]);
        if trims_start {
            copied = copied.trim_start().to_owned();
        }
        let Some(open) = open else {
            push_text(&mut pieces, copied);
            return Ok(pieces);
        };
        let mut inside = open + 2;
        if text[inside..].starts_with('-') && text[inside + 1..].starts_with(char::is_whitespace) {
            copied.truncate(copied.trim_end().len());
            inside += 1;
        }
        push_text(&mut pieces, copied);
        let first = inside + text[inside..].len() - text[inside..].trim_start().len();
        (position, trims_start) = if text[first..].starts_with("/*") {
            end_of_comment(text, open, first)?
        } else {
            let (tokens, end, trims) = tokens(text, open, inside)?;
            pieces.push(Piece::Action { at: open, tokens });
            (end, trims)
        };
    }
}

fn push_text(pieces: &mut Vec<Piece>, text: String) {
    if !text.is_empty() {
        pieces.push(Piece::Text(text));
    }
}

/// `\t` and `\n`, which shells hand over as two characters.
fn unescape(text: &str) -> String {
    text.replace("\\t", "\t").replace("\\n", "\n")
}

fn end_of_comment(text: &str, open: usize, start: usize) -> Result<(usize, bool), Fail> {
    let unclosed = (open, Problem::UnclosedComment);
    let end = text[start + 2..].find("*/").map(|at| start + 2 + at + 2).ok_or_else(|| unclosed.clone())?;
    end_of_action(text, end + text[end..].len() - text[end..].trim_start().len()).ok_or(unclosed)
}

/// Where the text goes on behind `}}` or `-}}` at `position`, and whether its white space is trimmed.
fn end_of_action(text: &str, position: usize) -> Option<(usize, bool)> {
    let rest = &text[position..];
    if rest.starts_with("}}") {
        return Some((position + 2, false));
    }
    let is_trim = rest.starts_with("-}}") && text[..position].ends_with(char::is_whitespace);
    is_trim.then_some((position + 3, true))
}

fn tokens(text: &str, open: usize, start: usize) -> Result<(Vec<Token>, usize, bool), Fail> {
    let mut tokens = Vec::new();
    let mut position = start;
    loop {
        let rest = text[position..].trim_start();
        let at = text.len() - rest.len();
        if let Some((end, trims)) = end_of_action(text, at) {
            return Ok((tokens, end, trims));
        }
        let Some(first) = rest.chars().next() else {
            return Err((open, Problem::UnclosedAction));
        };
        let (kind, length) = token(rest, first).map_err(|problem| (at, problem))?;
        tokens.push(Token { at, is_spaced: at > position, kind });
        position = at + length;
    }
}

fn token(rest: &str, first: char) -> Result<(TokenKind, usize), Problem> {
    let word = |from: usize| {
        let end = rest[from..].find(|c: char| !c.is_alphanumeric() && c != '_').map_or(rest.len(), |at| from + at);
        (rest[from..end].to_owned(), end)
    };
    let second = rest[first.len_utf8()..].chars().next().unwrap_or(' ');
    Ok(match first {
        '.' if second.is_alphabetic() || second == '_' => {
            let (name, end) = word(1);
            (TokenKind::Field(name), end)
        }
        '.' if second.is_ascii_digit() => return Err(Problem::BadNumber(word(1).0)),
        '.' => (TokenKind::Dot, 1),
        '$' => {
            let (name, end) = word(1);
            (TokenKind::Variable(name), end)
        }
        '"' => quoted(rest)?,
        '`' => {
            let end = rest[1..].find('`').ok_or(Problem::UnterminatedString)? + 1;
            (TokenKind::Literal(Value::text(&rest[1..end])), end + 1)
        }
        '|' => (TokenKind::Pipe, 1),
        '(' => (TokenKind::Open, 1),
        ')' => (TokenKind::Close, 1),
        ',' => (TokenKind::Comma, 1),
        ':' if second == '=' => (TokenKind::Declare, 2),
        '=' => (TokenKind::Assign, 1),
        '+' | '-' if second.is_ascii_digit() => number(rest)?,
        c if c.is_ascii_digit() => number(rest)?,
        c if c.is_alphabetic() || c == '_' => {
            let (name, end) = word(0);
            (TokenKind::Word(name), end)
        }
        other => return Err(Problem::UnexpectedCharacter(other)),
    })
}

fn number(rest: &str) -> Result<(TokenKind, usize), Problem> {
    let sign = usize::from(rest.starts_with(['+', '-']));
    let belongs = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
    let end = rest[sign..].find(|c| !belongs(c)).map_or(rest.len(), |at| sign + at);
    let digits = rest[sign..end].replace('_', "");
    let bad = || Problem::BadNumber(rest[..end].chars().take(64).collect());
    let parsed = match digits.strip_prefix("0x") {
        Some(hex) if !hex.starts_with(['+', '-']) => i64::from_str_radix(hex, 16),
        _ => digits.parse(),
    };
    let value: i64 = parsed.map_err(|_| bad())?;
    let value = if rest.starts_with('-') { -value } else { value };
    Ok((TokenKind::Literal(Value::Int(value)), end))
}

fn quoted(rest: &str) -> Result<(TokenKind, usize), Problem> {
    let mut text = String::new();
    let mut chars = rest.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((TokenKind::Literal(Value::text(text)), at + 1)),
            '\n' => return Err(Problem::UnterminatedString),
            '\\' => match chars.next().map(|(_, c)| c).ok_or(Problem::UnterminatedString)? {
                'n' => text.push('\n'),
                't' => text.push('\t'),
                'r' => text.push('\r'),
                'a' => text.push('\u{7}'),
                'b' => text.push('\u{8}'),
                'f' => text.push('\u{c}'),
                'v' => text.push('\u{b}'),
                c @ ('\\' | '"' | '\'') => text.push(c),
                c @ ('x' | 'u' | 'U') => {
                    let digits = match c {
                        'x' => 2,
                        'u' => 4,
                        _ => 8,
                    };
                    let hex: String = chars.by_ref().take(digits).map(|(_, c)| c).collect();
                    let is_hex = hex.len() == digits && hex.bytes().all(|b| b.is_ascii_hexdigit());
                    let code = u32::from_str_radix(&hex, 16).ok().filter(|code| is_hex && (c != 'x' || *code < 0x80));
                    text.push(code.and_then(char::from_u32).ok_or(Problem::BadEscape(c))?);
                }
                other => return Err(Problem::BadEscape(other)),
            },
            c => text.push(c),
        }
    }
    Err(Problem::UnterminatedString)
}
