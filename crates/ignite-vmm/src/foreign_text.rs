//! Text of a VMM as it may be shown: printable, and bounded.

/// Characters that are kept.
const MAX_CHARACTERS: usize = 500;

/// What a VMM says of itself: control characters become spaces, and no more is kept than one reads.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_CHARACTERS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_move_a_terminal_or_fill_it_is_not_shown() {
        assert_eq!(plain("no\n\u{1b}[2Jway"), "no  [2Jway");
        assert_eq!(plain(&"ä".repeat(10_000)).chars().count(), MAX_CHARACTERS);
    }
}
