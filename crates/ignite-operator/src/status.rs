//! What the operator says of VMs and sets: `status` and its conditions.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a VM is, in the words of `kubectl get vms`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// It waits: for a node, for what it depends on, or for a valid `spec`.
    #[default]
    Pending,
    /// Its Pod is on a node; the guest is not ready yet.
    Starting,
    /// The guest runs.
    Running,
    /// Its Pod is going away.
    Stopping,
    /// It is wanted not to run, and does not.
    Stopped,
    /// The guest has ended well and is not started again.
    Succeeded,
    /// The guest has failed and is not started again.
    Failed,
    /// Its node does not answer.
    Unknown,
}

impl Phase {
    /// As it is written.
    pub fn word(self) -> &'static str {
        match self {
            Phase::Pending => "Pending",
            Phase::Starting => "Starting",
            Phase::Running => "Running",
            Phase::Stopping => "Stopping",
            Phase::Stopped => "Stopped",
            Phase::Succeeded => "Succeeded",
            Phase::Failed => "Failed",
            Phase::Unknown => "Unknown",
        }
    }
}

/// `status` of a VM.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct VmStatus {
    /// The generation of `spec` that this is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where the VM is.
    pub phase: Phase,
    /// True while the guest runs.
    pub running: bool,
    /// One line: why it is in that phase, where that is not obvious.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Its Pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_name: Option<String>,
    /// Node it is on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// The guest's addresses, which are its Pod's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ip_addresses: Vec<String>,
    /// How its last run ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// When this run began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<String>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finish_time: Option<String>,
    /// Times its restart policy has started it again in this Pod.
    #[serde(skip_serializing_if = "is_zero")]
    pub restarts: i32,
    /// Pods in a row that never came to run the guest; sets the pace of the next.
    #[serde(skip_serializing_if = "is_zero")]
    pub failed_pods: i32,
    /// `Accepted`, `Scheduled`, `Ready`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// `status` of a set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SetStatus {
    /// The generation of `spec` that this is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// VMs there are.
    pub replicas: i32,
    /// VMs that are ready.
    pub ready_replicas: i32,
    /// VMs made from the template as it is now.
    pub updated_replicas: i32,
    /// Label selector of its VMs and their Pods, as the scale subresource has it.
    pub selector: String,
    /// Hash of the template as it is now.
    pub update_revision: String,
    /// `Accepted`, `Available`, `Progressing`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

fn is_zero(n: &i32) -> bool {
    *n == 0
}

/// A condition, as Kubernetes has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What it is about.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// One word.
    pub reason: String,
    /// One line for people.
    pub message: String,
    /// When `status` has changed last.
    pub last_transition_time: String,
    /// The generation of `spec` that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// A condition before it is known whether it has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finding<'a> {
    /// What it is about.
    pub kind: &'a str,
    /// Whether it holds; `None`: unknown.
    pub holds: Option<bool>,
    /// One word.
    pub reason: &'a str,
    /// One line for people.
    pub message: &'a str,
}

/// Conditions as they are now: what has not changed keeps its time, so that writing it again would change nothing.
pub fn settle(before: &[Condition], now: &str, generation: Option<i64>, findings: &[Finding<'_>]) -> Vec<Condition> {
    let word = |holds| match holds {
        Some(true) => "True",
        Some(false) => "False",
        None => "Unknown",
    };
    let settled = findings.iter().map(|finding| {
        let status = word(finding.holds);
        let same = before.iter().find(|old| old.kind == finding.kind && old.status == status);
        Condition {
            kind: finding.kind.to_owned(),
            status: status.to_owned(),
            reason: finding.reason.to_owned(),
            message: finding.message.chars().take(1024).collect(),
            last_transition_time: same.map_or_else(|| now.to_owned(), |old| old.last_transition_time.clone()),
            observed_generation: generation,
        }
    });
    settled.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_that_stays_keeps_its_time() {
        let finding = |holds, message| Finding { kind: "Ready", holds, reason: "Any", message };
        let first = settle(&[], "t0", Some(1), &[finding(Some(false), "boots")]);
        let second = settle(&first, "t1", Some(1), &[finding(Some(false), "boots still")]);
        assert_eq!((second[0].last_transition_time.as_str(), second[0].message.as_str()), ("t0", "boots still"));
        let third = settle(&second, "t2", Some(2), &[finding(Some(true), "")]);
        assert_eq!((third[0].last_transition_time.as_str(), third[0].status.as_str()), ("t2", "True"));
        assert_eq!(settle(&third, "t3", Some(2), &[finding(None, "")])[0].status, "Unknown");
    }
}
