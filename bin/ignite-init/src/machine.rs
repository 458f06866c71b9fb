//! Parts PID 1 in two: the image's init, and the agent beside it.

use crate::error::LaunchError;
use crate::launch::{self, Facts};
use crate::spawn;
use ignite_agent_protocol::message::Process;
use rustix::pipe::{PipeFlags, pipe_with};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};

/// Name of the agent's process. systemd, when it shuts down, spares processes of root whose name starts with `@`.
///
/// Source: <https://systemd.io/ROOT_STORAGE_DAEMONS/>.
const AGENT_NAME: &[u8] = b"@ignite-agent\0";

/// Which side of the fork this process is.
#[derive(Debug)]
pub enum Split {
    /// PID 1, which could not execute the image's init.
    Init(LaunchError),
    /// The agent; with why init could not be executed, if it could not.
    Agent(Option<LaunchError>),
}

/// Forks the agent and executes the image's init as PID 1. Returns in the agent; in PID 1 only on failure.
pub fn split(args: &[String], env: &BTreeMap<String, String>) -> Result<Split, LaunchError> {
    let process = Process { args: args.to_vec(), env: env.clone(), ..Process::default() };
    let mut launch = launch::plan(&process, &Facts { hostname: String::new(), ..Facts::default() })?;
    // Init sets its own HOME and HOSTNAME; `container` would tell systemd that this is none of a machine.
    launch
        .env
        .retain(|entry| !["HOSTNAME=", "container="].iter().any(|name| entry.to_bytes().starts_with(name.as_bytes())));
    let prepare = |source: io::Error| LaunchError::Prepare { doing: "part init and agent".to_owned(), source };
    let (told, tell) = pipe_with(PipeFlags::CLOEXEC).map_err(|e| prepare(e.into()))?;
    // SAFETY: this program has one thread, so the child may do all that the parent may.
    match unsafe { libc::fork() } {
        -1 => Err(prepare(io::Error::last_os_error())),
        0 => {
            drop(tell);
            become_agent();
            let mut answer = Vec::new();
            let _ = File::from(told).take(64).read_to_end(&mut answer);
            Ok(Split::Agent(spawn::decode_failure(&answer, &launch)))
        }
        _ => {
            drop(told);
            let failed = spawn::execute_init(&launch);
            let _ = File::from(tell).write_all(&failed.encode());
            Ok(Split::Init(failed.into_error(&launch)))
        }
    }
}

/// Makes this process one that init and the OOM killer leave alone.
fn become_agent() {
    // On the heap, because the kernel shows a command line from anonymous memory only.
    let name: &'static [u8] = Vec::leak(AGENT_NAME.to_vec());
    // SAFETY: the name is never freed, so the kernel may show it for as long as the process lives.
    unsafe {
        libc::setsid();
        libc::prctl(libc::PR_SET_NAME, c"ignite-agent".as_ptr());
        let start = name.as_ptr() as libc::c_ulong;
        // The start first: the kernel keeps start <= end, and the stack with the old name lies above.
        libc::prctl(libc::PR_SET_MM, libc::PR_SET_MM_ARG_START, start, 0, 0);
        libc::prctl(libc::PR_SET_MM, libc::PR_SET_MM_ARG_END, start + name.len() as libc::c_ulong, 0, 0);
    }
    // Refused only where the capability is missing; the agent lives without.
    let _ = std::fs::write("/proc/self/oom_score_adj", "-1000");
}
