//! The custom resources, as the API server takes them.

use crate::cluster::{Cluster, SOON, condition, until};
use crate::rest::API;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const PUBLISHED_WITHIN: Duration = Duration::from_secs(60);

fn vm(name: &str, spec: Value) -> Value {
    json!({ "apiVersion": "ignite.weave.works/v1alpha4", "kind": "VM", "metadata": { "name": name }, "spec": spec })
}

/// Proves that the server finds no fault in the schemas: it prunes, fills in and validates by them.
pub async fn the_schemas_are_structural_and_established(cluster: &Cluster) {
    let path = |name: &str| format!("apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}.ignite.weave.works");
    let mut generations = Vec::new();
    for name in ["vms", "vmsets"] {
        let crd = cluster.rest().get(&path(name)).await.unwrap();
        generations.push((name, crd["metadata"]["generation"].clone()));
        assert_eq!(condition(&crd, "Established"), "True");
        assert_ne!(condition(&crd, "NonStructuralSchema"), "True", "{}", crd["status"]["conditions"]);
        assert_eq!(condition(&crd, "NamesAccepted"), "True");
    }
    let again = cluster.apply_crds().await;
    assert!(again.succeeded, "{}", again.text());
}

/// Proves that what Ignite would fill in stands in the object, and that what is no field does not.
pub async fn what_is_left_out_gets_its_default(cluster: &Cluster) {
    let namespace = cluster.namespace("defaults").await;
    let vms = format!("{API}/namespaces/{namespace}/vms");
    let made =
        cluster.rest().create(&vms, &vm("small", json!({ "image": { "oci": "busybox" }, "cpuz": 7 }))).await.unwrap();
    let spec = &made["spec"];
    assert_eq!((&spec["cpus"], &spec["memory"], &spec["diskSize"]), (&json!(1), &json!("512MB"), &json!("4GB")));
    assert_eq!(spec["cpuz"], Value::Null, "a field that does not exist is not kept");
    let sets = format!("{API}/namespaces/{namespace}/vmsets");
    let set = json!({ "apiVersion": "ignite.weave.works/v1alpha4", "kind": "VMSet", "metadata": { "name": "few" },
        "spec": { "template": { "spec": { "image": { "oci": "busybox" } } } } });
    let made = cluster.rest().create(&sets, &set).await.unwrap();
    assert_eq!((&made["spec"]["replicas"], &made["spec"]["template"]["spec"]["cpus"]), (&json!(1), &json!(1)));
}

/// Proves that a mistake is told by the server at once, with the field.
pub async fn what_cannot_be_a_vm_is_refused_with_its_field(cluster: &Cluster) {
    let namespace = cluster.namespace("refused").await;
    let vms = format!("{API}/namespaces/{namespace}/vms");
    let image = json!({ "oci": "busybox" });
    for (spec, expected) in [
        (json!({}), "spec.image: Required value"),
        (json!({ "image": {} }), "spec.image.oci: Required value"),
        (json!({ "image": image, "cpus": 0 }), "spec.cpus: Invalid value: 0"),
        (json!({ "image": image, "cpus": "two" }), "spec.cpus: Invalid value: \"string\""),
        (json!({ "image": image, "cpus": 1000 }), "spec.cpus"),
        (json!({ "image": image, "memory": [] }), "spec.memory"),
        (json!({ "image": image, "restartPolicy": "Sometimes" }), "spec.restartPolicy"),
        (
            json!({ "image": image, "tolerations": [{ "effect": "Never" }] }),
            "spec.tolerations.effect: Unsupported value: \"Never\"",
        ),
        (json!({ "image": image, "nodeSelector": { "a": 1 } }), "spec.nodeSelector.a"),
        (json!({ "image": image, "imagePullSecrets": [{}] }), "spec.imagePullSecrets.name: Required value"),
        (
            json!({ "image": image, "storage": { "volumes": [{ "name": "a", "persistentVolumeClaim": {} }] } }),
            "persistentVolumeClaim.claimName: Required value",
        ),
        (
            json!({ "image": image, "storage": { "volumes": [{ "name": "a", "secret": { "name": "b" } }] } }),
            "secret.secretName: Required value",
        ),
    ] {
        let refused = cluster.rest().create(&vms, &vm("bad", spec.clone())).await.expect_err(&spec.to_string());
        assert_eq!(refused.code, 422, "{spec}: {}", refused.message);
        assert!(refused.message.contains(expected), "{spec}: {}", refused.message);
    }
    let sets = format!("{API}/namespaces/{namespace}/vmsets");
    let set = json!({ "apiVersion": "ignite.weave.works/v1alpha4", "kind": "VMSet", "metadata": { "name": "bad" },
        "spec": { "replicas": -1, "template": { "spec": { "image": image } }, "updateStrategy": { "type": "Sudden" } } });
    let refused = cluster.rest().create(&sets, &set).await.expect_err("a set of -1");
    for expected in ["spec.replicas", "spec.updateStrategy.type: Unsupported value: \"Sudden\""] {
        assert!(refused.message.contains(expected), "{}", refused.message);
    }
}

