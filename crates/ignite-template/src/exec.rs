//! Rendering: a walk over the tree with a dot and variables.

use crate::error::{Problem, nearest};
use crate::functions;
use crate::lexer::Fail;
use crate::parser::{Branch, Command, Node, Operand, OperandKind, Pipe};
use crate::value::Value;
use crate::{MAX_OUTPUT_BYTES, MAX_STEPS};
use std::fmt::Write;

/// What goes on behind a node.
#[derive(PartialEq, Eq)]
enum Flow {
    On,
    Break,
    Continue,
}

struct Run {
    out: Bounded,
    /// Bytes of all values that functions made, about.
    produced: usize,
    steps: usize,
    variables: Vec<(String, Value)>,
}

pub(crate) fn render(nodes: &[Node], dot: &Value) -> Result<String, Fail> {
    let variables = vec![(String::new(), dot.clone())];
    let mut run = Run { out: Bounded(String::new()), produced: 0, steps: 0, variables };
    run.nodes(nodes, dot)?;
    Ok(run.out.0)
}

/// A text that refuses to grow beyond the limit.
struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        if self.0.len() + text.len() > MAX_OUTPUT_BYTES {
            return Err(std::fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

impl Run {
    fn step(&mut self, at: usize) -> Result<(), Fail> {
        self.steps += 1;
        if self.steps > MAX_STEPS { Err((at, Problem::TooManySteps)) } else { Ok(()) }
    }

    fn write(&mut self, at: usize, value: &impl std::fmt::Display) -> Result<(), Fail> {
        write!(self.out, "{value}").map_err(|_| (at, Problem::TooMuchOutput))
    }

    fn nodes(&mut self, nodes: &[Node], dot: &Value) -> Result<Flow, Fail> {
        let scope = self.variables.len();
        let mut flow = Flow::On;
        for node in nodes {
            flow = self.node(node, dot)?;
            if flow != Flow::On {
                break;
            }
        }
        self.variables.truncate(scope);
        Ok(flow)
    }

    fn node(&mut self, node: &Node, dot: &Value) -> Result<Flow, Fail> {
        match node {
            Node::Text(text) => self.write(0, text)?,
            Node::Action(pipe) => {
                let value = self.pipe(pipe, dot)?;
                if pipe.variables.is_empty() {
                    self.write(pipe.at, &value)?;
                }
            }
            Node::Branch { kind, pipe, then, otherwise } => {
                let scope = self.variables.len();
                let flow = match kind {
                    Branch::Range => self.range(pipe, then, otherwise, dot),
                    Branch::If | Branch::With => {
                        let value = self.pipe(pipe, dot)?;
                        let inner = if *kind == Branch::With { &value } else { dot };
                        if value.is_true() { self.nodes(then, inner) } else { self.nodes(otherwise, dot) }
                    }
                };
                self.variables.truncate(scope);
                return flow;
            }
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::On)
    }

    fn range(&mut self, pipe: &Pipe, then: &[Node], otherwise: &[Node], dot: &Value) -> Result<Flow, Fail> {
        let value = self.commands(pipe, dot)?;
        let mut is_empty = true;
        let mut turn = |run: &mut Run, key: Value, element: Value| {
            is_empty = false;
            run.step(pipe.at)?;
            let scope = run.variables.len();
            match pipe.variables.as_slice() {
                [only] => run.set(pipe, only, element.clone())?,
                [first, second] => {
                    run.set(pipe, first, key)?;
                    run.set(pipe, second, element.clone())?;
                }
                _ => {}
            }
            let flow = run.nodes(then, &element)?;
            run.variables.truncate(scope);
            Ok(flow != Flow::Break)
        };
        match &value {
            Value::List(values) | Value::PrintedList { values, .. } => {
                for (position, element) in values.iter().enumerate() {
                    let position = i64::try_from(position).unwrap_or(i64::MAX);
                    if !turn(self, Value::Int(position), element.clone())? {
                        break;
                    }
                }
            }
            Value::Map(map) => {
                for (key, element) in map.iter() {
                    if !turn(self, Value::text(key), Value::text(element))? {
                        break;
                    }
                }
            }
            Value::Int(count) => {
                for position in 0..*count {
                    if !turn(self, Value::Int(position), Value::Int(position))? {
                        break;
                    }
                }
            }
            Value::Null | Value::Nil => {}
            Value::Bool(_) | Value::String(_) | Value::Printed { .. } | Value::Record(_) => {
                return Err((pipe.at, Problem::NotIterable(value.kind())));
            }
        }
        if is_empty { self.nodes(otherwise, dot) } else { Ok(Flow::On) }
    }

    fn set(&mut self, pipe: &Pipe, name: &str, value: Value) -> Result<(), Fail> {
        if !pipe.is_assignment {
            self.variables.push((name.to_owned(), value));
            return Ok(());
        }
        let known = self.variables.iter_mut().rev().find(|(known, _)| known == name);
        let (_, variable) = known.ok_or_else(|| (pipe.at, unknown_variable(name)))?;
        *variable = value;
        Ok(())
    }

    fn pipe(&mut self, pipe: &Pipe, dot: &Value) -> Result<Value, Fail> {
        let value = self.commands(pipe, dot)?;
        for name in &pipe.variables {
            self.set(pipe, name, value.clone())?;
        }
        Ok(value)
    }

    fn commands(&mut self, pipe: &Pipe, dot: &Value) -> Result<Value, Fail> {
        let mut last = None;
        for command in &pipe.commands {
            last = Some(self.command(command, dot, last)?);
        }
        Ok(last.unwrap_or(Value::Null))
    }

    fn command(&mut self, command: &Command, dot: &Value, last: Option<Value>) -> Result<Value, Fail> {
        self.step(command.at)?;
        let Some((first, arguments)) = command.operands.split_first() else { return Ok(Value::Null) };
        match &first.kind {
            OperandKind::Function(name) if matches!(name.as_str(), "and" | "or") => {
                self.short_circuit(name, command, arguments, dot, last)
            }
            OperandKind::Function(name) => {
                let mut values = Vec::with_capacity(arguments.len() + 1);
                for argument in arguments {
                    values.push(self.operand(argument, dot)?);
                }
                values.extend(last);
                self.call(command.at, name, &values)
            }
            _ if !arguments.is_empty() || last.is_some() => Err((command.at, Problem::NotAFunction)),
            _ => self.operand(first, dot),
        }
    }

    /// `and` and `or` evaluate no further than they must.
    fn short_circuit(
        &mut self,
        name: &str,
        command: &Command,
        arguments: &[Operand],
        dot: &Value,
        last: Option<Value>,
    ) -> Result<Value, Fail> {
        let mut value = None;
        for argument in arguments {
            let found = self.operand(argument, dot)?;
            if found.is_true() == (name == "or") {
                return Ok(found);
            }
            value = Some(found);
        }
        let missing = Problem::ArgumentCount { name: name.to_owned(), found: 0 };
        last.or(value).ok_or((command.at, missing))
    }

    fn call(&mut self, at: usize, name: &str, values: &[Value]) -> Result<Value, Fail> {
        self.step(at)?;
        let value = functions::call(name, values).map_err(|problem| (at, problem))?;
        self.produced += match &value {
            Value::String(text) => text.len(),
            Value::List(values) => values.len() * size_of::<[Value; 2]>(),
            _ => 0,
        };
        if self.produced > MAX_OUTPUT_BYTES { Err((at, Problem::TooMuchOutput)) } else { Ok(value) }
    }

    fn operand(&mut self, operand: &Operand, dot: &Value) -> Result<Value, Fail> {
        self.step(operand.at)?;
        let mut value = match &operand.kind {
            OperandKind::Dot => dot.clone(),
            OperandKind::Literal(value) => value.clone(),
            OperandKind::Function(name) => self.call(operand.at, name, &[])?,
            OperandKind::Group(pipe) => self.pipe(pipe, dot)?,
            OperandKind::Variable(name) => {
                let known = self.variables.iter().rev().find(|(known, _)| known == name);
                known.map(|(_, value)| value.clone()).ok_or_else(|| (operand.at, unknown_variable(name)))?
            }
        };
        for (at, name) in &operand.fields {
            value = field(&value, name).map_err(|problem| (*at, problem))?;
        }
        Ok(value)
    }
}

fn unknown_variable(name: &str) -> Problem {
    Problem::UnknownVariable(format!("${}", name.chars().take(64).collect::<String>()))
}

fn field(value: &Value, name: &str) -> Result<Value, Problem> {
    let shown = || name.chars().take(64).collect::<String>();
    match value {
        Value::Record(record) => {
            let all = || record.fields.iter().chain(&record.promoted);
            match all().find(|(known, _)| *known == name) {
                Some((_, value)) => Ok(value.clone()),
                None => Err(Problem::UnknownField {
                    name: shown(),
                    nearest: nearest(name, all().map(|(known, _)| *known)),
                    fields: record.fields.iter().map(|(known, _)| (*known).to_owned()).collect(),
                }),
            }
        }
        Value::Map(map) => Ok(map.get(name).map_or(Value::Null, Value::text)),
        Value::Nil | Value::Null => Ok(value.clone()),
        Value::Bool(_)
        | Value::Int(_)
        | Value::String(_)
        | Value::Printed { .. }
        | Value::List(_)
        | Value::PrintedList { .. } => Err(Problem::NoFields { name: shown(), kind: value.kind() }),
    }
}
