//! The API server in memory, on which the operator's loop is tested, held against the real one.

use crate::cluster::Cluster;
use crate::rest::{API, Answer, Rest};
use ignite_kubernetes_fake::FakeServer;
use serde_json::{Value, json};

/// Proves that both answer the same to what an operator can trip over.
pub async fn it_answers_as_the_real_server(cluster: &Cluster) {
    let namespace = cluster.namespace("fake").await;
    let real = story(cluster.rest(), &namespace).await;
    let fake = story(&Rest::new(FakeServer::new().client("test")), &namespace).await;
    assert_eq!(real.len(), fake.len());
    for (real, fake) in real.iter().zip(&fake) {
        assert_eq!(real, fake, "first the real server's answer, then that of the one in memory");
    }
}

/// Requests, and what is the same in the answers of any server.
async fn story(rest: &Rest, namespace: &str) -> Vec<(&'static str, Value)> {
    let vms = format!("{API}/namespaces/{namespace}/vms");
    let (web, gone) = (format!("{vms}/web"), format!("{vms}/gone"));
    let spec = |cpus: u32| json!({ "image": { "oci": "redis:7" }, "cpus": cpus });
    let vm = json!({ "apiVersion": "ignite.weave.works/v1alpha4", "kind": "VM", "metadata": { "name": "web" }, "spec": spec(1),
        "status": { "phase": "Running" } });
    let mut told = Vec::new();
    let mut tell = |what, answer: &Answer| told.push((what, gist(answer)));
    let first = rest.create(&vms, &vm).await;
    tell("made, without the status that came with it", &first);
    let old = first.as_ref().map(|vm| vm["metadata"]["resourceVersion"].clone()).unwrap_or_default();
    tell("made again", &rest.create(&vms, &vm).await);
    tell("not there", &rest.get(&gone).await);
    tell("not there to change", &rest.merge(&gone, &json!({ "spec": spec(2) })).await);
    tell("not there to delete", &rest.delete(&gone).await);
    let changed = rest.merge(&web, &json!({ "spec": spec(2) })).await;
    tell("another spec", &changed);
    let again = rest.merge(&web, &json!({ "spec": spec(2) })).await;
    let version = |answer: &Answer| answer.as_ref().map(|vm| vm["metadata"]["resourceVersion"].clone()).ok();
    assert_eq!(version(&changed), version(&again), "what changes nothing is no new version");
    tell(
        "an old version",
        &rest.merge(&web, &json!({ "metadata": { "resourceVersion": old }, "spec": spec(3) })).await,
    );
    tell("another object", &rest.merge(&web, &json!({ "metadata": { "uid": "somebody" }, "spec": spec(3) })).await);
    tell("a label", &rest.merge(&web, &json!({ "metadata": { "labels": { "app": "web" } } })).await);
    tell("a status beside the spec", &rest.merge(&web, &json!({ "status": { "phase": "Failed" } })).await);
    let status = format!("{web}/status");
    tell("a status", &rest.merge(&status, &json!({ "status": { "phase": "Running" }, "spec": spec(4) })).await);
    tell("a finalizer", &rest.merge(&web, &json!({ "metadata": { "finalizers": ["example.com/one"] } })).await);
    tell("deleted, and kept", &rest.delete(&web).await);
    tell("deleted again", &rest.delete(&web).await);
    let more = json!({ "metadata": { "finalizers": ["example.com/one", "example.com/two"] } });
    tell("a finalizer too late", &rest.merge(&web, &more).await);
    tell("let go", &rest.merge(&web, &json!({ "metadata": { "finalizers": null } })).await);
    tell("gone", &rest.get(&web).await);

    let pods = format!("api/v1/namespaces/{namespace}/pods");
    let pod = |name: &str| {
        json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name },
        "spec": { "terminationGracePeriodSeconds": 7, "automountServiceAccountToken": false, "containers": [{ "name": "vm", "image": "i" }] } })
    };
    for name in ["waits", "runs"] {
        rest.create(&pods, &pod(name)).await.expect("a Pod");
    }
    let target = json!({ "apiVersion": "v1", "kind": "Node", "name": "n1" });
    let binding = json!({ "apiVersion": "v1", "kind": "Binding", "metadata": { "name": "runs" }, "target": target });
    rest.create(&format!("{pods}/runs/binding"), &binding).await.expect("a node for it");
    let (waits, runs) = (format!("{pods}/waits"), format!("{pods}/runs"));
    rest.delete(&waits).await.expect("a Pod without node goes");
    tell("a Pod without node is gone at once", &rest.get(&waits).await);
    rest.delete(&runs).await.expect("a Pod on a node is told to go");
    tell("a Pod on a node has its grace", &rest.get(&runs).await);
    rest.delete(&format!("{runs}?gracePeriodSeconds=0")).await.expect("its kubelet says that it has ended");
    tell("a Pod that has ended is gone", &rest.get(&runs).await);
    told
}

fn gist(answer: &Answer) -> Value {
    match answer {
        Err(refused) => json!({ "code": refused.code }),
        Ok(object) => {
            let metadata = &object["metadata"];
            json!({ "generation": metadata["generation"], "labels": metadata["labels"], "finalizers": metadata["finalizers"],
                "leaves": !metadata["deletionTimestamp"].is_null(), "grace": metadata["deletionGracePeriodSeconds"],
                "cpus": object["spec"]["cpus"], "phase": object["status"]["phase"] })
        }
    }
}
