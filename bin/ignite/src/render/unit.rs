//! Command lines of systemd's unit files.

/// `ExecStart=` and its like: systemd.syntax(7), "Quoting"; the specifiers of systemd.unit(5); the variables of
/// systemd.service(5), "Command lines", which the program's own path has not.
pub fn command_line<'a>(program: &str, arguments: impl IntoIterator<Item = &'a str>) -> String {
    let arguments = arguments.into_iter().map(|argument| quoted(&argument.replace('$', "$$")));
    std::iter::once(quoted(program)).chain(arguments).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &str) -> String {
    let escaped = word.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%").replace('\n', "\\n");
    let is_plain = !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"/-_.:@=,+#%".contains(&b));
    if is_plain { escaped } else { format!("\"{escaped}\"") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stay_words_and_are_taken_as_they_are() {
        for (word, written) in [
            ("/srv/files", "/srv/files"),
            ("", "\"\""),
            ("/srv/my files/100%$x", "\"/srv/my files/100%%$$x\""),
            ("/100%/\"x\"", "\"/100%%/\\\"x\\\"\""),
            ("a\\b\nc", "\"a\\\\b\\nc\""),
        ] {
            assert_eq!(command_line("/opt/i", [word]), format!("/opt/i {written}"));
        }
        assert_eq!(command_line("/opt/a $b/ignite", ["restore"]), "\"/opt/a $b/ignite\" restore");
    }
}
