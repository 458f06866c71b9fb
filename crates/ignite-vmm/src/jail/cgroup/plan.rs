//! Which directories to make and what to write into them for a VMM's limits: pure but for looking at what is there.

use super::layout::{Controller, Hierarchy, Layout};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Length of a CPU accounting period in microseconds: the kernel's default.
const CPU_PERIOD_US: u64 = 100_000;

/// What a VMM may take of its host; absent is without limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Memory of all its processes together, in bytes, the page cache they fill included (which is given back first).
    pub memory_bytes: Option<u64>,
    /// CPU time in percent of one CPU.
    pub cpu_percent: Option<u32>,
    /// Processes and threads.
    pub max_tasks: Option<u32>,
}

impl Limits {
    /// Whether it asks for this controller.
    pub(super) fn wants(&self, controller: Controller) -> bool {
        match controller {
            Controller::Memory => self.memory_bytes.is_some(),
            Controller::Cpu => self.cpu_percent.is_some(),
            Controller::Pids => self.max_tasks.is_some(),
        }
    }
}

/// A file of a group and what is written to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) file: &'static str,
    pub(super) value: String,
    /// Not there on every kernel or host: without it the limit holds all the same, but less exactly.
    pub(super) is_optional: bool,
}

/// One group to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NewGroup {
    pub(super) dir: PathBuf,
    pub(super) is_v2: bool,
    /// Each controller it serves, with its settings.
    pub(super) settings: Vec<(Controller, Vec<Setting>)>,
}

/// Groups to make, and for each controller without one why.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    pub(super) groups: Vec<NewGroup>,
    pub(super) refused: BTreeMap<Controller, String>,
}

impl Plan {
    /// Why this controller's limit cannot be had; `None` when it was planned or not asked for.
    pub fn refusal(&self, controller: Controller) -> Option<&str> {
        self.refused.get(&controller).map(String::as_str)
    }
}

/// Plans the group `ignite-<id>` with these limits. Looks at the directories of `layout`, changes nothing.
pub fn plan(layout: &Layout, id: &str, limits: &Limits, is_root: bool) -> Plan {
    let name = format!("ignite-{id}");
    let mut plan = Plan::default();
    let wanted: Vec<Controller> = Controller::ALL.into_iter().filter(|c| limits.wants(*c)).collect();
    let mut left = Vec::new();
    for controller in wanted {
        match layout.v1.iter().find(|hierarchy| hierarchy.controllers.contains(&controller)) {
            Some(hierarchy) if is_writable(&hierarchy.own) => {
                let dir = hierarchy.own.join(&name);
                let settings = (controller, v1_settings(controller, limits));
                match plan.groups.iter_mut().find(|group| group.dir == dir) {
                    Some(group) => group.settings.push(settings),
                    None => plan.groups.push(NewGroup { dir, is_v2: false, settings: vec![settings] }),
                }
            }
            Some(hierarchy) => {
                let reason = format!("{} is not delegated to this user", hierarchy.own.display());
                plan.refused.insert(controller, reason);
            }
            None => left.push(controller),
        }
    }
    plan_v2(&mut plan, layout.v2.as_ref(), &name, &left, limits, is_root);
    plan
}

fn plan_v2(plan: &mut Plan, v2: Option<&Hierarchy>, name: &str, wanted: &[Controller], limits: &Limits, is_root: bool) {
    let mut refuse = |controller: Controller, reason: String| {
        plan.refused.insert(controller, reason);
    };
    let Some(hierarchy) = v2 else {
        wanted.iter().for_each(|c| refuse(*c, "this host has no cgroup file system".to_owned()));
        return;
    };
    let Some(base) = v2_base(hierarchy, is_root) else {
        let reason =
            "no cgroup subtree is delegated to this user (systemd-run --user --scope -p Delegate=yes gives one)";
        wanted.iter().for_each(|c| refuse(*c, reason.to_owned()));
        return;
    };
    let has = std::fs::read_to_string(base.join("cgroup.controllers")).unwrap_or_default();
    let mut settings = Vec::new();
    for controller in wanted {
        match has.split_ascii_whitespace().any(|name| name == controller.as_str()) {
            true => settings.push((*controller, v2_settings(*controller, limits))),
            false => {
                refuse(*controller, format!("{} does not have the {} controller", base.display(), controller.as_str()))
            }
        }
    }
    if !settings.is_empty() {
        plan.groups.push(NewGroup { dir: base.join(name), is_v2: true, settings });
    }
}

