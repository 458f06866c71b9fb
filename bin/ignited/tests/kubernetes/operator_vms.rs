//! What the operator makes of VMs, one after the other of what can happen to them.

use crate::cluster::{Cluster, condition};
use crate::operator_process::{ALONE, Operator};
use crate::place::{Place, uid};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Proves the way of a VM from its object to its end, as its status and its events tell it.
pub async fn a_vm_becomes_a_pod_and_tells_of_it(cluster: &Cluster) {
    let place = Place::new(cluster, "way").await;
    let _operator = Operator::start(cluster, &place.namespace, ALONE).await;
    let made = place.vm("web", json!({ "cpus": 2 })).await;
    let pod = place.until("pods/web", |_| true).await;
    let owner = &pod["metadata"]["ownerReferences"][0];
    assert_eq!((&owner["kind"], &owner["uid"], &owner["controller"]), (&json!("VM"), &json!(uid(&made)), &json!(true)));
    let web = place.until("vms/web", |vm| vm["status"]["phase"] == "Pending").await;
    assert_eq!(web["metadata"]["finalizers"], json!(["ignite.weave.works/pod"]));
    assert_eq!(condition(&web, "Accepted"), "True");
    assert_ne!(condition(&web, "Scheduled"), "True");

    place
        .says(
            "web",
            json!({ "conditions": [{ "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
        "message": "0/3 nodes are available" }] }),
        )
        .await;
    place.until("vms/web", |vm| vm["status"]["reason"] == "0/3 nodes are available").await;

    place.runs("web", "n1").await;
    let web = place.until("vms/web", |vm| vm["status"]["phase"] == "Running").await;
    let status = &web["status"];
    assert_eq!((&status["nodeName"], &status["ipAddresses"]), (&json!("n1"), &json!(["10.1.2.3"])));
    assert_eq!((&status["running"], &status["podName"]), (&json!(true), &json!("web")));
    assert_eq!((condition(&web, "Ready"), condition(&web, "Scheduled")), ("True".into(), "True".into()));
    assert_eq!((&status["observedGeneration"], &status["reason"]), (&json!(1), &Value::Null));

    place.ends("web", 3).await;
    let web = place.until("vms/web", |vm| vm["status"]["phase"] == "Failed").await;
    assert_eq!((&web["status"]["exitCode"], condition(&web, "Ready").as_str()), (&json!(3), "False"));
    let events = async || Ok(json!(place.events("web").await));
    let told = ["Normal Created", "Normal Running", "Warning Failed"];
    let has_all = |events: &Value| {
        told.iter().all(|one| events.as_array().is_some_and(|all| all.iter().any(|event| event == one)))
    };
    crate::cluster::until("events of the VM", crate::cluster::SOON, events, has_all).await;
}

/// Proves that a new spec takes a new Pod, but only when the old one has gone, and that new labels take none.
pub async fn a_changed_spec_takes_a_new_pod_when_the_old_one_has_gone(cluster: &Cluster) {
    let place = Place::new(cluster, "change").await;
    let _operator = Operator::start(cluster, &place.namespace, ALONE).await;
    place.vm("web", json!({})).await;
    let first = uid(&place.runs("web", "n1").await);
    place.until("vms/web", |vm| vm["status"]["phase"] == "Running").await;

    place.merge("vms/web", json!({ "metadata": { "labels": { "app": null, "tier": "front" } } })).await;
    let pod = place.until("pods/web", |pod| pod["metadata"]["labels"]["tier"] == "front").await;
    assert_eq!((uid(&pod), &pod["metadata"]["labels"]["app"]), (first.clone(), &Value::Null));

    place.merge("vms/web", json!({ "spec": { "cpus": 2 } })).await;
    let pod = place.until("pods/web", |pod| !pod["metadata"]["deletionTimestamp"].is_null()).await;
    assert_eq!(uid(&pod), first);
    place.until("vms/web", |vm| vm["status"]["phase"] == "Stopping").await;
    place.let_go("web").await;
    let pod = place.until("pods/web", |pod| uid(pod) != first).await;
    assert_eq!(pod["spec"]["containers"][0]["name"], "vm");
    place.runs("web", "n2").await;
    let web = place.until("vms/web", |vm| vm["status"]["phase"] == "Running").await;
    assert_eq!((&web["status"]["nodeName"], &web["status"]["observedGeneration"]), (&json!("n2"), &json!(2)));
}

