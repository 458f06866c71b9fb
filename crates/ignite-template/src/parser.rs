//! Pieces of a template as a tree of blocks and pipelines.

use crate::MAX_DEPTH;
use crate::error::{Problem, nearest};
use crate::functions;
use crate::lexer::{Fail, Piece, Token, TokenKind};
use crate::value::Value;
use std::collections::VecDeque;

#[derive(Debug, Clone)]
pub(crate) enum Node {
    Text(String),
    Action(Pipe),
    Branch { kind: Branch, pipe: Pipe, then: Vec<Node>, otherwise: Vec<Node> },
    Break,
    Continue,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Branch {
    If,
    With,
    Range,
}

impl Branch {
    fn of(word: &str) -> Option<Branch> {
        [Branch::If, Branch::With, Branch::Range].into_iter().find(|kind| kind.name() == word)
    }

    fn name(self) -> &'static str {
        match self {
            Branch::If => "if",
            Branch::With => "with",
            Branch::Range => "range",
        }
    }
}

/// `$a, $b := command | command`.
#[derive(Debug, Clone)]
pub(crate) struct Pipe {
    pub at: usize,
    pub variables: Vec<String>,
    /// `=`: the variables exist already.
    pub is_assignment: bool,
    pub commands: Vec<Command>,
}

#[derive(Debug, Clone)]
pub(crate) struct Command {
    pub at: usize,
    /// At least one.
    pub operands: Vec<Operand>,
}

#[derive(Debug, Clone)]
pub(crate) struct Operand {
    pub at: usize,
    pub kind: OperandKind,
    /// `.A.B` behind it, with where each stands.
    pub fields: Vec<(usize, String)>,
}

#[derive(Debug, Clone)]
pub(crate) enum OperandKind {
    Dot,
    Variable(String),
    Literal(Value),
    Function(String),
    Group(Box<Pipe>),
}

/// What ended a list of nodes.
enum Stop {
    Text,
    End,
    Else(usize, VecDeque<Token>),
}

pub(crate) fn parse(pieces: Vec<Piece>) -> Result<Vec<Node>, Fail> {
    let mut parser = Parser { pieces: pieces.into() };
    match parser.nodes(0, 0)? {
        (nodes, Stop::Text, _) => Ok(nodes),
        (_, Stop::End, at) => Err((at, unexpected("{{end}}", "a block that it ends"))),
        (_, Stop::Else(..), at) => Err((at, unexpected("{{else}}", "a block that it belongs to"))),
    }
}

fn unexpected(found: impl Into<String>, expected: &'static str) -> Problem {
    Problem::Unexpected { found: found.into(), expected }
}

struct Parser {
    pieces: VecDeque<Piece>,
}

impl Parser {
    fn nodes(&mut self, depth: usize, loops: usize) -> Result<(Vec<Node>, Stop, usize), Fail> {
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.pop_front() {
            let (at, tokens) = match piece {
                Piece::Text(text) => {
                    nodes.push(Node::Text(text));
                    continue;
                }
                Piece::Action { at, tokens } => (at, tokens),
            };
            let mut tokens: VecDeque<Token> = tokens.into();
            let keyword = match tokens.front().map(|token| &token.kind) {
                Some(TokenKind::Word(word)) => word.clone(),
                _ => String::new(),
            };
            match keyword.as_str() {
                "end" | "break" | "continue" if tokens.len() > 1 => {
                    return Err((tokens[1].at, unexpected(describe(&tokens[1].kind), "}}")));
                }
                "end" => return Ok((nodes, Stop::End, at)),
                "else" => {
                    tokens.pop_front();
                    return Ok((nodes, Stop::Else(at, tokens), at));
                }
                "break" | "continue" if loops == 0 => {
                    return Err((at, unexpected(format!("{{{{{keyword}}}}}"), "a range around it")));
                }
                "break" => nodes.push(Node::Break),
                "continue" => nodes.push(Node::Continue),
                "define" | "template" | "block" => return Err((at, Problem::Unsupported(keyword))),
                word => match Branch::of(word) {
                    Some(kind) => {
                        tokens.pop_front();
                        nodes.push(self.branch(kind, at, tokens, depth + 1, loops)?);
                    }
                    None => nodes.push(Node::Action(at_most_variables(1, whole_pipe(at, tokens)?)?)),
                },
            }
        }
        Ok((nodes, Stop::Text, 0))
    }

