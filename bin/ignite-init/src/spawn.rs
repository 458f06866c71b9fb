//! Starts child processes with pipes or a terminal, and reports why one did not start.

use crate::error::LaunchError;
use crate::launch::{Facts, Launch};
use crate::rooted::Rooted;
use ignite_agent_protocol::message::{StreamExit, WindowSize};
use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

/// A started child and this side of its standard streams; all descriptors are non-blocking and close on exec.
#[derive(Debug)]
pub struct Child {
    /// Process id, and id of its process group and session.
    pub pid: i32,
    /// Its standard input, or the terminal.
    pub stdin: Option<OwnedFd>,
    /// Its standard output, or the terminal.
    pub stdout: OwnedFd,
    /// Its standard error; absent with a terminal.
    pub stderr: Option<OwnedFd>,
    /// Where a [`fork_worker`] writes its [`StreamExit`].
    pub report: Option<OwnedFd>,
}

/// The files of the running guest that a launch is decided by; what cannot be read is empty.
pub fn facts() -> Facts {
    let text = |path: &str| {
        let contents = Rooted::open(Path::new("/")).and_then(|root| root.read(Path::new(path)));
        contents.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    };
    Facts {
        passwd: text("/etc/passwd"),
        group: text("/etc/group"),
        hostname: rustix::system::uname().nodename().to_string_lossy().into_owned(),
    }
}

/// Starts the process; returns once it has been executed, or could not be.
pub fn start(launch: &Launch) -> Result<Child, LaunchError> {
    let prepare = |doing: &'static str| {
        move |e: rustix::io::Errno| LaunchError::Prepare { doing: doing.to_owned(), source: e.into() }
    };
    let root =
        Rooted::open(Path::new("/")).map_err(|source| LaunchError::Prepare { doing: "open /".into(), source })?;
    root.ensure_dir(Path::new(&launch.working_dir), 0o755).map_err(|source| LaunchError::Prepare {
        doing: format!("make working directory {}", launch.working_dir),
        source,
    })?;
    let (failure, failure_child) = pipe_with(PipeFlags::CLOEXEC).map_err(prepare("make a pipe"))?;
    let streams = match launch.terminal {
        Some(size) => Streams::terminal(size)?,
        None => Streams::pipes(launch.has_stdin).map_err(prepare("make pipes"))?,
    };
    // SAFETY: this program has one thread, so the child may do all that the parent may.
    let pid = unsafe { libc::fork() };
    match pid {
        -1 => Err(LaunchError::Prepare { doing: "fork".into(), source: io::Error::last_os_error() }),
        0 => {
            let failed = execute(launch, &streams);
            // The parent reads what it is told, or end of file when this child was killed.
            let _ = File::from(failure_child).write_all(&failed.encode());
            exit_child(127)
        }
        pid => {
            drop(failure_child);
            let mut told = Vec::new();
            let _ = File::from(failure).take(64).read_to_end(&mut told);
            match decode_failure(&told, launch) {
                None => Ok(streams.parent(pid)),
                Some(error) => {
                    // SAFETY: waits for this process's own child, which exits by itself.
                    unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
                    Err(error)
                }
            }
        }
    }
}

/// Runs `work` in a forked child: it has the stream's standard input and output and the descriptor `needed`, and may
/// block.
pub fn fork_worker(needed: RawFd, work: impl FnOnce(File, File) -> StreamExit) -> Result<Child, LaunchError> {
    let prepare = |e: rustix::io::Errno| LaunchError::Prepare { doing: "make pipes".to_owned(), source: e.into() };
    let (report, report_child) = pipe_with(PipeFlags::CLOEXEC).map_err(prepare)?;
    let streams = Streams::pipes(true).map_err(prepare)?;
    // SAFETY: this program has one thread, so the child may do all that the parent may.
    let pid = unsafe { libc::fork() };
    match pid {
        -1 => Err(LaunchError::Prepare { doing: "fork".into(), source: io::Error::last_os_error() }),
        0 => {
            reset_child();
            // SAFETY: setsid has no memory to break; it cannot fail in a new child.
            unsafe { libc::setsid() };
            let ends = streams.into_child_ends();
            let exit = match ends {
                Some((stdin, stdout)) => {
                    close_all_but([stdin.as_raw_fd(), stdout.as_raw_fd(), report_child.as_raw_fd(), needed]);
                    work(stdin, stdout)
                }
                None => StreamExit::Failed { code: 125, message: "no pipes".to_owned() },
            };
            let _ = File::from(report_child).write_all(&serde_json::to_vec(&exit).unwrap_or_default());
            exit_child(0)
        }
        pid => Ok(Child { report: Some(report), ..streams.parent(pid) }),
    }
}

