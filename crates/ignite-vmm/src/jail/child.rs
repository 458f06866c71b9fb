//! The child between its birth and the program: system calls on memory that the parent made ready, nothing else.
//!
//! It is the copy of one thread of a process that may have had others: no allocation, no lock, no library call that has
//! state. It tells the parent one record when a step fails, and ends; a program that runs has told nothing.

use super::birth::OwnMaps;
use super::step::Step;
use seccompiler::sock_filter;
use std::ffi::{CStr, CString};
use std::os::fd::RawFd;
use std::ptr;

/// Everything the child needs.
pub(super) struct Child<'a> {
    pub(super) steps: &'a [Step],
    pub(super) program: &'a CStr,
    /// Ends with a null pointer.
    pub(super) argv: &'a [*const libc::c_char],
    /// Inherited under their own numbers.
    pub(super) inherited: &'a [RawFd],
    pub(super) filter: &'a [sock_filter],
    /// Becomes standard input and output.
    pub(super) stdio: RawFd,
    /// Becomes standard error.
    pub(super) stderr: RawFd,
    /// One byte comes when the parent has done its part; it is hung up when the parent is gone.
    pub(super) go: RawFd,
    /// The parent's end of `go`, of which the child has a copy.
    pub(super) go_parent: RawFd,
    /// Takes the record of a failure.
    pub(super) report: RawFd,
    /// Ends before the program is executed: whether the jail can be made is all that is asked.
    pub(super) is_probe: bool,
    /// It writes the maps of its user namespace itself.
    pub(super) own_maps: Option<&'a OwnMaps>,
}

/// What a record says failed when it was no step.
pub(super) const BEFORE_STEPS: u16 = u16::MAX - 1;
/// The program could not be executed.
pub(super) const EXEC: u16 = u16::MAX;
/// Bytes of a record: the number of the step and its errno, as u16 LE each.
pub(super) const RECORD_LEN: usize = 4;

type Done = Result<(), i32>;