    fn branch(
        &mut self,
        kind: Branch,
        at: usize,
        tokens: VecDeque<Token>,
        depth: usize,
        loops: usize,
    ) -> Result<Node, Fail> {
        if depth > MAX_DEPTH {
            return Err((at, Problem::TooDeep));
        }
        let pipe = at_most_variables(if kind == Branch::Range { 2 } else { 1 }, whole_pipe(at, tokens)?)?;
        let inner_loops = if kind == Branch::Range { loops + 1 } else { loops };
        let missing = (at, Problem::MissingEnd(kind.name()));
        let (then, end, _) = self.nodes(depth, inner_loops)?;
        let otherwise = match end {
            Stop::Text => return Err(missing),
            Stop::End => Vec::new(),
            Stop::Else(_, rest) if rest.is_empty() => match self.nodes(depth, loops)? {
                (nodes, Stop::End, _) => nodes,
                (_, Stop::Text, _) => return Err(missing),
                (_, Stop::Else(..), second) => return Err((second, unexpected("{{else}}", "{{end}}"))),
            },
            Stop::Else(else_at, mut rest) => {
                let word = rest.pop_front().map(|token| token.kind);
                let nested = match &word {
                    Some(TokenKind::Word(word)) => Branch::of(word).filter(|nested| *nested != Branch::Range),
                    _ => None,
                };
                let nested = nested.ok_or((else_at, unexpected("a word behind else", "if, with or }}")))?;
                vec![self.branch(nested, else_at, rest, depth + 1, loops)?]
            }
        };
        Ok(Node::Branch { kind, pipe, then, otherwise })
    }
}

fn at_most_variables(limit: usize, pipe: Pipe) -> Result<Pipe, Fail> {
    match pipe.variables.len() {
        count if count > limit => Err((pipe.at, unexpected("a second variable", "one"))),
        _ => Ok(pipe),
    }
}

fn whole_pipe(at: usize, mut tokens: VecDeque<Token>) -> Result<Pipe, Fail> {
    let pipe = pipe(at, &mut tokens, 0)?;
    match tokens.pop_front() {
        None => Ok(pipe),
        Some(token) => Err((token.at, unexpected(describe(&token.kind), "an operand, | or }}"))),
    }
}

fn pipe(at: usize, tokens: &mut VecDeque<Token>, depth: usize) -> Result<Pipe, Fail> {
    if depth > MAX_DEPTH {
        return Err((at, Problem::TooDeep));
    }
    let (variables, is_assignment) = declared(tokens);
    let mut commands = vec![command(at, tokens, depth)?];
    while tokens.front().is_some_and(|token| token.kind == TokenKind::Pipe) {
        let at = tokens.pop_front().map_or(at, |token| token.at);
        commands.push(command(at, tokens, depth)?);
    }
    Ok(Pipe { at, variables, is_assignment, commands })
}

/// `$x :=`, `$x =` or `$k, $v :=` at the beginning.
fn declared(tokens: &mut VecDeque<Token>) -> (Vec<String>, bool) {
    let kind = |at: usize| tokens.get(at).map(|token| &token.kind);
    let (names, sign) = match (kind(0), kind(1), kind(2), kind(3)) {
        (Some(TokenKind::Variable(a)), Some(sign @ (TokenKind::Declare | TokenKind::Assign)), ..) => {
            (vec![a.clone()], sign)
        }
        (Some(TokenKind::Variable(a)), Some(TokenKind::Comma), Some(TokenKind::Variable(b)), Some(sign))
            if matches!(sign, TokenKind::Declare | TokenKind::Assign) =>
        {
            (vec![a.clone(), b.clone()], sign)
        }
        _ => return (Vec::new(), false),
    };
    let is_assignment = *sign == TokenKind::Assign;
    tokens.drain(..names.len() * 2);
    (names, is_assignment)
}