/// In a worker: closes what belongs to the parent and its other streams, whose ends would otherwise not be seen while
/// this worker lives.
fn close_all_but(mut kept: [RawFd; 4]) {
    kept.sort_unstable();
    let close_range = |first: RawFd, last: RawFd| {
        if first <= last {
            // SAFETY: nothing in this process uses the descriptors any more; it ends without dropping their owners.
            unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        }
    };
    let mut first = 3;
    for fd in kept {
        close_range(first, fd - 1);
        first = first.max(fd + 1);
    }
    close_range(first, RawFd::MAX);
}

/// Sets the size of the terminal behind this descriptor.
pub fn resize(terminal: BorrowedFd<'_>, size: WindowSize) -> io::Result<()> {
    let size = rustix::termios::Winsize { ws_row: size.rows, ws_col: size.cols, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(rustix::termios::tcsetwinsize(terminal, size)?)
}

/// Both sides of a child's standard streams.
enum Streams {
    Pipes { stdin: Option<(OwnedFd, OwnedFd)>, stdout: (OwnedFd, OwnedFd), stderr: (OwnedFd, OwnedFd) },
    Terminal { master: OwnedFd, slave: OwnedFd },
}

impl Streams {
    /// Pipes as (this side, the child's side).
    fn pipes(has_stdin: bool) -> rustix::io::Result<Streams> {
        let stdin = match has_stdin {
            true => Some(pipe_with(PipeFlags::CLOEXEC).map(|(read, write)| (write, read))?),
            false => None,
        };
        let (stdout, stderr) = (pipe_with(PipeFlags::CLOEXEC)?, pipe_with(PipeFlags::CLOEXEC)?);
        for fd in stdin.iter().map(|(ours, _)| ours).chain([&stdout.0, &stderr.0]) {
            rustix::io::ioctl_fionbio(fd, true)?;
        }
        Ok(Streams::Pipes { stdin, stdout, stderr })
    }

    fn terminal(size: WindowSize) -> Result<Streams, LaunchError> {
        let open = || -> io::Result<Streams> {
            let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
            let master = rustix::fs::open("/dev/ptmx", flags | OFlags::NONBLOCK, Mode::empty())?;
            rustix::pty::unlockpt(&master)?;
            let name = rustix::pty::ptsname(&master, Vec::new())?;
            let slave = rustix::fs::open(name.as_c_str(), flags, Mode::empty())?;
            resize(std::os::fd::AsFd::as_fd(&slave), size)?;
            Ok(Streams::Terminal { master, slave })
        };
        open().map_err(|source| LaunchError::Prepare { doing: "open a terminal".into(), source })
    }

    fn parent(self, pid: i32) -> Child {
        match self {
            Streams::Pipes { stdin, stdout, stderr } => Child {
                pid,
                stdin: stdin.map(|(ours, _)| ours),
                stdout: stdout.0,
                stderr: Some(stderr.0),
                report: None,
            },
            Streams::Terminal { master, slave: _ } => {
                let stdin = master.try_clone().ok();
                Child { pid, stdin, stdout: master, stderr: None, report: None }
            }
        }
    }

    fn into_child_ends(self) -> Option<(File, File)> {
        match self {
            // A worker has no standard error; its read end sees end of file at once.
            Streams::Pipes { stdin: Some((_, stdin)), stdout: (_, stdout), .. } => {
                Some((File::from(stdin), File::from(stdout)))
            }
            Streams::Pipes { .. } | Streams::Terminal { .. } => None,
        }
    }
}

/// In PID 1: becomes the image's init. Returns only when it cannot.
pub fn execute_init(launch: &Launch) -> Failed {
    reset_child();
    execute_first(launch)
}

/// What a child wrote before it gave up; `None` when it wrote nothing, because it was executed.
pub fn decode_failure(told: &[u8], launch: &Launch) -> Option<LaunchError> {
    Failed::decode(told).map(|failed| failed.into_error(launch))
}

/// A step between fork and exec that failed.
#[derive(Debug, Clone, Copy)]
pub struct Failed {
    step: u8,
    errno: i32,
}

const STEPS: [&str; 7] = [
    "exec",
    "open /dev/null",
    "set up standard streams",
    "get the terminal",
    "set groups",
    "set user and group",
    "change to the working directory",
];

impl Failed {
    fn last(step: u8) -> Failed {
        Failed { step, errno: io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO) }
    }

    /// For the pipe to the parent.
    pub fn encode(self) -> [u8; 5] {
        let errno = self.errno.to_le_bytes();
        [self.step, errno[0], errno[1], errno[2], errno[3]]
    }

    fn decode(bytes: &[u8]) -> Option<Failed> {
        let &[step, a, b, c, d] = bytes else { return None };
        Some(Failed { step, errno: i32::from_le_bytes([a, b, c, d]) })
    }

    /// What it means for this launch.
    pub fn into_error(self, launch: &Launch) -> LaunchError {
        let source = io::Error::from_raw_os_error(self.errno);
        match (self.step, self.errno) {
            (0, libc::ENOENT | libc::ENOTDIR) => LaunchError::NotFound(launch.program.clone()),
            (0, _) => LaunchError::NotExecutable { program: launch.program.clone(), source },
            (6, _) => {
                LaunchError::Prepare { doing: format!("change to working directory {}", launch.working_dir), source }
            }
            (step, _) => LaunchError::Prepare {
                doing: STEPS.get(usize::from(step)).copied().unwrap_or("start").to_owned(),
                source,
            },
        }
    }
}

