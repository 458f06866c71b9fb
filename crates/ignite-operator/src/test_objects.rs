//! VMs and Pods for the tests of what is pure.

use crate::objects::VirtualMachine;
use crate::plan::{FINALIZER, PlanOptions};
use crate::pod_options::PodOptions;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

/// The time at which a test looks.
pub(crate) fn now() -> Timestamp {
    "2026-01-02T12:00:00Z".parse().unwrap()
}

pub(crate) fn ago(seconds: i64) -> String {
    (now() - SignedDuration::from_secs(seconds)).to_string()
}

pub(crate) fn options() -> PlanOptions {
    PlanOptions { pods: PodOptions::of_image("node:1"), force_delete_after: None }
}

/// A VM as the API server holds it, changed by `patch` (RFC 7396).
pub(crate) fn vm(patch: Value) -> VirtualMachine {
    let mut vm = json!({
        "metadata": { "name": "web", "namespace": "shop", "uid": "u1", "generation": 1, "resourceVersion": "7",
            "finalizers": [FINALIZER], "labels": { "app": "web" } },
        "spec": { "image": { "oci": "redis:7" } },
    });
    merge(&mut vm, &patch);
    serde_json::from_value(vm).unwrap()
}

/// The Pod that the operator makes of `vm`, in a state: `status` and more of it by `patch`.
pub(crate) fn pod(vm: &VirtualMachine, patch: Value) -> Pod {
    let wish = crate::wish::wish_of(&vm.metadata, &vm.spec).unwrap();
    let mut pod = serde_json::to_value(crate::pod::pod_for(vm, &wish, &options().pods).unwrap()).unwrap();
    merge(&mut pod, &json!({ "metadata": { "uid": "p1", "resourceVersion": "8", "creationTimestamp": ago(600) } }));
    merge(&mut pod, &patch);
    serde_json::from_value(pod).unwrap()
}

/// A status in which the guest runs.
pub(crate) fn running() -> Value {
    json!({ "spec": { "nodeName": "n1" }, "status": {
        "phase": "Running", "podIPs": [{ "ip": "10.1.2.3" }],
        "conditions": [{ "type": "PodScheduled", "status": "True" }, { "type": "Ready", "status": "True" }],
        "containerStatuses": [container("vm", json!({ "running": { "startedAt": ago(300) } }), true)],
    } })
}

/// A status in which the guest has ended.
pub(crate) fn ended(code: i32) -> Value {
    let end = json!({ "terminated": { "exitCode": code, "startedAt": ago(300), "finishedAt": ago(5) } });
    json!({ "spec": { "nodeName": "n1" }, "status": {
        "phase": if code == 0 { "Succeeded" } else { "Failed" },
        "containerStatuses": [container("vm", end, false)],
    } })
}

/// A status in which the Pod failed before the guest could run.
pub(crate) fn unprepared(code: i32, seconds_ago: i64) -> Value {
    let end = json!({ "terminated": { "exitCode": code, "startedAt": ago(seconds_ago + 1), "finishedAt": ago(seconds_ago),
        "reason": "Error", "message": "fetching\nerror: no such image\n" } });
    let waits = json!({ "waiting": { "reason": "PodInitializing" } });
    json!({ "spec": { "nodeName": "n1" }, "status": {
        "phase": "Failed", "initContainerStatuses": [container("prepare", end, false)],
        "containerStatuses": [container("vm", waits, false)],
    } })
}

pub(crate) fn container(name: &str, state: Value, started: bool) -> Value {
    json!({ "name": name, "image": "i", "imageID": "", "ready": started, "restartCount": 0, "started": started, "state": state })
}

/// RFC 7396.
pub(crate) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        match value {
            Value::Null => drop(target.as_object_mut().map(|map| map.remove(key))),
            value => merge(&mut target[key], value),
        }
    }
}
