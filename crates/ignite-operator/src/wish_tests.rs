use super::*;

fn wish(spec: Value) -> Result<Wish, Refusal> {
    let metadata = ObjectMeta {
        name: Some("web".to_owned()),
        labels: Some(BTreeMap::from([("tier".to_owned(), "front".to_owned())])),
        ..ObjectMeta::default()
    };
    wish_of(&metadata, spec.as_object().expect("an object"))
}

fn spec(more: Value) -> Value {
    let mut spec = json!({ "image": { "oci": "redis:7" } });
    for (name, value) in more.as_object().into_iter().flatten() {
        spec[name] = value.clone();
    }
    spec
}

#[test]
fn the_manifest_of_apply_is_the_manifest_of_kubernetes() {
    let wish = wish(spec(json!({ "cpus": 2, "memory": "1GB", "nodeSelector": { "kvm": "yes" },
        "network": { "ports": [{ "hostPort": 80, "vmPort": 8080 }] } })))
    .unwrap();
    assert_eq!((wish.vm.spec.cpus, wish.vm.spec.memory), (2, Size::gib(1)));
    assert_eq!(wish.vm.metadata.labels["tier"], "front");
    assert_eq!(wish.vm.spec.network.mode.as_deref(), Some("pod"));
    assert_eq!(wish.pod.node_selector.unwrap()["kvm"], "yes");
}

#[test]
fn volumes_of_kubernetes_get_their_places_in_the_pod() {
    let wish = wish(spec(json!({ "storage": {
        "volumes": [
            { "name": "data", "persistentVolumeClaim": { "claimName": "data-0", "size": "2GB" } },
            { "name": "raw", "readOnly": true, "persistentVolumeClaim": { "claimName": "raw-0", "volumeMode": "Block" } },
            { "name": "conf", "configMap": { "name": "web", "items": [{ "key": "a", "path": "b" }] } },
            { "name": "key", "secret": { "secretName": "tls", "defaultMode": 256 } },
        ],
        "volumeMounts": [
            { "name": "data", "mountPath": "/var/lib/web" },
            { "name": "conf", "mountPath": "/etc/web" },
            { "name": "key", "mountPath": "/etc/tls" },
        ] } })))
    .unwrap();
    let disks: Vec<_> = wish.vm.spec.storage.volumes.iter().map(|one| one.host_path().unwrap()).collect();
    assert_eq!(disks, ["/ignite/volumes/data/disk.img", "/ignite/devices/raw"]);
    assert_eq!(wish.vm.spec.storage.volume_mounts.len(), 1);
    assert_eq!(wish.files, [("conf".to_owned(), "/etc/web".to_owned()), ("key".to_owned(), "/etc/tls".to_owned())]);
    assert!(
        matches!(&wish.volumes[3].kind, VolumeKind::Secret(files) if files.name == "tls" && files.default_mode == Some(256))
    );
}

