use super::*;
use crate::test_objects::{ago, merge, now};
use serde_json::json;

fn set(spec: Value) -> VirtualMachineSet {
    let mut set = json!({
        "metadata": { "name": "web", "namespace": "shop", "uid": "s1", "generation": 1 },
        "spec": { "replicas": 3, "template": { "metadata": { "labels": { "app": "web" } }, "spec": { "image": { "oci": "redis:7" } } } },
    });
    merge(&mut set["spec"], &spec);
    serde_json::from_value(set).unwrap()
}

/// The VMs that the set makes, as the server has them some time later.
fn made(set: &VirtualMachineSet) -> Vec<VirtualMachine> {
    let none: [&VirtualMachine; 0] = [];
    let actions = plan(set, &none, now()).actions;
    let vms = actions.into_iter().map(|action| match action {
        SetAction::Create(vm) => *vm,
        other => panic!("{other:?}"),
    });
    vms.enumerate()
        .map(|(index, mut vm)| {
            vm.metadata.uid = Some(format!("v{index}"));
            vm.metadata.generation = Some(1);
            ready(vm, true)
        })
        .collect()
}

fn ready(mut vm: VirtualMachine, is_ready: bool) -> VirtualMachine {
    let status = if is_ready { "True" } else { "False" };
    let condition =
        json!({ "type": "Ready", "status": status, "reason": "x", "message": "", "lastTransitionTime": ago(1) });
    vm.status = serde_json::from_value(json!({
        "phase": "Running", "running": true, "observedGeneration": vm.metadata.generation, "conditions": [condition],
    }))
    .unwrap();
    vm
}

fn planned(set: &VirtualMachineSet, vms: &[VirtualMachine]) -> SetPlan {
    plan(set, &vms.iter().collect::<Vec<_>>(), now())
}

fn short(plan: &SetPlan) -> Vec<String> {
    let name = |vm: &VirtualMachine| vm.metadata.name.clone().unwrap();
    let word = |action: &SetAction| match action {
        SetAction::Create(vm) => format!("create {}", name(vm)),
        SetAction::Replace(vm) => format!("replace {}", name(vm)),
        SetAction::Delete { name, uid } => format!("delete {name} {uid}"),
    };
    plan.actions.iter().map(word).collect()
}

fn condition(plan: &SetPlan, kind: &str) -> String {
    let found = plan.status.conditions.iter().find(|condition| condition.kind == kind).unwrap();
    format!("{} {}", found.status, found.reason)
}

#[test]
fn there_are_as_many_as_are_wanted() {
    let three = set(json!({}));
    let vms = made(&three);
    assert_eq!(vms.iter().map(|vm| vm.metadata.name.clone().unwrap()).collect::<Vec<_>>(), ["web-0", "web-1", "web-2"]);
    assert_eq!(vms[0].metadata.labels.as_ref().unwrap()[SET_LABEL], "web");
    assert_eq!(vms[0].metadata.labels.as_ref().unwrap()["app"], "web");

    let steady = planned(&three, &vms);
    assert_eq!((short(&steady), steady.notices.len()), (vec![], 0));
    assert_eq!((steady.status.replicas, steady.status.ready_replicas, steady.status.updated_replicas), (3, 3, 3));
    assert_eq!(steady.status.selector, "ignite.weave.works/vmset=web");
    assert_eq!(
        (condition(&steady, "Available"), condition(&steady, "Progressing")),
        ("True EnoughReady".into(), "False Complete".into())
    );

    assert_eq!(short(&planned(&set(json!({ "replicas": 1 })), &vms)), ["delete web-2 v2", "delete web-1 v1"]);
    let none = planned(&set(json!({ "replicas": 0 })), &vms);
    assert_eq!((short(&none).len(), none.notices.len()), (3, 1));
    assert_eq!(none.notices[0].message, "deleted 3 VMs, web-2 to web-0");
    let four = planned(&set(json!({ "replicas": 4 })), &vms);
    assert_eq!(
        (short(&four), condition(&four, "Progressing")),
        (vec!["create web-3".to_owned()], "True Underway".into())
    );
    assert_eq!(short(&planned(&three, &[vms[0].clone(), vms[2].clone()])), ["create web-1"]);
}

