//! Round after round: observe, plan, do, remember what failed.

use crate::backoff::BackOff;
use crate::condition::{ObjectState, ObjectStatus, SetStatus};
use crate::fleet::{Fleet, FleetError};
use crate::ownership::SECRETS_ANNOTATION;
use crate::perform::perform;
use crate::plan::{Action, Options, Ready, Step, plan};
use crate::wanted::{WantedSet, WantedVm};
use futures_util::StreamExt;
use futures_util::stream::{self, FuturesUnordered};
use ignite_api::Vm;
use ignite_api::health::Health;
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// A step and what became of it.
pub type Outcome = (Step, Result<(), FleetError>);

/// How long a dependency that is not ready is left alone before it is looked at again: nothing tells when a guest's
/// program begins to listen.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// What may be used.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Steps done at the same time.
    pub concurrency: usize,
}

/// A look at everything, and what is due.
#[derive(Debug, Default)]
pub struct Round {
    /// What is to be done now, at the same time; each is handed back with [`Controller::finished`].
    pub work: Vec<Step>,
    /// The VMs as they were found.
    pub found: Vec<Vm>,
    /// When something will be due by itself; absent: only when something changes.
    pub next: Option<Duration>,
    /// Time it took to observe and to plan.
    pub planning: Duration,
}

/// Keeps one set.
#[derive(Debug)]
pub struct Controller {
    options: Options,
    limits: Limits,
    back_off: BackOff,
    /// The last failure of a VM, and what was wanted of it then.
    failures: HashMap<String, FleetError>,
    /// What is being done, by VM.
    in_flight: HashMap<String, &'static str>,
    permits: Arc<Semaphore>,
    wanted: WantedSet,
    status: SetStatus,
}

impl Controller {
    /// A controller that wants nothing yet.
    pub fn new(options: Options, limits: Limits) -> Controller {
        let status = SetStatus { owner: options.owner.to_string(), ..SetStatus::default() };
        let wanted = WantedSet { is_incomplete: true, ..WantedSet::default() };
        Controller {
            options,
            limits,
            back_off: BackOff::default(),
            failures: HashMap::new(),
            in_flight: HashMap::new(),
            permits: Arc::new(Semaphore::new(limits.concurrency.max(1))),
            wanted,
            status,
        }
    }

    /// How it plans.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Takes what is wanted from now on; what failed before is tried again at once where the wish is another.
    pub fn want(&mut self, wanted: WantedSet) {
        let old: HashMap<&str, &WantedVm> = self.wanted.vms.iter().map(|old| (old.name(), old)).collect();
        let new: HashSet<&str> = wanted.vms.iter().map(WantedVm::name).collect();
        for new in &wanted.vms {
            let is_new = old
                .get(new.name())
                .is_none_or(|old| old.vm != new.vm || old.is_running_wanted != new.is_running_wanted);
            if is_new {
                self.back_off.reset(new.name());
            }
        }
        for gone in old.keys().filter(|name| !new.contains(*name)) {
            self.back_off.reset(gone);
        }
        self.wanted = wanted;
    }

    /// What is wanted.
    pub fn wanted(&self) -> &WantedSet {
        &self.wanted
    }

    /// How everything stands after the last round.
    pub fn status(&self) -> &SetStatus {
        &self.status
    }

    /// What a round would do now.
    pub async fn preview(&self, fleet: &impl Fleet) -> Result<Vec<Step>, FleetError> {
        let found = fleet.observe().await?;
        Ok(self.plan(fleet, &found).await)
    }

    /// Looks at everything and says what is due. An error means that nothing could be observed; what fails of a single VM is
    /// in the status.
    pub async fn look(&mut self, fleet: &impl Fleet) -> Result<Round, FleetError> {
        let started = Instant::now();
        let found = fleet.observe().await?;
        let steps = self.plan(fleet, &found).await;
        let planning = started.elapsed();
        let now = Instant::now();
        let (work, rest): (Vec<Step>, Vec<Step>) = steps.into_iter().partition(|step| {
            let is_due = || self.back_off.wait(&step.name, now).is_zero();
            step.action.is_work() && !self.in_flight.contains_key(&step.name) && is_due()
        });
        for step in &work {
            self.in_flight.insert(step.name.clone(), step.action.verb());
        }
        let next = self.remember(&work, &rest, &found);
        Ok(Round { work, found, next, planning })
    }