/// The group below which groups with controllers can be made.
fn v2_base(hierarchy: &Hierarchy, is_root: bool) -> Option<PathBuf> {
    if is_root {
        return is_writable(&hierarchy.mount_point).then(|| hierarchy.mount_point.clone());
    }
    // A process can be moved only within what is delegated: from its own group upwards.
    let mut candidates = hierarchy.own.ancestors().take_while(|dir| dir.starts_with(&hierarchy.mount_point));
    candidates
        .find(|dir| {
            let is_delegated = ["", "cgroup.procs", "cgroup.subtree_control"].iter().all(|f| is_writable(&dir.join(f)));
            is_delegated && std::fs::read(dir.join("cgroup.procs")).is_ok_and(|procs| procs.is_empty())
        })
        .map(Path::to_owned)
}

fn is_writable(path: &Path) -> bool {
    rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok()
}

fn required(file: &'static str, value: impl ToString) -> Setting {
    Setting { file, value: value.to_string(), is_optional: false }
}

fn optional(file: &'static str, value: impl ToString) -> Setting {
    Setting { file, value: value.to_string(), is_optional: true }
}

fn v1_settings(controller: Controller, limits: &Limits) -> Vec<Setting> {
    match controller {
        Controller::Memory => limits
            .memory_bytes
            .into_iter()
            // The second one, where swap is accounted: no way round the first.
            .flat_map(|bytes| {
                [required("memory.limit_in_bytes", bytes), optional("memory.memsw.limit_in_bytes", bytes)]
            })
            .collect(),
        Controller::Cpu => limits
            .cpu_percent
            .into_iter()
            .flat_map(|percent| {
                [required("cpu.cfs_period_us", CPU_PERIOD_US), required("cpu.cfs_quota_us", quota_us(percent))]
            })
            .collect(),
        Controller::Pids => limits.max_tasks.into_iter().map(|max| required("pids.max", max)).collect(),
    }
}

fn v2_settings(controller: Controller, limits: &Limits) -> Vec<Setting> {
    match controller {
        Controller::Memory => limits
            .memory_bytes
            .into_iter()
            .flat_map(|bytes| {
                [required("memory.max", bytes), optional("memory.swap.max", 0), optional("memory.oom.group", 1)]
            })
            .collect(),
        Controller::Cpu => limits
            .cpu_percent
            .into_iter()
            .map(|percent| required("cpu.max", format!("{} {CPU_PERIOD_US}", quota_us(percent))))
            .collect(),
        Controller::Pids => limits.max_tasks.into_iter().map(|max| required("pids.max", max)).collect(),
    }
}