#[test]
fn a_new_template_reaches_the_last_first_and_no_more_than_may_be_away() {
    let vms = made(&set(json!({})));
    let new = json!({ "template": { "spec": { "cpus": 2 } } });
    let with = |strategy: Value| {
        let mut spec = new.clone();
        spec["updateStrategy"] = strategy;
        set(spec)
    };
    let lost = vec![vms[0].clone(), ready(vms[1].clone(), false), vms[2].clone()];
    for (case, strategy, vms, replaced) in [
        ("one at a time", json!({}), &vms, vec!["replace web-2"]),
        ("two at a time", json!({ "maxUnavailable": 2 }), &vms, vec!["replace web-2", "replace web-1"]),
        ("a share, rounded up", json!({ "maxUnavailable": "34%" }), &vms, vec!["replace web-2", "replace web-1"]),
        ("nothing is still one", json!({ "maxUnavailable": 0 }), &vms, vec!["replace web-2"]),
        ("nonsense is one", json!({ "maxUnavailable": "many" }), &vms, vec!["replace web-2"]),
        ("who is away is updated, and no other", json!({}), &lost, vec!["replace web-1"]),
        ("when they are deleted", json!({ "type": "OnDelete" }), &vms, vec![]),
    ] {
        assert_eq!(short(&planned(&with(strategy), vms)), replaced, "{case}");
    }
    let SetAction::Replace(vm) = planned(&with(json!({})), &vms).actions.remove(0) else { panic!() };
    assert_eq!((vm.spec["cpus"].clone(), vm.metadata.uid.as_deref()), (json!(2), Some("v2")));
    // It is ready again only when that is known of its new spec.
    let mut next = vms.clone();
    next[2] = *vm;
    next[2].metadata.generation = Some(2);
    next[2].status.clone_from(&vms[2].status);
    assert_eq!(short(&planned(&with(json!({})), &next)), Vec::<String>::new());
    next[2] = ready(next[2].clone(), true);
    let plan = planned(&with(json!({})), &next);
    assert_eq!((short(&plan), plan.status.updated_replicas), (vec!["replace web-1".to_owned()], 1));
}

#[test]
fn stand_ins_keep_as_many_ready_as_are_wanted() {
    let old = set(json!({}));
    let new = set(json!({ "template": { "spec": { "cpus": 2 } },
        "updateStrategy": { "maxSurge": 1, "maxUnavailable": 0 } }));
    let mut vms = made(&old);
    let named = |vms: &[VirtualMachine], name: &str| {
        vms.iter().position(|vm| vm.metadata.name.as_deref() == Some(name)).unwrap()
    };
    // Step by step, each VM ready some time after it has been made or changed.
    let mut steps = Vec::new();
    for _ in 0..12 {
        let plan = planned(&new, &vms);
        let is_ready_now = |vm: &&VirtualMachine| super::is_ready(vm);
        assert!(vms.iter().filter(is_ready_now).count() >= 3, "{steps:?}");
        assert!(vms.len() <= 4, "{steps:?}");
        if plan.actions.is_empty() {
            let Some(waiting) = vms.iter().position(|vm| !super::is_ready(vm)) else { break };
            vms[waiting] = ready(vms[waiting].clone(), true);
            continue;
        }
        steps.extend(short(&plan));
        for action in plan.actions {
            match action {
                SetAction::Create(mut vm) => {
                    vm.metadata.uid = Some("v3".to_owned());
                    vm.metadata.generation = Some(1);
                    vms.push(*vm);
                }
                SetAction::Replace(mut vm) => {
                    vm.metadata.generation = vm.metadata.generation.map(|generation| generation + 1);
                    let at = named(&vms, vm.metadata.name.as_deref().unwrap());
                    vms[at] = *vm;
                }
                SetAction::Delete { name, .. } => drop(vms.remove(named(&vms, &name))),
            }
        }
    }
    assert_eq!(steps, ["create web-3", "replace web-2", "replace web-1", "replace web-0", "delete web-3 v3"]);
    let steady = planned(&new, &vms);
    assert_eq!((steady.status.updated_replicas, condition(&steady, "Progressing")), (3, "False Complete".to_owned()));
    // One that fails later is no update, and gets none.
    vms[1] = ready(vms[1].clone(), false);
    assert_eq!(short(&planned(&new, &vms)), Vec::<String>::new());
    // A share is rounded up; a nonsense one is none.
    let surge = |surge: Value| {
        let strategy = json!({ "maxSurge": surge, "maxUnavailable": 0 });
        short(&planned(&set(json!({ "template": { "spec": { "cpus": 4 } }, "updateStrategy": strategy })), &made(&old)))
    };
    assert_eq!(surge(json!("34%")), ["create web-3", "create web-4"]);
    for none in [json!("many"), json!(-1), json!(0)] {
        assert_eq!(surge(none.clone()), ["replace web-2"], "{none}");
    }
}

