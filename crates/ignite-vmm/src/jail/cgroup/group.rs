//! A VMM's control groups: made, joined, watched and removed.

use super::breach::{Breach, counter};
use super::layout::Controller;
use super::leftovers;
use super::plan::{Limits, NewGroup, Plan, Setting};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// For each controller that was asked for whether its limit is in force, or why not.
pub type Outcomes = BTreeMap<Controller, Result<(), String>>;

/// A group at its limit may count this much less: the kernel charges in batches per CPU.
const CHARGE_BATCH: u64 = 4 << 20;

/// The groups of one VMM. Not removed when dropped: [`Cgroup::remove`] does it, or [`super::remove_leftovers`] later.
#[derive(Debug, Default)]
pub struct Cgroup {
    groups: Vec<Group>,
    limits: Limits,
}

#[derive(Debug)]
struct Group {
    dir: PathBuf,
    is_v2: bool,
    controllers: Vec<Controller>,
}

impl Cgroup {
    /// Makes the planned groups, recorded in `run_dir` before the first exists. Gives for each controller that was asked
    /// for whether its limit is in force, or why not. What could not be made is not there.
    pub fn create(plan: Plan, limits: &Limits, run_dir: &Path) -> io::Result<(Cgroup, Outcomes)> {
        let mut told: Outcomes =
            plan.refused.into_iter().map(|(controller, reason)| (controller, Err(reason))).collect();
        let mut cgroup = Cgroup { groups: Vec::new(), limits: *limits };
        if plan.groups.is_empty() {
            return Ok((cgroup, told));
        }
        let dirs: Vec<&Path> = plan.groups.iter().map(|group| group.dir.as_path()).collect();
        leftovers::record(run_dir, &dirs)?;
        for group in plan.groups {
            let made = make(&group, &mut told);
            match made {
                Ok(controllers) if controllers.is_empty() => {
                    let _ = std::fs::remove_dir(&group.dir);
                }
                Ok(controllers) => cgroup.groups.push(Group { dir: group.dir, is_v2: group.is_v2, controllers }),
                Err(error) => {
                    let reason = format!("{}: {error}", group.dir.display());
                    told.extend(group.settings.iter().map(|(controller, _)| (*controller, Err(reason.clone()))));
                }
            }
        }
        Ok((cgroup, told))
    }

    /// Whether there is no group at all.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// The groups' directories.
    pub fn directories(&self) -> impl Iterator<Item = &Path> {
        self.groups.iter().map(|group| group.dir.as_path())
    }

    /// Moves a process, with all its threads, into the groups. To be done before it does anything: memory that it has
    /// already is not moved. The controllers of a group that refuses are given back with the reason.
    pub fn add(&self, pid: u32) -> Vec<(Controller, String)> {
        let mut refused = Vec::new();
        for group in &self.groups {
            if let Err(error) = std::fs::write(group.dir.join("cgroup.procs"), pid.to_string()) {
                let reason = format!("join {}: {error}", group.dir.display());
                refused.extend(group.controllers.iter().map(|controller| (*controller, reason.clone())));
            }
        }
        refused
    }

    /// The limit that was gone over, if one was.
    pub fn breach(&self) -> Option<Breach> {
        if let (Some(group), Some(limit_bytes)) = (self.with(Controller::Memory), self.limits.memory_bytes) {
            let (events, is_own) = if group.is_v2 {
                let events = read(group, "memory.events");
                let is_own = counter(&events, "oom") > 0;
                (events, is_own)
            } else {
                let number = |file| read(group, file).trim().parse::<u64>().unwrap_or(0);
                // With swap accounted, memory and swap together meet their limit first, and not every kernel counts that.
                let limit = self.memory_limit(limit_bytes);
                let is_full = number("memory.max_usage_in_bytes") >= limit.saturating_sub(CHARGE_BATCH);
                let refusals = u64::from(is_full) + number("memory.failcnt") + number("memory.memsw.failcnt");
                (read(group, "memory.oom_control"), refusals > 0)
            };
            if counter(&events, "oom_kill") > 0 {
                return Some(if is_own {
                    Breach::Memory { limit_bytes: self.memory_limit(limit_bytes) }
                } else {
                    Breach::HostMemory
                });
            }
        }
        if let (Some(group), Some(max_tasks)) = (self.with(Controller::Pids), self.limits.max_tasks)
            && counter(&read(group, "pids.events"), "max") > 0
        {
            let now = read(group, "pids.max").trim().parse().unwrap_or(max_tasks);
            return Some(Breach::Tasks { max_tasks: now });
        }
        None
    }

    /// The limit as it is now: an administrator may have changed it.
    fn memory_limit(&self, at_start: u64) -> u64 {
        let Some(group) = self.with(Controller::Memory) else { return at_start };
        let file = if group.is_v2 { "memory.max" } else { "memory.limit_in_bytes" };
        read(group, file).trim().parse().unwrap_or(at_start)
    }

    /// Whether its number of processes and threads is limited.
    pub fn limits_tasks(&self) -> bool {
        self.with(Controller::Pids).is_some()
    }

    /// A descriptor on which `POLLPRI` says that a process or thread was refused. `None` without such a limit, and on
    /// v1, whose counter tells nobody of its changes.
    pub fn task_alarm(&self) -> Option<OwnedFd> {
        let group = self.with(Controller::Pids).filter(|group| group.is_v2)?;
        let mut file = File::open(group.dir.join("pids.events")).ok()?;
        // The kernel tells of changes since the last reading.
        io::copy(&mut file, &mut io::sink()).ok()?;
        Some(file.into())
    }

