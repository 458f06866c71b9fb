//! The last words of a helper process.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// Bytes of a log that are looked at.
const TAIL_BYTES: u64 = 4096;
/// Lines that are told.
const TAIL_LINES: usize = 4;

/// The last lines of a log, joined by `; `, without control characters; empty when there is none.
pub(crate) fn tail(log: &Path) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    last_lines(&read().unwrap_or_default())
}

fn last_lines(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let kept = &lines[lines.len().saturating_sub(TAIL_LINES)..];
    kept.join("; ").chars().filter(|character| !character.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_told_without_control_characters() {
        assert_eq!(last_lines(b"1\n2\n\n3\n4\n\x1b[31m5\xff\n"), "2; 3; 4; [31m5\u{fffd}");
        assert_eq!(last_lines(b""), "");
    }

    #[test]
    fn a_missing_log_says_nothing() {
        assert_eq!(tail(Path::new("/nonexistent/log")), "");
    }
}
