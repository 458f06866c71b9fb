//! Rounds against a fake fleet: they end in what is wanted, do nothing twice, and stay quiet then.

use super::*;
use crate::changes::Effect;
use crate::fleet::Reconfigure;
use crate::load::load_text;
use crate::ownership::Owner;
use ignite_api::depends_on::Readiness;
use ignite_api::{Phase, Uid, VmSpec};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// VMs in memory, a log of what was asked, and what is to fail.
#[derive(Default)]
struct FakeFleet {
    vms: RefCell<BTreeMap<Uid, Vm>>,
    log: RefCell<Vec<String>>,
    /// Requests that fail, so many times.
    failing: RefCell<HashMap<String, u32>>,
    open_ports: RefCell<Vec<String>>,
    next_uid: RefCell<u64>,
    secrets: RefCell<Option<String>>,
}

impl FakeFleet {
    fn note(&self, verb: &str, name: &str) -> Result<(), FleetError> {
        let request = format!("{verb} {name}");
        self.log.borrow_mut().push(request.clone());
        match self.failing.borrow_mut().get_mut(&request) {
            Some(times) if *times > 0 => {
                *times -= 1;
                Err(FleetError { message: format!("{request} failed"), hint: Some("try".to_owned()) })
            }
            _ => Ok(()),
        }
    }

    fn name(&self, uid: &Uid) -> String {
        self.vms.borrow()[uid].metadata.name.clone()
    }

    fn set_phase(&self, uid: &Uid, phase: Phase) {
        if let Some(vm) = self.vms.borrow_mut().get_mut(uid) {
            vm.status.phase = phase;
        }
    }

    fn taken_log(&self) -> Vec<String> {
        std::mem::take(&mut self.log.borrow_mut())
    }

    fn phases(&self) -> Vec<(String, Phase)> {
        let mut all: Vec<_> =
            self.vms.borrow().values().map(|vm| (vm.metadata.name.clone(), vm.status.phase)).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }
}

impl Fleet for FakeFleet {
    async fn observe(&self) -> Result<Vec<Vm>, FleetError> {
        Ok(self.vms.borrow().values().cloned().collect())
    }

    async fn secrets_version(&self, vm: &Vm) -> Result<Option<String>, FleetError> {
        if vm.spec.secrets().is_empty() {
            return Ok(None);
        }
        let failed = || FleetError { message: "the secret is gone".to_owned(), hint: Some("write it".to_owned()) };
        self.secrets.borrow().clone().map(Some).ok_or_else(failed)
    }

    async fn create(&self, mut vm: Vm) -> Result<Uid, FleetError> {
        self.note("create", &vm.metadata.name)?;
        assert!(self.vms.borrow().values().all(|other| other.metadata.name != vm.metadata.name), "created twice");
        *self.next_uid.borrow_mut() += 1;
        let uid = Uid::from_bytes(self.next_uid.borrow().to_be_bytes());
        vm.metadata.uid = Some(uid.clone());
        vm.status.phase = Phase::Created;
        self.vms.borrow_mut().insert(uid.clone(), vm);
        Ok(uid)
    }

    async fn start(&self, uid: &Uid) -> Result<(), FleetError> {
        self.note("start", &self.name(uid))?;
        tokio::task::yield_now().await;
        assert!(!self.vms.borrow()[uid].status.phase.is_live(), "started twice");
        self.set_phase(uid, Phase::Running);
        Ok(())
    }

    async fn stop(&self, uid: &Uid) -> Result<(), FleetError> {
        if !self.vms.borrow()[uid].status.phase.is_live() {
            return Ok(());
        }
        self.note("stop", &self.name(uid))?;
        self.set_phase(uid, Phase::Stopped);
        Ok(())
    }

    async fn remove(&self, uid: &Uid) -> Result<(), FleetError> {
        self.note("remove", &self.name(uid))?;
        self.vms.borrow_mut().remove(uid);
        Ok(())
    }

    async fn reconfigure(&self, uid: &Uid, change: Reconfigure) -> Result<(), FleetError> {
        self.note("write", &self.name(uid))?;
        let mut vms = self.vms.borrow_mut();
        let vm = vms.get_mut(uid).unwrap();
        vm.spec = change.vm.spec;
        vm.metadata.labels.extend(change.vm.metadata.labels);
        vm.metadata.annotations.extend(change.vm.metadata.annotations);
        Ok(())
    }

    async fn is_ready(&self, uid: &Uid, _: &Readiness) -> bool {
        self.open_ports.borrow().contains(&self.name(uid))
    }
}

