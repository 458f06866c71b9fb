//! What is installed, in a real server: manifests and chart are taken as they are, and the operator's rights are those it uses.

#![allow(clippy::print_stdout, reason = "a skipped test says why")]

use crate::Report;
use crate::cluster::{BASE, Cluster, SOON, condition};
use crate::operator_process::Operator;
use crate::place::{Place, uid};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/helm/ignite");
const ROLES: &str = "apis/rbac.authorization.k8s.io/v1";
const NAMESPACE: &str = "ignite-system";

/// Servers before 1.25 know no rules in schemas.
const OLD_SERVERS: [&str; 2] = ["--disable-openapi-validation", "--server-side=false"];

/// Verb, group, resource.
type Rights = BTreeSet<(String, String, String)>;

/// Proves that a second `apply` finds nothing to change: who applies for ever (Flux, Argo CD) finds peace.
pub async fn what_is_applied_twice_is_changed_once(cluster: &Cluster) {
    let overlay = format!("{BASE}/../overlays/example");
    let samples = format!("{BASE}/samples");
    // The same servers refuse a field that they do not know where fields are to be somebody's own.
    let operator: &[&str] = &["-l", "app.kubernetes.io/name=ignite-operator"];
    for (directory, server_side) in [(BASE, operator), (&overlay, operator), (&samples, &[])] {
        let apply = |flags: &[&str]| {
            let said = cluster.kubectl(&[&["apply", "--validate=false", "-k", directory], flags].concat(), "");
            assert!(said.succeeded, "{directory}: {}", said.text());
            said.stdout
        };
        apply(&[]);
        let again = apply(&[]);
        // A server before 1.25 drops the rules of schemas, which are then missing for ever.
        let is_trouble = |line: &&str| !line.ends_with(" unchanged") && !line.starts_with("customresourcedefinition");
        let changed: Vec<&str> = again.lines().filter(is_trouble).collect();
        assert!(changed.is_empty() && again.lines().count() > 5, "{directory}: {changed:?}");
        apply(&[&["--server-side", "--force-conflicts"], server_side].concat());
    }
    cluster.kubectl(&["delete", "--wait=false", "-k", &samples], "");
}

