//! From what is wanted and what the host is to the steps of the child: pure.

use super::host::{Found, HostFacts};
use super::measure::{Measure, Missing};
use super::spec::{JailSpec, Network, Share, ShareAccess};
use super::step::Step;
use crate::boot_spec::IsolationWanted;
use std::collections::BTreeSet;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Most descriptors a VMM has open: drives, interfaces, event descriptors of 32 virtual CPUs.
const MAX_DESCRIPTORS: u64 = 1024;
/// What a VMM without a memory group may map beyond its limit: stacks of threads that it never fills.
const UNTOUCHED_BYTES: u64 = 1 << 30;
/// The limit by user lies beyond that of the control group, which alone tells when it is reached.
const BEYOND_GROUP: u64 = 64;
/// Empty directory of the run directory on which the jail's root is mounted.
pub(super) const ROOT_DIR: &str = "jail";

/// What the child does, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    /// Namespaces the child is born in (`CLONE_NEWUSER`, `CLONE_NEWPID`).
    pub(super) born_in: i32,
    /// The network namespace that it is born into: entered before, because without root it belongs to another user namespace
    /// than the child's own.
    pub(super) enters: Option<CString>,
    pub(super) steps: Vec<(Measure, Step)>,
}

/// Measures that cannot be had without others, added to those that are missing already.
pub(super) fn with_dependents(facts: &HostFacts, mut missing: Missing) -> Missing {
    let depend = |missing: &mut Missing, measure: Measure, on: Measure| {
        if missing.contains_key(&on) && !missing.contains_key(&measure) {
            missing.insert(measure, format!("it needs the {}", on.as_str()));
        }
    };
    if !facts.is_root {
        for measure in [
            Measure::PidNamespace,
            Measure::MountNamespace,
            Measure::NetworkNamespace,
            Measure::IpcNamespace,
            Measure::UtsNamespace,
            Measure::CgroupNamespace,
        ] {
            depend(&mut missing, measure, Measure::UserNamespace);
        }
    }
    // The jail's own /proc shows the processes of its namespace.
    depend(&mut missing, Measure::MountNamespace, Measure::PidNamespace);
    missing
}