/// Proves that a Pod that is deleted under its VM is made again, and that of a VM that is over is not.
pub async fn a_pod_deleted_under_its_vm_is_made_again(cluster: &Cluster) {
    let place = Place::new(cluster, "under").await;
    let _operator = Operator::start(cluster, &place.namespace, ALONE).await;
    for name in ["web", "task"] {
        place.vm(name, json!({})).await;
        place.runs(name, "n1").await;
        place.until(&format!("vms/{name}"), |vm| vm["status"]["phase"] == "Running").await;
    }
    let first = uid(&place.get("pods/web").await.unwrap());
    place.delete("pods/web").await;
    place.until("vms/web", |vm| vm["status"]["phase"] == "Stopping").await;
    place.let_go("web").await;
    place.until("pods/web", |pod| uid(pod) != first).await;

    place.ends("task", 0).await;
    place.until("vms/task", |vm| vm["status"]["phase"] == "Succeeded").await;
    place.delete("pods/task?gracePeriodSeconds=0").await;
    place.until_gone("pods/task").await;
    // Whoever is looked at later has been looked at by then.
    place.vm("later", json!({})).await;
    place.until("pods/later", |_| true).await;
    assert_eq!(place.get("pods/task").await.expect_err("no Pod").code, 404);
    assert_eq!(place.get("vms/task").await.unwrap()["status"]["phase"], "Succeeded");
}

/// Proves that two guests of one VM there never are: a node that is silent may still run one.
pub async fn a_silent_node_gets_no_second_guest_beside_it(cluster: &Cluster) {
    let place = Place::new(cluster, "silent").await;
    let _operator = Operator::start(cluster, &place.namespace, ALONE).await;
    place.vm("web", json!({})).await;
    let first = uid(&place.runs("web", "n1").await);
    place.says("web", json!({ "reason": "NodeLost", "message": "Node n1 is not responding" })).await;
    let web = place.until("vms/web", |vm| vm["status"]["phase"] == "Unknown").await;
    assert_eq!(
        (condition(&web, "Ready").as_str(), &web["status"]["reason"]),
        ("Unknown", &json!("node n1 does not answer"))
    );
    place.merge("vms/web", json!({ "spec": { "cpus": 2 } })).await;
    place.until("vms/web", |vm| vm["status"]["observedGeneration"] == 2).await;
    let pods: Vec<String> = place.until_count("pods", 1, |_| true).await.iter().map(uid).collect();
    assert_eq!(pods, std::slice::from_ref(&first));
    // The node's end is certain now, and Kubernetes clears up.
    place.delete("pods/web").await;
    place.let_go("web").await;
    place.until("pods/web", |pod| uid(pod) != first).await;
    place.until("vms/web", |vm| vm["status"]["phase"] == "Pending").await;
}

/// Proves the choice of who knows that silent nodes are off.
pub async fn a_silent_node_is_given_up_where_that_is_asked_for(cluster: &Cluster) {
    let place = Place::new(cluster, "forced").await;
    let _operator = Operator::start(cluster, &place.namespace, &[ALONE[0], "--force-delete-after=32"]).await;
    place.vm("web", json!({})).await;
    let first = uid(&place.runs("web", "n1").await);
    place.until("vms/web", |vm| vm["status"]["phase"] == "Running").await;
    let begun = Instant::now();
    // As the controller of nodes does; no kubelet ends it.
    place.delete("pods/web?gracePeriodSeconds=1").await;
    place.until("vms/web", |vm| vm["status"]["phase"] == "Stopping").await;
    place.until("pods/web", |pod| uid(pod) != first).await;
    assert!(begun.elapsed() > Duration::from_secs(31), "{:?}", begun.elapsed());
    let events = place.events("web").await;
    for told in ["Warning NodeLost", "Warning ForcedDeletion"] {
        assert!(events.iter().any(|event| event == told), "{events:?}");
    }
}