/// Proves that the published schema is one by which `kubectl` finds a misspelt field before anything is made.
pub async fn kubectl_refuses_a_field_that_does_not_exist(cluster: &Cluster) {
    let namespace = cluster.namespace("misspelt").await;
    // The server publishes a new schema some time after it serves it.
    let explained = |text: &str| text.contains("memory") && text.contains("allowEmulation");
    let look = async || Ok(json!(cluster.kubectl(&["explain", "vms.spec", "--recursive"], "").text()));
    until("the published schema", SOON, look, |text| explained(text.as_str().unwrap_or_default())).await;
    let misspelt = vm("misspelt", json!({ "image": { "oci": "busybox" }, "memmory": "1GB" })).to_string();
    // The server publishes schemas some time after it has taken them.
    let begun = Instant::now();
    loop {
        let said = cluster.kubectl(&["-n", &namespace, "apply", "--validate=true", "-f", "-"], &misspelt);
        if !said.succeeded {
            assert!(said.stderr.contains("memmory"), "{}", said.text());
            break;
        }
        assert!(begun.elapsed() < PUBLISHED_WITHIN, "{}", said.text());
        cluster.kubectl(&["-n", &namespace, "delete", "vm", "misspelt"], "");
    }
    let right = vm("right", json!({ "image": { "oci": "busybox" }, "memory": "1GB" })).to_string();
    let said = cluster.kubectl(&["-n", &namespace, "apply", "--validate=true", "-f", "-"], &right);
    assert!(said.succeeded, "{}", said.text());
}

