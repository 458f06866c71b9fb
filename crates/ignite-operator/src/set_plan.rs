//! What is to be done for a set of equal VMs, and what its status is: pure.
//!
//! The VMs are `NAME-0` to `NAME-(N-1)`. Missing ones are made and surplus ones deleted at once; a changed template reaches
//! them from the last to the first, no more than `maxUnavailable` away at a time. `maxSurge` more, from `NAME-N` on, stand in
//! for those that are away until the template has reached all.

use crate::objects::{VirtualMachine, VirtualMachineSet};
use crate::plan::{Notice, one_line, owner};
use crate::pod_metadata::{metadata_change, remember_keys};
use crate::status::{Condition, Finding, Phase, SetStatus, settle};
use crate::wish::{Refusal, wish_of};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use k8s_openapi::jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::ops::Deref;

/// Label of a VM, and so of its Pod: the set it is of.
pub const SET_LABEL: &str = "ignite.weave.works/vmset";
/// Annotation of a VM: hash of the template it was made from.
pub const REVISION_ANNOTATION: &str = "ignite.weave.works/template-hash";
/// Most VMs of a set.
pub const MAX_REPLICAS: i32 = 10_000;

/// One thing to do.
#[derive(Debug, Clone, PartialEq)]
pub enum SetAction {
    /// Make this VM.
    Create(Box<VirtualMachine>),
    /// Write this VM in place of the version that was read.
    Replace(Box<VirtualMachine>),
    /// Delete the VM.
    Delete {
        /// Its name.
        name: String,
        /// That VM and no other.
        uid: String,
    },
}

