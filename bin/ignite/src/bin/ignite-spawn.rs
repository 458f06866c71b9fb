//! The supervisor program: one VM, one process. Started by the engine, never by hand.
//!
//! `ignite-spawn LAUNCH_FILE LOCK_FD READY_FD`: the launch file says what to run; `LOCK_FD` holds the VM's liveness lock;
//! on `READY_FD` the starter waits for the outcome. Logs go to stderr, which is the VM's `supervisor.log`.

use anyhow::{Context, Result, bail};
use ignite_supervisor::supervise::ReadyPipe;
use ignite_supervisor::{FileLock, Launch, driver_of, supervise};
use std::fs::File;
use std::os::fd::{FromRawFd, OwnedFd};
use std::process::ExitCode;

fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).with_target(false).init();
    match run() {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::from(125)
        }
    }
}

fn run() -> Result<u8> {
    // A session of its own: the terminal of whoever started the VM is none of its business.
    let _ = rustix::process::setsid();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [launch_file, lock_fd, ready_fd] = arguments.as_slice() else {
        bail!("usage: ignite-spawn LAUNCH_FILE LOCK_FD READY_FD (it is started by `ignite start`)");
    };
    let lock = FileLock::adopt(File::from(adopt_fd(lock_fd)?));
    let ready = adopt_fd(ready_fd)?;
    let bytes = std::fs::read(launch_file).with_context(|| format!("read {launch_file}"))?;
    let launch: Launch = serde_json::from_slice(&bytes).with_context(|| format!("decode {launch_file}"))?;
    // One thread: the kernel kills the VMM when the thread that started it ends, so that thread must be the process.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    let driver = driver_of(&launch).with_context(|| format!("unknown VMM {:?}", launch.driver))?;
    let ending = runtime.block_on(async {
        let ready = tokio::net::unix::pipe::Sender::from_owned_fd(ready).context("adopt the ready pipe")?;
        Ok::<_, anyhow::Error>(supervise(launch, driver, lock, ReadyPipe::new(Some(ready))).await)
    })?;
    Ok(ending.exit_code)
}

fn adopt_fd(text: &str) -> Result<OwnedFd> {
    let number: i32 = text.parse().with_context(|| format!("{text:?} is not a descriptor"))?;
    if number <= 2 {
        bail!("descriptor {number} is a standard stream");
    }
    // SAFETY: the engine passes two descriptors that are open in this process and belong to nobody else here; each is
    // adopted exactly once, before anything else is opened.
    // JUSTIFICATION: a lock and a pipe that outlive the starter can only be inherited by number.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC).with_context(|| format!("descriptor {number}"))?;
    Ok(fd)
}