/// Plans every measure that is not missing. `ruleset` is Landlock's, made beforehand.
pub(super) fn plan(spec: &JailSpec, facts: &HostFacts, missing: &Missing, ruleset: i32) -> Plan {
    let network = match &spec.network {
        Network::Machines(path) => Some(c_path(path)),
        Network::Own | Network::Callers => None,
    };
    let enters = network.clone().filter(|_| !facts.is_root);
    if spec.isolation == IsolationWanted::None {
        // Its interfaces are there all the same.
        let enter =
            network.filter(|_| facts.is_root).map(|path| (Measure::NetworkNamespace, Step::EnterNetwork { path }));
        return Plan { born_in: 0, enters, steps: enter.into_iter().collect() };
    }
    let has = |measure: Measure| !missing.contains_key(&measure);
    let mut born_in = 0;
    if !facts.is_root && has(Measure::UserNamespace) {
        born_in |= libc::CLONE_NEWUSER;
    }
    if has(Measure::PidNamespace) {
        born_in |= libc::CLONE_NEWPID;
    }
    let mut steps = Vec::new();
    for (measure, flag) in [
        (Measure::IpcNamespace, libc::CLONE_NEWIPC),
        (Measure::UtsNamespace, libc::CLONE_NEWUTS),
        (Measure::CgroupNamespace, libc::CLONE_NEWCGROUP),
        (Measure::NetworkNamespace, libc::CLONE_NEWNET),
    ] {
        if !has(measure) {
            continue;
        }
        match (measure, &spec.network) {
            (Measure::NetworkNamespace, Network::Callers) => {}
            (Measure::NetworkNamespace, Network::Machines(_)) if enters.is_some() => {}
            (Measure::NetworkNamespace, Network::Machines(path)) => {
                steps.push((measure, Step::EnterNetwork { path: c_path(path) }));
            }
            _ => steps.push((measure, Step::Unshare(flag))),
        }
    }
    let mut devices = Vec::new();
    if has(Measure::MountNamespace) {
        let root = root_steps(spec, facts, &mut devices);
        steps.extend(root.into_iter().map(|step| (Measure::MountNamespace, step)));
    }
    if has(Measure::ResourceLimits) {
        steps.extend(limits(spec, facts, missing).into_iter().map(|step| (Measure::ResourceLimits, step)));
    }
    let may_empty_bounding_set = facts.is_root || has(Measure::UserNamespace);
    if has(Measure::Capabilities) && may_empty_bounding_set {
        steps.push((Measure::Capabilities, Step::EmptyBoundingSet));
    }
    if facts.is_root && has(Measure::UnprivilegedUser) {
        // A device that the host gives to a group only, where the jail has no node of its own.
        let group = if has(Measure::MountNamespace) { None } else { device_group(facts) };
        steps.push((Measure::UnprivilegedUser, Step::User { uid: facts.own_uid, group }));
    }
    if has(Measure::Capabilities) {
        steps.push((Measure::Capabilities, Step::NoCapabilities));
    }
    if has(Measure::NoNewPrivileges) {
        steps.push((Measure::NoNewPrivileges, Step::NoNewPrivileges));
    }
    if has(Measure::Landlock) {
        steps.extend(devices.into_iter().map(|at| (Measure::Landlock, Step::AllowDevice { ruleset, at })));
        steps.push((Measure::Landlock, Step::Landlock { ruleset }));
    }
    if has(Measure::Seccomp) {
        steps.push((Measure::Seccomp, Step::Seccomp));
    }
    Plan { born_in, enters, steps }
}

/// Why a machine of root cannot be another user here; `None` when it can. Only without a root of its own, where the
/// host's device nodes are what it opens.
pub(super) fn must_be_root(facts: &HostFacts, missing: &Missing) -> Option<&'static str> {
    if !facts.is_root || !missing.contains_key(&Measure::MountNamespace) {
        return None;
    }
    let closed = |found: &Found| match found {
        Found::Device { mode, gid, .. } => mode & 0o006 != 0o006 && (mode & 0o060 != 0o060 || *gid == 0),
        _ => false,
    };
    facts.found.iter().any(closed).then_some("only root may open a device it needs, and it has no mount-namespace")
}

fn device_group(facts: &HostFacts) -> Option<u32> {
    facts.found.iter().find_map(|found| match found {
        Found::Device { mode, gid, .. } if mode & 0o006 != 0o006 && mode & 0o060 == 0o060 => Some(*gid),
        _ => None,
    })
}

fn root_steps(spec: &JailSpec, facts: &HostFacts, devices: &mut Vec<CString>) -> Vec<Step> {
    let mut steps = vec![
        Step::Unshare(libc::CLONE_NEWNS),
        Step::PrivateMounts,
        Step::EmptyRoot { at: c_path(&spec.run_dir.join(ROOT_DIR)) },
    ];
    let mut made = BTreeSet::new();
    for (share, found) in spec.shares.iter().zip(&facts.found) {
        if *found != Found::Nothing {
            make_parents(&mut steps, &mut made, &share.at);
        }
        show(&mut steps, &mut made, share, found, facts.is_root, devices);
    }
    steps.extend([Step::Directory(c"proc".to_owned()), Step::Proc, Step::EnterRoot]);
    steps
}

fn make_parents(steps: &mut Vec<Step>, made: &mut BTreeSet<CString>, at: &Path) {
    let mut parents: Vec<&Path> = at.ancestors().skip(1).filter(|parent| *parent != Path::new("/")).collect();
    parents.reverse();
    for parent in parents {
        make_directory(steps, made, parent);
    }
}