impl Child<'_> {
    /// Becomes the program, or ends.
    ///
    /// # Safety
    /// Only in a process that was just cloned, with its memory its own: it changes the whole process.
    pub(super) unsafe fn run(&self) -> ! {
        // SAFETY: by this function's own contract.
        unsafe {
            if let Err(errno) = self.prepare() {
                self.fail(BEFORE_STEPS, errno);
            }
            for (index, step) in self.steps.iter().enumerate() {
                if let Err(errno) = self.take(step) {
                    self.fail(index as u16, errno);
                }
            }
            libc::umask(0o077);
            // Once more, because a change of user clears it. The parent may have ended meanwhile.
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            if self.is_parent_gone() || self.is_probe {
                libc::_exit(0);
            }
            let environment: [*const libc::c_char; 1] = [ptr::null()];
            libc::execve(self.program.as_ptr(), self.argv.as_ptr(), environment.as_ptr());
            self.fail(EXEC, errno());
        }
    }

    unsafe fn fail(&self, what: u16, errno: i32) -> ! {
        let [low, high] = what.to_le_bytes();
        let [errno_low, errno_high] = (errno as u16).to_le_bytes();
        let record = [low, high, errno_low, errno_high];
        // SAFETY: the record outlives the call; nothing runs after it.
        unsafe {
            libc::write(self.report, record.as_ptr().cast(), record.len());
            libc::_exit(127)
        }
    }

    unsafe fn prepare(&self) -> Done {
        // SAFETY: plain system calls on numbers and on locals that outlive them.
        unsafe {
            libc::close(self.go_parent);
            check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
            let mut byte = 0_u8;
            if libc::read(self.go, ptr::from_mut(&mut byte).cast(), 1) != 1 {
                libc::_exit(127);
            }
            if let Some(maps) = self.own_maps {
                maps.write()?;
            }
            libc::setsid();
            libc::umask(0);
            // As for every new program: the parent ignores SIGPIPE and may block signals.
            libc::signal(libc::SIGPIPE, libc::SIG_DFL);
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &none, ptr::null_mut());
            for (from, to) in [(self.stdio, 0), (self.stdio, 1), (self.stderr, 2)] {
                check(libc::dup2(from, to))?;
            }
            // Nothing is inherited but what is named: whatever the parent or a library of it left open stays out.
            check_long(libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC))?;
            for &fd in self.inherited {
                check(libc::fcntl(fd, libc::F_SETFD, 0))?;
            }
            check(libc::chdir(c"/".as_ptr()))
        }
    }

    unsafe fn is_parent_gone(&self) -> bool {
        let mut go = libc::pollfd { fd: self.go, events: 0, revents: 0 };
        // SAFETY: one entry that outlives the call.
        unsafe { libc::poll(&mut go, 1, 0) > 0 && go.revents & libc::POLLHUP != 0 }
    }

    unsafe fn take(&self, step: &Step) -> Done {
        // SAFETY: plain system calls; every pointer is to memory of the parent's plan or a local that outlives the call.
        unsafe {
            match step {
                Step::Unshare(flag) => check(libc::unshare(*flag)),
                Step::PrivateMounts => mount(None, c"/", None, libc::MS_REC | libc::MS_PRIVATE, None),
                Step::EmptyRoot { at } => {
                    let options = c"mode=755,size=64k,nr_inodes=512";
                    let flags = libc::MS_NOSUID | libc::MS_NOEXEC;
                    mount(Some(c"jail"), at, Some(c"tmpfs"), flags, Some(options))?;
                    check(libc::chdir(at.as_ptr()))
                }
                Step::Directory(path) => match check(libc::mkdir(path.as_ptr(), 0o755)) {
                    Err(libc::EEXIST) => Ok(()),
                    other => other,
                },
                Step::File(path) => {
                    let flags = libc::O_CREAT | libc::O_WRONLY | libc::O_CLOEXEC | libc::O_NOFOLLOW;
                    let fd = libc::open(path.as_ptr(), flags, 0o644);
                    check(fd)?;
                    check(libc::close(fd))
                }
                Step::Link { target, at } => check(libc::symlink(target.as_ptr(), at.as_ptr())),
                Step::Bind { from, at, is_read_only, is_device } => bind(from, at, *is_read_only, *is_device),
                Step::Device { at, number } => {
                    check(libc::mknod(at.as_ptr(), libc::S_IFCHR | 0o666, *number as libc::dev_t))
                }
                Step::Proc => mount_proc(),
                Step::EnterRoot => enter_root(),
                Step::Limit { resource, value } => limit(*resource, *value),
                Step::EmptyBoundingSet => empty_bounding_set(),
                Step::User { uid, group } => become_user(*uid, *group),
                Step::EnterNetwork { path } => enter_network(path),
                Step::NoCapabilities => no_capabilities(),
                Step::NoNewPrivileges => check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)),
                Step::AllowDevice { ruleset, at } => allow_device(*ruleset, at),
                Step::Landlock { ruleset } => check_long(libc::syscall(libc::SYS_landlock_restrict_self, *ruleset, 0)),
                Step::Seccomp => self.filter(),
            }
        }
    }

    unsafe fn filter(&self) -> Done {
        let program =
            libc::sock_fprog { len: self.filter.len() as u16, filter: self.filter.as_ptr().cast_mut().cast() };
        // SAFETY: `sock_filter` is the kernel's own layout, and the program outlives the call.
        unsafe {
            check_long(libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, ptr::from_ref(&program)))
        }
    }
}

unsafe fn mount(
    source: Option<&CStr>,
    target: &CStr,
    kind: Option<&CStr>,
    flags: libc::c_ulong,
    data: Option<&CStr>,
) -> Done {
    let pointer = |text: Option<&CStr>| text.map_or(ptr::null(), CStr::as_ptr);
    // SAFETY: all are C strings or null.
    unsafe { check(libc::mount(pointer(source), target.as_ptr(), pointer(kind), flags, pointer(data).cast())) }
}

unsafe fn bind(from: &CString, at: &CString, is_read_only: bool, is_device: bool) -> Done {
    // SAFETY: C strings of the plan.
    unsafe {
        // Recursive: a user namespace may not show what is below the mounts of the host's file systems.
        mount(Some(from), at, None, libc::MS_BIND | libc::MS_REC, None)?;
        let mut attributes = libc::MOUNT_ATTR_NOSUID;
        if is_read_only {
            attributes |= libc::MOUNT_ATTR_RDONLY;
        }
        attributes |= if is_device { libc::MOUNT_ATTR_NOEXEC } else { libc::MOUNT_ATTR_NODEV };
        set_attributes(at, attributes, libc::AT_RECURSIVE)
    }
}

unsafe fn set_attributes(at: &CStr, attributes: u64, flags: i32) -> Done {
    let change = libc::mount_attr { attr_set: attributes, attr_clr: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: the structure has the size given and outlives the call.
    unsafe {
        check_long(libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            at.as_ptr(),
            flags,
            ptr::from_ref(&change),
            size_of::<libc::mount_attr>(),
        ))
    }
}

/// Of processes only, where the kernel can (5.8); each hidden from other users.
unsafe fn mount_proc() -> Done {
    let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    // SAFETY: C strings.
    unsafe {
        let result = mount(Some(c"proc"), c"proc", Some(c"proc"), flags, Some(c"hidepid=invisible,subset=pid"));
        match result {
            Err(libc::EINVAL) => mount(Some(c"proc"), c"proc", Some(c"proc"), flags, Some(c"hidepid=2")),
            other => other,
        }
    }
}

