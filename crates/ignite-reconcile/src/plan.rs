//! The decision: from what is wanted and what is to one step per VM; pure.
//!
//! ```text
//!  there, wanted   differs in what was built      recreate: stop, remove; the next round creates
//!                  differs in what is read at start  restart: stop, write; the next round starts
//!                  differs otherwise              update: write
//!                  runs as wanted                 keep
//!                  rests, is to run               start, when what it depends on is ready; else wait
//!                  runs, is to rest               stop
//!  wanted only     create; the next round starts
//!  there only      ours: remove, unless its file cannot be read: hold.   not ours: nothing
//! ```

use crate::changes::{Change, Effect, changes};
use crate::dependencies;
use crate::fleet::FleetError;
use crate::ownership::{MANIFEST_ANNOTATION, Owner, owner_of};
use crate::wanted::{Origin, WantedSet, WantedVm};
use ignite_api::depends_on::{Condition, Dependency, Readiness};
use ignite_api::health::Health;
use ignite_api::restart_policy::RestartPolicy;
use ignite_api::{Phase, Uid, Vm};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// How a set is planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Who plans.
    pub owner: Owner,
    /// Name of the stack that the VMs belong to.
    pub stack: Option<String>,
    /// VMs that nobody keeps are taken over when they have a wanted name.
    pub is_adopting: bool,
    /// What the owner keeps and the set does not want any more is removed.
    pub is_pruning: bool,
    /// VMs that are unhealthy are started again where their restart policy asks for restarts.
    pub is_healing: bool,
}

/// What has to be done about one VM.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// It is as it should be.
    Keep,
    /// It ended, and it is not to be started again.
    Completed,
    /// Make it.
    Create(Box<Vm>),
    /// Start it.
    Start,
    /// Stop it.
    Stop,
    /// Stop it and start it again: it does not do its work.
    Heal,
    /// Make it what is wanted.
    Change {
        /// What it takes.
        effect: Effect,
        /// Why.
        changes: Vec<Change>,
        /// What is wanted.
        vm: Box<Vm>,
    },
    /// Remove it and its disk.
    Remove,
    /// Nothing, until these are ready.
    Wait(Vec<Dependency>),
    /// Nothing, until VMs that depend on it are gone.
    WaitForRemoval(Vec<String>),
    /// Nothing, since what is wanted of it cannot be read.
    Hold(String),
    /// It cannot be done.
    Refuse(String),
    /// Nothing, since it takes a secret that cannot be had.
    Lacks(FleetError),
}

impl Action {
    /// What is done, in the imperative; empty where nothing is.
    pub fn verb(&self) -> &'static str {
        match self {
            Action::Create(_) => "create",
            Action::Start => "start",
            Action::Stop => "stop",
            Action::Heal => "heal",
            Action::Change { effect: Effect::Update, .. } => "update",
            Action::Change { effect: Effect::Restart, .. } => "restart",
            Action::Change { effect: Effect::Recreate, .. } => "recreate",
            Action::Remove => "remove",
            Action::Keep
            | Action::Completed
            | Action::Wait(_)
            | Action::WaitForRemoval(_)
            | Action::Hold(_)
            | Action::Refuse(_)
            | Action::Lacks(_) => "",
        }
    }

    /// True when there is something to do now.
    pub fn is_work(&self) -> bool {
        !self.verb().is_empty()
    }
}

/// What has to be done about a VM, and which it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Its name.
    pub name: String,
    /// Its uid, when it is there.
    pub uid: Option<Uid>,
    /// Its phase, when it is there.
    pub phase: Option<Phase>,
    /// Where it is wanted; absent when it is not.
    pub origin: Option<Origin>,
    /// What has to be done.
    pub action: Action,
}

/// What is known to be ready: VM and what was asked of it. That a VM runs needs no look.
pub(crate) type Ready = HashSet<(String, Readiness)>;

/// One step for every VM that the set wants or its owner keeps: wanted ones in the set's order, then the others by name.
pub fn plan(set: &WantedSet, found: &[Vm], options: &Options, ready: &HashSet<(String, Readiness)>) -> Vec<Step> {
    let index = Index::new(found, set);
    let existing: BTreeSet<&str> = found.iter().map(|vm| vm.metadata.name.as_str()).collect();
    let impossible = dependencies::impossible(set, &existing);
    let mut steps: Vec<Step> = Vec::with_capacity(set.vms.len());
    let mut claimed: HashSet<&Uid> = HashSet::new();
    for wanted in &set.vms {
        let (there, mismatch) = index.find(wanted);
        claimed.extend(there.and_then(|vm| vm.metadata.uid.as_ref()));
        let action = match (mismatch, impossible.get(wanted.name())) {
            (Some(reason), _) => Action::Refuse(reason),
            (None, Some(reason)) => Action::Refuse(reason.clone()),
            (None, None) => decide(wanted, there, options, &index, ready),
        };
        steps.push(step(wanted.name(), there, Some(wanted.origin.clone()), action));
    }
    steps.extend(leftovers(set, found, &claimed, options));
    steps
}

