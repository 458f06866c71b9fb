//! The chart, as Helm renders it.

use crate::manifests::{VERSIONS, takes_its_flags, unknown};
use crate::tools::{CHART, DEPLOY, Tools, documents, object, read, texts};
use serde_json::{Value, json};

/// Values that differ from the defaults in everything.
const EVERYTHING: [&str; 25] = [
    "operator.image.repository=registry.example/operator",
    "operator.image.tag=v7",
    "operator.image.pullPolicy=Always",
    "operator.replicas=3",
    "operator.watchNamespace=vms",
    "operator.port=9090",
    "operator.extraArgs={--parallel=4,--force-delete-after=300}",
    "operator.podAnnotations.team=a",
    "operator.nodeSelector.disk=ssd",
    "operator.priorityClassName=system-cluster-critical",
    "node.image.repository=registry.example/node",
    "node.image.tag=sha256:0123",
    "node.image.pullPolicy=Never",
    "vms.kvm=host-path",
    "vms.tun=host-path",
    "vms.kvmNodeLabel=example.com/kvm",
    "vms.kvmGroup=107",
    "vms.allowEmulation=true",
    "vms.nodeCache=",
    "vms.user=1000",
    "vms.overheadMemory=200",
    "vms.cpuOvercommit=4",
    "imagePullSecrets[0].name=registry",
    "crds.keep=false",
    "metrics.service=false",
];

#[test]
fn the_custom_resources_are_the_generated_file_itself() {
    let generated = format!("{DEPLOY}/kubernetes/crds/crds.yaml");
    let charts = format!("{CHART}/files/crds.yaml");
    let found = std::fs::canonicalize(&charts).expect("a link that leads somewhere");
    assert_eq!(found, std::fs::canonicalize(&generated).expect("a file"), "a copy goes stale");
    let Some(tools) = Tools::of_environment() else { return };
    let mut rendered = tools.chart(&[]).expect("it renders");
    rendered.retain(|one| one["kind"] == "CustomResourceDefinition");
    for one in &mut rendered {
        let annotations = one["metadata"].as_object_mut().expect("metadata").remove("annotations");
        assert_eq!(annotations, Some(json!({ "helm.sh/resource-policy": "keep" })));
    }
    assert_eq!(rendered, documents(&read(generated)));
    let gone = tools.chart(&["crds.keep=false"]).expect("it renders");
    assert_eq!(
        object(&gone, "CustomResourceDefinition", "vms.ignite.weave.works")["metadata"]["annotations"],
        Value::Null
    );
    let without = tools.chart(&["crds.install=false"]).expect("it renders");
    assert!(without.iter().all(|one| one["kind"] != "CustomResourceDefinition"));
}

#[test]
fn helm_and_the_linter_find_nothing() {
    let Some(tools) = Tools::of_environment() else { return };
    let said = tools.call("helm", &["lint", "--strict", CHART], "").unwrap_or_else(|why| panic!("{why}"));
    assert!(said.contains("0 chart(s) failed"), "{said}");
    for values in [&[][..], &EVERYTHING, &["userRoles=false"]] {
        let objects = tools.chart(values).unwrap_or_else(|why| panic!("{why}"));
        for one in &objects {
            assert_eq!(unknown(one), Vec::<String>::new(), "{values:?}");
        }
        tools.lint("the chart", &objects, &VERSIONS);
    }
}

#[test]
fn the_rights_are_those_of_the_manifests() {
    let Some(tools) = Tools::of_environment() else { return };
    let plain = tools.kustomize("kubernetes");
    let (chart, one) = (tools.chart(&[]).unwrap(), tools.chart(&["operator.watchNamespace=vms"]).unwrap());
    let wanted = &object(&plain, "ClusterRole", "ignite-operator")["rules"];
    assert_eq!(&object(&chart, "ClusterRole", "ignite-operator")["rules"], wanted);
    let role = object(&one, "Role", "ignite-operator");
    assert_eq!((&role["rules"], &role["metadata"]["namespace"]), (wanted, &json!("vms")));
    let binding = object(&one, "RoleBinding", "ignite-operator");
    assert_eq!((&binding["metadata"]["namespace"], &binding["roleRef"]["kind"]), (&json!("vms"), &json!("Role")));
    assert_eq!(binding["subjects"][0]["namespace"], "ignite-system", "the account is where the operator is");
    let has = |kind: &str, name: &str| one.iter().any(|one| one["kind"] == kind && one["metadata"]["name"] == name);
    assert!(!has("ClusterRole", "ignite-operator") && !has("ClusterRoleBinding", "ignite-operator"));
    for (kind, name) in
        [("Role", "ignite-operator-lease"), ("ClusterRole", "ignite-edit"), ("ClusterRole", "ignite-view")]
    {
        assert_eq!(object(&chart, kind, name)["rules"], object(&plain, kind, name)["rules"], "{name}");
    }
    for name in ["ignite-edit", "ignite-view"] {
        let aggregated = |objects: &[Value]| {
            let labels = object(objects, "ClusterRole", name)["metadata"]["labels"].clone();
            labels.as_object().into_iter().flatten().filter(|(key, _)| key.starts_with("rbac.")).count()
        };
        assert_eq!(aggregated(&chart), aggregated(&plain), "{name}");
    }
}