#[test]
fn a_set_that_shrinks_while_it_rolls_keeps_no_old_stand_in() {
    let five = made(&set(json!({ "replicas": 5 })));
    let new = set(json!({ "replicas": 3, "template": { "spec": { "cpus": 2 } },
        "updateStrategy": { "maxSurge": 1, "maxUnavailable": 0 } }));
    assert_eq!(short(&planned(&new, &five)), ["delete web-4 v4", "replace web-3"]);
}

#[test]
fn labels_of_a_template_follow_without_the_rest_of_a_vms() {
    let mut vms = made(&set(json!({ "replicas": 1 })));
    vms[0].metadata.labels.as_mut().unwrap().insert("theirs".to_owned(), "x".to_owned());
    let new = set(json!({ "replicas": 1, "template": { "metadata": { "labels": { "app": null, "tier": "front" } } } }));
    let SetAction::Replace(vm) = planned(&new, &vms).actions.remove(0) else { panic!() };
    let labels = vm.metadata.labels.unwrap();
    assert_eq!(labels.keys().map(String::as_str).collect::<Vec<_>>(), [SET_LABEL, "theirs", "tier"]);
}

#[test]
fn what_is_wrong_is_said_and_nothing_is_made() {
    for (spec, why) in [
        (json!({ "template": { "spec": { "cpus": "many" } } }), "spec.template: spec.cpus"),
        (json!({ "replicas": -1 }), "spec.replicas"),
        (json!({ "template": null }), "template"),
        (json!({ "updateStrategy": { "type": "Sometimes" } }), "spec.updateStrategy.type"),
    ] {
        let vms = made(&set(json!({})));
        let plan = planned(&set(spec.clone()), &vms);
        assert_eq!((short(&plan), condition(&plan, "Accepted")), (vec![], "False Invalid".to_owned()), "{spec}");
        let message = &plan.status.conditions[0].message;
        assert!(message.contains(why), "{message}");
        assert_eq!((plan.notices.len(), plan.status.replicas), (1, 3));
    }
    // A VM of the same name is somebody's.
    let mut other = made(&set(json!({})));
    other[1].metadata.owner_references = None;
    let plan = planned(&set(json!({})), &other);
    assert_eq!((short(&plan), condition(&plan, "Accepted")), (vec![], "False NameTaken".to_owned()));
}

#[test]
fn names_with_leading_zeros_or_without_a_number_are_surplus() {
    let set = set(json!({}));
    for (name, index) in
        [("web-0", Some(0)), ("web-12", Some(12)), ("web-01", None), ("web-x", None), ("shop-1", None), ("web", None)]
    {
        assert_eq!(index_of(&set, name), index, "{name}");
    }
}