#[test]
fn what_is_wrong_is_said_with_its_field() {
    for (more, expected) in [
        (json!({ "image": {} }), "spec.image.oci: Required value"),
        (json!({ "cpus": 99 }), "spec.cpus: Invalid value: 99"),
        (json!({ "cpus": "many" }), "spec.cpus: invalid type"),
        (json!({ "cpuz": 1 }), "spec.cpuz: unknown field"),
        (json!({ "nodeSelector": 3 }), "spec.nodeSelector: invalid type"),
        (json!({ "running": "maybe" }), "spec.running: invalid type"),
        (json!({ "stdin": true }), "spec.stdin: Forbidden"),
        (json!({ "cpuTemplate": "/etc/template.json" }), "spec.cpuTemplate: Forbidden"),
        (json!({ "copyFiles": [{ "hostPath": "/etc/shadow", "vmPath": "/x" }] }), "spec.copyFiles: Forbidden"),
        (json!({ "env": [{ "name": "A", "valueFrom": { "file": "a" } }] }), "spec.env and spec.files: Forbidden"),
        (json!({ "ssh": "/root/.ssh/id.pub" }), "spec.ssh: Forbidden"),
        (json!({ "image": { "oci": "oci:/var/lib/images/x" } }), "spec.image.oci: Forbidden"),
        (json!({ "network": { "mode": "cni:lan" } }), "spec.network.mode: Forbidden"),
        (json!({ "network": { "ips": ["10.0.0.9"] } }), "spec.network.ips: Forbidden"),
        (
            json!({ "storage": { "volumes": [{ "name": "a", "blockDevice": { "path": "/dev/sda" } }] } }),
            "spec.storage.volumes[0].persistentVolumeClaim: Required value",
        ),
        (
            json!({ "storage": { "volumes": [{ "name": "a", "file": { "path": "/x" }, "secret": { "secretName": "s" } }] } }),
            "spec.storage.volumes[0].file: not together with secret",
        ),
        (
            json!({ "storage": { "volumes": [{ "name": "a", "persistentVolumeClaim": { "claimName": "c" } }] } }),
            "spec.storage.volumes[0].persistentVolumeClaim.size: Required value",
        ),
        (
            json!({ "storage": { "volumes": [{ "name": "a", "configMap": { "name": "c", "nope": 1 } }] } }),
            "spec.storage.volumes[0].configMap.nope: unknown field",
        ),
        (
            json!({ "storage": { "volumes": [{ "name": "a", "configMap": { "name": "c" } }],
                "volumeMounts": [{ "name": "a", "mountPath": "/etc/../../x" }] } }),
            "must be an absolute path",
        ),
        (json!({ "storage": { "volumeMounts": [{ "name": "a", "mountPath": "/x" }] } }), "Not found"),
    ] {
        let refusal = wish(spec(more.clone())).expect_err("refused").to_string();
        assert!(refusal.contains(expected), "{more}: {refusal}");
    }
}

#[test]
fn only_what_takes_a_new_pod_changes_the_hash() {
    let hash = |more: Value| wish(spec(more)).unwrap().hash();
    let same = hash(json!({}));
    assert_eq!(same, hash(json!({ "running": false })), "a stop is no other Pod");
    assert_eq!(same, hash(json!({ "cpus": 1, "memory": 536_870_912, "env": null, "storage": {} })));
    for more in [
        json!({ "cpus": 2 }),
        json!({ "env": [{ "name": "A", "value": "1" }] }),
        json!({ "nodeSelector": { "a": "b" } }),
        json!({ "restartPolicy": "always" }),
        json!({ "storage": { "volumes": [{ "name": "c", "configMap": { "name": "c" } }] } }),
    ] {
        assert_ne!(same, hash(more.clone()), "{more}");
    }
    let mut labelled = wish(spec(json!({}))).unwrap();
    labelled.vm.metadata.labels.insert("more".to_owned(), "yes".to_owned());
    assert_eq!(labelled.hash(), same);
}

#[test]
fn a_bound_of_retries_is_the_supervisors_and_the_rest_is_kubernetes() {
    for (policy, in_pod, inside) in [
        ("no", "Never", "no"),
        ("on-failure", "OnFailure", "no"),
        ("on-failure:3", "Never", "on-failure:3"),
        ("always", "Always", "no"),
        ("unless-stopped", "Always", "no"),
    ] {
        let wish = wish(spec(json!({ "restartPolicy": policy }))).unwrap();
        assert_eq!(
            (wish.restarts_in_pod(), wish.vm.spec.restart_policy.to_string().as_str()),
            (in_pod, inside),
            "{policy}"
        );
    }
}

proptest::proptest! {
    #[test]
    fn no_spec_makes_it_panic(text in "[a-z0-9:/{}\\[\\]\" ,]{0,80}") {
        let value = serde_json::from_str(&text).unwrap_or(json!(text));
        for field in ["image", "storage", "network", "nodeSelector", "env"] {
            let _ = wish(spec(json!({ field: value })));
        }
        let _ = wish(spec(json!({ "storage": { "volumes": [value.clone(), { "name": value, "secret": value }],
            "volumeMounts": [{ "name": value }] } })));
    }
}
