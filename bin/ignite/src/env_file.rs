//! Environment variables of `--env` and `--env-file`, by Docker's rules.

use ignite_api::vm::EnvVar;
use std::path::Path;

/// Longest environment file, in bytes.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// Why variables cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum EnvError {
    /// The file cannot be read.
    #[error("could not read environment file {path}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is too long.
    #[error("environment file {path} is longer than {MAX_FILE_BYTES} bytes")]
    TooLong {
        /// The file.
        path: String,
    },
    /// A line is not a variable.
    #[error("{path}, line {line}: {problem}")]
    Line {
        /// The file.
        path: String,
        /// Line, from 1.
        line: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A `--env` value is not a variable.
    #[error("invalid environment variable {text:?}: NAME=VALUE or NAME is expected")]
    Flag {
        /// The value.
        text: String,
    },
}

/// Looks a name up in the host's environment.
pub type HostEnv<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Reads a file of variables.
pub fn read_env_file(path: &Path, host: HostEnv<'_>) -> Result<Vec<EnvVar>, EnvError> {
    use std::io::Read;
    let shown = path.display().to_string();
    let read_error = |source| EnvError::Read { path: shown.clone(), source };
    let mut text = Vec::new();
    let file = std::fs::File::open(path).map_err(read_error)?;
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut text).map_err(read_error)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(EnvError::TooLong { path: shown });
    }
    parse_env_file(&text, host).map_err(|(line, problem)| EnvError::Line { path: shown, line, problem })
}

/// Reads the value of one `--env`: `NAME=VALUE`, or `NAME` for the host's value; absent when the host has none.
pub fn parse_env_flag(text: &str, host: HostEnv<'_>) -> Result<Option<EnvVar>, EnvError> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, host(text)),
    };
    if name.is_empty() || text.contains('\0') {
        return Err(EnvError::Flag { text: text.chars().take(64).collect() });
    }
    Ok(value.map(|value| EnvVar { name: name.to_owned(), value, value_from: None }))
}

/// Docker's format: one variable per line, `#` comments, no quotes, a name alone takes the host's value.
fn parse_env_file(text: &[u8], host: HostEnv<'_>) -> Result<Vec<EnvVar>, (usize, &'static str)> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let text = std::str::from_utf8(text).map_err(|error| {
        let before = &text[..error.valid_up_to()];
        (before.iter().filter(|byte| **byte == b'\n').count() + 1, "it is not UTF-8")
    })?;
    let mut variables = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = match line.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (line.trim_end(), host(line.trim_end())),
        };
        let problem = if name.is_empty() {
            Some("there is no name before the `=`")
        } else if name.contains(char::is_whitespace) {
            Some("the name contains white space")
        } else if line.contains('\0') {
            Some("it contains a NUL byte")
        } else {
            None
        };
        if let Some(problem) = problem {
            return Err((index + 1, problem));
        }
        if let Some(value) = value {
            variables.push(EnvVar { name: name.to_owned(), value, value_from: None });
        }
    }
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str) -> Option<String> {
        (name == "HOME").then(|| "/root".to_owned())
    }

    fn pairs(text: &[u8]) -> Result<Vec<String>, (usize, &'static str)> {
        let variables = parse_env_file(text, &host)?;
        Ok(variables.into_iter().map(|variable| format!("{}={}", variable.name, variable.value)).collect())
    }

    #[test]
    fn files_are_read_as_docker_reads_them() {
        let text = b"\xef\xbb\xbf# comment\n\nA=1\n  B = two words # kept\r\nQ=\"quoted\"\nE=\nX=a=b\nHOME\nUNSET\n   # more\n";
        // Docker refuses `B ` for its white space; everything else is taken literally.
        assert_eq!(pairs(text), Err((4, "the name contains white space")));
        let text = b"# c\n\nA=1\n  B= two words # kept\r\nQ=\"quoted\"\nE=\nX=a=b\nHOME\nUNSET\n";
        let expected = ["A=1", "B= two words # kept", "Q=\"quoted\"", "E=", "X=a=b", "HOME=/root"];
        assert_eq!(pairs(text).unwrap(), expected);
    }

    #[test]
    fn what_is_not_a_variable_is_refused_with_its_line() {
        for (text, expected) in [
            (&b"A=1\n=x\n"[..], (2, "there is no name before the `=`")),
            (b"A B\n", (1, "the name contains white space")),
            (b"A=1\nB=\xff\n", (2, "it is not UTF-8")),
            (b"A=\0\n", (1, "it contains a NUL byte")),
        ] {
            assert_eq!(pairs(text), Err(expected));
        }
    }

    #[test]
    fn a_flag_takes_a_value_or_the_hosts() {
        let read = |text| parse_env_flag(text, &host).map(|found| found.map(|v| format!("{}={}", v.name, v.value)));
        assert_eq!(read("A=b=c").unwrap().as_deref(), Some("A=b=c"));
        assert_eq!(read("A=").unwrap().as_deref(), Some("A="));
        assert_eq!(read("HOME").unwrap().as_deref(), Some("HOME=/root"));
        assert_eq!(read("UNSET").unwrap(), None);
        assert!(read("").is_err());
        assert!(read("=x").is_err());
    }
}