fn make_directory(steps: &mut Vec<Step>, made: &mut BTreeSet<CString>, at: &Path) {
    let inside = in_root(at);
    if made.insert(inside.clone()) {
        steps.push(Step::Directory(inside));
    }
}

fn show(
    steps: &mut Vec<Step>,
    made: &mut BTreeSet<CString>,
    share: &Share,
    found: &Found,
    is_root: bool,
    devices: &mut Vec<CString>,
) {
    let at = in_root(&share.at);
    let bind = |is_device| Step::Bind {
        from: c_path(&share.path),
        at: at.clone(),
        is_read_only: matches!(share.access, ShareAccess::Read | ShareAccess::Execute),
        is_device,
    };
    match found {
        Found::Nothing => {}
        Found::Link { target } => steps.push(Step::Link { target: c_path(target), at }),
        Found::Directory => {
            make_directory(steps, made, &share.at);
            steps.push(bind(false));
        }
        Found::Device { number, .. } if is_root => {
            devices.push(CString::new([b"/", at.as_bytes()].concat()).unwrap_or_default());
            steps.push(Step::Device { at, number: *number });
        }
        Found::Device { .. } => steps.extend([Step::File(at.clone()), bind(true)]),
        Found::File => steps.extend([Step::File(at.clone()), bind(false)]),
    }
}

fn limits(spec: &JailSpec, facts: &HostFacts, missing: &Missing) -> Vec<Step> {
    let limit = |resource: u32, value| Step::Limit { resource, value };
    let mut steps = vec![limit(libc::RLIMIT_CORE, 0), limit(libc::RLIMIT_NOFILE, MAX_DESCRIPTORS)];
    // Threads are counted by user: only where the count is of this machine alone.
    let is_counted_apart = match facts.is_root {
        true => facts.has_own_uid && !missing.contains_key(&Measure::UnprivilegedUser),
        false => facts.has_namespaced_nproc && !missing.contains_key(&Measure::UserNamespace),
    };
    if let (Some(max), true) = (spec.limits.max_tasks, is_counted_apart) {
        steps.push(limit(libc::RLIMIT_NPROC, u64::from(max) + BEYOND_GROUP));
    }
    if let (Some(bytes), true) = (spec.limits.memory_bytes, missing.contains_key(&Measure::MemoryLimit)) {
        steps.push(limit(libc::RLIMIT_DATA, bytes.saturating_add(UNTOUCHED_BYTES)));
    }
    steps
}

/// A path for the kernel. Paths of the file system hold no NUL; an empty one is refused by every call.
fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap_or_default()
}