/// Proves that what is another's is left alone, and that the VM says so.
pub async fn a_pod_of_another_with_its_name_is_left_alone(cluster: &Cluster) {
    let place = Place::new(cluster, "taken").await;
    let _operator = Operator::start(cluster, &place.namespace, ALONE).await;
    let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "web" },
        "spec": { "automountServiceAccountToken": false, "containers": [{ "name": "a", "image": "busybox" }], "nodeSelector": { "ignite.weave.works/test": "none" } } });
    let theirs = place.create("pods", pod).await;
    place.vm("web", json!({})).await;
    let told = |vm: &Value| vm["status"]["reason"].as_str().is_some_and(|why| why.contains("not this VM's"));
    let web = place.until("vms/web", told).await;
    assert_eq!(condition(&web, "Scheduled"), "False");
    place.delete("vms/web").await;
    place.until_gone("vms/web").await;
    let pod = place.get("pods/web").await.unwrap();
    assert_eq!((uid(&pod), &pod["metadata"]["deletionTimestamp"]), (uid(&theirs), &Value::Null));
    // Who comes again gets the name when it is free.
    place.vm("web", json!({})).await;
    place.until("vms/web", told).await;
    place.delete("pods/web").await;
    place.until("pods/web", |pod| uid(pod) != uid(&theirs)).await;
    place.until("vms/web", |vm| vm["status"]["reason"].is_null()).await;
}

/// Proves that a deleted VM is there until its guest has ended.
pub async fn a_deleted_vm_waits_for_its_guest(cluster: &Cluster) {
    let place = Place::new(cluster, "deleted").await;
    let operator = Operator::start(cluster, &place.namespace, ALONE).await;
    place.vm("web", json!({})).await;
    place.runs("web", "n1").await;
    place.until("vms/web", |vm| vm["status"]["phase"] == "Running").await;
    place.delete("vms/web").await;
    place.until("pods/web", |pod| !pod["metadata"]["deletionTimestamp"].is_null()).await;
    place.until("vms/web", |vm| vm["status"]["phase"] == "Stopping").await;
    // Its operator is not there when it ends.
    operator.kill();
    place.let_go("web").await;
    assert_eq!(place.get("vms/web").await.unwrap()["metadata"]["finalizers"], json!(["ignite.weave.works/pod"]));
    let _operator = Operator::start(cluster, &place.namespace, ALONE).await;
    place.until_gone("vms/web").await;
    // One that never had a Pod on a node goes at once.
    place.vm("soon", json!({})).await;
    place.until("pods/soon", |_| true).await;
    place.delete("vms/soon").await;
    place.until_gone("vms/soon").await;
    place.until_gone("pods/soon").await;
}

/// Proves that what the server's schema lets through and Ignite does not is said with its field, and mended by a new spec.
pub async fn what_is_no_vm_says_why(cluster: &Cluster) {
    let place = Place::new(cluster, "nonsense").await;
    let _operator = Operator::start(cluster, &place.namespace, ALONE).await;
    place.vm("web", json!({ "image": { "oci": "oci:/var/lib/images/web" } })).await;
    let web = place.until("vms/web", |vm| condition(vm, "Accepted") == "False").await;
    let why = web["status"]["reason"].as_str().unwrap_or_default();
    assert!(why.starts_with("spec.image.oci: "), "{why}");
    assert_eq!(place.get("pods").await.unwrap()["items"], json!([]));
    place.merge("vms/web", json!({ "spec": { "image": { "oci": "redis:7" } } })).await;
    place.until("pods/web", |_| true).await;
    let web = place.until("vms/web", |vm| condition(vm, "Accepted") == "True").await;
    assert_eq!(web["status"]["reason"], Value::Null);
}