fn quota_us(percent: u32) -> u64 {
    u64::from(percent) * CPU_PERIOD_US / 100
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { memory_bytes: Some(64 << 20), cpu_percent: Some(150), max_tasks: Some(40) };

    /// A layout in a directory that stands for a cgroup file system.
    fn hierarchy(dir: &Path, controllers: &[Controller], own: &str) -> Hierarchy {
        let own = dir.join(own);
        std::fs::create_dir_all(&own).unwrap();
        Hierarchy { controllers: controllers.to_vec(), mount_point: dir.to_owned(), own }
    }

    fn shown(plan: &Plan, root: &Path) -> String {
        let mut lines = Vec::new();
        for group in &plan.groups {
            lines.push(group.dir.strip_prefix(root).unwrap().display().to_string());
            for (controller, settings) in &group.settings {
                for Setting { file, value, is_optional } in settings {
                    let mark = if *is_optional { " (where it exists)" } else { "" };
                    lines.push(format!("  {}: {file} = {value}{mark}", controller.as_str()));
                }
            }
        }
        for (controller, reason) in &plan.refused {
            lines.push(format!("no {}: {}", controller.as_str(), reason.replace(root.to_str().unwrap(), "CGROUP")));
        }
        lines.join("\n")
    }

    #[test]
    fn v1_groups_lie_below_the_callers_own() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout {
            v1: vec![
                hierarchy(&dir.path().join("memory"), &[Controller::Memory], "box"),
                hierarchy(&dir.path().join("cpu,pids"), &[Controller::Cpu, Controller::Pids], ""),
            ],
            v2: Some(hierarchy(&dir.path().join("unified"), &[], "")),
        };
        insta::assert_snapshot!(shown(&plan(&layout, "a1", &LIMITS, true), dir.path()), @r"
        memory/box/ignite-a1
          memory: memory.limit_in_bytes = 67108864
          memory: memory.memsw.limit_in_bytes = 67108864 (where it exists)
        cpu,pids/ignite-a1
          cpu: cpu.cfs_period_us = 100000
          cpu: cpu.cfs_quota_us = 150000
          pids: pids.max = 40
        ");
    }

    #[test]
    fn v2_groups_of_root_lie_at_the_top_and_serve_every_controller_that_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let v2 = hierarchy(dir.path(), &[], "user.slice/session-1.scope");
        std::fs::write(dir.path().join("cgroup.controllers"), "cpuset cpu io memory\n").unwrap();
        let layout = Layout { v1: Vec::new(), v2: Some(v2) };
        insta::assert_snapshot!(shown(&plan(&layout, "a1", &LIMITS, true), dir.path()), @r"
        ignite-a1
          memory: memory.max = 67108864
          memory: memory.swap.max = 0 (where it exists)
          memory: memory.oom.group = 1 (where it exists)
          cpu: cpu.max = 150000 100000
        no pids: CGROUP does not have the pids controller
        ");
    }

    #[test]
    fn v2_groups_of_others_lie_in_the_nearest_delegated_group_without_processes() {
        let dir = tempfile::tempdir().unwrap();
        let v2 = hierarchy(dir.path(), &[], "user@1000.service/app.slice/x.scope");
        let (service, slice) = (dir.path().join("user@1000.service"), dir.path().join("user@1000.service/app.slice"));
        for (group, procs) in [(&service, ""), (&slice, ""), (&v2.own, "17\n")] {
            std::fs::write(group.join("cgroup.procs"), procs).unwrap();
            std::fs::write(group.join("cgroup.subtree_control"), "").unwrap();
            std::fs::write(group.join("cgroup.controllers"), "memory pids cpu\n").unwrap();
        }
        let layout = Layout { v1: Vec::new(), v2: Some(v2) };
        assert_eq!(plan(&layout, "a1", &LIMITS, false).groups[0].dir, slice.join("ignite-a1"));
        std::fs::remove_file(slice.join("cgroup.subtree_control")).unwrap();
        assert_eq!(plan(&layout, "a1", &LIMITS, false).groups[0].dir, service.join("ignite-a1"));
        std::fs::remove_file(service.join("cgroup.subtree_control")).unwrap();
        let refused = plan(&layout, "a1", &LIMITS, false);
        assert!(refused.groups.is_empty());
        assert!(refused.refusal(Controller::Memory).unwrap().contains("delegated"), "{refused:?}");
    }

    #[test]
    fn without_cgroups_each_limit_is_refused_and_what_was_not_asked_for_is_not() {
        let plan = plan(&Layout::default(), "a1", &Limits { cpu_percent: None, ..LIMITS }, true);
        assert!(plan.groups.is_empty());
        assert_eq!(plan.refusal(Controller::Memory), Some("this host has no cgroup file system"));
        assert!(plan.refusal(Controller::Pids).is_some() && plan.refusal(Controller::Cpu).is_none());
    }
}
