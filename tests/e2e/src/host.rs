//! A host: a data and a run directory of its own, so that no two tests meet, and a kernel already imported.

use crate::images;
use crate::invocation::Invocation;
use crate::leaks::{self, Listing};
use crate::outcome::Outcome;
use crate::terminal::Terminal;
use crate::throwaway::Throwaway;
use crate::vm::Vm;
use crate::vmm::Vmm;
use crate::wait::{BOOT, QUICK};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A host. What it holds is removed when it is dropped; whether something was left is asked with
/// [`Host::assert_nothing_left`].
#[derive(Debug)]
pub struct Host {
    root: TempDir,
    names: AtomicU32,
    before: Listing,
    /// What goes before `ignite`, where the host is a throw-away one.
    entry: Vec<String>,
    /// Variables of every call.
    environment: Vec<(String, String)>,
    /// Where `ignite` is; `None`: where cargo has built it.
    programs: Option<PathBuf>,
}

/// Files from this size on are linked, not copied, from the prepared host: disks, blobs and kernels, which are never
/// written again. Small files (records, locks) are copied, so that hosts share no lock.
const LINKED_FROM_BYTES: u64 = 64 * 1024;

/// How long a process that has done all its work may take to be gone.
const LAST_MOMENTS: Duration = Duration::from_secs(5);

impl Host {
    /// The host that most tests share, each with its own VM names.
    pub fn shared() -> &'static Host {
        static SHARED: OnceLock<Host> = OnceLock::new();
        SHARED.get_or_init(Host::new)
    }

    /// A host with a kernel and the busybox image, copied from one that was prepared once.
    pub fn new() -> Host {
        let mut host = Host::empty();
        copy_tree(&prepared().data_dir(), &host.data_dir(), LINKED_FROM_BYTES);
        host.before = Listing::of(&host.data_dir());
        host
    }

    /// The same, with everything it does done on a throw-away host.
    pub fn on(throwaway: &Throwaway) -> Host {
        let mut host = Host::new();
        host.entry = throwaway.entry();
        host
    }

    /// The same, with everything it does done where no cgroup file system is mounted.
    pub fn without_control_groups(mut self) -> Host {
        let script = "umount -R -l /sys/fs/cgroup && exec \"$@\"";
        let words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"];
        self.entry = words.map(str::to_owned).to_vec();
        self
    }

    /// The same, with a variable in the environment of every call.
    pub fn with_env(mut self, name: &str, value: impl Into<String>) -> Host {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// A host with nothing, on which everything is done by an ordinary user without any capability, on a throw-away host.
    /// What the user needs of the build and of the caches is copied, because it may not be for everybody to read.
    pub fn of_user(uid: u32, throwaway: &Throwaway) -> Host {
        let mut host = Host::empty();
        let programs = host.path("programs");
        fs::create_dir(&programs).expect("make a directory");
        for name in ["ignite", "ignite-spawn", "ignited"] {
            fs::copy(program(name), programs.join(name)).expect("copy a program");
        }
        fs::copy(images::kernel_package(), host.path("kernel.deb")).expect("copy a kernel");
        fs::create_dir(host.path("busybox")).expect("make a directory");
        // Copied to the last byte: what is given to the user may be nobody else's.
        copy_tree(images::layout(images::busybox()), &host.path("busybox"), u64::MAX);
        let given = Command::new("chown").args(["-R", &format!("{uid}:{uid}")]).arg(host.root.path()).status();
        assert!(given.is_ok_and(|status| status.success()), "give the host to the user");
        host.entry = throwaway.entry();
        host.entry.extend(["setpriv".to_owned(), format!("--reuid={uid}"), format!("--regid={uid}")]);
        let without = ["--clear-groups", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs", "--"];
        host.entry.extend(without.map(str::to_owned));
        host.programs = Some(programs);
        host
    }

    /// A host with nothing: no kernel, no image.
    pub fn empty() -> Host {
        // Socket paths have at most 107 bytes: a short directory, whatever TMPDIR says.
        let root = tempfile::Builder::new().prefix("ignite-e2e-").tempdir_in("/tmp").expect("make a test directory");
        for dir in ["data", "run", "home"] {
            fs::create_dir(root.path().join(dir)).expect("make a test directory");
        }
        Host {
            root,
            names: AtomicU32::new(0),
            before: Listing::default(),
            entry: Vec::new(),
            environment: Vec::new(),
            programs: None,
        }
    }

    /// Where its objects are.
    pub fn data_dir(&self) -> PathBuf {
        self.root.path().join("data")
    }

    /// Where its sockets are.
    pub fn run_dir(&self) -> PathBuf {
        self.root.path().join("run")
    }

    /// A file or directory for the test's own use.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Writes a file for the test's own use.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("below the test directory")).expect("make a directory");
        fs::write(&path, content).expect("write a file");
        path
    }

    /// A call of `ignite` on this host.
    pub fn ignite<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Invocation {
        self.program("ignite", args)
    }

    /// A call of `ignited` on this host.
    pub fn ignited<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Invocation {
        self.program("ignited", args)
    }

    fn program<S: AsRef<OsStr>>(&self, name: &str, args: impl IntoIterator<Item = S>) -> Invocation {
        let program = match &self.programs {
            Some(directory) => directory.join(name),
            None => program(name),
        };
        let call = match self.entry.split_first() {
            Some((enter, rest)) => Invocation::new(enter).args(rest).args([program]),
            None => Invocation::new(program),
        };
        let call = Vmm::wanted().environment().into_iter().fold(call, |call, (name, value)| call.env(name, value));
        let call = self.environment.iter().fold(call, |call, (name, value)| call.env(name, value));
        call.args(args)
            .env("IGNITE_DATA_DIR", self.data_dir())
            .env("IGNITE_RUN_DIR", self.run_dir())
            .env("HOME", self.root.path().join("home"))
            .env("DOCKER_CONFIG", self.root.path().join("home/.docker"))
    }

    /// `ignite ARGS`, which ends by itself.
    #[track_caller]
    pub fn does<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Outcome {
        self.ignite(args).finish()
    }

    /// `ignite run ARGS`.
    #[track_caller]
    pub fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Outcome {
        self.ignite(["run"]).args(args).finish()
    }

    /// `ignite ARGS` on a terminal.
    #[track_caller]
    pub fn terminal<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Terminal {
        Terminal::open(self.ignite(args))
    }

    /// A VM to be, with a name like `web-3`; it is removed at the end of the test.
    pub fn vm(&self, name: &str) -> Vm<'_> {
        Vm::named(self, format!("{name}-{}", self.names.fetch_add(1, Ordering::Relaxed)))
    }

    /// Another handle of a VM that a test has made.
    pub fn existing_vm(&self, name: String) -> Vm<'_> {
        Vm::named(self, name)
    }

    /// Ids of all VMs, from `ps`.
    #[track_caller]
    pub fn vm_ids(&self) -> Vec<String> {
        let listed = self.ignite(["ps", "-a", "-q"]).within(QUICK).finish();
        listed.succeeds().text().split_whitespace().map(str::to_string).collect()
    }

    /// Checks that no VM, process, mount, socket or half-made object of this host is left.
    #[track_caller]
    pub fn assert_nothing_left(&self) {
        // A supervisor tells its clients of the end before it has ended itself.
        let started = Instant::now();
        loop {
            let left = leaks::of(self.root.path(), &self.data_dir(), &self.run_dir(), &self.before);
            if left.is_empty() {
                return;
            }
            assert!(started.elapsed() < LAST_MOMENTS, "left behind:\n  {}", left.join("\n  "));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Checks that a VM that does not run has no process either.
    #[track_caller]
    pub fn assert_no_process_of(&self, vm: &Vm<'_>) {
        let uid = vm.uid();
        // A supervisor records the end before it has ended itself.
        crate::wait::until(&format!("the end of {}'s processes", vm.name()), QUICK, || {
            let mut processes = crate::processes::touching(&self.run_dir().join("vm").join(&uid));
            processes.extend(crate::processes::touching(&self.data_dir().join("vm").join(&uid)));
            processes.is_empty().then_some(())
        });
    }

    /// Directory that holds everything of this host.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// Disk space of the data directory, holes not counted.
    pub fn used_bytes(&self) -> u64 {
        leaks::used_bytes(&self.data_dir())
    }

    /// Ends and removes whatever is left, and says what a VM's logs say if the test has failed.
    fn clean_up(&self) {
        if std::thread::panicking() {
            crate::vm::show_logs(&self.data_dir(), None);
        }
        let remaining = fs::read_dir(self.data_dir().join("vm")).into_iter().flatten().flatten();
        let uids: Vec<_> = remaining.map(|entry| entry.file_name()).collect();
        if !uids.is_empty() {
            // A panic while panicking would abort the run, so nothing here may: outcomes are not looked at.
            let _ = std::panic::catch_unwind(|| self.ignite(["rm", "-f"]).args(&uids).within(BOOT).finish());
        }
        for process in crate::processes::touching(self.root.path()) {
            crate::processes::signal(process.pid, rustix::process::Signal::KILL);
        }
    }
}

impl Default for Host {
    fn default() -> Host {
        Host::new()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.clean_up();
    }
}

/// The host whose kernel and image all others are copied from.
fn prepared() -> &'static Host {
    static PREPARED: OnceLock<Host> = OnceLock::new();
    PREPARED.get_or_init(|| {
        let host = Host::empty();
        host.ignite(["kernel", "import"]).args([images::kernel_package()]).finish().succeeds();
        host.does(["image", "import", images::busybox()]).succeeds();
        host
    })
}