struct Index<'a> {
    by_name: HashMap<&'a str, &'a Vm>,
    by_uid: HashMap<&'a Uid, &'a Vm>,
    without_secret: &'a BTreeMap<String, FleetError>,
}

impl<'a> Index<'a> {
    fn new(found: &'a [Vm], set: &'a WantedSet) -> Index<'a> {
        Index {
            by_name: found.iter().map(|vm| (vm.metadata.name.as_str(), vm)).collect(),
            without_secret: &set.without_secret,
            by_uid: found.iter().filter_map(|vm| Some((vm.metadata.uid.as_ref()?, vm))).collect(),
        }
    }

    /// The VM that is meant, and why it cannot be.
    fn find(&self, wanted: &WantedVm) -> (Option<&'a Vm>, Option<String>) {
        let by_name = self.by_name.get(wanted.name()).copied();
        let Some(uid) = &wanted.vm.metadata.uid else { return (by_name, None) };
        match (self.by_uid.get(uid).copied(), by_name) {
            (Some(vm), _) if vm.metadata.name == wanted.name() => (Some(vm), None),
            (Some(vm), _) => {
                let reason = format!("the VM with the uid {uid} is there under the name {}", vm.metadata.name);
                (None, Some(reason))
            }
            (None, by_name) => (by_name, None),
        }
    }
}

fn decide(wanted: &WantedVm, there: Option<&Vm>, options: &Options, index: &Index<'_>, ready: &Ready) -> Action {
    let marked = wanted.marked(&options.owner, options.stack.as_deref());
    let lacks = index.without_secret.get(wanted.name());
    let Some(vm) = there else {
        return lacks.map_or_else(|| Action::Create(Box::new(marked)), |error| Action::Lacks(error.clone()));
    };
    if let Err(reason) = may_keep(vm, options) {
        return Action::Refuse(reason);
    }
    if let Some(error) = lacks {
        return Action::Lacks(error.clone());
    }
    let mut changes = changes(vm, &marked);
    if let (Some(from), Some(to)) = (&vm.metadata.uid, &marked.metadata.uid)
        && from != to
    {
        let (from, to) = (Some(from.to_string()), Some(to.to_string()));
        changes.push(Change { field: "metadata.uid".to_owned(), from, to, effect: Effect::Recreate });
    }
    if let Some(effect) = changes.iter().map(|change| change.effect).max() {
        // Of a VM at rest, what is read when it starts is only written.
        let effect = if effect == Effect::Restart && !vm.status.phase.is_live() { Effect::Update } else { effect };
        return Action::Change { effect, changes, vm: Box::new(marked) };
    }
    if options.is_healing && wanted.is_running_wanted && is_to_be_healed(vm, wanted) {
        return Action::Heal;
    }
    decide_phase(wanted, vm, options, index, ready)
}

/// As systemd's watchdog and Kubernetes' liveness have it; Docker only tells.
fn is_to_be_healed(vm: &Vm, wanted: &WantedVm) -> bool {
    vm.status.phase == Phase::Running && health(vm) == Some(Health::Unhealthy) && !wanted.vm.spec.restart_policy.is_no()
}

fn health(vm: &Vm) -> Option<Health> {
    vm.status.health.as_ref().map(|health| health.state)
}

fn decide_phase(wanted: &WantedVm, vm: &Vm, options: &Options, index: &Index<'_>, ready: &Ready) -> Action {
    match (wanted.is_running_wanted, vm.status.phase) {
        // Whoever paused it wanted that; whoever stops it will be done soon.
        (true, Phase::Starting | Phase::Running | Phase::Paused | Phase::Stopping) => Action::Keep,
        (false, Phase::Starting | Phase::Running | Phase::Paused) => Action::Stop,
        (false, Phase::Created | Phase::Stopping | Phase::Stopped | Phase::Failed) => Action::Keep,
        (true, Phase::Stopped) if has_completed(vm, options) => Action::Completed,
        (true, Phase::Created | Phase::Stopped | Phase::Failed) => {
            if let Some(reason) = without_check(&wanted.vm.spec.depends_on, index) {
                return Action::Refuse(reason);
            }
            let unready = unready(&wanted.vm.spec.depends_on, index, ready);
            if unready.is_empty() { Action::Start } else { Action::Wait(unready) }
        }
    }
}