/// `pivot_root(2)`, "pivot_root(".", ".")": the old root ends up on top of the new one and is let go.
unsafe fn enter_root() -> Done {
    // SAFETY: C strings.
    unsafe {
        check_long(libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()))?;
        check(libc::umount2(c".".as_ptr(), libc::MNT_DETACH))?;
        check(libc::chdir(c"/".as_ptr()))?;
        set_attributes(c"/", libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC, 0)
    }
}

/// Lowers a limit; one that is lower already stays.
unsafe fn limit(resource: u32, value: u64) -> Done {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the structure outlives both calls.
    unsafe {
        check(libc::getrlimit(resource as _, &mut limit))?;
        limit.rlim_max = limit.rlim_max.min(value);
        limit.rlim_cur = limit.rlim_cur.min(limit.rlim_max);
        if resource == libc::RLIMIT_NOFILE {
            limit.rlim_cur = limit.rlim_max;
        }
        check(libc::setrlimit(resource as _, &limit))
    }
}

unsafe fn empty_bounding_set() -> Done {
    for capability in 0..64 {
        // SAFETY: numbers only.
        match unsafe { check(libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0)) } {
            // One more than the kernel knows.
            Err(libc::EINVAL) => return Ok(()),
            other => other?,
        }
    }
    Ok(())
}

/// By the system calls themselves: libc's own would tell other threads, of which there are none.
unsafe fn become_user(uid: u32, group: Option<u32>) -> Done {
    let groups = [group.unwrap_or_default()];
    let count = usize::from(group.is_some());
    // SAFETY: the group list outlives its call.
    unsafe {
        check_long(libc::syscall(libc::SYS_setgroups, count, groups.as_ptr()))?;
        check_long(libc::syscall(libc::SYS_setresgid, uid, uid, uid))?;
        check_long(libc::syscall(libc::SYS_setresuid, uid, uid, uid))
    }
}

unsafe fn no_capabilities() -> Done {
    // `_LINUX_CAPABILITY_VERSION_3` and this process; then effective, permitted and inheritable, twice.
    let header: [u32; 2] = [0x2008_0522, 0];
    let none = [0_u32; 6];
    // SAFETY: both have the kernel's layout and outlive the call.
    unsafe {
        match check(libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)) {
            Ok(()) | Err(libc::EINVAL) => {}
            other => other?,
        }
        check_long(libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()))
    }
}

/// `struct landlock_path_beneath_attr` (`linux/landlock.h`).
#[repr(C, packed)]
struct PathBeneathAttr {
    allowed_access: u64,
    parent_fd: i32,
}

/// `LANDLOCK_RULE_PATH_BENEATH`.
const RULE_PATH_BENEATH: i32 = 1;
/// `LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_READ_FILE`.
const OPEN_RIGHTS: u64 = 1 << 1 | 1 << 2;
/// `LANDLOCK_ACCESS_FS_IOCTL_DEV`, since ABI 5.
const IOCTL_RIGHT: u64 = 1 << 15;

unsafe fn allow_device(ruleset: i32, at: &CString) -> Done {
    // SAFETY: a C string of the plan; the rule outlives its calls.
    unsafe {
        let parent_fd = libc::open(at.as_ptr(), libc::O_PATH | libc::O_CLOEXEC);
        check(parent_fd)?;
        let add = |allowed_access| {
            let rule = PathBeneathAttr { allowed_access, parent_fd };
            check_long(libc::syscall(libc::SYS_landlock_add_rule, ruleset, RULE_PATH_BENEATH, ptr::from_ref(&rule), 0))
        };
        match add(OPEN_RIGHTS | IOCTL_RIGHT) {
            // An older kernel restricts no ioctl.
            Err(libc::EINVAL) => add(OPEN_RIGHTS),
            other => other,
        }
    }
}

/// Joins an existing network namespace.
unsafe fn enter_network(path: &CStr) -> Done {
    // SAFETY: system calls only, on a C string that outlives them.
    unsafe {
        let fd = libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        check(fd)?;
        let entered = check(libc::setns(fd, libc::CLONE_NEWNET));
        libc::close(fd);
        entered
    }
}

fn check(result: i32) -> Done {
    if result < 0 { Err(errno()) } else { Ok(()) }
}

fn check_long(result: libc::c_long) -> Done {
    if result < 0 { Err(errno()) } else { Ok(()) }
}

fn errno() -> i32 {
    // SAFETY: errno is this thread's own.
    unsafe { *libc::__errno_location() }
}