fn command(at: usize, tokens: &mut VecDeque<Token>, depth: usize) -> Result<Command, Fail> {
    let mut operands = Vec::new();
    while let Some(token) = tokens.front() {
        if matches!(token.kind, TokenKind::Pipe | TokenKind::Close) {
            break;
        }
        operands.push(operand(tokens, depth)?);
    }
    match operands.first() {
        Some(first) => Ok(Command { at: first.at, operands }),
        None => Err((at, unexpected("nothing", "a value or a function"))),
    }
}

fn operand(tokens: &mut VecDeque<Token>, depth: usize) -> Result<Operand, Fail> {
    let Some(Token { at, kind, .. }) = tokens.pop_front() else {
        return Err((0, unexpected("nothing", "a value")));
    };
    let mut fields = Vec::new();
    let kind = match kind {
        TokenKind::Dot => OperandKind::Dot,
        TokenKind::Field(name) => {
            fields.push((at, name));
            OperandKind::Dot
        }
        TokenKind::Variable(name) => OperandKind::Variable(name),
        TokenKind::Literal(value) => OperandKind::Literal(value),
        TokenKind::Word(word) => match word.as_str() {
            "true" => OperandKind::Literal(Value::Bool(true)),
            "false" => OperandKind::Literal(Value::Bool(false)),
            "nil" => OperandKind::Literal(Value::Nil),
            _ if functions::NAMES.contains(&word.as_str()) => OperandKind::Function(word),
            _ => {
                let nearest = nearest(&word, functions::NAMES.iter().copied());
                return Err((at, Problem::UnknownFunction { name: word.chars().take(64).collect(), nearest }));
            }
        },
        TokenKind::Open => {
            let inner = pipe(at, tokens, depth + 1)?;
            match tokens.pop_front() {
                Some(Token { kind: TokenKind::Close, .. }) => OperandKind::Group(Box::new(inner)),
                Some(token) => return Err((token.at, unexpected(describe(&token.kind), ")"))),
                None => return Err((at, unexpected("an open parenthesis", ")"))),
            }
        }
        kind @ (TokenKind::Pipe | TokenKind::Close | TokenKind::Comma | TokenKind::Declare | TokenKind::Assign) => {
            return Err((at, unexpected(describe(&kind), "a value or a function")));
        }
    };
    while let Some(Token { is_spaced: false, kind: TokenKind::Field(_), .. }) = tokens.front() {
        if let Some(Token { at, kind: TokenKind::Field(name), .. }) = tokens.pop_front() {
            fields.push((at, name));
        }
    }
    match kind {
        OperandKind::Function(name) if !fields.is_empty() => Err((at, unexpected(format!("{name}."), "a space"))),
        kind => Ok(Operand { at, kind, fields }),
    }
}

fn describe(kind: &TokenKind) -> String {
    let text = match kind {
        TokenKind::Word(word) => word.clone(),
        TokenKind::Field(name) => format!(".{name}"),
        TokenKind::Variable(name) => format!("${name}"),
        TokenKind::Literal(value) => value.to_string(),
        TokenKind::Dot => ".".to_owned(),
        TokenKind::Pipe => "|".to_owned(),
        TokenKind::Open => "(".to_owned(),
        TokenKind::Close => ")".to_owned(),
        TokenKind::Comma => ",".to_owned(),
        TokenKind::Declare => ":=".to_owned(),
        TokenKind::Assign => "=".to_owned(),
    };
    text.chars().take(64).collect()
}
