//! Go's `text/template`, as far as users of `--template`, `--format` and `--filter` write it.
//!
//! Actions: `{{pipeline}}`, `if`, `else if`, `else`, `range` (with `else`, `break`, `continue`), `with`, `end`, comments, the
//! trim markers `{{- ` and ` -}}`, variables, parentheses. Functions: those of Go (`and or not len index print printf println eq ne lt
//! le gt ge`) and of Docker (`json join split upper lower title truncate`). In text, `\t` and `\n` are a tab and a line feed, as in
//! Docker's `--format`. Not there: `define`, `template`, `block`, fractions, complex numbers, character constants.
//!
//! One difference is meant: a field of a nil pointer is nil, where Go ends with an error, because a template is rendered for
//! every VM and one that is stopped has no network.
//!
//! Source followed: <https://pkg.go.dev/text/template>.

mod error;
mod exec;
mod functions;
mod lexer;
mod parser;
mod printf;
mod value;

pub use error::{Problem, TemplateError};
pub use value::{Record, Value};

/// Longest template, in bytes.
pub const MAX_TEMPLATE_BYTES: usize = 64 << 10;
/// Longest result, in bytes.
pub const MAX_OUTPUT_BYTES: usize = 16 << 20;
/// How deep blocks and parentheses may nest.
pub const MAX_DEPTH: usize = 64;
/// How many actions and operands one rendering may evaluate.
pub const MAX_STEPS: usize = 1_000_000;

/// A template that was read and can be rendered.
#[derive(Debug, Clone)]
pub struct Template {
    text: String,
    nodes: Vec<parser::Node>,
}

impl Template {
    /// Reads a template; unknown functions and blocks without an end are told here.
    pub fn parse(text: &str) -> Result<Template, TemplateError> {
        if text.len() > MAX_TEMPLATE_BYTES {
            return Err(TemplateError::at(text, 0, Problem::TooLong));
        }
        let nodes = lexer::lex(text).and_then(parser::parse);
        let nodes = nodes.map_err(|(offset, problem)| TemplateError::at(text, offset, problem))?;
        Ok(Template { text: text.to_owned(), nodes })
    }

    /// The template's text for `dot`, without a line feed of its own at the end.
    pub fn render(&self, dot: &Value) -> Result<String, TemplateError> {
        exec::render(&self.nodes, dot).map_err(|(offset, problem)| TemplateError::at(&self.text, offset, problem))
    }
}
