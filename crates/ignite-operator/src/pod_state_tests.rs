use super::*;
use crate::test_objects::{ago, container, ended, now, pod, running, unprepared, vm};
use serde_json::{Value, json};

fn state(patch: Value) -> PodState {
    PodState::of(&pod(&vm(json!({})), patch), now())
}

fn status(value: Value) -> Value {
    json!({ "spec": { "nodeName": "n1" }, "status": value })
}

#[test]
fn a_pod_is_as_far_as_its_status_says() {
    let pending = |conditions: Value| json!({ "status": { "phase": "Pending", "conditions": conditions } });
    let unschedulable = json!([{ "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes have kvm" }]);
    let pulls = json!({ "waiting": { "reason": "ImagePullBackOff", "message": "no such node image" } });
    let creates = json!({ "waiting": { "reason": "ContainerCreating" } });
    let boots = container("vm", json!({ "running": { "startedAt": ago(3) } }), false);
    let evicted = json!({ "phase": "Failed", "reason": "Evicted", "message": "disk pressure",
        "containerStatuses": [container("vm", json!({ "terminated": { "exitCode": 137, "startedAt": ago(9) } }), false)] });
    let disrupted = json!({ "phase": "Failed", "conditions": [{ "type": "DisruptionTarget", "status": "True" }],
        "containerStatuses": [container("vm", json!({ "terminated": { "exitCode": 0, "startedAt": ago(9) } }), false)] });
    for (case, patch, stage, why) in [
        ("nothing is known", json!({}), Stage::Waiting, None),
        ("no node fits", pending(unschedulable), Stage::Waiting, Some("0/3 nodes have kvm")),
        (
            "its containers are made",
            status(json!({ "phase": "Pending", "containerStatuses": [container("vm", creates, false)] })),
            Stage::Starting,
            None,
        ),
        (
            "its image does not come",
            status(json!({ "phase": "Pending", "initContainerStatuses": [container("prepare", pulls, false)] })),
            Stage::Starting,
            Some("ImagePullBackOff: no such node image"),
        ),
        ("it boots", status(json!({ "phase": "Running", "containerStatuses": [boots] })), Stage::Starting, None),
        ("it runs", running(), Stage::Running, None),
        ("it has ended well", ended(0), Stage::Ended, None),
        ("it has failed", ended(3), Stage::Ended, Some("the guest ended with 3")),
        ("its image cannot be fetched", unprepared(1, 5), Stage::Broken, Some("prepare on n1: error: no such image")),
        (
            "no KVM",
            unprepared(NO_KVM_EXIT_CODE, 5),
            Stage::Broken,
            Some(
                "prepare on n1: there is no KVM that can be used, and the VM may not run in software (spec.allowEmulation)",
            ),
        ),
        ("it is evicted", status(evicted), Stage::Broken, Some("Evicted: disk pressure")),
        ("it is disrupted", status(disrupted), Stage::Broken, Some("its Pod has failed")),
        (
            "an old node controller gives it up",
            status(json!({ "phase": "Unknown" })),
            Stage::Lost,
            Some("node n1 does not answer"),
        ),
    ] {
        let state = state(patch);
        assert_eq!((state.stage, state.why.as_deref()), (stage, why), "{case}");
    }
}

#[test]
fn a_deleted_pod_is_lost_when_its_node_says_nothing() {
    let deleted = |seconds| {
        let mut patch = running();
        patch["metadata"] = json!({ "deletionTimestamp": ago(seconds) });
        state(patch).stage
    };
    assert_eq!((deleted(-20), deleted(10), deleted(31)), (Stage::Leaving, Stage::Leaving, Stage::Lost));
    // Nobody has to answer for a Pod that is on no node.
    assert_eq!(state(json!({ "metadata": { "deletionTimestamp": ago(3600) } })).stage, Stage::Leaving);
}

#[test]
fn a_guest_that_is_started_again_in_its_pod_tells_how_it_ended_before() {
    let mut vm =
        container("vm", json!({ "waiting": { "reason": "CrashLoopBackOff", "message": "back-off 10s" } }), false);
    vm["restartCount"] = json!(4);
    vm["lastState"] = json!({ "terminated": { "exitCode": 78, "message": "guest: out\nguest: of luck\n" } });
    let state = state(status(json!({ "phase": "Running", "containerStatuses": [vm] })));
    assert_eq!((state.stage, state.restarts, state.exit_code), (Stage::Starting, 4, Some(78)));
    assert_eq!(state.why.as_deref(), Some("CrashLoopBackOff: guest: of luck"), "a guest's code is its own");
}

#[test]
fn what_is_ready_has_addresses_a_node_and_a_start() {
    let state = state(running());
    assert!(state.is_ready);
    assert_eq!((state.node.as_deref(), state.addresses), (Some("n1"), vec!["10.1.2.3".to_owned()]));
    assert_eq!(state.started.map(|time| time.to_string()), Some(ago(300)));
}
