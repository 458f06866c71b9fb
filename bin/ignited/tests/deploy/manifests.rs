//! The plain manifests, as `kubectl apply -k` takes them.

use crate::tools::{self, DEPLOY, Tools, documents, object, read, texts};
use k8s_openapi::api::{apps, core, rbac};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::process::Command;

/// Versions whose schemas the linter has, from the oldest to the newest.
pub const VERSIONS: [&str; 3] = ["1.25", "1.31", "1.37"];

/// What is given and is not kept by the type that should know it: fields that do not exist, or are elsewhere.
pub fn unknown(object: &Value) -> Vec<String> {
    let kept = match object["kind"].as_str().unwrap_or_default() {
        "Namespace" => through::<core::v1::Namespace>(object),
        "ServiceAccount" => through::<core::v1::ServiceAccount>(object),
        "ConfigMap" => through::<core::v1::ConfigMap>(object),
        "Secret" => through::<core::v1::Secret>(object),
        "Service" => through::<core::v1::Service>(object),
        "PersistentVolumeClaim" => through::<core::v1::PersistentVolumeClaim>(object),
        "Deployment" => through::<apps::v1::Deployment>(object),
        "Role" => through::<rbac::v1::Role>(object),
        "RoleBinding" => through::<rbac::v1::RoleBinding>(object),
        "ClusterRole" => through::<rbac::v1::ClusterRole>(object),
        "ClusterRoleBinding" => through::<rbac::v1::ClusterRoleBinding>(object),
        "CustomResourceDefinition" => through::<CustomResourceDefinition>(object),
        // Ours are asked of the program itself.
        "VM" | "VMSet" => Ok(object.clone()),
        kind => Err(format!("nobody knows the kind {kind:?}")),
    };
    match kept {
        Ok(kept) => lost("", object, &kept),
        Err(why) => vec![why],
    }
}

fn through<T: Serialize + DeserializeOwned>(object: &Value) -> Result<Value, String> {
    let typed: T = serde_json::from_value(object.clone()).map_err(|error| error.to_string())?;
    serde_json::to_value(typed).map_err(|error| error.to_string())
}

fn lost(path: &str, given: &Value, kept: &Value) -> Vec<String> {
    match (given, kept) {
        (Value::Object(given), Value::Object(kept)) => given
            .iter()
            .flat_map(|(key, value)| lost(&format!("{path}.{key}"), value, kept.get(key).unwrap_or(&Value::Null)))
            .collect(),
        (Value::Array(given), Value::Array(kept)) if given.len() == kept.len() => {
            let pairs = given.iter().zip(kept).enumerate();
            pairs.flat_map(|(at, (given, kept))| lost(&format!("{path}[{at}]"), given, kept)).collect()
        }
        (given, kept) if given == kept || is_same_number(given, kept) => Vec::new(),
        (given, _) => vec![format!("{path}: {given}")],
    }
}

/// Bounds in schemas are fractions to their type.
fn is_same_number(given: &Value, kept: &Value) -> bool {
    given.as_f64().is_some_and(|number| Some(number) == kept.as_f64())
}

#[test]
fn a_field_that_does_not_exist_is_found() {
    let misspelt = json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "a" },
        "spec": { "selektor": { "app": "a" } } });
    assert_eq!(unknown(&misspelt), ["\u{2e}spec.selektor: {\"app\":\"a\"}"]);
    assert!(!unknown(&json!({ "apiVersion": "v1", "kind": "Sevice" })).is_empty());
}

#[test]
fn every_manifest_is_what_kubernetes_knows() {
    let mut count = 0;
    for path in tools::files(".yaml") {
        let shown = path.display().to_string();
        if shown.contains("/helm/") || shown.ends_with("kustomization.yaml") {
            continue;
        }
        for one in documents(&read(&path)) {
            assert_eq!(unknown(&one), Vec::<String>::new(), "{shown}");
            count += 1;
        }
    }
    assert!(count >= 20, "only {count} objects were found");
}

#[test]
fn every_file_of_a_directory_is_in_its_kustomization() {
    for kustomization in tools::files("kustomization.yaml") {
        let directory = kustomization.parent().expect("a directory");
        let resources = texts(&documents(&read(&kustomization))[0]["resources"]);
        let mut below: Vec<String> = Vec::new();
        for path in tools::files(".yaml") {
            let Ok(path) = path.strip_prefix(directory) else { continue };
            let first = path.components().next().expect("a name").as_os_str().to_string_lossy().into_owned();
            let is_of_another = directory.join(&first).join("kustomization.yaml").exists();
            if !is_of_another && !path.ends_with("kustomization.yaml") {
                below.push(path.to_string_lossy().into_owned());
            }
        }
        for path in below {
            assert!(resources.contains(&path), "{}: {path} is not in it", kustomization.display());
        }
    }
}

#[test]
fn every_sample_becomes_a_pod() {
    let mut count = 0;
    for path in tools::files(".yaml").into_iter().filter(|path| path.to_string_lossy().contains("/samples/")) {
        for one in documents(&read(&path)) {
            let vm = match one["kind"].as_str() {
                Some("VM") => one,
                Some("VMSet") => json!({ "apiVersion": one["apiVersion"], "kind": "VM",
                    "metadata": { "name": "of-a-set" }, "spec": one["spec"]["template"]["spec"] }),
                _ => continue,
            };
            render(&vm, &[]);
            count += 1;
        }
    }
    assert_eq!(count, 3);
}