/// An absolute path as one that starts in the new root, where the child stands.
fn in_root(path: &Path) -> CString {
    c_path(path.strip_prefix("/").unwrap_or(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jail::cgroup::Limits;
    use std::path::PathBuf;

    fn spec() -> JailSpec {
        let share = |path: &str, access| Share::same(path, access);
        JailSpec {
            id: "a1".into(),
            program: "/usr/bin/vmm".into(),
            arguments: Vec::new(),
            inherited: vec![5],
            reopened: vec![5],
            stdio: None,
            isolation: IsolationWanted::BestEffort,
            run_dir: "/run/ignite/vm/a1".into(),
            shares: vec![
                share("/usr/lib", ShareAccess::Execute),
                share("/lib", ShareAccess::Execute),
                share("/usr/lib32", ShareAccess::Execute),
                share("/usr/bin/vmm", ShareAccess::Execute),
                share("/dev/kvm", ShareAccess::Device),
                Share { path: "/run/ignite/vm/a1/api".into(), at: "/run/api".into(), access: ShareAccess::Write },
            ],
            network: Network::Own,
            limits: Limits { memory_bytes: Some(512 << 20), cpu_percent: None, max_tasks: Some(130) },
        }
    }

    fn facts(is_root: bool) -> HostFacts {
        HostFacts {
            is_root,
            own_uid: 1_900_000_042,
            has_own_uid: true,
            has_namespaced_nproc: true,
            found: vec![
                Found::Directory,
                Found::Link { target: PathBuf::from("usr/lib") },
                Found::Nothing,
                Found::File,
                Found::Device { number: libc::makedev(10, 232), mode: 0o20_660, gid: 104 },
                Found::Directory,
            ],
        }
    }

    fn missing(measures: &[Measure]) -> Missing {
        measures.iter().map(|measure| (*measure, "why".to_owned())).collect()
    }

    fn shown(spec: &JailSpec, facts: &HostFacts, missing: &Missing) -> String {
        let plan = plan(spec, facts, missing, 9);
        let mut lines = vec![format!(
            "born in: user {} pid {}",
            plan.born_in & libc::CLONE_NEWUSER != 0,
            plan.born_in & libc::CLONE_NEWPID != 0
        )];
        lines.extend(plan.steps.iter().map(|(measure, step)| format!("{:<18} {step}", measure.as_str())));
        lines.join("\n")
    }

    #[test]
    fn of_root() {
        insta::assert_snapshot!(shown(&spec(), &facts(true), &Missing::new()));
    }

    #[test]
    fn of_an_ordinary_user() {
        insta::assert_snapshot!(shown(&spec(), &facts(false), &Missing::new()));
    }

    #[test]
    fn of_an_ordinary_user_without_namespaces_and_groups() {
        let missing = with_dependents(&facts(false), missing(&[Measure::UserNamespace, Measure::MemoryLimit]));
        assert!(missing[&Measure::MountNamespace].contains("user-namespace"));
        insta::assert_snapshot!(shown(&spec(), &facts(false), &missing));
    }

    #[test]
    fn without_a_root_of_its_own_the_hosts_devices_decide_the_user() {
        let none = missing(&[Measure::MountNamespace]);
        assert_eq!(must_be_root(&facts(true), &none), None);
        let user = |facts: &HostFacts| {
            plan(&spec(), facts, &none, 9).steps.into_iter().find(|(measure, _)| *measure == Measure::UnprivilegedUser)
        };
        assert!(matches!(user(&facts(true)), Some((_, Step::User { group: Some(104), .. }))));
        for (mode, gid, is_closed) in [(0o20_600, 104, true), (0o20_660, 0, true), (0o20_666, 0, false)] {
            let mut facts = facts(true);
            facts.found[4] = Found::Device { number: 1, mode, gid };
            assert_eq!(must_be_root(&facts, &none).is_some(), is_closed, "{mode:o} {gid}");
            assert_eq!(must_be_root(&facts, &Missing::new()), None, "its own node is for it alone");
        }
    }

    #[test]
    fn nothing_is_done_when_isolation_is_switched_off() {
        let spec = JailSpec { isolation: IsolationWanted::None, ..spec() };
        let nothing = Plan { born_in: 0, enters: None, steps: Vec::new() };
        assert_eq!(plan(&spec, &facts(true), &Missing::new(), 9), nothing);
    }

    #[test]
    fn a_machines_network_is_entered_whatever_the_isolation() {
        let path = c"/run/netns/vm".to_owned();
        for isolation in [IsolationWanted::BestEffort, IsolationWanted::Strict, IsolationWanted::None] {
            let spec = JailSpec { network: Network::Machines("/run/netns/vm".into()), isolation, ..spec() };
            let entered = |is_root| {
                let plan = plan(&spec, &facts(is_root), &Missing::new(), 9);
                let step = Step::EnterNetwork { path: path.clone() };
                (plan.enters.clone(), plan.steps.iter().filter(|(_, other)| *other == step).count())
            };
            assert_eq!(entered(true), (None, 1), "{isolation:?}");
            assert_eq!(entered(false), (Some(path.clone()), 0), "{isolation:?}: from within the namespace's owner");
        }
    }
}
