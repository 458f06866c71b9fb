//! Go's `fmt.Sprintf`, for the verbs that templates use.

use crate::value::Value;

/// Widest field and longest precision; Go has a limit of its own, a million.
const MAX_WIDTH: usize = 1024;

#[derive(Default)]
struct Spec {
    is_left: bool,
    has_zeros: bool,
    has_plus: bool,
    width: usize,
    precision: Option<usize>,
}

/// The format with its verbs replaced; what is wrong is said in the text, as Go does.
pub(crate) fn format(format: &str, values: &[Value]) -> String {
    let mut out = String::new();
    let mut values = values.iter();
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let spec = spec(&mut chars);
        match chars.next() {
            None => out.push_str("%!(NOVERB)"),
            Some('%') => out.push('%'),
            Some(verb) => match values.next() {
                None => out.push_str(&format!("%!{verb}(MISSING)")),
                Some(value) => out.push_str(&pad(&spec, verb, formatted(&spec, verb, value), value)),
            },
        }
    }
    let extra: Vec<String> = values.map(|value| format!("{}={}", go_type(value), plain(value))).collect();
    if !extra.is_empty() {
        out.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    out
}

/// A value as `%v`.
pub(crate) fn plain(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        other => other.to_string(),
    }
}

fn spec(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Spec {
    let mut spec = Spec::default();
    while let Some(flag) = chars.next_if(|c| matches!(c, '-' | '0' | '+' | ' ' | '#')) {
        spec.is_left |= flag == '-';
        spec.has_zeros |= flag == '0';
        spec.has_plus |= flag == '+';
    }
    spec.width = number(chars);
    if chars.next_if_eq(&'.').is_some() {
        spec.precision = Some(number(chars));
    }
    spec
}

fn number(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> usize {
    let mut number = 0_usize;
    while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
        chars.next();
        number = number.saturating_mul(10).saturating_add(digit as usize).min(MAX_WIDTH);
    }
    number
}

fn formatted(spec: &Spec, verb: char, value: &Value) -> String {
    let cut = |text: &str| match spec.precision {
        Some(length) => text.chars().take(length).collect(),
        None => text.to_owned(),
    };
    match (verb, value) {
        ('v', Value::String(text) | Value::Printed { text, .. }) => cut(text),
        ('v' | 'd', Value::Int(number)) if spec.has_plus && *number >= 0 => format!("+{number}"),
        ('v', other) => plain(other),
        ('s', Value::String(text) | Value::Printed { text, .. }) => cut(text),
        ('s', Value::Map(_) | Value::Record(_) | Value::PrintedList { .. }) => plain(value),
        ('q', Value::String(text) | Value::Printed { text, .. }) => quote(&cut(text)),
        ('d', Value::Int(number)) => number.to_string(),
        ('t', Value::Bool(flag)) => flag.to_string(),
        ('x', Value::Int(number)) if *number < 0 => format!("-{:x}", number.unsigned_abs()),
        ('X', Value::Int(number)) if *number < 0 => format!("-{:X}", number.unsigned_abs()),
        ('x', Value::Int(number)) => format!("{number:x}"),
        ('X', Value::Int(number)) => format!("{number:X}"),
        ('x', Value::String(text) | Value::Printed { text, .. }) => text.bytes().map(|b| format!("{b:02x}")).collect(),
        ('X', Value::String(text) | Value::Printed { text, .. }) => text.bytes().map(|b| format!("{b:02X}")).collect(),
        ('s' | 'q' | 'd' | 't' | 'x' | 'X', Value::List(values) | Value::PrintedList { values, .. }) => {
            let texts: Vec<String> = values.iter().map(|value| formatted(spec, verb, value)).collect();
            format!("[{}]", texts.join(" "))
        }
        (verb, Value::Nil | Value::Null) => format!("%!{verb}(<nil>)"),
        (verb, other) => format!("%!{verb}({}={})", go_type(other), plain(other)),
    }
}

fn pad(spec: &Spec, verb: char, text: String, value: &Value) -> String {
    let missing = spec.width.saturating_sub(text.chars().count());
    let fill = |c: char| std::iter::repeat_n(c, missing).collect::<String>();
    match (spec.is_left, spec.has_zeros, value) {
        (true, ..) => text + &fill(' '),
        (false, true, Value::Int(_)) if verb != 's' => match text.strip_prefix(['-', '+']) {
            Some(digits) => format!("{}{}{digits}", &text[..1], fill('0')),
            None => fill('0') + &text,
        },
        (false, true, Value::String(_)) => fill('0') + &text,
        _ => fill(' ') + &text,
    }
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::List(_) | Value::PrintedList { .. } => "[]interface {}",
        Value::Map(_) => "map[string]string",
        Value::Nil | Value::Null => "<nil>",
        other => other.kind(),
    }
}

/// Go's `strconv.Quote`.
fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            c if c.is_ascii_control() => out.push_str(&format!("\\x{:02x}", c as u32)),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
