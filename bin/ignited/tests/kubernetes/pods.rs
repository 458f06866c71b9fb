//! The Pods that run VMs, as the API server takes them.

use crate::cluster::Cluster;
use serde_json::{Value, json};
use std::io::Write;
use std::process::{Command, Stdio};

/// Proves that the server takes what `ignited operator render` prints, and keeps every field of it as it was meant.
pub async fn what_is_rendered_is_taken_by_the_server_and_kept(cluster: &Cluster) {
    let namespace = cluster.namespace("pods").await;
    let account = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "shop" } });
    cluster.rest().create(&format!("api/v1/namespaces/{namespace}/serviceaccounts"), &account).await.unwrap();
    let plain = json!({ "image": { "oci": "redis:7" } });
    let everything = json!({
        "image": { "oci": "registry.example/shop/web:1" }, "cpus": 2, "memory": "2GB", "restartPolicy": "always", "tty": true,
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
        "topologySpreadConstraints": [{ "maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": { "matchLabels": { "app": "web" } } }],
        "resources": { "requests": { "cpu": "500m" } }, "serviceAccountName": "shop",
        "imagePullSecrets": [{ "name": "registry" }],
    });
    let privileged = ["--kvm=host-path", "--tun=host-path", "--kvm-node-label=example.com/kvm", "--kvm-group=107"];
    for (name, spec, flags) in [("plain", plain, &[][..]), ("all", everything, &privileged[..])] {
        let vm = json!({ "apiVersion": "ignite.weave.works/v1alpha4", "kind": "VM",
            "metadata": { "name": name, "namespace": namespace, "labels": { "app": "web" } }, "spec": spec });
        let said = cluster.kubectl(&["create", "--validate=true", "-f", "-"], &render(&vm, flags));
        assert!(said.succeeded, "{name}: {}", said.text());
        let sent = cluster.kubectl(&["create", "--dry-run=client", "-o", "json", "-f", "-"], &render(&vm, flags));
        let sent: Value = serde_json::from_str(&sent.stdout).expect("the Pod as JSON");
        let kept = cluster.rest().get(&format!("api/v1/namespaces/{namespace}/pods/{name}")).await.unwrap();
        assert_eq!(lost("", &sent, &kept), Vec::<String>::new(), "{name}");
    }
}

/// `ignited operator render`.
fn render(vm: &Value, flags: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ignited"));
    command.args(["operator", "render", "--node-image=registry.example/ignite-node:1", "-f", "-"]).args(flags);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("ignited");
    child.stdin.take().expect("a pipe").write_all(vm.to_string().as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("ignited ends");
    assert!(output.status.success(), "ignited operator render: {}", output.status);
    String::from_utf8(output.stdout).expect("text")
}

/// What was sent and is not kept as it was: the server adds to lists at their ends and fills in fields.
fn lost(path: &str, sent: &Value, kept: &Value) -> Vec<String> {
    match (sent, kept) {
        (Value::Object(sent), Value::Object(kept)) => sent
            .iter()
            .flat_map(|(key, value)| lost(&format!("{path}.{key}"), value, kept.get(key).unwrap_or(&Value::Null)))
            .collect(),
        (Value::Array(sent), Value::Array(kept)) => sent
            .iter()
            .enumerate()
            .flat_map(|(at, value)| lost(&format!("{path}[{at}]"), value, kept.get(at).unwrap_or(&Value::Null)))
            .collect(),
        (sent, kept) if sent == kept || amount(sent).is_some_and(|amount_sent| Some(amount_sent) == amount(kept)) => {
            Vec::new()
        }
        (sent, kept) => vec![format!("{path}: {sent} was sent, {kept} is kept")],
    }
}

/// Mebibytes, which the server writes in larger units where they are whole.
fn amount(value: &Value) -> Option<u64> {
    let text = value.as_str()?;
    let (number, factor) = match (text.strip_suffix("Mi"), text.strip_suffix("Gi")) {
        (Some(number), _) => (number, 1),
        (_, Some(number)) => (number, 1024),
        _ => return None,
    };
    Some(number.parse::<u64>().ok()? * factor)
}
