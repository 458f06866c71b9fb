use super::*;
use crate::wish::wish_of;
use serde_json::{Value, json};

fn object(spec: Value) -> VirtualMachine {
    serde_json::from_value(json!({
        "metadata": { "name": "web", "namespace": "shop", "uid": "8f1e5d2c-0000-4000-8000-000000000001",
            "labels": { "app": "web" }, "annotations": { "team": "a", "kubectl.kubernetes.io/last-applied-configuration": "{}" } },
        "spec": spec,
    }))
    .expect("a VM")
}

fn pod(spec: Value, options: &PodOptions) -> Result<Pod, Refusal> {
    let object = object(spec);
    let wish = wish_of(&object.metadata, &object.spec)?;
    pod_for(&object, &wish, options)
}

/// What most clusters have.
fn options() -> PodOptions {
    PodOptions::of_image("registry.example/ignite-node:1")
}

fn value(spec: Value, options: &PodOptions) -> Value {
    serde_json::to_value(pod(spec, options).expect("a Pod")).expect("JSON")
}

fn container<'a>(pod: &'a Value, name: &str) -> &'a Value {
    let all = ["initContainers", "containers"]
        .into_iter()
        .flat_map(|list| pod["spec"][list].as_array().into_iter().flatten());
    all.into_iter().find(|one| one["name"] == name).expect("the container")
}

/// One golden file per kind of Pod; `INSTA_UPDATE=always cargo test -p ignite-operator pod` rewrites them.
#[test]
fn pods_are_as_reviewed() {
    let redis = json!({ "image": { "oci": "redis:7" } });
    insta::assert_json_snapshot!("plain", value(redis, &options()));
    let everything = json!({
        "image": { "oci": "registry.example/shop/web:1" }, "cpus": 2, "memory": "2GB", "diskSize": "10GB",
        "restartPolicy": "always", "stopTimeoutSeconds": 60, "tty": true,
        "network": { "ports": [{ "hostPort": 80, "vmPort": 8080 }, { "hostPort": 53, "vmPort": 53, "protocol": "udp" }] },
        "storage": {
            "volumes": [
                { "name": "data", "persistentVolumeClaim": { "claimName": "data-0", "size": "2GB" } },
                { "name": "raw", "readOnly": true, "persistentVolumeClaim": { "claimName": "raw-0", "volumeMode": "Block" } },
                { "name": "conf", "configMap": { "name": "web" } },
                { "name": "key", "secret": { "secretName": "tls", "defaultMode": 256 } },
            ],
            "volumeMounts": [
                { "name": "data", "mountPath": "/var/lib/web" },
                { "name": "conf", "mountPath": "/etc/web" },
                { "name": "key", "mountPath": "/etc/tls" },
            ] },
        "nodeSelector": { "disk": "ssd" }, "tolerations": [{ "key": "vm", "operator": "Exists" }],
        "affinity": { "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [
            { "topologyKey": "kubernetes.io/hostname", "labelSelector": { "matchLabels": { "app": "web" } } }] } },
        "resources": { "requests": { "cpu": "500m" } }, "serviceAccountName": "web", "priorityClassName": "high",
        "imagePullSecrets": [{ "name": "registry" }],
    });
    let privileged = PodOptions {
        kvm: DeviceAccess::HostPath,
        tun: DeviceAccess::HostPath,
        kvm_node_label: Some("example.com/kvm".to_owned()),
        kvm_group: Some(107),
        ..options()
    };
    insta::assert_json_snapshot!("everything", value(everything, &privileged));
}

#[test]
fn a_pod_asks_for_kvm_unless_emulation_is_allowed() {
    let (node, plugin) = (DeviceAccess::HostPath, options().kvm);
    // Operator's device, operator allows, VM says; then: the resource, the node's file, whether KVM is required.
    for (kvm, operator, vm, resource, kind, required) in [
        (&plugin, false, None, true, None, true),
        (&plugin, true, None, false, None, false),
        (&plugin, true, Some(false), true, None, true),
        (&plugin, false, Some(true), false, None, false),
        (&node, false, None, false, Some("CharDevice"), true),
        (&node, false, Some(true), false, Some(""), false),
    ] {
        let options = PodOptions { kvm: kvm.clone(), allow_emulation: operator, ..options() };
        let mut spec = json!({ "image": { "oci": "redis:7" } });
        if let Some(allowed) = vm {
            spec["allowEmulation"] = json!(allowed);
        }
        let pod = value(spec, &options);
        let case = format!("{kvm:?} {operator} {vm:?}");
        let limits = &container(&pod, "vm")["resources"]["limits"];
        assert_eq!(limits.get("devices.kubevirt.io/kvm").is_some(), resource, "{case}");
        let volumes = pod["spec"]["volumes"].as_array().expect("volumes");
        let file = volumes.iter().find(|one| one["name"] == "kvm").map(|one| one["hostPath"]["type"].clone());
        assert_eq!(file, kind.map(|kind| json!(kind)), "{case}");
        for name in ["prepare", "vm"] {
            let args = container(&pod, name)["args"].as_array().expect("args");
            assert_eq!(args.contains(&json!("--require-kvm")), required, "{case}");
        }
    }
}

