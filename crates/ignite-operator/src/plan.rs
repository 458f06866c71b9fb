//! What is to be done for a VM, and what its status is: pure.
//!
//! ```text
//!  no Pod ──────────────── Create            the Pod of another spec ── Delete, then Create when it is gone
//!  deleted by somebody ─── Create            evicted, never started ─── Delete, Create, ever more slowly
//!  the guest has ended ─── stays             its node is silent ─────── waits: two Pods of one VM there never are
//!  the VM is deleted ───── Delete, then RemoveFinalizer         it is not to run ── Delete
//! ```

use crate::objects::{GROUP, VirtualMachine};
use crate::pod::{HASH_ANNOTATION, pod_for};
use crate::pod_metadata::{MetadataChange, metadata_change};
use crate::pod_options::PodOptions;
use crate::pod_state::{LOST_AFTER, PodState, Stage};
use crate::status::{Finding, Phase, VmStatus, settle};
use crate::wish::{Refusal, Wish, wish_of};
use ignite_api::depends_on::{Condition, Dependency};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use std::ops::Deref;
use std::time::Duration;

/// Keeps a deleted VM until its Pod is gone.
pub const FINALIZER: &str = "ignite.weave.works/pod";
/// Pause before the first new Pod after one that has failed; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// How often what nobody tells of is looked at.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// Why one is stopped.
const NOT_TO_RUN: &str = "spec.running is false";
/// Longest line of a status.
const MAX_REASON_LEN: usize = 512;

/// What an operator decides for all VMs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanOptions {
    /// What Pods look like.
    pub pods: PodOptions,
    /// After this long a Pod on a silent node is given up: its object is deleted, and another started. The guest there may
    /// still run, so two may write to one disk. Absent: never.
    pub force_delete_after: Option<Duration>,
}

/// One thing to do; in this order, and what fails stops what follows.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// The VM gets our finalizer.
    AddFinalizer,
    /// The VM may go.
    RemoveFinalizer,
    /// Make its Pod.
    Create(Box<Pod>),
    /// Delete the Pod with this uid.
    Delete {
        /// That Pod and no other.
        uid: String,
        /// Without waiting for its node.
        by_force: bool,
    },
    /// Change labels and annotations of the Pod.
    Relabel(MetadataChange),
    /// Delete the VM itself: `spec.autoRemove`.
    RemoveVm,
}

/// Something to tell people, as an event of the VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Whether it is a warning.
    pub is_warning: bool,
    /// One word.
    pub reason: &'static str,
    /// One line.
    pub message: String,
}

impl Notice {
    /// Whether it tells of an action: what could not be done is not told.
    pub(crate) fn is_of_action(&self) -> bool {
        matches!(self.reason, "Created" | "Recreating" | "PodFailed" | "ForcedDeletion")
    }
}

/// What is to be done, and said.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// What is to be done.
    pub actions: Vec<Action>,
    /// What the status is then; equal to the one before when there is nothing new.
    pub status: VmStatus,
    /// What is to be told.
    pub notices: Vec<Notice>,
    /// When to look again though nothing has happened.
    pub again: Option<Duration>,
}

/// What is known when a VM is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// The VM.
    pub vm: &'a VirtualMachine,
    /// The Pod that has its name.
    pub pod: Option<&'a Pod>,
    /// When.
    pub now: Timestamp,
}

/// Decides. `find` knows the other VMs of the namespace by name.
pub fn plan<V: Deref<Target = VirtualMachine>>(
    Seen { vm, pod, now }: Seen<'_>,
    find: impl Fn(&str) -> Option<V>,
    options: &PlanOptions,
) -> Plan {
    let before = vm.status.clone().unwrap_or_default();
    let is_ours = |pod: &&Pod| owner(&pod.metadata).is_some_and(|uid| Some(uid) == vm.metadata.uid.as_deref());
    let (ours, is_taken) = (pod.filter(is_ours), pod.is_some_and(|pod| !is_ours(&pod)));
    let wish = wish_of(&vm.metadata, &vm.spec);
    let desired = wish.as_ref().map_err(Clone::clone).and_then(|wish| Ok((wish, pod_for(vm, wish, &options.pods)?)));
    let mut draft = Draft {
        vm,
        options,
        now,
        status: VmStatus {
            observed_generation: vm.metadata.generation,
            // A new spec has a new chance.
            failed_pods: if before.observed_generation == vm.metadata.generation { before.failed_pods } else { 0 },
            ..VmStatus::default()
        },
        plan: Plan { actions: Vec::new(), status: VmStatus::default(), notices: Vec::new(), again: None },
        waits: desired.as_ref().ok().and_then(|(wish, _)| waits_for(&wish.depends_on, find)),
        before,
    };
    let state = ours.map(|pod| PodState::of(pod, now));
    if let Some(state) = &state {
        draft.describe(vm.metadata.name.clone(), state);
    }
    if vm.metadata.deletion_timestamp.is_some() {
        draft.end(ours.zip(state.as_ref()));
    } else {
        draft.keep(ours.zip(state.as_ref()), desired.as_ref(), is_taken);
    }
    draft.finish(desired.as_ref().err(), state.as_ref(), is_taken)
}