/// Proves that Helm installs, upgrades and removes the chart, and that the custom resources stay.
pub async fn helm_installs_upgrades_and_removes_the_chart(cluster: &Cluster) -> Report {
    let tools = std::env::var_os("IGNITE_TEST_KUBERNETES_TOOLS").filter(|dir| !dir.is_empty());
    let Some(helm) = tools.map(|dir| Path::new(&dir).join("helm")) else {
        return Err("no helm: scripts/fetch-kubernetes-tools fetches it".into());
    };
    let namespace = cluster.namespace("helm").await;
    let helm = |arguments: &[&str]| {
        let home = tempfile::tempdir().expect("a directory");
        let mut command = Command::new(&helm);
        command.args(arguments).args(["--namespace", &namespace]).env("HOME", home.path());
        let output = command.env("KUBECONFIG", cluster.kubeconfig()).output().expect("helm");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{arguments:?}: {}{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    };
    // Others have applied the custom resources already.
    let notes = helm(&["install", "test", CHART, "--take-ownership", OLD_SERVERS[0], OLD_SERVERS[1]]);
    assert!(notes.contains("deployment/test-ignite-operator") && notes.contains("allowEmulation"), "{notes}");
    let deployment = format!("apis/apps/v1/namespaces/{namespace}/deployments/test-ignite-operator");
    assert_eq!(cluster.rest().get(&deployment).await.unwrap()["spec"]["replicas"], 1);
    helm(&[
        "upgrade",
        OLD_SERVERS[0],
        OLD_SERVERS[1],
        "test",
        CHART,
        "--set=operator.replicas=2",
        &format!("--set=operator.watchNamespace={namespace}"),
    ]);
    assert_eq!(cluster.rest().get(&deployment).await.unwrap()["spec"]["replicas"], 2);
    let role = cluster.rest().get(&format!("{ROLES}/clusterroles/test-ignite-operator")).await;
    assert_eq!(role.unwrap_err().code, 404, "rights in one namespace are rights in no other");
    cluster.rest().get(&format!("{ROLES}/namespaces/{namespace}/roles/test-ignite-operator")).await.unwrap();
    helm(&["uninstall", "test", "--cascade=background"]);
    assert_eq!(cluster.rest().get(&deployment).await.unwrap_err().code, 404);
    let crds = "apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let kept = cluster.rest().get(&format!("{crds}/vms.ignite.weave.works")).await.unwrap();
    assert!(condition(&kept, "Established") == "True" && kept["metadata"]["deletionTimestamp"].is_null());
    Ok(())
}

/// Proves that the operator, as its service account, is refused nothing, and has no right that it does not use. (That it is
/// refused nothing is proven by all tests of the operator: they run it as that account.)
pub async fn the_operators_rights_are_those_it_uses(cluster: &Cluster) -> Report {
    let place = Place::new(cluster, "rights").await;
    let mut operator = Operator::start(cluster, &place.namespace, &[]).await;
    uses_every_right(&place).await;
    // Given back, and renewed meanwhile.
    operator.signal(Signal::TERM);
    assert!(operator.ended(SOON).await.success(), "{}", operator.log());
    let Some(requests) = cluster.audit_of_operator(&place.namespace) else {
        return Err("nobody tells what was asked of a cluster of somebody's".into());
    };
    let refused: Vec<&Value> = requests.iter().filter(|one| one["responseStatus"]["code"] == 403).collect();
    assert!(refused.is_empty(), "{refused:?}");
    let used: Rights = requests.iter().map(right_of).collect();
    let mut granted = Rights::new();
    let lease = format!("namespaces/{NAMESPACE}/roles/ignite-operator-lease");
    for path in ["clusterroles/ignite-operator", &lease] {
        granted.extend(rights_of(&cluster.rest().get(&format!("{ROLES}/{path}")).await.unwrap()["rules"]));
    }
    // An admission plugin asks for these, and no request names them: the test below takes them away.
    granted.retain(|(_, _, resource)| !resource.ends_with("/finalizers"));
    let unused: Vec<_> = granted.difference(&used).collect();
    assert!(unused.is_empty(), "granted and not used: {unused:?}\n{}", operator.log());
    let beyond: Vec<_> = used.difference(&granted).collect();
    assert!(beyond.is_empty(), "used and not granted: {beyond:?}");
    Ok(())
}

/// Proves that where a server enforces who may block an owner's deletion, the operator may, and only by the right it has.
pub async fn owners_are_kept_by_right(cluster: &Cluster) -> Report {
    let Some(other) = cluster.another().await else {
        return Err("rights are taken away in a server of the test's own only".into());
    };
    let place = Place::new(&other, "owners").await;
    let _operator = Operator::start(&other, &place.namespace, &["--leader-elect=false"]).await;
    let role = format!("{ROLES}/clusterroles/ignite-operator");
    let rules = other.rest().get(&role).await.unwrap()["rules"].clone();
    let without: Vec<Value> =
        rules.as_array().unwrap().iter().filter(|rule| rule["resources"][0] != "vms/finalizers").cloned().collect();
    assert_eq!(without.len() + 1, rules.as_array().unwrap().len());
    other.rest().merge(&role, &json!({ "rules": without })).await.unwrap();
    let spec = json!({ "dependsOn": [] });
    place.vm("web", spec).await;
    let refused = place.until("vms/web", |vm| vm["status"]["reason"].is_string()).await;
    let reason = refused["status"]["reason"].as_str().unwrap();
    assert!(reason.contains("blockOwnerDeletion"), "{reason}");
    other.rest().merge(&role, &json!({ "rules": rules })).await.unwrap();
    place.until("pods/web", |pod| !pod["metadata"]["uid"].is_null()).await;
    Ok(())
}

fn right_of(request: &Value) -> (String, String, String) {
    let of = |field: &str| request["objectRef"][field].as_str().unwrap_or_default().to_owned();
    let resource = match of("subresource") {
        none if none.is_empty() => of("resource"),
        sub => format!("{}/{sub}", of("resource")),
    };
    (request["verb"].as_str().unwrap_or_default().to_owned(), of("apiGroup"), resource)
}

fn rights_of(rules: &Value) -> Rights {
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(|one| Some(one.as_str()?.to_owned())).collect()
    };
    let mut all = Rights::new();
    for rule in rules.as_array().into_iter().flatten() {
        for verb in texts(&rule["verbs"]) {
            for group in texts(&rule["apiGroups"]) {
                let resources = texts(&rule["resources"]).into_iter();
                all.extend(resources.map(|resource| (verb.clone(), group.clone(), resource)));
            }
        }
    }
    all
}

/// What makes the operator do everything that it can.
async fn uses_every_right(place: &Place<'_>) {
    place.set("few", json!({ "replicas": 2 })).await;
    for pod in ["few-0", "few-1"] {
        place.runs(pod, "a").await;
    }
    place.until("vmsets/few", |set| set["status"]["readyReplicas"] == 2).await;
    // Labels of a template that changed: VMs are written anew, and their Pods are labelled.
    place.merge("vmsets/few", json!({ "spec": { "template": { "metadata": { "labels": { "more": "yes" } } } } })).await;
    for pod in ["few-0", "few-1"] {
        place.until(&format!("pods/{pod}"), |pod| pod["metadata"]["labels"]["more"] == "yes").await;
    }
    place.merge("vmsets/few", json!({ "spec": { "replicas": 1 } })).await;
    place.let_go("few-1").await;
    place.until_gone("vms/few-1").await;
    // A Pod that goes again and again is made anew, which is told by one event that has come again.
    for _ in 0..3 {
        let before = uid(&place.runs("few-0", "a").await);
        place.delete("pods/few-0").await;
        place.let_go("few-0").await;
        place.until("pods/few-0", |pod| uid(pod) != before && !uid(pod).is_empty()).await;
    }
    // A Pod of somebody else's has the name.
    let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "taken" },
        "spec": { "automountServiceAccountToken": false, "containers": [{ "name": "a", "image": "a" }], "nodeSelector": { "ignite.weave.works/test": "none" } } });
    place.create("pods", pod).await;
    place.vm("taken", json!({})).await;
    place.until("vms/taken", |vm| vm["status"]["reason"].is_string()).await;
}