    /// Does a step, as soon as no more than the limit are being done.
    pub fn perform<'a, F: Fleet>(
        &self,
        fleet: &'a F,
        step: Step,
    ) -> impl Future<Output = (Step, Result<(), FleetError>)> + use<'a, F> {
        let permits = self.permits.clone();
        async move {
            // The semaphore is never closed.
            let _permit = permits.acquire_owned().await;
            let result = perform(fleet, &step).await;
            (step, result)
        }
    }

    /// Takes note of what became of a step.
    pub fn finished(&mut self, step: &Step, result: &Result<(), FleetError>) {
        let now = Instant::now();
        self.in_flight.remove(&step.name);
        match result {
            Ok(()) => {
                self.failures.remove(&step.name);
                // A start that succeeds counts too: a VM that ends at once must not be started again at once.
                if matches!(step.action, Action::Start | Action::Heal) {
                    self.back_off.attempted(&step.name, now);
                }
            }
            Err(error) => {
                self.back_off.attempted(&step.name, now);
                self.failures.insert(step.name.clone(), error.clone());
            }
        }
    }

    /// One whole round: looks, does what is due, and returns it with what became of it.
    pub async fn round(&mut self, fleet: &impl Fleet) -> Result<(Round, Vec<Outcome>), FleetError> {
        let mut round = self.look(fleet).await?;
        let work: Vec<_> = std::mem::take(&mut round.work).into_iter().map(|step| self.perform(fleet, step)).collect();
        let mut running: FuturesUnordered<_> = work.into_iter().collect();
        let mut outcomes = Vec::new();
        while let Some((step, result)) = running.next().await {
            self.finished(&step, &result);
            outcomes.push((step, result));
        }
        Ok((round, outcomes))
    }

    /// Plans, looks at what is waited for, and plans again with what is ready.
    async fn plan(&self, fleet: &impl Fleet, found: &[Vm]) -> Vec<Step> {
        let wanted = &self.with_secrets(fleet).await;
        let steps = plan(wanted, found, &self.options, &Ready::new());
        let asked: Ready = steps
            .iter()
            .flat_map(|step| match &step.action {
                Action::Wait(dependencies) => dependencies.as_slice(),
                _ => &[],
            })
            .filter(|dependency| !dependency.ready.is_empty())
            .map(|dependency| (dependency.name.clone(), dependency.ready.clone()))
            .collect();
        if asked.is_empty() {
            return steps;
        }
        let looks = asked.into_iter().filter_map(|(name, readiness)| {
            let vm = found.iter().find(|vm| vm.metadata.name == name && vm.status.phase.is_running())?;
            let uid = vm.metadata.uid.clone()?;
            Some(async move { fleet.is_ready(&uid, &readiness).await.then_some((name, readiness)) })
        });
        let ready: Ready = stream::iter(looks)
            .buffer_unordered(self.limits.concurrency.max(1))
            .filter_map(async |r| r)
            .collect()
            .await;
        plan(wanted, found, &self.options, &ready)
    }

    /// What is wanted, with the marks of the secrets as they are now: they change without any manifest.
    async fn with_secrets(&self, fleet: &impl Fleet) -> Cow<'_, WantedSet> {
        let mut set = Cow::Borrowed(&self.wanted);
        for (index, wanted) in self.wanted.vms.iter().enumerate() {
            match fleet.secrets_version(&wanted.vm).await {
                Ok(None) => {}
                Ok(Some(version)) => {
                    let annotations = &mut set.to_mut().vms[index].vm.metadata.annotations;
                    annotations.insert(SECRETS_ANNOTATION.to_owned(), version);
                }
                Err(error) => drop(set.to_mut().without_secret.insert(wanted.name().to_owned(), error)),
            }
        }
        set
    }

    fn remember(&mut self, work: &[Step], rest: &[Step], found: &[Vm]) -> Option<Duration> {
        let now = Instant::now();
        let mut next = None;
        let mut due = |wait: Duration| next = Some(next.map_or(wait, |earlier: Duration| earlier.min(wait)));
        let healths: HashMap<_, _> = found
            .iter()
            .filter_map(|vm| Some((vm.metadata.uid.as_ref()?, vm.status.health.as_ref().map(|health| health.state))))
            .collect();
        let mut objects = Vec::with_capacity(work.len() + rest.len());
        for step in work {
            objects.push(object(step, ObjectState::Progressing, step.action.verb(), None));
        }
        for step in rest {
            if let Some(verb) = self.in_flight.get(&step.name) {
                objects.push(object(step, ObjectState::Progressing, *verb, None));
                continue;
            }
            let (state, message, hint) = match &step.action {
                Action::Keep => {
                    let vm = step.uid.as_ref().and_then(|uid| healths.get(uid)).copied().flatten();
                    // Not yet known to be well: what it was tried for before still counts.
                    if vm.is_none_or(|health| health == Health::Healthy) {
                        self.back_off.is_well(&step.name, now);
                    }
                    self.failures.remove(&step.name);
                    match vm {
                        None | Some(Health::Healthy) => (ObjectState::Ready, String::new(), None),
                        Some(Health::Starting) => (ObjectState::Progressing, "until it is healthy".to_owned(), None),
                        Some(Health::Unhealthy) => {
                            let hint = format!("what its health check says: ignite inspect {}", step.name);
                            (ObjectState::Failed, "it is unhealthy".to_owned(), Some(hint))
                        }
                    }
                }
                Action::Completed => (ObjectState::Completed, String::new(), None),
                Action::Wait(on) => {
                    due(LOOK_AGAIN);
                    let names: Vec<_> = on.iter().map(|dependency| dependency.name.as_str()).collect();
                    (ObjectState::Waiting, format!("for {}", names.join(", ")), None)
                }
                Action::WaitForRemoval(users) => {
                    due(LOOK_AGAIN);
                    (ObjectState::Waiting, format!("for the removal of {}", users.join(", ")), None)
                }
                Action::Hold(reason) => (ObjectState::Held, reason.clone(), None),
                Action::Lacks(error) => {
                    due(LOOK_AGAIN);
                    (ObjectState::Refused, error.message.clone(), error.hint.clone())
                }
                Action::Refuse(reason) => (ObjectState::Refused, reason.clone(), refusal_hint(step)),
                Action::Create(_)
                | Action::Start
                | Action::Stop
                | Action::Heal
                | Action::Change { .. }
                | Action::Remove => {
                    let wait = self.back_off.wait(&step.name, now);
                    due(wait);
                    let seconds = wait.as_secs() + 1;
                    match self.failures.get(&step.name) {
                        Some(error) => {
                            let message = format!("{}: {error}; again in {seconds} s", step.action.verb());
                            (ObjectState::Failed, message, error.hint.clone())
                        }
                        None if step.action == Action::Heal => {
                            (ObjectState::Failed, format!("it is unhealthy; started again in {seconds} s"), None)
                        }
                        None => (ObjectState::Failed, format!("it ended; again in {seconds} s"), None),
                    }
                }
            };
            objects.push(object(step, state, message, hint));
        }
        objects.sort_by(|a, b| a.name.cmp(&b.name));
        self.keep_times(&mut objects);
        let known: HashSet<&str> = objects.iter().map(|object| object.name.as_str()).collect();
        self.back_off.retain(|name| known.contains(name));
        self.failures.retain(|name, _| known.contains(name.as_str()));
        self.status.problems = self.wanted.problems.iter().map(ToString::to_string).collect();
        self.status.objects = objects;
        self.status.last_round = Some(jiff::Timestamp::now());
        next
    }

    /// What stands as it stood keeps its time.
    fn keep_times(&self, objects: &mut [ObjectStatus]) {
        let before: HashMap<&str, &ObjectStatus> =
            self.status.objects.iter().map(|object| (object.name.as_str(), object)).collect();
        for object in objects {
            if let Some(old) = before.get(object.name.as_str()).filter(|old| old.state == object.state) {
                object.since = old.since;
            }
        }
    }
}

fn object(step: &Step, state: ObjectState, message: impl Into<String>, hint: Option<String>) -> ObjectStatus {
    ObjectStatus {
        name: step.name.clone(),
        uid: step.uid.as_ref().map(ToString::to_string),
        origin: step.origin.as_ref().map(|origin| format!("{}:{}", origin.file, origin.line)),
        state,
        phase: step.phase.map(|phase| phase.to_string()),
        message: message.into(),
        hint,
        since: jiff::Timestamp::now(),
    }
}

fn refusal_hint(step: &Step) -> Option<String> {
    step.uid.as_ref().map(|_| format!("remove it, then it is made as wanted: ignite rm -f {}", step.name))
}

#[cfg(test)]
#[path = "controller_tests.rs"]
mod tests;