fn controller() -> Controller {
    let options =
        Options { owner: Owner::ignited("t"), stack: None, is_adopting: false, is_pruning: true, is_healing: false };
    Controller::new(options, Limits { concurrency: 4 })
}

fn wanted(vms: &[(&str, &str, &str)]) -> WantedSet {
    let text: String = vms
        .iter()
        .map(|(name, spec, rest)| {
            format!(
                "---\napiVersion: ignite.weave.works/v1alpha4\nkind: VM\nmetadata: {{name: {name}}}\nspec: {{image: {{oci: busybox}}{spec}}}\n{rest}\n"
            )
        })
        .collect();
    let set = load_text("a.yaml", text.as_bytes(), &VmSpec::default());
    assert!(set.problems.is_empty(), "{:?}", set.problems);
    set
}

/// Rounds until one has nothing to do.
async fn settle(controller: &mut Controller, fleet: &FakeFleet) -> Vec<String> {
    for _ in 0..50 {
        let (_, outcomes) = controller.round(fleet).await.unwrap();
        if outcomes.is_empty() {
            return fleet.taken_log();
        }
    }
    panic!("it does not come to rest: {:?}", fleet.log.borrow());
}

#[tokio::test]
async fn a_set_comes_up_in_order_and_then_nothing_is_done() {
    let (fleet, mut controller) = (FakeFleet::default(), controller());
    controller.want(wanted(&[
        ("web", ", dependsOn: [{name: app}]", ""),
        ("app", ", dependsOn: [{name: db, ready: {tcpSocket: {port: 1}}}]", ""),
        ("db", "", ""),
        ("idle", "", "status: {running: false}"),
    ]));
    let log = settle(&mut controller, &fleet).await;
    assert_eq!(log, ["create web", "create app", "create db", "create idle", "start db"]);
    assert_eq!(controller.status().objects[0].message, "for db");
    fleet.open_ports.borrow_mut().push("db".to_owned());
    assert_eq!(settle(&mut controller, &fleet).await, ["start app", "start web"]);
    assert!(controller.status().is_ready(), "{:?}", controller.status());
    assert_eq!(settle(&mut controller, &fleet).await, [""; 0]);
    controller.want(WantedSet::default());
    let log = settle(&mut controller, &fleet).await;
    let expected = ["remove idle", "stop web", "remove web", "stop app", "remove app", "stop db", "remove db"];
    assert_eq!(log.len(), expected.len());
    let at = |text: &str| log.iter().position(|line| line == text).expect(text);
    assert!(at("remove web") < at("stop app") && at("remove app") < at("stop db"), "{log:?}");
}

#[tokio::test]
async fn each_kind_of_change_is_brought_about_by_its_means() {
    let (fleet, mut controller) = (FakeFleet::default(), controller());
    controller.want(wanted(&[("a", "", "")]));
    settle(&mut controller, &fleet).await;
    for (spec, rest, expected) in [
        (", memory: 1GB", "", &["stop a", "write a", "start a"][..]),
        (", memory: 1GB, diskSize: 2GB", "", &["stop a", "remove a", "create a", "start a"]),
        (", memory: 1GB, diskSize: 2GB", "status: {running: false}", &["stop a"]),
        (", memory: 2GB, diskSize: 2GB", "status: {running: false}", &["write a"]),
        (", memory: 2GB, diskSize: 2GB", "status: {running: true}", &["start a"]),
    ] {
        controller.want(wanted(&[("a", spec, rest)]));
        assert_eq!(settle(&mut controller, &fleet).await, expected, "{spec} {rest}");
    }
}

#[tokio::test]
async fn what_fails_is_told_and_tried_again_later() {
    let (fleet, mut controller) = (FakeFleet::default(), controller());
    fleet.failing.borrow_mut().insert("start a".to_owned(), 1);
    controller.want(wanted(&[("a", "", ""), ("b", "", "")]));
    settle(&mut controller, &fleet).await;
    let object = &controller.status().objects[0];
    assert_eq!((object.state, object.hint.as_deref()), (ObjectState::Failed, Some("try")));
    assert!(object.message.starts_with("start: start a failed; again in"), "{}", object.message);
    assert_eq!(controller.status().objects[1].state, ObjectState::Ready);
    let (round, _) = controller.round(&fleet).await.unwrap();
    assert!(round.next.is_some_and(|wait| wait <= Duration::from_secs(1)));
    // Another wish is tried at once.
    controller.want(wanted(&[("a", ", cpus: 2", ""), ("b", "", "")]));
    assert_eq!(settle(&mut controller, &fleet).await, ["write a", "start a"]);
    assert!(controller.status().is_ready());
}

