//! `update`: changes some of what is wanted of a VM; pure but for writing it back.

use crate::engine::Engine;
use crate::error::EngineError;
use ignite_api::event::Action;
use ignite_api::restart_policy::RestartPolicy;
use ignite_api::vm::HugePages;
use ignite_api::{Size, Uid, Vm, validation};
use std::collections::BTreeMap;

/// What may be changed; the rest takes a new VM.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Change {
    /// Virtual CPUs.
    pub cpus: Option<u32>,
    /// Guest memory.
    pub memory: Option<Size>,
    /// What its memory is made of.
    pub huge_pages: Option<HugePages>,
    /// The CPU template, or that there is to be none.
    pub cpu_template: Option<Option<String>>,
    /// Seconds a stop waits before it kills.
    pub stop_timeout_seconds: Option<u32>,
    /// Whether it is started again when it has ended; counts from its next end on, running or not.
    pub restart_policy: Option<RestartPolicy>,
    /// Labels to set.
    pub labels: BTreeMap<String, String>,
    /// Labels to remove; one that is not there is removed already.
    pub removed_labels: Vec<String>,
}

/// A VM that has been changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Updated {
    /// As it is now.
    pub vm: Vm,
    /// Fields whose new value counts from the next start on, because it runs.
    pub from_next_start: Vec<&'static str>,
}

impl Engine {
    /// Changes a VM. What a running machine cannot take over counts from its next start on.
    pub async fn update(&self, uid: &Uid, change: Change) -> Result<Updated, EngineError> {
        let uid = uid.clone();
        self.blocking(move |engine| {
            let _lock = engine.vms.lock(&uid)?;
            let updated = apply(engine.vms.read(&uid)?, change)?;
            engine.vms.write(&updated.vm)?;
            engine.tell(Action::Update, &updated.vm, |event| event);
            Ok(updated)
        })
        .await
    }
}

fn apply(mut vm: Vm, change: Change) -> Result<Updated, EngineError> {
    let old = vm.spec.clone();
    vm.spec.cpus = change.cpus.unwrap_or(old.cpus);
    vm.spec.memory = change.memory.unwrap_or(old.memory);
    vm.spec.huge_pages = change.huge_pages.unwrap_or(old.huge_pages);
    if let Some(template) = change.cpu_template {
        vm.spec.cpu_template = template;
    }
    if change.stop_timeout_seconds.is_some() {
        vm.spec.stop_timeout_seconds = change.stop_timeout_seconds;
    }
    vm.spec.restart_policy = change.restart_policy.unwrap_or(vm.spec.restart_policy);
    for name in &change.removed_labels {
        vm.metadata.labels.remove(name);
    }
    vm.metadata.labels.extend(change.labels);
    validation::validate_vm(&vm).map_err(|errors| EngineError::Invalid(errors.to_string()))?;
    let is_live = vm.status.phase.is_live();
    let of_the_machine = [
        ("cpus", vm.spec.cpus != old.cpus),
        ("memory", vm.spec.memory != old.memory),
        ("huge pages", vm.spec.huge_pages != old.huge_pages),
        ("CPU template", vm.spec.cpu_template != old.cpu_template),
    ];
    let from_next_start =
        of_the_machine.into_iter().filter(|(_, is_changed)| is_live && *is_changed).map(|(field, _)| field).collect();
    Ok(Updated { vm, from_next_start })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ignite_api::{ObjectMeta, Phase, VmSpec};

    fn vm(phase: Phase) -> Vm {
        let mut spec = VmSpec::default();
        spec.image.oci = Some("redis".parse().unwrap());
        let mut vm = Vm::new(ObjectMeta { name: "web".into(), ..ObjectMeta::default() }, spec);
        vm.metadata.labels.insert("old".into(), "1".into());
        vm.status.phase = phase;
        vm
    }

    #[test]
    fn what_runs_takes_its_machine_over_at_the_next_start() {
        let change = Change {
            cpus: Some(2),
            memory: Some(Size::mib(512)),
            huge_pages: Some(HugePages::TwoMib),
            cpu_template: Some(Some("T2".into())),
            ..Change::default()
        };
        let changed = vec!["cpus", "huge pages", "CPU template"];
        for (phase, later) in
            [(Phase::Running, changed.clone()), (Phase::Stopped, vec![]), (Phase::Paused, changed.clone())]
        {
            let updated = apply(vm(phase), change.clone()).unwrap();
            assert_eq!((updated.vm.spec.cpus, updated.from_next_start), (2, later));
        }
    }

    #[test]
    fn labels_are_set_and_removed_and_the_rest_stays() {
        let change = Change {
            labels: [("new".to_owned(), "2".to_owned())].into(),
            removed_labels: vec!["old".into(), "never".into()],
            stop_timeout_seconds: Some(3),
            restart_policy: Some(RestartPolicy::Always),
            ..Change::default()
        };
        let updated = apply(vm(Phase::Running), change).unwrap();
        assert_eq!(updated.vm.metadata.labels, [("new".to_owned(), "2".to_owned())].into());
        assert_eq!(updated.vm.spec.stop_timeout_seconds, Some(3));
        assert_eq!(updated.vm.spec.restart_policy, RestartPolicy::Always);
        assert_eq!((updated.vm.spec.cpus, updated.from_next_start.len()), (1, 0));
    }

    #[test]
    fn what_a_manifest_may_not_say_is_refused() {
        let error = apply(vm(Phase::Stopped), Change { cpus: Some(99), ..Change::default() }).unwrap_err();
        assert!(error.to_string().contains("cpus"), "{error}");
    }
}