#[test]
fn versions_are_the_programs() {
    let version = env!("CARGO_PKG_VERSION");
    for file in
        ["kubernetes/kustomization.yaml", "kubernetes/operator/deployment.yaml", "overlays/example/kustomization.yaml"]
    {
        let text = read(format!("{DEPLOY}/{file}"));
        let tags: Vec<&str> = text.lines().filter(|line| is_of_an_image(line)).collect();
        assert!(!tags.is_empty() && tags.iter().all(|tag| tag.ends_with(version)), "{file}: {tags:?}, not {version}");
    }
    let chart = &documents(&read(format!("{DEPLOY}/helm/ignite/Chart.yaml")))[0];
    assert_eq!((&chart["version"], &chart["appVersion"]), (&json!(version), &json!(version)));
}

fn is_of_an_image(line: &str) -> bool {
    ["image: ", "IGNITE_NODE_IMAGE=", "newTag: "].iter().any(|part| line.contains(part))
}

#[test]
fn the_linter_finds_nothing_in_what_kustomize_makes() {
    let Some(tools) = Tools::of_environment() else { return };
    for directory in ["kubernetes", "overlays/example", "kubernetes/samples"] {
        let mut objects = tools.kustomize(directory);
        for one in &objects {
            assert_eq!(unknown(one), Vec::<String>::new(), "{directory}");
        }
        objects.retain(|one| !one["apiVersion"].as_str().is_some_and(|version| version.starts_with("ignite.")));
        tools.lint(directory, &objects, &VERSIONS);
    }
}

#[test]
fn the_linter_finds_nothing_in_pods() {
    let Some(tools) = Tools::of_environment() else { return };
    let vm = json!({ "apiVersion": "ignite.weave.works/v1alpha4", "kind": "VM", "metadata": { "name": "web" }, "spec": {
        "image": { "oci": "registry.example/web:1" }, "restartPolicy": "always",
        "network": { "ports": [{ "hostPort": 80, "vmPort": 8080 }] },
        "storage": { "volumes": [
            { "name": "data", "persistentVolumeClaim": { "claimName": "data", "size": "2GB" } },
            { "name": "raw", "persistentVolumeClaim": { "claimName": "raw", "volumeMode": "Block" } },
            { "name": "key", "secret": { "secretName": "tls", "defaultMode": 256 } } ],
            "volumeMounts": [{ "name": "key", "mountPath": "/etc/tls" }] },
        "tolerations": [{ "key": "vm", "operator": "Exists" }], "imagePullSecrets": [{ "name": "registry" }] } });
    let pods = [render(&vm, &[]), render(&vm, &["--kvm=host-path", "--tun=host-path", "--kvm-group=107"])];
    tools.lint("Pods", &pods, &VERSIONS);
}

#[test]
fn the_overlay_changes_what_it_says() {
    let Some(tools) = Tools::of_environment() else { return };
    let objects = tools.kustomize("overlays/example");
    let deployment = object(&objects, "Deployment", "ignite-operator");
    assert_eq!(deployment["spec"]["replicas"], 2);
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    assert!(container["image"].as_str().is_some_and(|image| image.starts_with("registry.example/ignite-operator:")));
    assert!(texts(&container["args"]).contains(&"--allow-emulation".to_owned()));
    let settings = container["envFrom"][0]["configMapRef"]["name"].as_str().expect("a ConfigMap");
    let image = object(&objects, "ConfigMap", settings)["data"]["IGNITE_NODE_IMAGE"].as_str().expect("a text");
    assert!(image.starts_with("registry.example/ignite-node:"), "{image}");
    takes_its_flags("overlays/example", deployment);
}

#[test]
fn the_operator_takes_the_flags_of_the_deployment() {
    takes_its_flags("deployment.yaml", &documents(&read(format!("{DEPLOY}/kubernetes/operator/deployment.yaml")))[0]);
}

/// Flags are read before a cluster is looked for, of which there is none.
pub fn takes_its_flags(what: &str, deployment: &Value) {
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(texts(&container["command"]), ["/usr/bin/ignited"]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_ignited"));
    command.args(texts(&container["args"])).env_clear().env("IGNITE_NODE_IMAGE", "registry.example/node:1");
    let output = command.env("KUBECONFIG", "/nonexistent/kubeconfig").output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("no cluster is known"), "{what}: {said}");
}

/// `ignited operator render`.
fn render(vm: &Value, flags: &[&str]) -> Value {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("vm.json");
    std::fs::write(&file, vm.to_string()).expect("a file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_ignited"));
    command.args(["operator", "render", "--node-image=registry.example/node:1", "-f"]).arg(&file).args(flags);
    let output = command.output().expect("it runs");
    assert!(output.status.success(), "{vm}: {}", String::from_utf8_lossy(&output.stderr));
    documents(&String::from_utf8_lossy(&output.stdout)).remove(0)
}
