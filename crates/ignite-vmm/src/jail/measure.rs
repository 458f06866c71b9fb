//! The measures of a jail, and how they are told.

use crate::boot_spec::IsolationWanted;
use std::collections::BTreeMap;

/// One measure: applied whole, or not at all and told so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Measure {
    /// A user namespace of its own, with its caller as the only user: for callers who are not root.
    UserNamespace,
    /// Processes of its own: it is the first, and sees no other.
    PidNamespace,
    /// A root file system of its own.
    MountNamespace,
    /// A network of its own, without an interface.
    NetworkNamespace,
    /// Message queues and shared memory of its own.
    IpcNamespace,
    /// A host name of its own.
    UtsNamespace,
    /// Control groups are seen from its own on.
    CgroupNamespace,
    /// Core dumps, descriptors and (where they are counted apart) threads are limited.
    ResourceLimits,
    /// It is not root: each machine of root has a user of its own.
    UnprivilegedUser,
    /// It holds no capability and can get none.
    Capabilities,
    /// No program it starts gains privileges.
    NoNewPrivileges,
    /// Landlock: only the files it was given, no TCP, no signals and abstract sockets to the outside.
    Landlock,
    /// System calls that no VMM needs are refused.
    Seccomp,
    /// A control group's limit on memory.
    MemoryLimit,
    /// A control group's limit on CPU time.
    CpuLimit,
    /// A control group's limit on processes and threads.
    PidsLimit,
}

impl Measure {
    /// All of them, in the order of the enum.
    pub const ALL: [Measure; 16] = [
        Measure::UserNamespace,
        Measure::PidNamespace,
        Measure::MountNamespace,
        Measure::NetworkNamespace,
        Measure::IpcNamespace,
        Measure::UtsNamespace,
        Measure::CgroupNamespace,
        Measure::ResourceLimits,
        Measure::UnprivilegedUser,
        Measure::Capabilities,
        Measure::NoNewPrivileges,
        Measure::Landlock,
        Measure::Seccomp,
        Measure::MemoryLimit,
        Measure::CpuLimit,
        Measure::PidsLimit,
    ];

    /// Its key in `status.isolation`.
    pub fn as_str(self) -> &'static str {
        match self {
            Measure::UserNamespace => "user-namespace",
            Measure::PidNamespace => "pid-namespace",
            Measure::MountNamespace => "mount-namespace",
            Measure::NetworkNamespace => "network-namespace",
            Measure::IpcNamespace => "ipc-namespace",
            Measure::UtsNamespace => "uts-namespace",
            Measure::CgroupNamespace => "cgroup-namespace",
            Measure::ResourceLimits => "resource-limits",
            Measure::UnprivilegedUser => "unprivileged-user",
            Measure::Capabilities => "capabilities",
            Measure::NoNewPrivileges => "no-new-privileges",
            Measure::Landlock => "landlock",
            Measure::Seccomp => "seccomp",
            Measure::MemoryLimit => "memory-limit",
            Measure::CpuLimit => "cpu-limit",
            Measure::PidsLimit => "pids-limit",
        }
    }
}

/// Each measure that is missing, and why.
pub(super) type Missing = BTreeMap<Measure, String>;

/// What is told of a measure that was applied.
pub const APPLIED: &str = "applied";

/// What `status.isolation` says: each measure of this caller, `applied` or `not applied: why`.
pub(super) fn told(wanted: IsolationWanted, is_root: bool, missing: &Missing) -> BTreeMap<String, String> {
    // Root needs no user namespace: its machines are users of their own.
    let measures = Measure::ALL.into_iter().filter(|measure| !(is_root && *measure == Measure::UserNamespace));
    measures
        .map(|measure| {
            let said = match (wanted, missing.get(&measure)) {
                (IsolationWanted::None, _) => "not applied: isolation is switched off".to_owned(),
                (IsolationWanted::BestEffort | IsolationWanted::Strict, Some(reason)) => {
                    format!("not applied: {reason}")
                }
                (IsolationWanted::BestEffort | IsolationWanted::Strict, None) => APPLIED.to_owned(),
            };
            (measure.as_str().to_owned(), said)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_measure_is_told_as_it_went() {
        let missing = Missing::from([(Measure::Landlock, "the kernel has none".to_owned())]);
        let applied = told(IsolationWanted::BestEffort, false, &missing);
        assert_eq!(applied["landlock"], "not applied: the kernel has none");
        assert_eq!(applied["user-namespace"], "applied");
        assert_eq!(applied.len(), Measure::ALL.len());
        assert!(!told(IsolationWanted::BestEffort, true, &missing).contains_key("user-namespace"));
        let none = told(IsolationWanted::None, true, &Missing::new());
        assert!(none.values().all(|said| said.contains("switched off")));
    }
}
