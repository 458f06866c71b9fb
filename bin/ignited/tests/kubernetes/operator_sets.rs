//! What the operator makes of sets of equal VMs.

use crate::cluster::{Cluster, condition};
use crate::operator_process::{ALONE, Operator};
use crate::place::{Place, name, uid};
use serde_json::{Value, json};

/// Proves that a set has as many VMs as it wants, by `kubectl scale`, and tells how many there are.
pub async fn a_set_follows_its_scale(cluster: &Cluster) {
    let place = Place::new(cluster, "follow").await;
    let _operator = Operator::start(cluster, &place.namespace, ALONE).await;
    place.set("web", json!({ "replicas": 2 })).await;
    let vms = place.until_count("vms", 2, |_| true).await;
    assert_eq!(vms.iter().map(name).collect::<Vec<_>>(), ["web-0", "web-1"]);
    let set = place.get("vmsets/web").await.unwrap();
    assert!(vms.iter().all(|vm| vm["metadata"]["ownerReferences"][0]["uid"] == json!(uid(&set))));
    for name in ["web-0", "web-1"] {
        place.until(&format!("pods/{name}"), |_| true).await;
        place.runs(name, "n1").await;
    }
    let set = place.until("vmsets/web", |set| set["status"]["readyReplicas"] == 2).await;
    assert_eq!((condition(&set, "Available"), condition(&set, "Progressing")), ("True".into(), "False".into()));
    // By the selector of the scale, autoscalers and people find the Pods.
    let scale = place.get("vmsets/web/scale").await.unwrap();
    let selector = scale["status"]["selector"].as_str().unwrap_or_default().replace('=', "%3D");
    let found = place.get(&format!("pods?labelSelector={selector}")).await.unwrap();
    assert_eq!(found["items"].as_array().map(Vec::len), Some(2), "{selector}");

    let said = cluster.kubectl(&["-n", &place.namespace, "scale", "vmset/web", "--replicas=4"], "");
    assert!(said.succeeded, "{}", said.text());
    place.until_count("vms", 4, |_| true).await;
    place.until("vmsets/web", |set| set["status"]["replicas"] == 4).await;
    place.merge("vmsets/web/scale", json!({ "spec": { "replicas": 1 } })).await;
    place.until("vms/web-1", |vm| !vm["metadata"]["deletionTimestamp"].is_null()).await;
    place.let_go("web-1").await;
    let vms = place.until_count("vms", 1, |_| true).await;
    assert_eq!(name(&vms[0]), "web-0");
    // One that is deleted comes again under its name.
    let old = uid(&vms[0]);
    place.delete("vms/web-0").await;
    place.let_go("web-0").await;
    place.until("vms/web-0", |vm| uid(vm) != old).await;
    place.until("vmsets/web", |set| set["status"]["replicas"] == 1).await;
}

/// Proves that a new template reaches all VMs, from the last to the first, and that no more are away than may be.
pub async fn a_new_template_rolls_through_the_set(cluster: &Cluster) {
    let place = Place::new(cluster, "rolls").await;
    let _operator = Operator::start(cluster, &place.namespace, ALONE).await;
    place.set("web", json!({ "replicas": 3 })).await;
    let names = ["web-0", "web-1", "web-2"];
    for name in names {
        place.until(&format!("pods/{name}"), |_| true).await;
        place.runs(name, "n1").await;
    }
    place.until("vmsets/web", |set| set["status"]["readyReplicas"] == 3).await;
    place.merge("vmsets/web", json!({ "spec": { "template": { "spec": { "memory": "1GB" } } } })).await;
    for (done, name) in names.into_iter().rev().enumerate() {
        let old =
            uid(&place.until(&format!("pods/{name}"), |pod| !pod["metadata"]["deletionTimestamp"].is_null()).await);
        let set = place.until("vmsets/web", |set| set["status"]["updatedReplicas"] == done + 1).await;
        assert_eq!(condition(&set, "Progressing"), "True");
        // The others go on as they were.
        let pods = place.get("pods").await.unwrap();
        let leaving =
            pods["items"].as_array().unwrap().iter().filter(|pod| !pod["metadata"]["deletionTimestamp"].is_null());
        assert_eq!(leaving.count(), 1);
        place.let_go(name).await;
        place.until(&format!("pods/{name}"), |pod| uid(pod) != old).await;
        place.until(&format!("vms/{name}"), |vm| vm["status"]["phase"] == "Pending").await;
        let others: Vec<Value> = place.until_count("vms", 3 - done - 1, |vm| vm["spec"]["memory"] != "1GB").await;
        assert_eq!(others.len(), 3);
        place.runs(name, "n1").await;
    }
    let set = place.until("vmsets/web", |set| condition(set, "Progressing") == "False").await;
    let status = &set["status"];
    assert_eq!(
        (&status["readyReplicas"], &status["updatedReplicas"], &status["replicas"]),
        (&json!(3), &json!(3), &json!(3))
    );
}

/// Proves that with stand-ins no VM is missed while a template rolls through, and that they go when it has.
pub async fn stand_ins_keep_the_set_ready_while_it_rolls(cluster: &Cluster) {
    let place = Place::new(cluster, "surge").await;
    let _operator = Operator::start(cluster, &place.namespace, ALONE).await;
    place.set("web", json!({ "replicas": 2, "updateStrategy": { "maxSurge": 1, "maxUnavailable": 0 } })).await;
    for name in ["web-0", "web-1"] {
        place.until(&format!("pods/{name}"), |_| true).await;
        place.runs(name, "n1").await;
    }
    place.until("vmsets/web", |set| set["status"]["readyReplicas"] == 2).await;
    place.merge("vmsets/web", json!({ "spec": { "template": { "spec": { "cpus": 2 } } } })).await;
    place.until("pods/web-2", |_| true).await;
    let pods = place.get("pods").await.unwrap();
    assert!(pods["items"].as_array().unwrap().iter().all(|pod| pod["metadata"]["deletionTimestamp"].is_null()));
    place.runs("web-2", "n1").await;
    for name in ["web-1", "web-0"] {
        let leaving = |pod: &Value| !pod["metadata"]["deletionTimestamp"].is_null();
        let old = uid(&place.until(&format!("pods/{name}"), leaving).await);
        let set = place.until("vmsets/web", |set| set["status"]["readyReplicas"] == 2).await;
        assert_eq!((condition(&set, "Available").as_str(), &set["status"]["replicas"]), ("True", &json!(3)));
        place.let_go(name).await;
        place.until(&format!("pods/{name}"), |pod| uid(pod) != old).await;
        place.runs(name, "n1").await;
    }
    place.let_go("web-2").await;
    place.until_gone("vms/web-2").await;
    let set = place.until("vmsets/web", |set| condition(set, "Progressing") == "False").await;
    assert_eq!((&set["status"]["readyReplicas"], &set["status"]["updatedReplicas"]), (&json!(2), &json!(2)));
}
