//! Starts a program in its jail; a measure that fails is left out, or, where isolation is strict, refuses the start.

use super::birth::{BirthError, OwnMaps, Unborn, bear, map_caller};
use super::cgroup::{self, Cgroup, Controller, Layout};
use super::child::{BEFORE_STEPS, Child, EXEC, RECORD_LEN};
use super::filter;
use super::host::HostFacts;
use super::measure::{Measure, Missing, told};
use super::plan::{self, ROOT_DIR, must_be_root, with_dependents};
use super::process::Process;
use super::rules;
use super::spec::{JailSpec, Network, Share, ShareAccess};
use super::step::Step;
use crate::boot_spec::IsolationWanted;
use rustix::pipe::{PipeFlags, pipe_with};
use seccompiler::sock_filter;
use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use thiserror::Error;

/// What fails when a machine's network cannot be entered.
const ENTER_NETWORK: &str = "enter the machine's network";

/// A program that runs in its jail.
#[derive(Debug)]
pub struct Jailed {
    /// The process.
    pub process: Process,
    /// What it writes to standard error; its standard input and output are `/dev/null`.
    pub stderr: File,
    /// Each measure, and `applied` or why it could not be.
    pub isolation: BTreeMap<String, String>,
}

/// Why a program was not started. Nothing of it is left.
#[derive(Debug, Error)]
pub enum JailError {
    /// Isolation is strict, and the host allows less.
    #[error("isolation is strict, but this host does not allow: {}", shown(.0))]
    TooLittle(BTreeMap<&'static str, String>),
    /// Something every start needs.
    #[error("{what}")]
    Start {
        /// What failed.
        what: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

fn shown(missing: &BTreeMap<&'static str, String>) -> String {
    missing.iter().map(|(name, reason)| format!("{name} ({reason})")).collect::<Vec<_>>().join("; ")
}

/// Starts the program. It dies with the thread that calls this, whatever ends that.
pub fn spawn(spec: &JailSpec) -> Result<Jailed, JailError> {
    let run = Start::prepare(spec, false)?.run()?;
    if spec.isolation == IsolationWanted::Strict && !run.missing.is_empty() {
        return Err(JailError::TooLittle(run.missing.into_iter().map(|(m, reason)| (m.as_str(), reason)).collect()));
    }
    let isolation = told(spec.isolation, run.is_root, &run.missing);
    let (process, stderr) = run.started.ok_or_else(|| start_error("start")(io::ErrorKind::Other.into()))?;
    Ok(Jailed { process, stderr, isolation })
}

/// What [`spawn`] would tell of isolation, found by making the jail and ending before the program is executed.
pub fn probe(spec: &JailSpec) -> Result<BTreeMap<String, String>, JailError> {
    let run = Start::prepare(spec, true)?.run()?;
    Ok(told(spec.isolation, run.is_root, &run.missing))
}

fn start_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> JailError {
    let what = what.into();
    move |source| JailError::Start { what, source }
}

/// A start that is being tried, with what is found to be missing.
struct Start {
    spec: JailSpec,
    facts: HostFacts,
    missing: Missing,
    cgroup: Cgroup,
    filter: Vec<sock_filter>,
    is_probe: bool,
}

/// How a start went.
struct Run {
    is_root: bool,
    missing: Missing,
    /// Absent when it was a probe, or strict with something missing.
    started: Option<(Process, File)>,
}

/// How one attempt went.
enum Attempt {
    Started(Unborn, OwnedFd, File),
    /// This measure cannot be had.
    Without(Measure, String),
}

impl Start {
    fn prepare(spec: &JailSpec, is_probe: bool) -> Result<Start, JailError> {
        let mut spec = spec.clone();
        // The program sees the path it is executed by; links would lead to what it does not see.
        let program = std::fs::canonicalize(&spec.program);
        spec.program = program.map_err(start_error(format!("find {}", spec.program.display())))?;
        spec.shares.push(Share::same(spec.program.clone(), ShareAccess::Execute));
        let facts = HostFacts::look(&spec.shares);
        let mut start =
            Start { spec, facts, missing: Missing::new(), cgroup: Cgroup::default(), filter: Vec::new(), is_probe };
        if start.spec.isolation != IsolationWanted::None {
            start.make_ready()?;
        }
        Ok(start)
    }

    /// What is made outside of the child: the place of its root, its groups, its filter.
    fn make_ready(&mut self) -> Result<(), JailError> {
        let root: PathBuf = self.spec.run_dir.join(ROOT_DIR);
        match std::fs::create_dir(&root) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => other.map_err(start_error(format!("make {}", root.display())))?,
        }
        if self.spec.network == Network::Callers {
            self.missing.insert(Measure::NetworkNamespace, "this VMM opens its interfaces in its caller's".to_owned());
        }
        match filter::program() {
            Ok(program) => self.filter = program,
            Err(reason) => _ = self.missing.insert(Measure::Seccomp, reason),
        }
        let layout = Layout::of_host().unwrap_or_default();
        let plan = cgroup::plan(&layout, &self.spec.id, &self.spec.limits, self.facts.is_root);
        let made = Cgroup::create(plan, &self.spec.limits, &self.spec.run_dir);
        let (cgroup, limits) = made.map_err(start_error("record the control groups"))?;
        self.cgroup = cgroup;
        let refused = limits.into_iter().filter_map(|(controller, result)| Some((controller, result.err()?)));
        self.miss_limits(refused.collect());
        Ok(())
    }

    fn miss_limits(&mut self, refused: Vec<(Controller, String)>) {
        for (controller, reason) in refused {
            let measure = match controller {
                Controller::Memory => Measure::MemoryLimit,
                Controller::Cpu => Measure::CpuLimit,
                Controller::Pids => Measure::PidsLimit,
            };
            self.missing.insert(measure, reason);
        }
    }

    /// Tries until an attempt goes through: each that does not takes one measure away.
    fn run(mut self) -> Result<Run, JailError> {
        let is_strict = self.spec.isolation == IsolationWanted::Strict;
        loop {
            self.missing = with_dependents(&self.facts, std::mem::take(&mut self.missing));
            if let Some(reason) = must_be_root(&self.facts, &self.missing) {
                self.missing.entry(Measure::UnprivilegedUser).or_insert_with(|| reason.to_owned());
            }
            // Its interfaces are nowhere else: without them it would open, or make, some of its caller's.
            if let (Network::Machines(_), Some(reason)) =
                (&self.spec.network, self.missing.get(&Measure::NetworkNamespace))
            {
                let _ = self.cgroup.remove();
                return Err(start_error(ENTER_NETWORK)(io::Error::other(reason.clone())));
            }
            // What will be refused anyway is only looked at to the end.
            let is_probe = self.is_probe || (is_strict && !self.missing.is_empty());
            let attempt = match self.attempt(is_probe) {
                Ok(attempt) => attempt,
                Err(error) => {
                    let _ = self.cgroup.remove();
                    return Err(error);
                }
            };
            match attempt {
                Attempt::Without(measure, reason) => {
                    if self.missing.insert(measure, reason).is_some() {
                        let _ = self.cgroup.remove();
                        return Err(start_error(measure.as_str())(io::Error::other("it fails without being tried")));
                    }
                }
                Attempt::Started(unborn, pidfd, stderr) => {
                    let cgroup = std::mem::take(&mut self.cgroup);
                    let process =
                        Process::watch(unborn.pid, pidfd, cgroup).map_err(start_error("watch the process"))?;
                    unborn.keep();
                    let is_refused = is_strict && !self.missing.is_empty();
                    let started = (!is_probe && !is_refused).then_some((process, stderr));
                    return Ok(Run { is_root: self.facts.is_root, missing: self.missing, started });
                }
            }
        }
    }

    fn attempt(&mut self, is_probe: bool) -> Result<Attempt, JailError> {
        let ruleset = match (self.spec.isolation, self.missing.contains_key(&Measure::Landlock)) {
            (IsolationWanted::None, _) | (_, true) => None,
            _ => match rules::ruleset(&self.spec) {
                Ok(ruleset) => Some(ruleset),
                Err(reason) => return Ok(Attempt::Without(Measure::Landlock, reason)),
            },
        };
        let plan = plan::plan(&self.spec, &self.facts, &self.missing, ruleset.as_ref().map_or(-1, AsRawFd::as_raw_fd));
        let (measures, steps): (Vec<Measure>, Vec<Step>) = plan.steps.into_iter().unzip();
        let pipes = start_error("make a pipe");
        let made = (|| {
            let (go, go_parent) = pipe_with(PipeFlags::CLOEXEC)?;
            let (report_parent, report) = pipe_with(PipeFlags::CLOEXEC)?;
            let (stderr_parent, stderr) = pipe_with(PipeFlags::CLOEXEC)?;
            let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
            Ok((go, go_parent, report_parent, report, stderr_parent, stderr, null))
        })();
        let (go, go_parent, report_parent, report, stderr_parent, stderr, null) = made.map_err(pipes)?;
        let program = c_string(self.spec.program.as_os_str().as_bytes())?;
        let arguments: Vec<CString> =
            self.spec.arguments.iter().map(|argument| c_string(argument.as_bytes())).collect::<Result<_, _>>()?;
        let mut argv = vec![program.as_ptr()];
        argv.extend(arguments.iter().map(|argument| argument.as_ptr()));
        argv.push(std::ptr::null());
        let is_in_user_namespace = plan.born_in & libc::CLONE_NEWUSER != 0;
        let own_maps = (is_in_user_namespace && plan.enters.is_some()).then(OwnMaps::of_caller);
        let child = Child {
            steps: &steps,
            program: &program,
            argv: &argv,
            inherited: &self.spec.inherited,
            filter: &self.filter,
            stdio: self.spec.stdio.unwrap_or(null.as_raw_fd()),
            stderr: stderr.as_raw_fd(),
            go: go.as_raw_fd(),
            go_parent: go_parent.as_raw_fd(),
            report: report.as_raw_fd(),
            is_probe,
            own_maps: own_maps.as_ref(),
        };
        // SAFETY: the child runs nothing but `Child::run`.
        let (pid, pidfd) = match unsafe { bear(plan.enters.as_deref(), plan.born_in) } {
            // SAFETY: this is the child, and it is new.
            Ok(None) => unsafe { child.run() },
            Ok(Some(born)) => born,
            Err(BirthError::Enter(error)) => return Err(start_error(ENTER_NETWORK)(error)),
            Err(BirthError::Clone(error)) => {
                let measure = match plan.born_in {
                    0 => return Err(start_error("clone")(error)),
                    flags if flags & libc::CLONE_NEWUSER != 0 => Measure::UserNamespace,
                    _ => Measure::PidNamespace,
                };
                return Ok(Attempt::Without(measure, error.to_string()));
            }
        };
        drop((go, report, stderr, null));
        let unborn = Unborn::of(pid);
        if is_in_user_namespace
            && plan.enters.is_none()
            && let Err(error) = map_caller(pid)
        {
            return Ok(Attempt::Without(Measure::UserNamespace, format!("map its user: {error}")));
        }
        let refused = self.cgroup.add(pid.as_raw_nonzero().get().cast_unsigned());
        self.miss_limits(refused);
        let mut go_parent = File::from(go_parent);
        go_parent.write_all(&[1]).map_err(start_error("let the process go"))?;
        let failure = read_report(report_parent);
        // Held until now: its end tells the child that nobody waits for it any more.
        drop(go_parent);
        match failure {
            None => Ok(Attempt::Started(unborn, pidfd, stderr_parent.into())),
            Some((EXEC, error)) => Err(start_error(format!("execute {}", self.spec.program.display()))(error)),
            Some((BEFORE_STEPS, error)) => Err(start_error("prepare the process")(error)),
            Some((index, error)) => match (measures.get(usize::from(index)), steps.get(usize::from(index))) {
                (Some(measure), Some(step)) => Ok(Attempt::Without(*measure, format!("{step}: {error}"))),
                _ => Err(start_error("prepare the process")(error)),
            },
        }
    }
}

/// Waits until the child has become the program (nothing is told) or has failed.
fn read_report(report: OwnedFd) -> Option<(u16, io::Error)> {
    let mut record = [0_u8; RECORD_LEN];
    File::from(report).read_exact(&mut record).ok()?;
    let [low, high, errno_low, errno_high] = record;
    let errno = u16::from_le_bytes([errno_low, errno_high]);
    Some((u16::from_le_bytes([low, high]), io::Error::from_raw_os_error(errno.into())))
}

fn c_string(bytes: &[u8]) -> Result<CString, JailError> {
    CString::new(bytes).map_err(|error| start_error("pass an argument")(error.into()))
}