    /// Ends whatever is in the groups and removes them. Idempotent.
    pub fn remove(&self) -> io::Result<()> {
        leftovers::remove_all(&self.groups.iter().map(|group| group.dir.clone()).collect::<Vec<_>>())
    }

    fn with(&self, controller: Controller) -> Option<&Group> {
        self.groups.iter().find(|group| group.controllers.contains(&controller))
    }
}

fn read(group: &Group, file: &str) -> String {
    std::fs::read_to_string(group.dir.join(file)).unwrap_or_default()
}

/// Makes one group; gives the controllers whose limits are in force.
fn make(group: &NewGroup, told: &mut Outcomes) -> io::Result<Vec<Controller>> {
    match std::fs::create_dir(&group.dir) {
        // Left by an earlier run of this VM that nobody has healed: its limits are written anew.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        other => other?,
    }
    let mut controllers = Vec::new();
    for (controller, settings) in &group.settings {
        let enabled = if group.is_v2 { enable(&group.dir, *controller) } else { Ok(()) };
        let result = enabled.and_then(|()| settings.iter().try_for_each(|setting| write(&group.dir, setting)));
        if result.is_ok() {
            controllers.push(*controller);
        }
        told.insert(*controller, result);
    }
    Ok(controllers)
}

fn write(dir: &Path, setting: &Setting) -> Result<(), String> {
    let path = dir.join(setting.file);
    match std::fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .and_then(|mut file| io::Write::write_all(&mut file, setting.value.as_bytes()))
    {
        Err(error) if !setting.is_optional => Err(format!("{}: {error}", path.display())),
        _ => Ok(()),
    }
}

/// Lets groups below `dir`'s parent have this controller. It stays enabled there: others may have come to use it.
fn enable(dir: &Path, controller: Controller) -> Result<(), String> {
    let control = dir.with_file_name("cgroup.subtree_control");
    let enabled = std::fs::read_to_string(&control).unwrap_or_default();
    if enabled.split_ascii_whitespace().any(|name| name == controller.as_str()) {
        return Ok(());
    }
    std::fs::OpenOptions::new()
        .write(true)
        .open(&control)
        .and_then(|mut file| io::Write::write_all(&mut file, format!("+{}", controller.as_str()).as_bytes()))
        .map_err(|error| format!("{}: {error}", control.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jail::cgroup::{Layout, plan};

    const LIMITS: Limits = Limits { memory_bytes: Some(64 << 20), cpu_percent: Some(50), max_tasks: Some(40) };

    /// A v2 file system has its files as soon as a group is made; a directory that stands for one gets them here.
    fn v2_stand_in(dir: &Path, files: &[&str]) -> Plan {
        std::fs::write(dir.join("cgroup.controllers"), "cpu memory pids\n").unwrap();
        std::fs::write(dir.join("cgroup.subtree_control"), "memory\n").unwrap();
        let group = dir.join("ignite-a1");
        std::fs::create_dir(&group).unwrap();
        for file in files {
            std::fs::write(group.join(file), "").unwrap();
        }
        let mounts = format!("30 23 0:26 / {} rw - cgroup2 cgroup2 rw", dir.display());
        plan(&Layout::parse(&mounts, "0::/\n"), "a1", &LIMITS, true)
    }

    #[test]
    fn v2_limits_are_written_and_breaches_read() {
        let dir = tempfile::tempdir().unwrap();
        let plan = v2_stand_in(dir.path(), &["memory.max", "memory.oom.group", "cpu.max", "pids.max", "cgroup.procs"]);
        let run_dir = tempfile::tempdir().unwrap();
        let (cgroup, told) = Cgroup::create(plan, &LIMITS, run_dir.path()).unwrap();
        assert!(told.values().all(Result::is_ok), "{told:?}");
        let group = dir.path().join("ignite-a1");
        let read = |file: &str| std::fs::read_to_string(group.join(file)).unwrap();
        assert_eq!((read("memory.max").as_str(), read("cpu.max").as_str()), ("67108864", "50000 100000"));
        assert_eq!((read("memory.oom.group").as_str(), read("pids.max").as_str()), ("1", "40"));
        let enabled = std::fs::read_to_string(dir.path().join("cgroup.subtree_control")).unwrap();
        assert!(enabled.starts_with("+pids"), "written last: {enabled}");
        assert!(cgroup.add(17).is_empty());
        assert_eq!(read("cgroup.procs"), "17");
        assert_eq!(cgroup.breach(), None);
        for (file, text, expected) in [
            ("pids.events", "max 3\n", Breach::Tasks { max_tasks: 40 }),
            ("memory.events", "oom 0\noom_kill 1\n", Breach::HostMemory),
            ("memory.events", "oom 1\noom_kill 1\n", Breach::Memory { limit_bytes: 64 << 20 }),
        ] {
            std::fs::write(group.join(file), text).unwrap();
            assert_eq!(cgroup.breach(), Some(expected), "{file}: {text}");
        }
    }

    #[test]
    fn a_limit_that_cannot_be_written_is_told_and_the_others_hold() {
        let dir = tempfile::tempdir().unwrap();
        let plan = v2_stand_in(dir.path(), &["memory.max", "pids.max"]);
        let run_dir = tempfile::tempdir().unwrap();
        let (cgroup, told) = Cgroup::create(plan, &LIMITS, run_dir.path()).unwrap();
        assert!(told[&Controller::Cpu].as_ref().is_err_and(|reason| reason.contains("cpu.max")), "{told:?}");
        assert!(told[&Controller::Memory].is_ok() && told[&Controller::Pids].is_ok());
        assert!(cgroup.with(Controller::Cpu).is_none());
    }
}