/// What a VM that depends on others waits for; `None`: it may start.
fn waits_for<V: Deref<Target = VirtualMachine>>(
    depends_on: &[Dependency],
    find: impl Fn(&str) -> Option<V>,
) -> Option<String> {
    depends_on.iter().find_map(|one| {
        let name = &one.name;
        let Some(other) = find(name) else { return Some(format!("waits for {name}, which does not exist")) };
        let status = other.status.as_ref();
        let is_ready = || {
            let mut conditions = status.into_iter().flat_map(|status| &status.conditions);
            conditions.any(|condition| condition.kind == "Ready" && condition.status == "True")
        };
        match one.condition {
            Condition::Started if !status.is_some_and(|status| status.running) => {
                Some(format!("waits for {name} to run"))
            }
            Condition::Healthy if !is_ready() => Some(format!("waits for {name} to be healthy")),
            Condition::Started | Condition::Healthy => None,
        }
    })
}

/// The uid of what controls an object.
pub(crate) fn owner(metadata: &ObjectMeta) -> Option<&str> {
    let owners = metadata.owner_references.iter().flatten();
    let ours = |kind: &str| kind.split('/').next() == Some(GROUP);
    owners.filter(|one| ours(&one.api_version)).find(|one| one.controller == Some(true)).map(|one| one.uid.as_str())
}

/// How long to wait after so many Pods in a row have failed.
pub(crate) fn pause_after(failed: i32) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << failed.clamp(0, 10));
    doubled.min(LONGEST_PAUSE)
}

/// One line, of bounded length, for people: guests and registries have a hand in it.
pub(crate) fn one_line(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_REASON_LEN).collect();
    line.trim().to_owned()
}

struct Draft<'a> {
    vm: &'a VirtualMachine,
    options: &'a PlanOptions,
    now: Timestamp,
    before: VmStatus,
    status: VmStatus,
    plan: Plan,
    /// What it depends on and is not there yet.
    waits: Option<String>,
}