/// Proves what `kubectl get vms` shows, and where it finds it.
pub async fn the_columns_are_those_of_kubectl_get(cluster: &Cluster) {
    let namespace = cluster.namespace("columns").await;
    let vms = format!("{API}/namespaces/{namespace}/vms");
    let spec = json!({ "image": { "oci": "redis:7" }, "cpus": 2, "memory": "1GB" });
    cluster.rest().create(&vms, &vm("web", spec)).await.unwrap();
    let condition = json!({ "type": "Ready", "status": "True", "reason": "Healthy", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z" });
    let status = json!({ "status": { "phase": "Running", "running": true, "ipAddresses": ["10.0.0.7"], "nodeName": "n1",
        "restarts": 3, "conditions": [condition] } });
    cluster.rest().merge(&format!("{vms}/web/status"), &status).await.unwrap();
    let table = cluster.rest().table(&vms).await.unwrap();
    let names: Vec<&str> =
        table["columnDefinitions"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    let cells = table["rows"][0]["cells"].as_array().unwrap();
    let shown: Vec<(&str, &Value)> = names.into_iter().zip(cells).filter(|(name, _)| *name != "Age").collect();
    let expected = json!(["web", "Running", "True", "10.0.0.7", "n1", 2, "1GB", "redis:7", 3]);
    let names = ["Name", "Phase", "Ready", "IP", "Node", "CPUs", "Memory", "Image", "Restarts"];
    for (name, expected) in names.into_iter().zip(expected.as_array().unwrap()) {
        assert!(shown.contains(&(name, expected)), "{name}: {shown:?}");
    }
    let said = cluster.kubectl(&["-n", &namespace, "get", "vms"], "");
    assert!(said.stdout.starts_with("NAME") && said.stdout.contains("10.0.0.7"), "{}", said.text());
    for word in ["vm/web", "all"] {
        let said = cluster.kubectl(&["-n", &namespace, "get", word], "");
        assert!(said.stdout.contains("web"), "{}", said.text());
    }
}

/// Proves that whoever may write one of `spec` and `status` writes nothing of the other.
pub async fn the_status_is_a_subresource_of_its_own(cluster: &Cluster) {
    let namespace = cluster.namespace("status").await;
    let path = format!("{API}/namespaces/{namespace}/vms");
    let mut object = vm("web", json!({ "image": { "oci": "redis:7" } }));
    object["status"] = json!({ "phase": "Running" });
    let made = cluster.rest().create(&path, &object).await.unwrap();
    assert_eq!(made["status"], Value::Null, "what a user writes into status is dropped");
    let one = format!("{path}/web");
    let told = json!({ "spec": { "cpus": 4 }, "status": { "phase": "Failed", "reason": "for a test" } });
    let after = cluster.rest().merge(&format!("{one}/status"), &told).await.unwrap();
    assert_eq!((&after["spec"]["cpus"], &after["status"]["phase"]), (&json!(1), &json!("Failed")));
    assert_eq!(after["metadata"]["generation"], 1, "a status is no new generation");
    let after = cluster.rest().merge(&one, &told).await.unwrap();
    assert_eq!((&after["spec"]["cpus"], &after["metadata"]["generation"]), (&json!(4), &json!(2)));
    let wrong = json!({ "status": { "phase": "Dancing" } });
    let refused = cluster.rest().merge(&format!("{one}/status"), &wrong).await.expect_err("a phase of no VM");
    assert!(refused.message.contains("status.phase"), "{}", refused.message);
}

/// Proves `kubectl scale` and the scale subresource, by which autoscalers work.
pub async fn a_set_is_scaled_like_a_deployment(cluster: &Cluster) {
    let namespace = cluster.namespace("scale").await;
    let sets = format!("{API}/namespaces/{namespace}/vmsets");
    let set = json!({ "apiVersion": "ignite.weave.works/v1alpha4", "kind": "VMSet", "metadata": { "name": "web" },
        "spec": { "replicas": 2, "template": { "spec": { "image": { "oci": "redis:7" } } } } });
    cluster.rest().create(&sets, &set).await.unwrap();
    let status = json!({ "status": { "replicas": 2, "selector": "ignite.weave.works/vmset=web" } });
    cluster.rest().merge(&format!("{sets}/web/status"), &status).await.unwrap();
    let scale = cluster.rest().get(&format!("{sets}/web/scale")).await.unwrap();
    assert_eq!((&scale["kind"], &scale["spec"]["replicas"]), (&json!("Scale"), &json!(2)));
    assert_eq!(scale["status"], json!({ "replicas": 2, "selector": "ignite.weave.works/vmset=web" }));
    let said = cluster.kubectl(&["-n", &namespace, "scale", "vmset/web", "--replicas=5"], "");
    assert!(said.succeeded, "{}", said.text());
    let after = cluster.rest().get(&format!("{sets}/web")).await.unwrap();
    assert_eq!((&after["spec"]["replicas"], &after["spec"]["template"]["spec"]["cpus"]), (&json!(5), &json!(1)));
}