/// Ends the hosts that live as long as the process, whose destructors the language does not run.
pub(crate) fn end_long_lived_hosts() {
    for host in [Host::shared(), prepared()] {
        host.clean_up();
        let _ = fs::remove_dir_all(host.root.path());
    }
}

/// A program that cargo has built beside the tests.
///
/// # Panics
/// When it has not been built.
pub fn program(name: &str) -> PathBuf {
    if let Some(dir) = std::env::var_os("IGNITE_E2E_PROGRAMS") {
        return Path::new(&dir).join(name);
    }
    let tests = std::env::current_exe().expect("path of this program");
    let profile = tests.ancestors().nth(2).expect("target/<profile>/deps/<test>");
    let path = profile.join(name);
    assert!(path.is_file(), "{} is missing: type `cargo build -p ignite -p ignited` first", path.display());
    path
}

/// Copies a tree; files from this size on are linked.
fn copy_tree(from: &Path, to: &Path, linked_from: u64) {
    for entry in fs::read_dir(from).expect("read a directory").flatten() {
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().expect("type of an entry");
        if kind.is_dir() {
            fs::create_dir_all(&target).expect("make a directory");
            fs::set_permissions(&target, entry.metadata().expect("metadata").permissions()).expect("set a mode");
            copy_tree(&source, &target, linked_from);
        } else if kind.is_symlink() {
            let link = fs::read_link(&source).expect("read a link");
            std::os::unix::fs::symlink(link, &target).expect("make a link");
        } else if entry.metadata().expect("metadata").size() >= linked_from {
            fs::hard_link(&source, &target).expect("link a file");
        } else {
            fs::copy(&source, &target).expect("copy a file");
        }
    }
}
