//! What a process gets before it runs: identity, environment and the paths to try, decided without touching anything.

use crate::accounts::{self, Identity};
use crate::error::LaunchError;
use ignite_agent_protocol::message::{Process, WindowSize};
use std::collections::BTreeMap;
use std::ffi::CString;

/// `PATH` where neither image nor user sets one, as in Docker.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Everything a child needs between fork and exec; made before the fork.
#[derive(Debug)]
pub struct Launch {
    /// The program as it was asked for.
    pub program: String,
    /// Paths to execute, the first that exists wins.
    pub candidates: Vec<CString>,
    /// Arguments.
    pub args: Vec<CString>,
    /// `NAME=value` strings.
    pub env: Vec<CString>,
    /// Who it runs as.
    pub identity: Identity,
    /// Working directory.
    pub working_dir: String,
    /// Terminal and its size.
    pub terminal: Option<WindowSize>,
    /// The host sends standard input.
    pub has_stdin: bool,
}

/// Files of the guest that a launch is decided by.
#[derive(Debug, Default)]
pub struct Facts {
    /// Contents of `/etc/passwd`.
    pub passwd: String,
    /// Contents of `/etc/group`.
    pub group: String,
    /// The host name.
    pub hostname: String,
}

/// Decides how `process` is started.
pub fn plan(process: &Process, facts: &Facts) -> Result<Launch, LaunchError> {
    let program = process.args.first().filter(|program| !program.is_empty()).ok_or(LaunchError::NoCommand)?;
    let identity = accounts::find(&process.user, &facts.passwd, &facts.group)?;
    let env = environment(&process.env, &identity.home, &facts.hostname, process.tty);
    let path = env.get("PATH").map_or(DEFAULT_PATH, String::as_str);
    Ok(Launch {
        program: program.clone(),
        candidates: strings("program", &candidates(program, path))?,
        args: strings("argument", &process.args)?,
        env: strings("environment", &env.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>())?,
        identity,
        working_dir: absolute(&process.working_dir),
        terminal: process.tty.then(|| process.size.unwrap_or(WindowSize { rows: 24, cols: 80 })),
        has_stdin: process.stdin,
    })
}

/// The environment with what Docker adds when it is missing.
fn environment(given: &BTreeMap<String, String>, home: &str, hostname: &str, tty: bool) -> BTreeMap<String, String> {
    let mut env = given.clone();
    let mut default = |name: &str, value: &str| {
        env.entry(name.to_owned()).or_insert_with(|| value.to_owned());
    };
    default("PATH", DEFAULT_PATH);
    default("HOME", home);
    default("HOSTNAME", hostname);
    if tty {
        default("TERM", "xterm");
    }
    // Docker, too, takes an empty HOME as unset.
    if env.get("HOME").is_some_and(String::is_empty) {
        env.insert("HOME".to_owned(), home.to_owned());
    }
    env
}

/// Paths to try for `program`: itself when it has a slash, else one per directory of `path`. An empty directory is the
/// working directory, as in a shell.
fn candidates(program: &str, path: &str) -> Vec<String> {
    if program.contains('/') {
        return vec![program.to_owned()];
    }
    let in_directory = |directory: &str| match directory {
        "" => format!("./{program}"),
        directory => format!("{}/{program}", directory.trim_end_matches('/')),
    };
    path.split(':').map(in_directory).collect()
}

fn absolute(directory: &str) -> String {
    if directory.starts_with('/') { directory.to_owned() } else { format!("/{directory}") }
}

fn strings(what: &'static str, values: &[String]) -> Result<Vec<CString>, LaunchError> {
    values.iter().map(|value| CString::new(value.as_str()).map_err(|_| LaunchError::Nul(what))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts { passwd: "app:x:5:6::/home/app:\n".into(), group: String::new(), hostname: "vm".into() }
    }

    fn process(args: &[&str], env: &[(&str, &str)]) -> Process {
        Process {
            args: args.iter().map(|&a| a.to_owned()).collect(),
            env: env.iter().map(|&(n, v)| (n.to_owned(), v.to_owned())).collect(),
            ..Process::default()
        }
    }

    fn env_of(process: &Process) -> Vec<String> {
        plan(process, &facts()).unwrap().env.into_iter().map(|s| s.into_string().unwrap()).collect()
    }

    #[test]
    fn missing_variables_are_added_and_given_ones_kept() {
        let path = format!("PATH={DEFAULT_PATH}");
        assert_eq!(env_of(&process(&["a"], &[])), ["HOME=/", "HOSTNAME=vm", &path]);
        let user = Process { user: "app".into(), tty: true, ..process(&["a"], &[("PATH", "/x"), ("A", "b=c")]) };
        assert_eq!(env_of(&user), ["A=b=c", "HOME=/home/app", "HOSTNAME=vm", "PATH=/x", "TERM=xterm"]);
        let given = Process { tty: true, ..process(&["a"], &[("TERM", "vt100"), ("HOME", "")]) };
        assert_eq!(env_of(&given), ["HOME=/", "HOSTNAME=vm", &path, "TERM=vt100"]);
    }

    #[test]
    fn programs_are_searched_in_the_guests_path_in_order() {
        let table: [(&str, &str, &[&str]); 4] = [
            ("sh", "/a:/b/", &["/a/sh", "/b/sh"]),
            ("sh", ":/b", &["./sh", "/b/sh"]),
            ("./run", "/a", &["./run"]),
            ("/bin/sh", "/a", &["/bin/sh"]),
        ];
        for (program, path, expected) in table {
            assert_eq!(candidates(program, path), expected, "{program} in {path}");
        }
    }

    #[test]
    fn what_cannot_be_a_command_is_refused() {
        assert!(matches!(plan(&process(&[], &[]), &facts()), Err(LaunchError::NoCommand)));
        assert!(matches!(plan(&process(&[""], &[]), &facts()), Err(LaunchError::NoCommand)));
        assert!(matches!(plan(&process(&["a", "b\0"], &[]), &facts()), Err(LaunchError::Nul("argument"))));
    }

    #[test]
    fn a_working_directory_is_absolute() {
        assert_eq!(plan(&process(&["a"], &[]), &facts()).unwrap().working_dir, "/");
        let relative = Process { working_dir: "srv".into(), ..process(&["a"], &[]) };
        assert_eq!(plan(&relative, &facts()).unwrap().working_dir, "/srv");
    }
}
