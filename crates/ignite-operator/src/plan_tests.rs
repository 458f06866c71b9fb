use super::*;
use crate::test_objects::{ago, ended, merge, now, options, pod, running, unprepared, vm};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

fn planned(vm: &VirtualMachine, pod: Option<&Pod>) -> Plan {
    plan(Seen { vm, pod, now: now() }, |_| None::<&VirtualMachine>, &options())
}

/// The plan in short: what is done, and the phase.
fn short(plan: &Plan) -> (Vec<String>, Phase) {
    let word = |action: &Action| match action {
        Action::AddFinalizer => "finalizer".to_owned(),
        Action::RemoveFinalizer => "release".to_owned(),
        Action::Create(pod) => format!("create {}", pod.metadata.name.as_deref().unwrap_or_default()),
        Action::Delete { uid, by_force: false } => format!("delete {uid}"),
        Action::Delete { uid, by_force: true } => format!("force {uid}"),
        Action::Relabel(_) => "relabel".to_owned(),
        Action::RemoveVm => "remove".to_owned(),
    };
    (plan.actions.iter().map(word).collect(), plan.status.phase)
}

fn condition(plan: &Plan, kind: &str) -> (String, String) {
    let found = plan.status.conditions.iter().find(|condition| condition.kind == kind).unwrap();
    (found.status.clone(), found.reason.clone())
}

fn reasons(plan: &Plan) -> Vec<&str> {
    plan.notices.iter().map(|notice| notice.reason).collect()
}

/// The VM as it is when the plan's status has been written.
fn after(vm: &VirtualMachine, plan: &Plan) -> VirtualMachine {
    VirtualMachine { status: Some(plan.status.clone()), ..vm.clone() }
}

fn leaving(mut patch: Value, seconds_ago: i64) -> Value {
    merge(&mut patch, &json!({ "metadata": { "deletionTimestamp": ago(seconds_ago) } }));
    patch
}

