//! Runs one plugin: bounded in time and output, its error told as it told it (CNI spec 1.0.0 §2, §5 "Error").

use crate::NetworkError;
use serde::Deserialize;
use serde_json::Value;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

/// Most of a plugin's standard output that is read.
const MAX_OUTPUT: u64 = 1 << 20;
/// Most of its standard error that is read, and then told.
const MAX_ERRORS: u64 = 64 << 10;
const MAX_TOLD: usize = 600;

/// A call of a plugin.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    /// Name of the network, for errors.
    pub(crate) network: &'a str,
    /// The plugin's `type`.
    pub(crate) plugin: &'a str,
    /// `CNI_COMMAND`.
    pub(crate) command: &'static str,
    /// Its whole environment.
    pub(crate) environment: Vec<(String, String)>,
    /// Its standard input.
    pub(crate) input: Value,
    /// Inherited by the plugin and all it starts: while one of them runs, the lock is held, whatever becomes of us.
    pub(crate) lock: BorrowedFd<'a>,
    /// When it is given up.
    pub(crate) deadline: Duration,
}

#[derive(Deserialize)]
struct PluginError {
    #[serde(default)]
    code: i64,
    #[serde(default)]
    msg: String,
    #[serde(default)]
    details: String,
}

/// The plugin's program, in the first directory that has it.
pub(crate) fn find(plugin: &str, directories: &[PathBuf]) -> Result<PathBuf, NetworkError> {
    directories.iter().map(|directory| directory.join(plugin)).find(|path| path.is_file()).ok_or_else(|| {
        let looked: Vec<String> = directories.iter().map(|directory| directory.display().to_string()).collect();
        NetworkError::ProgramMissing {
            program: format!("the CNI plugin {plugin:?}"),
            hint: format!(
                "install it into one of {} (apt-get install containernetworking-plugins), or use --network user",
                looked.join(", ")
            ),
        }
    })
}

/// Runs the plugin; `None` when it printed nothing.
pub(crate) async fn run(program: &Path, call: &Call<'_>) -> Result<Option<Value>, NetworkError> {
    let mut child = start(program, call)
        .map_err(|source| NetworkError::Io { what: format!("run {}", program.display()), source })?;
    let group = child.id();
    let finished = tokio::time::timeout(call.deadline, talk(&mut child, &call.input)).await;
    let (status, output, errors) = match finished {
        Ok(Ok(finished)) => finished,
        Ok(Err(error)) => {
            end(&mut child, group).await;
            return Err(call.error(None, format!("talk to it: {error}")));
        }
        Err(_) => {
            end(&mut child, group).await;
            return Err(call.error(None, format!("no answer within {} s", call.deadline.as_secs())));
        }
    };
    if !status.success() {
        return Err(call.failure(status, &output, &errors));
    }
    if output.trim_ascii().is_empty() {
        return Ok(None);
    }
    match serde_json::from_slice(&output) {
        Ok(value) => Ok(Some(value)),
        Err(error) => Err(call.error(None, format!("its answer is no JSON: {error}"))),
    }
}

fn start(program: &Path, call: &Call) -> io::Result<Child> {
    let mut command = Command::new(program);
    command
        .env_clear()
        .envs(call.environment.iter().map(|(name, value)| (name, value)))
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    let lock = call.lock.as_fd().as_raw_fd();
    // SAFETY: one system call on a number, between fork and exec.
    unsafe {
        command.pre_exec(
            move || if libc::fcntl(lock, libc::F_SETFD, 0) < 0 { Err(io::Error::last_os_error()) } else { Ok(()) },
        )
    };
    command.spawn()
}

async fn talk(child: &mut Child, input: &Value) -> io::Result<(ExitStatus, Vec<u8>, Vec<u8>)> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let text = input.to_string();
    let write = async {
        let Some(mut stdin) = stdin else { return Ok(()) };
        match stdin.write_all(text.as_bytes()).await {
            // It may fail, or know enough, before it has read all.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            result => result,
        }
    };
    let (written, output, errors) = tokio::join!(write, read(stdout, MAX_OUTPUT), read(stderr, MAX_ERRORS));
    written?;
    Ok((child.wait().await?, output?, errors?))
}

async fn read(stream: Option<impl AsyncRead + Unpin>, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        stream.take(limit + 1).read_to_end(&mut bytes).await?;
        if bytes.len() as u64 > limit {
            return Err(io::Error::other(format!("it writes more than {limit} bytes")));
        }
    }
    Ok(bytes)
}

/// Kills the plugin and what it has started.
async fn end(child: &mut Child, group: Option<u32>) {
    if let Some(group) = group.and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed())) {
        // It is not reaped yet, so the number is still its own.
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    let _ = child.wait().await;
}

impl Call<'_> {
    fn failure(&self, status: ExitStatus, output: &[u8], errors: &[u8]) -> NetworkError {
        match serde_json::from_slice::<PluginError>(output) {
            Ok(said) => {
                let details = if said.details.is_empty() { String::new() } else { format!(" ({})", said.details) };
                self.error(Some(said.code), format!("{}{details}", said.msg))
            }
            Err(_) => {
                let text = String::from_utf8_lossy(if errors.is_empty() { output } else { errors });
                self.error(None, format!("{status}: {}", text.trim()))
            }
        }
    }

    fn error(&self, code: Option<i64>, message: String) -> NetworkError {
        NetworkError::CniPlugin {
            network: self.network.to_owned(),
            plugin: self.plugin.to_owned(),
            command: self.command,
            code,
            message: message.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_TOLD).collect(),
        }
    }
}
