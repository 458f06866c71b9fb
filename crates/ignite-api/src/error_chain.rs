//! An error and its causes, each told once.

use std::error::Error;

/// The messages of `error` and its causes, outermost first, without what an outer one already says.
pub fn distinct_messages(error: &dyn Error) -> Vec<String> {
    let mut messages: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        let message = cause.to_string();
        if !message.is_empty() && !messages.iter().any(|outer| outer.contains(&message)) {
            messages.push(message);
        }
        next = cause.source();
    }
    messages
}

/// The same, behind each other: `could not pull redis:7: connection refused`.
pub fn chain_of(error: &dyn Error) -> String {
    distinct_messages(error).join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{message}")]
    struct Layer {
        message: &'static str,
        source: Option<Box<Layer>>,
    }

    fn error(messages: &[&'static str]) -> Layer {
        let (message, causes) = messages.split_first().expect("a message");
        let source = (!causes.is_empty()).then(|| Box::new(error(causes)));
        Layer { message, source }
    }

    #[test]
    fn causes_are_told_once_from_the_outside_to_the_inside() {
        for (messages, told) in [
            (&["pull redis"][..], "pull redis"),
            (&["pull redis", "connect", "refused"], "pull redis: connect: refused"),
            (&["pull redis: refused", "connect", "refused"], "pull redis: refused: connect"),
            (&["pull redis", "", "refused"], "pull redis: refused"),
        ] {
            assert_eq!(chain_of(&error(messages)), told);
        }
    }
}