/// In the child: becomes the process. Returns only when it cannot.
fn execute(launch: &Launch, streams: &Streams) -> Failed {
    reset_child();
    // SAFETY: plain system calls on descriptors and memory that live until exec.
    unsafe {
        libc::setsid();
        let (stdin, stdout, stderr): (RawFd, RawFd, RawFd) = match streams {
            Streams::Terminal { slave, .. } => {
                let slave = slave.as_raw_fd();
                if libc::ioctl(slave, libc::TIOCSCTTY, 0) != 0 {
                    return Failed::last(3);
                }
                // A user other than root could not open it again by name.
                libc::fchown(slave, launch.identity.uid, u32::MAX);
                (slave, slave, slave)
            }
            Streams::Pipes { stdin, stdout, stderr } => {
                let stdin = match stdin {
                    Some((_, child)) => child.as_raw_fd(),
                    None => libc::open(c"/dev/null".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC),
                };
                if stdin < 0 {
                    return Failed::last(1);
                }
                // As in a container: what the program prints to can be opened again through /dev/stdout.
                libc::fchown(stdout.1.as_raw_fd(), launch.identity.uid, u32::MAX);
                libc::fchown(stderr.1.as_raw_fd(), launch.identity.uid, u32::MAX);
                (stdin, stdout.1.as_raw_fd(), stderr.1.as_raw_fd())
            }
        };
        for (from, to) in [(stdin, 0), (stdout, 1), (stderr, 2)] {
            if libc::dup2(from, to) < 0 {
                return Failed::last(2);
            }
        }
        let groups: Vec<libc::gid_t> = launch.identity.groups.clone();
        if libc::setgroups(groups.len(), groups.as_ptr()) != 0 {
            return Failed::last(4);
        }
        if libc::setgid(launch.identity.gid) != 0 || libc::setuid(launch.identity.uid) != 0 {
            return Failed::last(5);
        }
        let Ok(directory) = CString::new(launch.working_dir.as_str()) else {
            return Failed { step: 6, errno: libc::EINVAL };
        };
        if libc::chdir(directory.as_ptr()) != 0 {
            return Failed::last(6);
        }
        execute_first(launch)
    }
}

/// Executes the first candidate that exists; permission problems are remembered while the search goes on, as execvp(3).
fn execute_first(launch: &Launch) -> Failed {
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (args, env) = (pointers(&launch.args), pointers(&launch.env));
    let mut failed = Failed { step: 0, errno: libc::ENOENT };
    for candidate in &launch.candidates {
        // SAFETY: the arrays end in null and their strings live until exec.
        unsafe { libc::execve(candidate.as_ptr(), args.as_ptr(), env.as_ptr()) };
        let last = Failed::last(0);
        match last.errno {
            libc::ENOENT | libc::ENOTDIR => {}
            libc::EACCES => failed = last,
            _ => return last,
        }
    }
    failed
}

/// In the child: undoes what this program did to its own signals, umask and standing with the OOM killer.
pub fn reset_child() {
    // SAFETY: signal sets are initialised before use; the calls cannot break memory.
    unsafe {
        for signal in 1..=64 {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
        libc::umask(0o022);
        let adjustment = libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if adjustment >= 0 {
            libc::write(adjustment, c"0".as_ptr().cast(), 1);
            libc::close(adjustment);
        }
    }
}

/// Ends a forked child without running anything of the parent's.
pub fn exit_child(code: i32) -> ! {
    // SAFETY: _exit does not return.
    unsafe { libc::_exit(code) }
}

/// A descriptor from a raw one that a system call has just made.
pub fn owned(fd: RawFd) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the caller's system call made it and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch;
    use ignite_agent_protocol::message::Process;

    fn run(args: &[&str]) -> Result<Child, LaunchError> {
        let args = args.iter().map(|&a| a.to_owned()).collect();
        let process = Process { args, user: format!("{}", rustix::process::getuid().as_raw()), ..Process::default() };
        start(&launch::plan(&process, &Facts::default())?)
    }

    #[test]
    fn failures_have_dockers_codes() {
        if !rustix::process::getuid().is_root() {
            eprintln!("skipped: setting groups needs root");
            return;
        }
        let table = [("/no/such/program", 127), ("no-such-program", 127), ("/etc", 126), ("/etc/passwd", 126)];
        for (program, code) in table {
            assert_eq!(run(&[program]).unwrap_err().exit_code(), code, "{program}");
        }
    }

    #[test]
    fn a_failure_survives_the_pipe() {
        let failed = Failed::decode(&Failed { step: 4, errno: -5 }.encode()).unwrap();
        assert_eq!((failed.step, failed.errno), (4, -5));
        assert!(Failed::decode(&[]).is_none());
    }
}