/// What is to run is started whenever it does not; but whoever writes `on-failure` means a task that has an end. One that
/// was unhealthy to the last has been stopped to be healed, and the start has not come about yet.
fn has_completed(vm: &Vm, options: &Options) -> bool {
    let is_half_healed = options.is_healing && health(vm) == Some(Health::Unhealthy);
    matches!(vm.spec.restart_policy, RestartPolicy::OnFailure { .. })
        && vm.status.exit_code == Some(0)
        && !is_half_healed
}

fn unready(dependencies: &[Dependency], index: &Index<'_>, ready: &Ready) -> Vec<Dependency> {
    let is_ready = |dependency: &Dependency| {
        let runs = index.by_name.get(dependency.name.as_str()).is_some_and(|vm| vm.status.phase == Phase::Running);
        let asked = || ready.contains(&(dependency.name.clone(), dependency.ready.clone()));
        let is_well = match dependency.condition {
            Condition::Started => true,
            Condition::Healthy => {
                index.by_name.get(dependency.name.as_str()).and_then(|vm| health(vm)) == Some(Health::Healthy)
            }
        };
        runs && is_well && (dependency.ready.is_empty() || asked())
    };
    dependencies.iter().filter(|dependency| !is_ready(dependency)).cloned().collect()
}

/// Who waits for the health of a VM that has no health check waits for ever.
fn without_check(dependencies: &[Dependency], index: &Index<'_>) -> Option<String> {
    let is_without = |dependency: &&Dependency| {
        let vm = index.by_name.get(dependency.name.as_str());
        dependency.condition == Condition::Healthy
            && vm.is_some_and(|vm| vm.status.phase == Phase::Running && vm.status.health.is_none())
    };
    let name = &dependencies.iter().find(is_without)?.name;
    Some(format!("it waits until {name} is healthy, and {name} has no health check"))
}

fn may_keep(vm: &Vm, options: &Options) -> Result<(), String> {
    let name = &vm.metadata.name;
    match owner_of(vm) {
        Some(owner) if owner == options.owner => Ok(()),
        Some(owner) => Err(format!("a VM of the name {name} is kept by {owner}")),
        None if options.is_adopting => Ok(()),
        None => Err(format!("a VM of the name {name} is there already and was made by hand")),
    }
}

/// What the owner keeps and the set does not name.
fn leftovers(set: &WantedSet, found: &[Vm], claimed: &HashSet<&Uid>, options: &Options) -> Vec<Step> {
    let is_left = |vm: &&Vm| {
        owner_of(vm).is_some_and(|owner| owner == options.owner)
            && vm.metadata.uid.as_ref().is_some_and(|uid| !claimed.contains(uid))
    };
    let mut left: Vec<&Vm> = found.iter().filter(is_left).collect();
    left.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    if !options.is_pruning {
        return Vec::new();
    }
    let mut steps: Vec<Step> =
        left.iter().map(|vm| step(&vm.metadata.name, Some(vm), None, removal(set, vm))).collect();
    order_removals(&mut steps, &left);
    steps
}

fn removal(set: &WantedSet, vm: &Vm) -> Action {
    let file = vm.metadata.annotations.get(MANIFEST_ANNOTATION).map_or("", String::as_str);
    if set.is_incomplete {
        return Action::Hold("the manifests cannot be read".to_owned());
    }
    if set.broken_files.contains(file) {
        return Action::Hold(format!("{file} cannot be read"));
    }
    Action::Remove
}

/// Who is depended on goes last; VMs that depend on each other in a circle go at once.
fn order_removals(steps: &mut [Step], left: &[&Vm]) {
    let going: BTreeSet<&str> = steps.iter().filter(|s| s.action == Action::Remove).map(|s| s.name.as_str()).collect();
    let mut waits: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for vm in left.iter().filter(|vm| going.contains(vm.metadata.name.as_str())) {
        for dependency in vm.spec.depends_on.iter().filter(|d| going.contains(d.name.as_str())) {
            waits.entry(dependency.name.clone()).or_default().push(vm.metadata.name.clone());
        }
    }
    if going.iter().all(|name| waits.contains_key(*name)) {
        return;
    }
    for step in steps.iter_mut().filter(|step| step.action == Action::Remove) {
        if let Some(users) = waits.remove(&step.name) {
            step.action = Action::WaitForRemoval(users);
        }
    }
}

fn step(name: &str, vm: Option<&Vm>, origin: Option<Origin>, action: Action) -> Step {
    Step {
        name: name.to_owned(),
        uid: vm.and_then(|vm| vm.metadata.uid.clone()),
        phase: vm.map(|vm| vm.status.phase),
        origin,
        action,
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