impl Draft<'_> {
    fn describe(&mut self, name: Option<String>, state: &PodState) {
        let status = &mut self.status;
        status.pod_name = name;
        status.node_name.clone_from(&state.node);
        status.ip_addresses.clone_from(&state.addresses);
        status.exit_code = state.exit_code;
        status.restarts = state.restarts;
        status.start_time = state.started.map(|time| time.to_string());
        status.finish_time = state.finished.map(|time| time.to_string());
        status.reason = state.why.as_deref().map(one_line);
        status.running = state.stage == Stage::Running;
        status.phase = match state.stage {
            Stage::Waiting | Stage::Broken => Phase::Pending,
            Stage::Starting => Phase::Starting,
            Stage::Running => Phase::Running,
            Stage::Leaving => Phase::Stopping,
            Stage::Lost => Phase::Unknown,
            Stage::Ended if state.exit_code.unwrap_or(0) == 0 => Phase::Succeeded,
            Stage::Ended => Phase::Failed,
        };
        if state.is_ready {
            status.failed_pods = 0;
        }
    }

    /// The VM is deleted: first its Pod goes.
    fn end(&mut self, pod: Option<(&Pod, &PodState)>) {
        self.status.phase = Phase::Stopping;
        match pod {
            None if has_finalizer(self.vm) => self.act(Action::RemoveFinalizer),
            None => {}
            Some((_, state)) if state.stage == Stage::Lost => self.wait_for_node(pod),
            Some((pod, state)) if state.stage == Stage::Leaving => self.watch_the_clock(pod),
            Some((pod, _)) => self.delete(pod, false),
        }
    }

    /// A node that does not end a Pod tells nobody.
    fn watch_the_clock(&mut self, pod: &Pod) {
        let Some(deadline) = &pod.metadata.deletion_timestamp else { return };
        let left = Duration::try_from(deadline.0.duration_since(self.now)).unwrap_or_default();
        self.plan.again = Some(left + LOST_AFTER.unsigned_abs() + Duration::from_secs(1));
    }

    fn keep(&mut self, pod: Option<(&Pod, &PodState)>, desired: Result<&(&Wish, Pod), &Refusal>, is_taken: bool) {
        if !has_finalizer(self.vm) {
            self.act(Action::AddFinalizer);
        }
        let is_stopped = desired.is_ok_and(|(wish, _)| wish.is_stopped);
        let Some((pod, state)) = pod else {
            if is_stopped {
                self.status.phase = Phase::Stopped;
                self.status.reason = Some(NOT_TO_RUN.to_owned());
                self.status.exit_code = self.before.exit_code;
                self.status.finish_time.clone_from(&self.before.finish_time);
            } else if self.is_over() {
                // Its Pod has been cleared away; the run stays over.
                self.status = self.before.clone();
            } else if is_taken {
                self.plan.again = Some(LOOK_AGAIN);
            } else if let Some(waits) = &self.waits {
                self.status.reason = Some(one_line(waits));
            } else if let Ok((_, pod)) = desired {
                self.status.pod_name.clone_from(&self.vm.metadata.name);
                self.act(Action::Create(Box::new(pod.clone())));
                self.notice("Created", format!("created Pod {}", self.vm.metadata.name.as_deref().unwrap_or_default()));
            }
            return;
        };
        match (state.stage, desired) {
            (Stage::Lost, _) => self.wait_for_node(Some((pod, state))),
            (Stage::Leaving, _) if self.is_over() => self.status = self.before.clone(),
            (Stage::Leaving, _) => self.watch_the_clock(pod),
            (_, Ok(_)) if is_stopped => {
                self.delete(pod, false);
                self.status.phase = Phase::Stopping;
                self.status.reason = Some(NOT_TO_RUN.to_owned());
            }
            (_, Ok((wish, _))) if hash_of(pod) != Some(wish.hash().as_str()) => {
                self.delete(pod, false);
                self.status.phase = Phase::Stopping;
                self.status.reason = Some("spec has changed: it is started again".to_owned());
                self.notice("Recreating", "spec has changed: its Pod is replaced".to_owned());
            }
            (Stage::Broken, _) => self.replace(pod, state),
            (Stage::Ended, Ok((wish, _))) if wish.auto_remove => self.act(Action::RemoveVm),
            (_, Ok((_, desired))) => {
                if let Some(change) = metadata_change(&pod.metadata, &desired.metadata) {
                    self.act(Action::Relabel(change));
                }
            }
            (_, Err(_)) => {}
        }
    }

    /// A Pod that failed is replaced when its pause is over; until then it is there to be looked at.
    fn replace(&mut self, pod: &Pod, state: &PodState) {
        let pause = pause_after(self.status.failed_pods);
        let passed = state
            .broken_at
            .map_or(Duration::MAX, |end| Duration::try_from(self.now.duration_since(end)).unwrap_or_default());
        if passed < pause {
            self.plan.again = Some(pause - passed);
            return;
        }
        self.delete(pod, false);
        self.status.failed_pods = self.status.failed_pods.saturating_add(1);
        self.warn("PodFailed", format!("its Pod is replaced: {}", state.why.as_deref().unwrap_or("it has failed")));
    }

    fn wait_for_node(&mut self, pod: Option<(&Pod, &PodState)>) {
        self.plan.again = Some(LOOK_AGAIN);
        let (Some((pod, _)), Some(limit)) = (pod, self.options.force_delete_after) else { return };
        let Some(deadline) = &pod.metadata.deletion_timestamp else { return };
        let waited = Duration::try_from(self.now.duration_since(deadline.0)).unwrap_or_default();
        match limit.checked_sub(waited) {
            None | Some(Duration::ZERO) => {
                self.delete(pod, true);
                self.warn("ForcedDeletion", "its Pod is given up, as its node does not answer".to_owned());
            }
            Some(left) => self.plan.again = Some(left.min(LOOK_AGAIN)),
        }
    }

    fn delete(&mut self, pod: &Pod, by_force: bool) {
        if let Some(uid) = pod.metadata.uid.clone() {
            self.act(Action::Delete { uid, by_force });
        }
    }

    /// This `spec` has had its run.
    fn is_over(&self) -> bool {
        matches!(self.before.phase, Phase::Succeeded | Phase::Failed)
            && self.before.observed_generation == self.vm.metadata.generation
    }

    fn act(&mut self, action: Action) {
        self.plan.actions.push(action);
    }

    fn notice(&mut self, reason: &'static str, message: String) {
        self.plan.notices.push(Notice { is_warning: false, reason, message: one_line(&message) });
    }

    fn warn(&mut self, reason: &'static str, message: String) {
        self.plan.notices.push(Notice { is_warning: true, reason, message: one_line(&message) });
    }

    fn finish(mut self, refusal: Option<&Refusal>, state: Option<&PodState>, is_taken: bool) -> Plan {
        let name = self.vm.metadata.name.clone().unwrap_or_default();
        let refused = refusal.map(|refusal| one_line(&refusal.0));
        let taken = format!("a Pod named {name} is there that is not this VM's");
        if let (None, false) = (state, self.is_over()) {
            let why = refused.clone().or_else(|| is_taken.then(|| taken.clone()));
            self.status.reason = why.or(self.status.reason.take());
        }
        let why = self.status.reason.clone().unwrap_or_default();
        let accepted = match &refused {
            Some(why) => Finding { kind: "Accepted", holds: Some(false), reason: "Invalid", message: why },
            None => Finding { kind: "Accepted", holds: Some(true), reason: "Valid", message: "" },
        };
        let scheduled = Finding {
            kind: "Scheduled",
            holds: state.map_or(Some(false), |state| state.is_scheduled),
            reason: match state {
                Some(state) if state.is_scheduled == Some(true) => "Scheduled",
                Some(state) if state.is_scheduled == Some(false) => "Unschedulable",
                _ if is_taken => "PodNameTaken",
                _ if self.waits.is_some() => "Waits",
                _ => "NoPod",
            },
            message: match state {
                Some(state) if state.stage == Stage::Waiting => state.why.as_deref().unwrap_or_default(),
                None if is_taken => &taken,
                _ => "",
            },
        };
        let ready = Finding {
            kind: "Ready",
            holds: if self.status.phase == Phase::Unknown { None } else { Some(state.is_some_and(|s| s.is_ready)) },
            reason: if state.is_some_and(|state| state.is_ready) { "GuestReady" } else { self.status.phase.word() },
            message: &why,
        };
        let now = self.now.to_string();
        self.status.conditions =
            settle(&self.before.conditions, &now, self.vm.metadata.generation, &[accepted, scheduled, ready]);
        self.tell(refused.as_deref(), is_taken.then_some(taken.as_str()));
        self.plan.status = self.status;
        self.plan
    }

    /// Events for what is new.
    fn tell(&mut self, refused: Option<&str>, taken: Option<&str>) {
        let had = |kind: &str, reason: &str| {
            self.before.conditions.iter().any(|condition| condition.kind == kind && condition.reason == reason)
        };
        let (was_refused, was_taken) = (had("Accepted", "Invalid"), had("Scheduled", "PodNameTaken"));
        if let Some(why) = refused.filter(|_| !was_refused) {
            self.warn("Invalid", why.to_owned());
        }
        if let Some(why) = taken.filter(|_| !was_taken) {
            self.warn("PodNameTaken", why.to_owned());
        }
        if self.status.phase == self.before.phase {
            return;
        }
        let why = self.status.reason.clone();
        match self.status.phase {
            Phase::Running => self.notice("Running", "the guest runs".to_owned()),
            Phase::Stopped => self.notice("Stopped", NOT_TO_RUN.to_owned()),
            Phase::Succeeded => self.notice("Succeeded", "the guest has ended well".to_owned()),
            Phase::Failed => self.warn("Failed", why.unwrap_or_else(|| "the guest has failed".to_owned())),
            Phase::Unknown => self.warn("NodeLost", why.unwrap_or_default()),
            Phase::Pending | Phase::Starting | Phase::Stopping => {}
        }
    }
}

fn has_finalizer(vm: &VirtualMachine) -> bool {
    vm.metadata.finalizers.iter().flatten().any(|one| one == FINALIZER)
}

fn hash_of(pod: &Pod) -> Option<&str> {
    pod.metadata.annotations.as_ref()?.get(HASH_ANNOTATION).map(String::as_str)
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
