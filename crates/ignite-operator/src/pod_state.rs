//! What a Pod says of the VM in it: pure.

use crate::pod::{NO_KVM_EXIT_CODE, VM_CONTAINER};
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod, PodStatus};
use k8s_openapi::jiff::{SignedDuration, Timestamp};

/// A kubelet that is this late with the end of a Pod is not there: its node is gone or cannot be reached.
pub(crate) const LOST_AFTER: SignedDuration = SignedDuration::from_secs(30);

/// How far a Pod has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// No node yet.
    Waiting,
    /// On a node; the guest is not up.
    Starting,
    /// The guest is up.
    Running,
    /// It is being deleted.
    Leaving,
    /// Its node does not answer; the guest may run on.
    Lost,
    /// The guest has ended by itself.
    Ended,
    /// It has ended through no doing of the guest: evicted, or never ready to run it.
    Broken,
}

/// A Pod, as far as it matters to its VM.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PodState {
    pub(crate) stage: Stage,
    pub(crate) is_ready: bool,
    pub(crate) node: Option<String>,
    pub(crate) addresses: Vec<String>,
    pub(crate) restarts: i32,
    /// How the guest's last run ended, this one or the one before it.
    pub(crate) exit_code: Option<i32>,
    pub(crate) started: Option<Timestamp>,
    pub(crate) finished: Option<Timestamp>,
    /// When the Pod ended, or was made if that is not known.
    pub(crate) broken_at: Option<Timestamp>,
    /// `None`: not known yet.
    pub(crate) is_scheduled: Option<bool>,
    /// One line: why it is where it is.
    pub(crate) why: Option<String>,
}

impl PodState {
    /// Reads `pod` at the time `now`.
    pub(crate) fn of(pod: &Pod, now: Timestamp) -> PodState {
        let nothing = PodStatus::default();
        let status = pod.status.as_ref().unwrap_or(&nothing);
        let vm = status.container_statuses.iter().flatten().find(|one| one.name == VM_CONTAINER);
        let state = vm.and_then(|vm| vm.state.as_ref());
        let running = state.and_then(|state| state.running.as_ref());
        let ended = state.and_then(|state| state.terminated.as_ref());
        let before = vm.and_then(|vm| vm.last_state.as_ref()?.terminated.as_ref());
        let time = |time: &Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>| time.as_ref().map(|t| t.0);
        let stage = stage_of(pod, status, vm, now);
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
        PodState {
            stage,
            is_ready: condition(status, "Ready") == Some(true) && stage == Stage::Running,
            addresses: addresses(status),
            restarts: vm.map_or(0, |vm| vm.restart_count),
            exit_code: ended.or(before).map(|end| end.exit_code),
            started: running.and_then(|run| time(&run.started_at)).or(ended.and_then(|end| time(&end.started_at))),
            finished: ended.and_then(|end| time(&end.finished_at)),
            broken_at: newest_end(status).or(pod.metadata.creation_timestamp.as_ref().map(|made| made.0)),
            is_scheduled: if node.is_some() { Some(true) } else { condition(status, "PodScheduled") },
            why: why(stage, status, vm, node.as_deref()),
            node,
        }
    }
}

fn stage_of(pod: &Pod, status: &PodStatus, vm: Option<&ContainerStatus>, now: Timestamp) -> Stage {
    let phase = status.phase.as_deref().unwrap_or("Pending");
    // What old node controllers say of nodes that are gone.
    if phase == "Unknown" || status.reason.as_deref() == Some("NodeLost") {
        return Stage::Lost;
    }
    if let Some(deadline) = &pod.metadata.deletion_timestamp {
        // The timestamp is when its grace ends.
        let is_late = deadline.0.checked_add(LOST_AFTER).is_ok_and(|late| now > late);
        let was_scheduled = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
        return if is_late && was_scheduled { Stage::Lost } else { Stage::Leaving };
    }
    let state = vm.and_then(|vm| vm.state.as_ref());
    match phase {
        "Succeeded" => Stage::Ended,
        "Failed" => {
            let has_run = state.and_then(|state| state.terminated.as_ref()).is_some_and(|end| end.started_at.is_some());
            let is_taken = status.reason.is_some() || condition(status, "DisruptionTarget") == Some(true);
            if has_run && !is_taken { Stage::Ended } else { Stage::Broken }
        }
        "Running" if vm.is_some_and(|vm| vm.started == Some(true)) => Stage::Running,
        "Running" => Stage::Starting,
        _ if pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some()) => Stage::Starting,
        _ => Stage::Waiting,
    }
}