/// Proves that nothing is written while nothing changes: not for what others write, and not by an operator that comes anew.
pub async fn what_does_not_change_is_not_written(cluster: &Cluster) {
    let place = Place::new(cluster, "quiet").await;
    let operator = Operator::start(cluster, &place.namespace, ALONE).await;
    place.set("pool", json!({ "replicas": 2 })).await;
    let names = ["a", "b", "pool-0", "pool-1"];
    for name in ["a", "b"] {
        place.vm(name, json!({})).await;
    }
    for name in names {
        place.until(&format!("pods/{name}"), |_| true).await;
        place.runs(name, "n1").await;
        place.until(&format!("vms/{name}"), |vm| condition(vm, "Ready") == "True").await;
    }
    place.until("vmsets/pool", |set| set["status"]["readyReplicas"] == 2).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let versions = async || {
        let mut all = Vec::new();
        for kind in ["vms", "vmsets"] {
            let list = place.get(kind).await.unwrap();
            all.extend(list["items"].as_array().unwrap().iter().map(|one| one["metadata"]["resourceVersion"].clone()));
        }
        all
    };
    let writes = || {
        let mut all = cluster.requests_of_operator(&place.namespace)?;
        all.retain(|one| !matches!(one.split(' ').next(), Some("get" | "list" | "watch")));
        Some(all)
    };
    let (before, written) = (versions().await, writes());
    for name in names {
        place.merge(&format!("pods/{name}"), json!({ "metadata": { "annotations": { "cni/seen": "1" } } })).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    operator.kill();
    let mut operator = Operator::start(cluster, &place.namespace, ALONE).await;
    // It has looked at everything.
    let started = Instant::now();
    while !looked(&mut operator, "vms", 4).await || !looked(&mut operator, "vmsets", 1).await {
        assert!(started.elapsed() < crate::cluster::SOON, "{:?}", operator.get("/metrics").await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(versions().await, before);
    assert_eq!(writes(), written);
}

async fn looked(operator: &mut Operator, kind: &str, at_least: u64) -> bool {
    let Some((200, text)) = operator.get("/metrics").await else { return false };
    let sample = format!("ignite_operator_reconciles_total{{kind=\"{kind}\",result=\"ok\"}} ");
    let count = text.lines().find_map(|line| line.strip_prefix(&sample)?.parse::<u64>().ok());
    count.is_some_and(|count| count >= at_least)
}

/// Proves that what the server refuses is said in the status, and asked for ever more slowly.
pub async fn what_a_quota_refuses_is_said_and_not_asked_for_in_a_loop(cluster: &Cluster) {
    let place = Place::new(cluster, "quota").await;
    let quota = json!({ "apiVersion": "v1", "kind": "ResourceQuota", "metadata": { "name": "none" }, "spec": { "hard": { "pods": "0" } } });
    place.create("resourcequotas", quota).await;
    // The controller of quotas tells what is used.
    place
        .merge("resourcequotas/none/status", json!({ "status": { "hard": { "pods": "0" }, "used": { "pods": "0" } } }))
        .await;
    let _operator = Operator::start(cluster, &place.namespace, ALONE).await;
    place.vm("web", json!({})).await;
    place.until("vms/web", |vm| vm["status"]["reason"].as_str().is_some_and(|why| why.contains("quota"))).await;
    tokio::time::sleep(Duration::from_secs(8)).await;
    if let Some(requests) = cluster.requests_of_operator(&place.namespace) {
        let count = |what: &str| requests.iter().filter(|one| *one == what).count();
        // 1, 2 and 4 seconds after the first, each with one look at what the watch has told meanwhile.
        assert!((2..=8).contains(&count("create pods")), "{requests:?}");
        assert!(count("patch vms status") <= 3, "{requests:?}");
        assert!(count("create events") <= 2, "{requests:?}");
    }
    place.delete("resourcequotas/none").await;
    place.until("pods/web", |_| true).await;
    place.until("vms/web", |vm| vm["status"]["reason"].is_null()).await;
}

/// Proves `spec.running`: the guest ends and comes again, and its object is the same.
pub async fn a_vm_that_is_not_to_run_is_stopped_and_started_again(cluster: &Cluster) {
    let place = Place::new(cluster, "stopped").await;
    let _operator = Operator::start(cluster, &place.namespace, ALONE).await;
    place.vm("web", json!({})).await;
    let first = uid(&place.runs("web", "n1").await);
    place.until("vms/web", |vm| vm["status"]["phase"] == "Running").await;
    place.merge("vms/web", json!({ "spec": { "running": false } })).await;
    place.until("vms/web", |vm| vm["status"]["phase"] == "Stopping").await;
    place.let_go("web").await;
    let web = place.until("vms/web", |vm| vm["status"]["phase"] == "Stopped").await;
    assert_eq!(web["status"]["reason"], "spec.running is false");
    assert_eq!(place.get("pods/web").await.expect_err("no Pod").code, 404);
    place.merge("vms/web", json!({ "spec": { "running": true } })).await;
    place.until("pods/web", |pod| uid(pod) != first).await;
    place.runs("web", "n1").await;
    place.until("vms/web", |vm| vm["status"]["phase"] == "Running" && vm["status"]["reason"].is_null()).await;
}
