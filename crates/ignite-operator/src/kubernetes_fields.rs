//! Structural schemas of the fields that only Kubernetes knows, under the names and meanings of its Pod.

use serde_json::{Value, json};

/// Beside the fields of Ignite's own `spec`.
pub(crate) fn pod_fields() -> Value {
    let text = |description: &str| json!({ "type": "string", "description": description });
    let quantities = json!({ "type": "object", "additionalProperties": { "x-kubernetes-int-or-string": true } });
    json!({
        "nodeSelector": {
            "type": "object", "additionalProperties": { "type": "string" },
            "description": "Labels a node must have to run the VM.",
        },
        "tolerations": {
            "type": "array", "description": "Taints of nodes that are tolerated.",
            "items": { "type": "object", "properties": {
                "key": { "type": "string" },
                "operator": { "type": "string", "enum": ["Exists", "Equal"] },
                "value": { "type": "string" },
                "effect": { "type": "string", "enum": ["NoSchedule", "PreferNoSchedule", "NoExecute"] },
                "tolerationSeconds": { "type": "integer", "format": "int64" },
            } },
        },
        "affinity": {
            "type": "object", "x-kubernetes-preserve-unknown-fields": true,
            "description": "Affinity to nodes and Pods, as a Pod has it.",
        },
        "topologySpreadConstraints": {
            "type": "array", "description": "How Pods are spread, as a Pod has it.",
            "items": { "type": "object", "x-kubernetes-preserve-unknown-fields": true },
        },
        "resources": {
            "type": "object",
            "description": "Replaces what is computed from cpus and memory with the VMM's overhead, name by name.",
            "properties": { "requests": quantities, "limits": quantities },
        },
        "serviceAccountName": text("Service account of the Pod; the guest never sees its token."),
        "imagePullSecrets": {
            "type": "array", "description": "Secrets with credentials of registries, for the guest's image.",
            "items": { "type": "object", "required": ["name"], "properties": { "name": { "type": "string" } } },
        },
        "priorityClassName": text("Priority class of the Pod."),
        "running": {
            "type": "boolean",
            "description": "false: its guest is stopped, and its Pod goes; the object stays. Default: true.",
        },
        "allowEmulation": {
            "type": "boolean",
            "description": "It may run in software, slowly, where there is no usable KVM; else its Pod stays pending there.",
        },
    })
}

/// Beside the sources of a volume that Ignite has itself.
pub(crate) fn volume_sources() -> Value {
    let files = |name: &str| {
        json!({ "type": "object", "required": [name], "properties": {
            name: { "type": "string" },
            "items": { "type": "array", "items": { "type": "object", "required": ["key", "path"], "properties": {
                "key": { "type": "string" }, "path": { "type": "string" }, "mode": { "type": "integer", "format": "int32" },
            } } },
            "defaultMode": { "type": "integer", "format": "int32" },
            "optional": { "type": "boolean" },
        } })
    };
    let (mut config_map, mut secret) = (files("name"), files("secretName"));
    config_map["description"] = json!("Files that the guest finds at its mount, as they are when it starts.");
    secret["description"] = config_map["description"].clone();
    json!({
        "persistentVolumeClaim": {
            "type": "object", "required": ["claimName"],
            "description": "A disk of the VM: the claim's device, or a file in the claim's file system.",
            "properties": {
                "claimName": { "type": "string" },
                "volumeMode": { "type": "string", "enum": ["Filesystem", "Block"], "description": "As the claim has it." },
                "size": {
                    "x-kubernetes-int-or-string": true,
                    "description": "Filesystem: size of the disk that is made in it at the first start.",
                },
                "format": { "type": "string", "enum": ["ext4"], "description": "Filesystem that a new disk gets." },
            },
        },
        "configMap": config_map,
        "secret": secret,
    })
}