fn condition(status: &PodStatus, kind: &str) -> Option<bool> {
    let found = status.conditions.iter().flatten().find(|condition| condition.type_ == kind)?;
    match found.status.as_str() {
        "True" => Some(true),
        "False" => Some(false),
        _ => None,
    }
}

fn addresses(status: &PodStatus) -> Vec<String> {
    let all: Vec<String> = status.pod_ips.iter().flatten().map(|one| one.ip.clone()).collect();
    if all.is_empty() { status.pod_ip.iter().cloned().collect() } else { all }
}

fn ends(status: &PodStatus) -> impl Iterator<Item = (&ContainerStatus, &ContainerStateTerminated)> {
    let all = status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten());
    all.filter_map(|one| Some((one, one.state.as_ref()?.terminated.as_ref()?)))
}

fn newest_end(status: &PodStatus) -> Option<Timestamp> {
    ends(status).filter_map(|(_, end)| Some(end.finished_at.as_ref()?.0)).max()
}

fn why(stage: Stage, status: &PodStatus, vm: Option<&ContainerStatus>, node: Option<&str>) -> Option<String> {
    match stage {
        Stage::Lost => Some(format!("node {} does not answer", node.unwrap_or("of the Pod"))),
        Stage::Leaving | Stage::Running => None,
        Stage::Waiting => {
            let scheduled = status.conditions.iter().flatten().find(|one| one.type_ == "PodScheduled")?;
            scheduled.message.clone().or_else(|| scheduled.reason.clone()).filter(|_| scheduled.status == "False")
        }
        Stage::Starting => waits(status),
        Stage::Ended => {
            let end = vm?.state.as_ref()?.terminated.as_ref()?;
            let said = said(end);
            (end.exit_code != 0).then(|| said.unwrap_or_else(|| format!("the guest ended with {}", end.exit_code)))
        }
        Stage::Broken => {
            let taken = status.reason.as_ref().map(|reason| match &status.message {
                Some(message) => format!("{reason}: {message}"),
                None => reason.clone(),
            });
            Some(taken.or_else(|| failed_init(status, node)).unwrap_or_else(|| "its Pod has failed".to_owned()))
        }
    }
}

/// Why the node does not get on: an image that does not come, a container that fails and is tried again.
fn waits(status: &PodStatus) -> Option<String> {
    let all = status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten());
    for one in all {
        let waiting = one.state.as_ref().and_then(|state| state.waiting.as_ref());
        let Some(reason) = waiting.and_then(|waiting| waiting.reason.as_deref()) else { continue };
        if matches!(reason, "PodInitializing" | "ContainerCreating") {
            continue;
        }
        let last = one.last_state.as_ref().and_then(|state| state.terminated.as_ref());
        let message = last.and_then(|end| no_kvm(one, end).or_else(|| said(end)));
        let message = message.or_else(|| waiting.and_then(|waiting| waiting.message.clone()));
        return Some(message.map_or_else(|| reason.to_owned(), |message| format!("{reason}: {message}")));
    }
    None
}

fn failed_init(status: &PodStatus, node: Option<&str>) -> Option<String> {
    let (one, end) = ends(status).find(|(_, end)| end.exit_code != 0)?;
    let what = no_kvm(one, end).or_else(|| said(end)).unwrap_or_else(|| format!("exit code {}", end.exit_code));
    Some(format!("{} on {}: {what}", one.name, node.unwrap_or("its node")))
}

/// A guest may end with any code; the containers before it are ours.
fn no_kvm(container: &ContainerStatus, end: &ContainerStateTerminated) -> Option<String> {
    let text = "there is no KVM that can be used, and the VM may not run in software (spec.allowEmulation)";
    (container.name != VM_CONTAINER && end.exit_code == NO_KVM_EXIT_CODE).then(|| text.to_owned())
}

/// What a container has said last, on one line; else what the kubelet says.
fn said(end: &ContainerStateTerminated) -> Option<String> {
    let line = |text: &String| text.lines().map(str::trim).rfind(|line| !line.is_empty()).map(str::to_owned);
    let reason = end.reason.clone().filter(|reason| reason != "Error" && reason != "Completed");
    reason.or_else(|| end.message.as_ref().and_then(line))
}

#[cfg(test)]
#[path = "pod_state_tests.rs"]
mod tests;