/// What is to be done, and said.
#[derive(Debug, Clone, PartialEq)]
pub struct SetPlan {
    /// What is to be done; each for itself.
    pub actions: Vec<SetAction>,
    /// What the status is then.
    pub status: SetStatus,
    /// What is to be told.
    pub notices: Vec<Notice>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SetSpec {
    #[serde(default = "one")]
    replicas: i32,
    template: Template,
    #[serde(default)]
    update_strategy: UpdateStrategy,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Template {
    #[serde(default)]
    metadata: TemplateMetadata,
    spec: Map<String, Value>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct TemplateMetadata {
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct UpdateStrategy {
    #[serde(rename = "type")]
    kind: StrategyKind,
    max_unavailable: Option<IntOrString>,
    max_surge: Option<IntOrString>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
enum StrategyKind {
    #[default]
    RollingUpdate,
    OnDelete,
}

fn one() -> i32 {
    1
}

/// Decides for `set`. `vms` are those of the namespace that have its label or one of its names.
pub fn plan<V: Deref<Target = VirtualMachine>>(set: &VirtualMachineSet, vms: &[V], now: Timestamp) -> SetPlan {
    let before = set.status.clone().unwrap_or_default();
    let ours: BTreeMap<&str, &VirtualMachine> =
        vms.iter().filter(|vm| is_of(set, vm)).filter_map(|vm| Some((vm.metadata.name.as_deref()?, &**vm))).collect();
    let read = read(set);
    let mut plan = SetPlan { actions: Vec::new(), status: SetStatus::default(), notices: Vec::new() };
    let (mut taken, mut refused, mut wanted, mut away) = (None, None, before.replicas, 1);
    let mut revision = before.update_revision.clone();
    match &read {
        Ok((spec, template)) => {
            (wanted, revision) = (spec.replicas, revision_of(template));
            let limits = Limits::of(&spec.update_strategy, wanted);
            away = limits.away;
            let mut work = Work { set, template, revision: &revision, ours: &ours, actions: &mut plan.actions };
            let rolls = spec.update_strategy.kind == StrategyKind::RollingUpdate;
            let with_surge = wanted + if rolls { work.stand_ins(wanted, limits.surge) } else { 0 };
            taken = work.create(with_surge, |name| vms.iter().any(|vm| vm.metadata.name.as_deref() == Some(name)));
            work.shrink(with_surge);
            if rolls {
                work.update(with_surge, wanted - away);
            }
        }
        Err(refusal) => refused = Some(one_line(&refusal.0)),
    }
    let alive = || ours.values().filter(|vm| vm.metadata.deletion_timestamp.is_none());
    let count = |is_counted: &dyn Fn(&VirtualMachine) -> bool| {
        i32::try_from(alive().filter(|vm| is_counted(vm)).count()).unwrap_or(i32::MAX)
    };
    plan.status = SetStatus {
        observed_generation: set.metadata.generation,
        replicas: count(&|_| true),
        ready_replicas: count(&is_ready),
        updated_replicas: count(&|vm| revision_on(vm) == Some(revision.as_str())),
        selector: format!("{SET_LABEL}={}", label_of(set)),
        update_revision: revision,
        conditions: Vec::new(),
    };
    plan.status.conditions =
        conditions(&before.conditions, set, &plan.status, wanted, away, refused.as_deref(), taken.as_deref(), now);
    tell(&mut plan, &before.conditions);
    plan
}

/// Whether `vm` is controlled by `set`.
pub(crate) fn is_of(set: &VirtualMachineSet, vm: &VirtualMachine) -> bool {
    owner(&vm.metadata).is_some_and(|uid| Some(uid) == set.metadata.uid.as_deref())
}

/// The value of [`SET_LABEL`]: a label is shorter than a name may be.
pub(crate) fn label_of(set: &VirtualMachineSet) -> String {
    let name: String = set.metadata.name.clone().unwrap_or_default().chars().take(63).collect();
    name.trim_end_matches(['.', '-', '_']).to_owned()
}

fn read(set: &VirtualMachineSet) -> Result<(SetSpec, Template), Refusal> {
    let spec: SetSpec = serde_path_to_error::deserialize(Value::Object(set.spec.clone()))
        .map_err(|error| Refusal(format!("spec.{}: {}", error.path(), error.inner())))?;
    if !(0..=MAX_REPLICAS).contains(&spec.replicas) {
        return Err(Refusal(format!("spec.replicas: Invalid value: {}: 0 to {MAX_REPLICAS}", spec.replicas)));
    }
    let template = spec.template.clone();
    let surge = Limits::of(&spec.update_strategy, spec.replicas).surge;
    let last = name_of(set, (spec.replicas + surge).max(1) - 1);
    let metadata = ObjectMeta {
        name: Some(last.clone()),
        labels: Some(template.metadata.labels.clone()),
        ..ObjectMeta::default()
    };
    ignite_api::names::check_vm_name(&last).map_err(|error| Refusal(format!("metadata.name: {error}")))?;
    wish_of(&metadata, &template.spec).map_err(|refusal| Refusal(format!("spec.template: {refusal}")))?;
    Ok((spec, template))
}

fn name_of(set: &VirtualMachineSet, index: i32) -> String {
    format!("{}-{index}", set.metadata.name.as_deref().unwrap_or_default())
}

fn index_of(set: &VirtualMachineSet, name: &str) -> Option<i32> {
    let digits = name.strip_prefix(set.metadata.name.as_deref()?)?.strip_prefix('-')?;
    let index: i32 = digits.parse().ok()?;
    (index.to_string() == digits).then_some(index)
}

fn revision_of(template: &Template) -> String {
    let all = json!({ "labels": template.metadata.labels, "annotations": template.metadata.annotations, "spec": template.spec });
    hex::encode(&Sha256::digest(all.to_string().as_bytes())[..8])
}

fn revision_on(vm: &VirtualMachine) -> Option<&str> {
    vm.metadata.annotations.as_ref()?.get(REVISION_ANNOTATION).map(String::as_str)
}

/// How far an update may go at a time.
struct Limits {
    /// VMs that may be away.
    away: i32,
    /// VMs beyond those that are wanted.
    surge: i32,
}

impl Limits {
    /// Kubernetes' rule for sets with an order: percentages are rounded up, and an update can always go on.
    fn of(strategy: &UpdateStrategy, replicas: i32) -> Limits {
        let surge = number(strategy.max_surge.as_ref(), replicas).unwrap_or(0).clamp(0, MAX_REPLICAS);
        let away = number(strategy.max_unavailable.as_ref(), replicas).unwrap_or(1).clamp(0, MAX_REPLICAS);
        Limits { away: if surge == 0 { away.max(1) } else { away }, surge }
    }
}

fn number(wanted: Option<&IntOrString>, replicas: i32) -> Option<i32> {
    match wanted? {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(text) => match text.strip_suffix('%') {
            Some(percent) => {
                let share = (i64::from(replicas) * percent.parse::<i64>().ok()?.clamp(0, 100) + 99) / 100;
                i32::try_from(share).ok()
            }
            None => text.parse().ok(),
        },
    }
}

/// The guest runs what its `spec` says now.
fn is_ready(vm: &VirtualMachine) -> bool {
    let Some(status) = &vm.status else { return false };
    status.observed_generation == vm.metadata.generation
        && status.phase == Phase::Running
        && status.conditions.iter().any(|condition| condition.kind == "Ready" && condition.status == "True")
}

struct Work<'a> {
    set: &'a VirtualMachineSet,
    template: &'a Template,
    revision: &'a str,
    ours: &'a BTreeMap<&'a str, &'a VirtualMachine>,
    actions: &'a mut Vec<SetAction>,
}

impl Work<'_> {
    /// Makes what is missing; gives the name that another has, if there is one.
    fn create(&mut self, wanted: i32, is_there: impl Fn(&str) -> bool) -> Option<String> {
        let mut taken = None;
        for name in (0..wanted).map(|index| name_of(self.set, index)) {
            if self.ours.contains_key(name.as_str()) {
                continue;
            }
            if is_there(&name) {
                taken.get_or_insert(name);
                continue;
            }
            let vm = VirtualMachine {
                api_version: self.set.api_version.clone(),
                kind: "VM".to_owned(),
                metadata: self.metadata(&name),
                spec: self.template.spec.clone(),
                status: None,
            };
            self.actions.push(SetAction::Create(Box::new(vm)));
        }
        taken
    }

    fn metadata(&self, name: &str) -> ObjectMeta {
        let (mut labels, mut annotations) =
            (self.template.metadata.labels.clone(), self.template.metadata.annotations.clone());
        labels.insert(SET_LABEL.to_owned(), label_of(self.set));
        annotations.insert(REVISION_ANNOTATION.to_owned(), self.revision.to_owned());
        let mut metadata = ObjectMeta {
            name: Some(name.to_owned()),
            namespace: self.set.metadata.namespace.clone(),
            labels: Some(labels),
            annotations: Some(annotations),
            owner_references: Some(vec![OwnerReference {
                api_version: self.set.api_version.clone(),
                kind: self.set.kind.clone(),
                name: self.set.metadata.name.clone().unwrap_or_default(),
                uid: self.set.metadata.uid.clone().unwrap_or_default(),
                controller: Some(true),
                block_owner_deletion: Some(true),
            }]),
            ..ObjectMeta::default()
        };
        remember_keys(&mut metadata);
        metadata
    }

    /// Deletes what is too many, the last ones first.
    fn shrink(&mut self, wanted: i32) {
        let mut surplus: Vec<(i32, &VirtualMachine)> = self
            .ours
            .iter()
            .map(|(name, vm)| (index_of(self.set, name).unwrap_or(i32::MAX), *vm))
            .filter(|(index, vm)| *index >= wanted && vm.metadata.deletion_timestamp.is_none())
            .collect();
        surplus.sort_by_key(|(index, _)| std::cmp::Reverse(*index));
        for (_, vm) in surplus {
            if let (Some(name), Some(uid)) = (vm.metadata.name.clone(), vm.metadata.uid.clone()) {
                self.actions.push(SetAction::Delete { name, uid });
            }
        }
    }

    fn is_leaving(&self, name: &str) -> bool {
        self.ours.get(name).is_some_and(|vm| vm.metadata.deletion_timestamp.is_some())
    }

    fn is_ready(&self, name: &str) -> bool {
        self.ours.get(name).is_some_and(|vm| is_ready(vm)) && !self.is_leaving(name)
    }

    fn is_old(&self, name: &str) -> bool {
        self.ours.get(name).is_some_and(|vm| revision_on(vm) != Some(self.revision)) && !self.is_leaving(name)
    }

    /// VMs beyond those that are wanted: made when there is an old one, there until none is away for the update's sake.
    fn stand_ins(&self, wanted: i32, surge: i32) -> i32 {
        let names = |range: std::ops::Range<i32>| range.map(|index| name_of(self.set, index));
        let count = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
        let unfinished = count(names(0..wanted).filter(|name| self.is_old(name) || !self.is_ready(name)).count());
        let most = if names(0..wanted).any(|name| self.is_old(&name)) {
            surge
        } else {
            let is_there = |name: &String| self.ours.contains_key(name.as_str()) && !self.is_leaving(name);
            count(names(wanted..wanted.saturating_add(surge)).filter(is_there).count())
        };
        most.min(unfinished)
    }

    /// From the last to the first: what is away anyway at once, what is ready while more than `at_least` are.
    fn update(&mut self, there: i32, at_least: i32) {
        let names: Vec<String> = (0..there).rev().map(|index| name_of(self.set, index)).collect();
        let ready = names.iter().filter(|name| self.is_ready(name)).count();
        let mut room = i32::try_from(ready).unwrap_or(i32::MAX) - at_least;
        let mut changed = Vec::new();
        for name in names.iter().filter(|name| self.is_old(name)) {
            let Some(vm) = self.ours.get(name.as_str()) else { continue };
            if self.is_ready(name) {
                if room <= 0 {
                    continue;
                }
                room -= 1;
            }
            changed.push(self.updated(vm));
        }
        self.actions.extend(changed.into_iter().map(|vm| SetAction::Replace(Box::new(vm))));
    }

    fn updated(&self, vm: &VirtualMachine) -> VirtualMachine {
        let mut vm = vm.clone();
        let wanted = self.metadata(vm.metadata.name.as_deref().unwrap_or_default());
        if let Some(change) = metadata_change(&vm.metadata, &wanted) {
            apply(&mut vm.metadata.labels, &change.0["metadata"]["labels"]);
            apply(&mut vm.metadata.annotations, &change.0["metadata"]["annotations"]);
        }
        vm.spec.clone_from(&self.template.spec);
        vm.status = None;
        vm
    }
}

fn apply(texts: &mut Option<BTreeMap<String, String>>, change: &Value) {
    for (key, value) in change.as_object().into_iter().flatten() {
        match value.as_str() {
            Some(value) => drop(texts.get_or_insert_default().insert(key.clone(), value.to_owned())),
            None => drop(texts.as_mut().map(|texts| texts.remove(key))),
        }
    }
}

#[allow(clippy::too_many_arguments, reason = "everything that conditions are about")]
fn conditions(
    before: &[Condition],
    set: &VirtualMachineSet,
    status: &SetStatus,
    wanted: i32,
    away: i32,
    refused: Option<&str>,
    taken: Option<&str>,
    now: Timestamp,
) -> Vec<Condition> {
    let taken = taken.map(|name| format!("a VM named {name} is there that is not this set's"));
    let accepted = match (refused, &taken) {
        (Some(why), _) => Finding { kind: "Accepted", holds: Some(false), reason: "Invalid", message: why },
        (None, Some(why)) => Finding { kind: "Accepted", holds: Some(false), reason: "NameTaken", message: why },
        (None, None) => Finding { kind: "Accepted", holds: Some(true), reason: "Valid", message: "" },
    };
    let counted = format!("{} of {wanted} ready", status.ready_replicas);
    let is_available = status.ready_replicas >= wanted - if wanted > 1 { away.min(wanted - 1) } else { 0 };
    let available = Finding {
        kind: "Available",
        holds: Some(is_available),
        reason: if is_available { "EnoughReady" } else { "TooFewReady" },
        message: &counted,
    };
    let updated = format!("{} of {wanted} made from the template as it is", status.updated_replicas.min(wanted));
    let is_done = status.replicas == wanted && status.updated_replicas == wanted && status.ready_replicas == wanted;
    let progressing = Finding {
        kind: "Progressing",
        holds: Some(!is_done && refused.is_none()),
        reason: if is_done { "Complete" } else { "Underway" },
        message: &updated,
    };
    settle(before, &now.to_string(), set.metadata.generation, &[accepted, available, progressing])
}

/// Events for what is new.
fn tell(plan: &mut SetPlan, before: &[Condition]) {
    let name = |vm: &VirtualMachine| vm.metadata.name.clone().unwrap_or_default();
    let mut told: [(&str, &str, Vec<String>); 3] =
        [("Created", "made", vec![]), ("Updated", "gave the new template to", vec![]), ("Deleted", "deleted", vec![])];
    for action in &plan.actions {
        match action {
            SetAction::Create(vm) => told[0].2.push(name(vm)),
            SetAction::Replace(vm) => told[1].2.push(name(vm)),
            SetAction::Delete { name, .. } => told[2].2.push(name.clone()),
        }
    }
    // One event for all of them: a set may be large.
    for (reason, done, names) in told {
        let message = match &names[..] {
            [] => continue,
            [one] => format!("{done} VM {one}"),
            [first, .., last] => format!("{done} {} VMs, {first} to {last}", names.len()),
        };
        plan.notices.push(Notice { is_warning: false, reason, message });
    }
    let is_refused = |all: &[Condition]| all.iter().any(|one| one.kind == "Accepted" && one.status == "False");
    if is_refused(&plan.status.conditions) && !is_refused(before) {
        let message = plan.status.conditions.first().map(|one| one.message.clone()).unwrap_or_default();
        plan.notices.push(Notice { is_warning: true, reason: "Invalid", message });
    }
}

#[cfg(test)]
#[path = "set_plan_tests.rs"]
mod tests;
