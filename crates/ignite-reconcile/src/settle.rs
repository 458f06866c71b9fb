//! Working until nothing is left to do: for a command that ends, as opposed to a daemon.

use crate::condition::ObjectState;
use crate::controller::Controller;
use crate::fleet::{Fleet, FleetError};
use crate::plan::{Action, Step};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// How often what is waited for is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// What was left undone.
#[derive(Debug, Default)]
pub struct Unfinished {
    /// VMs that wait for others when the time was up, or for ones that failed, and for what.
    pub waiting: Vec<(String, String)>,
    /// A step failed.
    pub is_failed: bool,
}

/// Works until everything is done, has failed, or the time is up. Each step is tried once; what becomes of it is told as
/// it happens. A VM that this has started and that ends is not started again: nobody would be there to go on with it.
pub async fn settle(
    controller: &mut Controller,
    fleet: &impl Fleet,
    patience: Duration,
    mut told: impl FnMut(&Step, &Result<(), FleetError>),
) -> Result<Unfinished, FleetError> {
    let deadline = Instant::now() + patience;
    let mut unfinished = Unfinished::default();
    let mut running = FuturesUnordered::new();
    let mut given_up: HashSet<String> = HashSet::new();
    let mut started: HashSet<String> = HashSet::new();
    loop {
        for step in controller.look(fleet).await?.work {
            let is_again = step.action == Action::Start && started.contains(&step.name);
            if given_up.contains(&step.name) || is_again {
                controller.finished(&step, &Ok(()));
                given_up.insert(step.name);
                continue;
            }
            if step.action == Action::Start {
                started.insert(step.name.clone());
            }
            running.push(controller.perform(fleet, step));
        }
        let waiting: Vec<(String, String)> = controller
            .status()
            .objects
            .iter()
            .filter(|object| object.state == ObjectState::Waiting)
            .map(|object| (object.name.clone(), object.message.clone()))
            .collect();
        if running.is_empty() && (waiting.is_empty() || unfinished.is_failed || Instant::now() >= deadline) {
            unfinished.waiting = waiting;
            return Ok(unfinished);
        }
        if let Ok(Some((step, result))) = tokio::time::timeout(LOOK_AGAIN, running.next()).await {
            controller.finished(&step, &result);
            if result.is_err() {
                unfinished.is_failed = true;
                given_up.insert(step.name.clone());
            }
            told(&step, &result);
        } else if running.is_empty() {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

/// VMs in the order of their removal: those of a wave at the same time, who is depended on in a later one.
pub fn removal_waves(vms: Vec<ignite_api::Vm>) -> Vec<Vec<ignite_api::Vm>> {
    let mut waves = Vec::new();
    let mut left = vms;
    while !left.is_empty() {
        let needed: HashSet<String> = left
            .iter()
            .flat_map(|vm| vm.spec.depends_on.iter().filter(|d| d.name != vm.metadata.name).map(|d| d.name.clone()))
            .collect();
        let (later, mut now): (Vec<_>, Vec<_>) = left.into_iter().partition(|vm| needed.contains(&vm.metadata.name));
        // A circle: all of it at once.
        let rest = if now.is_empty() {
            now = later;
            Vec::new()
        } else {
            later
        };
        waves.push(now);
        left = rest;
    }
    waves
}

#[cfg(test)]
mod tests {
    use super::*;
    use ignite_api::depends_on::Dependency;
    use ignite_api::{ObjectMeta, Vm, VmSpec};

    fn vm(name: &str, on: &[&str]) -> Vm {
        let depends_on =
            on.iter().map(|name| Dependency { name: (*name).to_owned(), ..Dependency::default() }).collect();
        let metadata = ObjectMeta { name: name.to_owned(), ..ObjectMeta::default() };
        Vm::new(metadata, VmSpec { depends_on, ..VmSpec::default() })
    }

    #[test]
    fn who_is_depended_on_is_removed_last() {
        for (vms, expected) in [
            (vec![], vec![]),
            (vec![vm("a", &[]), vm("b", &[])], vec!["a b"]),
            (vec![vm("db", &[]), vm("app", &["db"]), vm("web", &["app", "db"])], vec!["web", "app", "db"]),
            (vec![vm("a", &["b"]), vm("b", &["a"]), vm("c", &["elsewhere"])], vec!["c", "a b"]),
            (vec![vm("a", &["a"])], vec!["a"]),
        ] {
            let waves: Vec<String> = removal_waves(vms)
                .iter()
                .map(|wave| wave.iter().map(|vm| vm.metadata.name.as_str()).collect::<Vec<_>>().join(" "))
                .collect();
            assert_eq!(waves, expected);
        }
    }
}