#[test]
fn every_state_has_its_plan() {
    let plain = vm(json!({}));
    let finished = |phase: &str| vm(json!({ "status": { "phase": phase, "observedGeneration": 1 } }));
    let deleted = vm(json!({ "metadata": { "deletionTimestamp": ago(1) } }));
    let changed = vm(json!({ "spec": { "cpus": 2 } }));
    let relabelled = vm(json!({ "metadata": { "labels": { "app": "shop" } } }));
    let forgotten = vm(json!({ "spec": { "autoRemove": true } }));
    let stopped = vm(json!({ "spec": { "running": false } }));
    let broken = vm(json!({ "spec": { "cpus": "many" } }));
    let refused = vm(json!({ "spec": { "network": { "mode": "cni" } } }));
    let of = |patch| Some(pod(&plain, patch));
    let foreign = of(json!({ "metadata": { "ownerReferences": [] } }));
    for (case, vm, pod, actions, phase) in [
        (
            "a new VM",
            vm(json!({ "metadata": { "finalizers": null } })),
            None,
            vec!["finalizer", "create web"],
            Phase::Pending,
        ),
        ("its Pod was deleted under it", finished("Running"), None, vec!["create web"], Phase::Pending),
        ("it waits for a node", plain.clone(), of(json!({})), vec![], Phase::Pending),
        ("it runs", plain.clone(), of(running()), vec![], Phase::Running),
        ("its spec has changed", changed.clone(), of(running()), vec!["delete p1"], Phase::Stopping),
        ("the old Pod still ends", changed.clone(), of(leaving(running(), -5)), vec![], Phase::Stopping),
        ("the old Pod is gone", changed, None, vec!["create web"], Phase::Pending),
        ("its labels have changed", relabelled, of(running()), vec!["relabel"], Phase::Running),
        ("it has ended well", plain.clone(), of(ended(0)), vec![], Phase::Succeeded),
        ("it has failed", plain.clone(), of(ended(3)), vec![], Phase::Failed),
        ("the Pod of a finished one is cleared away", finished("Succeeded"), None, vec![], Phase::Succeeded),
        ("the Pod of a finished one goes", finished("Failed"), of(leaving(ended(3), -5)), vec![], Phase::Failed),
        (
            "a finished one gets a new spec",
            vm(json!({ "metadata": { "generation": 2 }, "spec": { "cpus": 2 },
            "status": { "phase": "Succeeded", "observedGeneration": 1 } })),
            of(ended(0)),
            vec!["delete p1"],
            Phase::Stopping,
        ),
        (
            "it goes when it has ended",
            forgotten.clone(),
            Some(pod(&forgotten, ended(0))),
            vec!["remove"],
            Phase::Succeeded,
        ),
        ("a Pod that failed just now", plain.clone(), of(unprepared(1, 5)), vec![], Phase::Pending),
        ("a Pod that failed a while ago", plain.clone(), of(unprepared(1, 11)), vec!["delete p1"], Phase::Pending),
        ("its node is silent", plain.clone(), of(leaving(running(), 40)), vec![], Phase::Unknown),
        ("another's Pod has its name", plain.clone(), foreign.clone(), vec![], Phase::Pending),
        ("it is not to run", stopped.clone(), of(running()), vec!["delete p1"], Phase::Stopping),
        ("it is not to run, its Pod ends", stopped.clone(), of(leaving(running(), -5)), vec![], Phase::Stopping),
        ("it is not to run, its Pod has ended", stopped.clone(), of(ended(0)), vec!["delete p1"], Phase::Stopping),
        ("it is not to run, its node is silent", stopped.clone(), of(leaving(running(), 40)), vec![], Phase::Unknown),
        ("it is not to run, and does not", stopped, None, vec![], Phase::Stopped),
        ("it is to run again", finished("Stopped"), None, vec!["create web"], Phase::Pending),
        ("nonsense in spec", broken.clone(), None, vec![], Phase::Pending),
        ("nonsense while it runs", broken, of(running()), vec![], Phase::Running),
        ("what Kubernetes has not", refused, None, vec![], Phase::Pending),
        ("it is deleted", deleted.clone(), of(running()), vec!["delete p1"], Phase::Stopping),
        ("it is deleted, its Pod ends", deleted.clone(), of(leaving(running(), -5)), vec![], Phase::Stopping),
        ("it is deleted, its Pod is gone", deleted.clone(), None, vec!["release"], Phase::Stopping),
        ("it is deleted, another's Pod has its name", deleted, foreign, vec!["release"], Phase::Stopping),
        (
            "it is deleted and not ours to keep",
            vm(json!({ "metadata": { "deletionTimestamp": ago(1), "finalizers": ["other"] } })),
            None,
            vec![],
            Phase::Stopping,
        ),
    ] {
        let plan = planned(&vm, pod.as_ref());
        let wanted: Vec<String> = actions.into_iter().map(str::to_owned).collect();
        assert_eq!(short(&plan), (wanted, phase), "{case}: {plan:?}");
        // What is written and found again is no news.
        let again = planned(&after(&vm, &plan), pod.as_ref());
        if plan.actions.is_empty() {
            assert_eq!((&again.status, &again.actions, &again.notices), (&plan.status, &vec![], &vec![]), "{case}");
        }
    }
}

#[test]
fn conditions_and_events_say_what_is_wrong_once() {
    let taken = pod(&vm(json!({})), json!({ "metadata": { "ownerReferences": null } }));
    let plain = vm(json!({}));
    let plan = planned(&plain, Some(&taken));
    assert_eq!(condition(&plan, "Scheduled"), ("False".to_owned(), "PodNameTaken".to_owned()));
    assert_eq!((reasons(&plan), plan.again), (vec!["PodNameTaken"], Some(LOOK_AGAIN)));
    assert!(reasons(&planned(&after(&plain, &plan), Some(&taken))).is_empty());

    let broken = vm(json!({ "spec": { "cpus": "many" } }));
    let plan = planned(&broken, None);
    assert_eq!(condition(&plan, "Accepted"), ("False".to_owned(), "Invalid".to_owned()));
    let why = plan.status.reason.clone().unwrap();
    assert!(why.starts_with("spec.cpus: "), "{why}");
    assert_eq!(reasons(&plan), ["Invalid"]);
    assert!(reasons(&planned(&after(&broken, &plan), None)).is_empty());

    let plan = planned(&plain, Some(&pod(&plain, running())));
    for kind in ["Accepted", "Scheduled", "Ready"] {
        assert_eq!(condition(&plan, kind).0, "True", "{kind}");
    }
    assert_eq!((reasons(&plan), &plan.status.ip_addresses[..]), (vec!["Running"], &["10.1.2.3".to_owned()][..]));
    let lost = planned(&plain, Some(&pod(&plain, leaving(running(), 40))));
    assert_eq!((condition(&lost, "Ready").0.as_str(), reasons(&lost)), ("Unknown", vec!["NodeLost"]));
}

