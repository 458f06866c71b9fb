//! VMM programs: where they are, and what they say of themselves.

use crate::machine::VmmError;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where they may be. Not `$PATH`: libraries read no environment, and root must not run what someone's `$PATH` says.
const DIRECTORIES: [&str; 4] = ["/usr/local/bin", "/usr/bin", "/bin", "/run/current-system/sw/bin"];

/// The program of this name, in `first` or else in a standard directory.
pub(crate) fn find(name: &str, first: &[PathBuf]) -> Option<PathBuf> {
    let directories = first.iter().map(PathBuf::as_path).chain(DIRECTORIES.iter().map(Path::new));
    directories.map(|directory| directory.join(name)).find(|path| path.is_file())
}

/// The first line of what `--version` prints, without control characters; a few milliseconds.
pub(crate) fn ask_version(program: &Path) -> Result<String, VmmError> {
    let output = Command::new(program)
        .arg("--version")
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .map_err(|source| VmmError::Spawn { program: program.display().to_string(), source })?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().next().unwrap_or_default().chars().filter(|c| !c.is_control());
    Ok(line.take(80).collect())
}