#[tokio::test]
async fn a_broken_file_keeps_what_came_from_it_and_a_revert_heals() {
    let (fleet, mut controller) = (FakeFleet::default(), controller());
    let good = wanted(&[("a", "", "")]);
    controller.want(good.clone());
    settle(&mut controller, &fleet).await;
    controller.want(load_text(
        "a.yaml",
        b"apiVersion: ignite.weave.works/v1alpha4\nkind: VM\nspce: {}\n",
        &VmSpec::default(),
    ));
    assert_eq!(settle(&mut controller, &fleet).await, [""; 0]);
    let status = controller.status();
    assert!(status.problems[0].starts_with("a.yaml:3: "), "{:?}", status.problems);
    assert_eq!(status.objects[0].state, ObjectState::Held);
    controller.want(good);
    assert_eq!(settle(&mut controller, &fleet).await, [""; 0]);
    assert!(controller.status().is_ready());
}

#[tokio::test]
async fn a_vm_that_ends_is_started_again_and_ever_more_rarely() {
    let (fleet, mut controller) = (FakeFleet::default(), controller());
    controller.want(wanted(&[("a", "", "")]));
    settle(&mut controller, &fleet).await;
    let uid = fleet.vms.borrow().keys().next().unwrap().clone();
    fleet.set_phase(&uid, Phase::Stopped);
    assert_eq!(settle(&mut controller, &fleet).await, [""; 0], "it has just been started");
    let (round, _) = controller.round(&fleet).await.unwrap();
    assert!(round.next.is_some_and(|wait| wait > Duration::ZERO));
    assert!(controller.status().objects[0].message.starts_with("it ended; again in"));
}

#[tokio::test]
async fn a_secret_that_is_written_anew_restarts_its_vm_and_one_that_is_gone_is_told() {
    let (fleet, mut controller) = (FakeFleet::default(), controller());
    let wish = || wanted(&[("a", ", env: [{name: P, valueFrom: {file: p}}]", ""), ("b", "", "")]);
    controller.want(wish());
    assert_eq!(settle(&mut controller, &fleet).await, ["create b", "start b"]);
    let lacking = controller.status().objects[0].clone();
    assert_eq!((lacking.state, &*lacking.message), (ObjectState::Refused, "the secret is gone"));
    assert_eq!(lacking.hint.as_deref(), Some("write it"));
    *fleet.secrets.borrow_mut() = Some("p of 1".to_owned());
    assert_eq!(settle(&mut controller, &fleet).await, ["create a", "start a"]);
    *fleet.secrets.borrow_mut() = Some("p of 2".to_owned());
    let steps = controller.preview(&fleet).await.unwrap();
    let Action::Change { effect: Effect::Restart, changes, .. } = &steps[0].action else { panic!("{steps:?}") };
    assert_eq!(changes[0].to_string(), "metadata.annotations.ignite.weave.works/secrets: p of 1 -> p of 2");
    controller.back_off.reset("a");
    assert_eq!(settle(&mut controller, &fleet).await, ["stop a", "write a", "start a"]);
    *fleet.secrets.borrow_mut() = None;
    assert_eq!(settle(&mut controller, &fleet).await, [""; 0], "what is there stays");
}

/// Killed after any number of requests, a new controller brings the rest about, and nothing twice.
#[tokio::test]
async fn wherever_it_is_killed_the_end_is_the_same() {
    let wish = || {
        wanted(&[
            ("a", ", memory: 1GB", ""),
            ("b", ", diskSize: 2GB", ""),
            ("c", ", dependsOn: [{name: a}]", ""),
            ("d", "", "status: {running: false}"),
        ])
    };
    let before = wanted(&[("a", "", ""), ("b", "", ""), ("d", "", ""), ("x", "", "")]);
    let mut ends = Vec::new();
    for requests in 0..20 {
        let (fleet, mut first) = (FakeFleet::default(), controller());
        first.want(before.clone());
        settle(&mut first, &fleet).await;
        first.want(wish());
        'life: for _ in 0..10 {
            let mut round = first.look(&fleet).await.unwrap();
            for step in std::mem::take(&mut round.work) {
                if fleet.log.borrow().len() >= requests {
                    break 'life;
                }
                let (step, result) = first.perform(&fleet, step).await;
                first.finished(&step, &result);
            }
        }
        let mut second = controller();
        second.want(wish());
        settle(&mut second, &fleet).await;
        assert!(second.status().is_ready(), "{requests}: {:?}", second.status());
        ends.push(fleet.phases());
    }
    ends.dedup();
    let expected = [("a", Phase::Running), ("b", Phase::Running), ("c", Phase::Running), ("d", Phase::Stopped)];
    assert_eq!(ends, [expected.map(|(name, phase)| (name.to_owned(), phase))]);
}