#[test]
fn the_operator_is_as_confined_as_that_of_the_manifests() {
    let Some(tools) = Tools::of_environment() else { return };
    let (plain, chart) = (tools.kustomize("kubernetes"), tools.chart(&[]).unwrap());
    let pod_of =
        |objects: &[Value]| object(objects, "Deployment", "ignite-operator")["spec"]["template"]["spec"].clone();
    let (plain, chart) = (pod_of(&plain), pod_of(&chart));
    assert_eq!(plain["securityContext"], chart["securityContext"]);
    for field in ["securityContext", "livenessProbe", "readinessProbe", "ports", "resources"] {
        assert_eq!(plain["containers"][0][field], chart["containers"][0][field], "{field}");
    }
    let security = &plain["containers"][0]["securityContext"];
    assert_eq!(
        (&security["allowPrivilegeEscalation"], &security["readOnlyRootFilesystem"], &security["capabilities"]["drop"]),
        (&json!(false), &json!(true), &json!(["ALL"]))
    );
}

#[test]
fn every_value_arrives() {
    let Some(tools) = Tools::of_environment() else { return };
    takes_its_flags("the chart", object(&tools.chart(&[]).unwrap(), "Deployment", "ignite-operator"));
    let objects = tools.chart(&EVERYTHING).unwrap();
    let deployment = object(&objects, "Deployment", "ignite-operator");
    takes_its_flags("the chart with everything", deployment);
    let template = &deployment["spec"]["template"];
    let (pod, container) = (&template["spec"], &template["spec"]["containers"][0]);
    assert_eq!(
        texts(&container["args"])[2..],
        [
            "--listen=0.0.0.0:9090",
            "--namespace=vms",
            "--node-image-pull-policy=Never",
            "--kvm=host-path",
            "--tun=host-path",
            "--kvm-node-label=example.com/kvm",
            "--kvm-group=107",
            "--allow-emulation",
            "--node-cache=",
            "--vmm-user=1000",
            "--overhead-memory=200",
            "--cpu-overcommit=4",
            "--parallel=4",
            "--force-delete-after=300",
        ]
    );
    for (found, expected) in [
        (&deployment["spec"]["replicas"], json!(3)),
        (&container["image"], json!("registry.example/operator:v7")),
        (&container["imagePullPolicy"], json!("Always")),
        (&container["env"][0]["value"], json!("registry.example/node@sha256:0123")),
        (&container["ports"][0]["containerPort"], json!(9090)),
        (&template["metadata"]["annotations"]["team"], json!("a")),
        (&pod["nodeSelector"], json!({ "disk": "ssd" })),
        (&pod["priorityClassName"], json!("system-cluster-critical")),
        (&pod["imagePullSecrets"], json!([{ "name": "registry" }])),
    ] {
        assert_eq!(*found, expected);
    }
    assert!(objects.iter().all(|one| one["kind"] != "Service"), "metrics.service=false");
    let without = tools.chart(&["userRoles=false"]).unwrap();
    assert!(without.iter().all(|one| one["metadata"]["name"] != "ignite-edit"));
}

#[test]
fn the_schema_refuses_what_is_no_value() {
    let Some(tools) = Tools::of_environment() else { return };
    for (value, field) in [
        ("operator.replica=2", "replica"),
        ("operator.replicas=many", "/operator/replicas"),
        ("operator.watchNamespace=Not_a_name", "/operator/watchNamespace"),
        ("node.image.pullPolicy=Sometimes", "/node/image/pullPolicy"),
        ("vms.nodeCache=relative", "/vms/nodeCache"),
        ("vms.cpuOvercommit=0", "/vms/cpuOvercommit"),
        ("vms.allowEmulation=perhaps", "/vms/allowEmulation"),
        ("crd.install=false", "crd"),
    ] {
        let refused = tools.chart(&[value]).expect_err(value);
        assert!(refused.contains(field), "{value}: {refused}");
    }
}

#[test]
fn two_releases_do_not_meet_and_long_names_fit() {
    let Some(tools) = Tools::of_environment() else { return };
    // As long as Helm allows.
    let long = "a-release-whose-name-is-long".repeat(2)[..53].to_owned();
    for release in ["one", &long] {
        let text = tools.call("helm", &["template", release, CHART], "").unwrap();
        for one in documents(&text) {
            let name = one["metadata"]["name"].as_str().expect("a name").to_owned();
            let is_shared = one["kind"] == "CustomResourceDefinition";
            assert!(is_shared || (name.starts_with(&release[..3]) && name.len() <= 63), "{name}");
        }
    }
}