#[test]
fn no_container_has_more_rights_than_it_needs() {
    let pod = value(json!({ "image": { "oci": "redis:7" } }), &options());
    for (name, user, added) in [
        ("cache", 0, json!(["CHOWN", "FOWNER"])),
        ("prepare", 65532, Value::Null),
        ("network", 0, json!(["NET_ADMIN"])),
        ("vm", 65532, Value::Null),
    ] {
        let security = &container(&pod, name)["securityContext"];
        assert_eq!(security["runAsUser"], user, "{name}");
        assert_eq!(security["capabilities"]["drop"], json!(["ALL"]), "{name}");
        assert_eq!(security["capabilities"].get("add").cloned().unwrap_or_default(), added, "{name}");
        assert_eq!((&security["privileged"], &security["allowPrivilegeEscalation"]), (&json!(false), &json!(false)));
    }
    let mounts = container(&pod, "vm")["volumeMounts"].as_array().expect("mounts");
    for mount in mounts.iter().filter(|mount| mount["name"] == "cache") {
        assert_eq!(mount["readOnly"], true, "{mount}");
    }
}

#[test]
fn a_network_of_user_space_needs_no_rights_and_no_device() {
    for mode in ["user", "none"] {
        let pod = value(json!({ "image": { "oci": "redis:7" }, "network": { "mode": mode } }), &options());
        let names: Vec<_> =
            pod["spec"]["initContainers"].as_array().into_iter().flatten().map(|one| one["name"].clone()).collect();
        assert_eq!(names, ["cache", "prepare"]);
        assert!(container(&pod, "vm")["resources"]["limits"].get("devices.kubevirt.io/tun").is_none());
    }
}

#[test]
fn memory_of_huge_pages_is_asked_for_apart() {
    let pod = value(json!({ "image": { "oci": "a" }, "memory": "1GB", "hugePages": "2M" }), &options());
    for side in ["requests", "limits"] {
        let amounts = &container(&pod, "vm")["resources"][side];
        assert_eq!((&amounts["hugepages-2Mi"], &amounts["memory"]), (&json!("1024Mi"), &json!("170Mi")), "{side}");
    }
}

#[test]
fn resources_are_the_guests_with_the_vmms_overhead() {
    let with =
        |resources: Value| json!({ "image": { "oci": "a" }, "cpus": 2, "memory": "1GB", "resources": resources });
    let options = PodOptions { cpu_overcommit: 4, ..options() };
    // 1024 + 160 + 1024 / 100 MiB; 2000 / 4 + 100 and 2000 + 100 thousandths.
    for (own, requests, limits) in [
        (json!({}), ["600m", "1194Mi"], ["2100m", "1194Mi"]),
        (json!({ "requests": { "cpu": "3" } }), ["3", "1194Mi"], ["3", "1194Mi"]),
        (json!({ "limits": { "cpu": "200m", "memory": "2Gi" } }), ["200m", "1194Mi"], ["200m", "2Gi"]),
        (json!({ "requests": { "memory": "512Mi" } }), ["600m", "512Mi"], ["2100m", "1194Mi"]),
    ] {
        let pod = value(with(own.clone()), &options);
        let found = |side: &str| ["cpu", "memory"].map(|name| container(&pod, "vm")["resources"][side][name].clone());
        assert_eq!(
            (found("requests"), found("limits")),
            (requests.map(|q| json!(q)), limits.map(|q| json!(q))),
            "{own}"
        );
    }
    for (own, expected) in [
        (
            json!({ "limits": { "memory": "256Mi" } }),
            "spec.resources.limits.memory: Invalid value: \"256Mi\": the guest's 1",
        ),
        (json!({ "limits": { "cpu": "lots" } }), "spec.resources.limits.cpu: Invalid value: \"lots\""),
        (json!({ "requests": { "cpu": "3" }, "limits": { "cpu": "2" } }), "spec.resources.requests.cpu: Invalid value"),
    ] {
        let refusal = pod(with(own), &options).expect_err("refused").to_string();
        assert!(refusal.contains(expected), "{refusal}");
    }
}

#[test]
fn a_manifest_that_fits_no_annotation_is_refused() {
    let args: Vec<String> = (0..2).map(|_| "x".repeat(110 << 10)).collect();
    let refusal = pod(json!({ "image": { "oci": "a" }, "args": args }), &options()).expect_err("refused");
    assert!(refusal.to_string().contains("use a configMap"), "{refusal}");
}

#[test]
fn a_label_is_cut_where_a_name_may_be_longer() {
    let mut vm = object(json!({}));
    vm.metadata.name = Some(format!("{}.{}", "a".repeat(62), "b".repeat(60)));
    assert_eq!(labels_of(&vm)[VM_LABEL], "a".repeat(62));
}

#[test]
fn a_manifest_that_is_in_no_cluster_owns_nothing() {
    let mut vm = object(json!({ "image": { "oci": "redis:7" } }));
    vm.metadata.uid = None;
    let wish = wish_of(&vm.metadata, &vm.spec).expect("a wish");
    let pod = pod_for(&vm, &wish, &options()).expect("a Pod");
    assert_eq!(pod.metadata.owner_references, None);
}