#[test]
fn pods_that_fail_are_replaced_ever_more_slowly_until_one_runs_or_the_spec_is_another() {
    let at = |failed: i32, generation: i64| {
        vm(
            json!({ "metadata": { "generation": generation }, "status": { "observedGeneration": 1, "failedPods": failed } }),
        )
    };
    let seconds = |vm: &VirtualMachine, ago| planned(vm, Some(&pod(vm, unprepared(1, ago)))).again.map(|d| d.as_secs());
    assert_eq!((seconds(&at(0, 1), 4), seconds(&at(1, 1), 4), seconds(&at(30, 1), 4)), (Some(6), Some(16), Some(296)));
    assert_eq!(seconds(&at(3, 2), 4), Some(6), "a new spec has a new chance");
    let vm = at(2, 1);
    let plan = planned(&vm, Some(&pod(&vm, unprepared(1, 41))));
    assert_eq!(
        (short(&plan).0, plan.status.failed_pods, reasons(&plan)),
        (vec!["delete p1".to_owned()], 3, vec!["PodFailed"])
    );
    assert_eq!(planned(&vm, Some(&pod(&vm, running()))).status.failed_pods, 0);
}

#[test]
fn a_silent_node_s_pod_is_given_up_only_when_that_is_asked_for() {
    let forced = |seconds_ago| {
        let options = PlanOptions { force_delete_after: Some(Duration::from_secs(300)), ..options() };
        let vm = vm(json!({}));
        let pod = pod(&vm, leaving(running(), seconds_ago));
        plan(Seen { vm: &vm, pod: Some(&pod), now: now() }, |_| None::<&VirtualMachine>, &options)
    };
    assert_eq!((short(&forced(200)).0, forced(200).again), (vec![], Some(LOOK_AGAIN)));
    assert_eq!(forced(290).again, Some(Duration::from_secs(10)));
    assert_eq!(short(&forced(300)), (vec!["force p1".to_owned()], Phase::Unknown));
}

#[test]
fn who_waits_for_an_end_that_may_not_come_looks_at_the_clock() {
    let vm = vm(json!({}));
    let plan = planned(&vm, Some(&pod(&vm, leaving(running(), -20))));
    assert_eq!(plan.again, Some(Duration::from_secs(51)));
}

#[test]
fn what_is_told_is_one_bounded_line() {
    assert_eq!(one_line("a\u{1b}[31m\nb\0"), "a [31m b");
    assert_eq!(one_line(&"x".repeat(5000)).len(), MAX_REASON_LEN);
}

#[test]
fn who_depends_on_others_waits_for_them() {
    let web = vm(json!({ "spec": { "dependsOn": [{ "name": "db" }, { "name": "app", "condition": "healthy" }] } }));
    let other = |running: bool, ready: &str| {
        let ready =
            json!({ "type": "Ready", "status": ready, "reason": "x", "message": "", "lastTransitionTime": ago(1) });
        vm(json!({ "status": { "running": running, "conditions": [ready] } }))
    };
    let with = |db: Option<VirtualMachine>, app: Option<VirtualMachine>| {
        let find = |name: &str| if name == "db" { db.as_ref() } else { app.as_ref() };
        plan(Seen { vm: &web, pod: None, now: now() }, find, &options())
    };
    for (db, app, waits) in [
        (None, None, Some("waits for db, which does not exist")),
        (Some(other(false, "False")), None, Some("waits for db to run")),
        (Some(other(true, "False")), Some(other(true, "False")), Some("waits for app to be healthy")),
        (Some(other(true, "False")), Some(other(true, "True")), None),
    ] {
        let plan = with(db, app);
        assert_eq!((plan.status.reason.as_deref(), plan.actions.is_empty()), (waits, waits.is_some()));
        assert_eq!(condition(&plan, "Scheduled").1, if waits.is_some() { "Waits" } else { "NoPod" });
    }
    // What runs goes on, whatever has become of the others.
    assert_eq!(short(&planned(&web, Some(&pod(&web, running())))), (vec![], Phase::Running));
}
