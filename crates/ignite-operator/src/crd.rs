//! The custom resources `vms` and `vmsets`: their schemas from Ignite's own types, with what Kubernetes adds.

use crate::kubernetes_fields::{pod_fields, volume_sources};
use crate::objects::{GROUP, VERSION};
use crate::status::{SetStatus, VmStatus};
use crate::structural::{StructuralError, structural};
use ignite_api::schema::schema_of;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

/// The custom resources, in the order in which they are applied.
pub fn custom_resources() -> Result<Vec<Value>, StructuralError> {
    let spec = vm_spec()?;
    let condition = |kind: &str| format!(".status.conditions[?(@.type=='{kind}')].status");
    let vm = definition(
        ["VM", "VMList", "vms", "vm"],
        json!({ "spec": spec, "status": status_of::<VmStatus>()? }),
        json!({ "status": {} }),
        json!([
            column("Phase", "string", ".status.phase", 0),
            column("Ready", "string", &condition("Ready"), 0),
            column("IP", "string", ".status.ipAddresses[0]", 0),
            column("Node", "string", ".status.nodeName", 0),
            column("CPUs", "integer", ".spec.cpus", 0),
            column("Memory", "string", ".spec.memory", 0),
            column("Image", "string", ".spec.image.oci", 1),
            column("Restarts", "integer", ".status.restarts", 1),
            column("Exit", "integer", ".status.exitCode", 1),
            column("Reason", "string", ".status.reason", 1),
            column("Age", "date", ".metadata.creationTimestamp", 0),
        ]),
    );
    let set = definition(
        ["VMSet", "VMSetList", "vmsets", "vmset"],
        json!({ "spec": set_spec(spec), "status": status_of::<SetStatus>()? }),
        json!({ "status": {}, "scale": {
            "specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        } }),
        json!([
            column("Desired", "integer", ".spec.replicas", 0),
            column("Current", "integer", ".status.replicas", 0),
            column("Ready", "integer", ".status.readyReplicas", 0),
            column("Up-to-date", "integer", ".status.updatedReplicas", 0),
            column("Image", "string", ".spec.template.spec.image.oci", 1),
            column("Age", "date", ".metadata.creationTimestamp", 0),
        ]),
    );
    Ok(vec![vm, set])
}

/// Objects as one stream of YAML documents.
pub fn to_yaml(objects: &[Value]) -> String {
    let documents = objects.iter().map(|object| serde_saphyr::to_string(object).unwrap_or_default());
    documents.map(|text| format!("---\n{}\n", text.trim_end())).collect()
}

fn definition([kind, list, plural, singular]: [&str; 4], fields: Value, subresources: Value, columns: Value) -> Value {
    let mut properties = json!({
        "apiVersion": { "type": "string" },
        "kind": { "type": "string" },
        "metadata": { "type": "object" },
    });
    for (name, schema) in fields.as_object().into_iter().flatten() {
        properties[name] = schema.clone();
    }
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": { "name": format!("{plural}.{GROUP}"), "labels": { "app.kubernetes.io/part-of": "ignite" } },
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": { "kind": kind, "listKind": list, "plural": plural, "singular": singular, "categories": ["all", "ignite"] },
            "versions": [{
                "name": VERSION,
                "served": true,
                "storage": true,
                "subresources": subresources,
                "additionalPrinterColumns": columns,
                "schema": { "openAPIV3Schema": { "type": "object", "required": ["spec"], "properties": properties } },
            }],
        },
    })
}

fn column(name: &str, kind: &str, path: &str, priority: u8) -> Value {
    json!({ "name": name, "type": kind, "jsonPath": path, "priority": priority })
}

/// `spec` of a VM: Ignite's own, with what only Kubernetes knows.
fn vm_spec() -> Result<Value, StructuralError> {
    let root = schema_of("vm").map(|schema| schema.to_value()).unwrap_or_default();
    let mut spec = structural(&root, &root["$defs"]["VmSpec"])?;
    let Some(fields) = spec.as_object_mut() else { return Ok(spec) };
    // Whoever writes an object without one has no wish.
    fields.remove("nullable");
    fields.insert("required".to_owned(), json!(["image"]));
    let properties = &mut spec["properties"];
    properties["image"]["required"] = json!(["oci"]);
    properties["image"].as_object_mut().map(|image| image.remove("nullable"));
    properties["cpus"]["minimum"] = json!(ignite_api::validation::CPUS.start());
    properties["cpus"]["maximum"] = json!(ignite_api::validation::CPUS.end());
    for (name, schema) in pod_fields().as_object().into_iter().flatten() {
        properties[name] = schema.clone();
    }
    let volumes = &mut properties["storage"]["properties"]["volumes"];
    for (name, schema) in volume_sources().as_object().into_iter().flatten() {
        volumes["items"]["properties"][name] = schema.clone();
    }
    // Servers since 1.25 say at once what the operator would say in the condition `Accepted`.
    spec["x-kubernetes-validations"] = json!([
        rule(
            "!has(self.copyFiles) || self.copyFiles == null || size(self.copyFiles) == 0",
            "copyFiles names files of a host: use a volume that is a configMap or a secret"
        ),
        rule(
            "!has(self.network) || !has(self.network.mode) || self.network.mode in ['pod', 'user', 'none']",
            "network.mode is pod, user or none in Kubernetes"
        ),
    ]);
    Ok(spec)
}

fn rule(rule: &str, message: &str) -> Value {
    json!({ "rule": rule, "message": message })
}

fn set_spec(vm_spec: Value) -> Value {
    let texts = json!({ "type": "object", "additionalProperties": { "type": "string" } });
    json!({
        "type": "object",
        "required": ["template"],
        "properties": {
            "replicas": { "type": "integer", "format": "int32", "minimum": 0, "default": 1, "description": "VMs wanted." },
            "template": {
                "type": "object", "required": ["spec"], "description": "What each VM is made from.",
                "properties": {
                    "metadata": { "type": "object", "properties": { "labels": texts, "annotations": texts } },
                    "spec": vm_spec,
                },
            },
            "updateStrategy": {
                "type": "object", "description": "How VMs follow a changed template.",
                "properties": {
                    "type": {
                        "type": "string", "enum": ["RollingUpdate", "OnDelete"],
                        "description": "RollingUpdate: from the last VM to the first, a few at a time. OnDelete: when one is deleted.",
                    },
                    "maxUnavailable": {
                        "x-kubernetes-int-or-string": true,
                        "description": "VMs that may be away at a time, as a number or as 25%. Default: 1. 0 is 1 where maxSurge is 0.",
                    },
                    "maxSurge": {
                        "x-kubernetes-int-or-string": true,
                        "description": "VMs made beyond replicas while a template is rolled out, as a number or as 25%. Default: 0.",
                    },
                },
            },
        },
    })
}

fn status_of<T: JsonSchema>() -> Result<Value, StructuralError> {
    let root = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>().to_value();
    let mut status = structural(&root, &root)?;
    without_defaults(&mut status);
    status["properties"]["conditions"]["x-kubernetes-list-type"] = json!("map");
    status["properties"]["conditions"]["x-kubernetes-list-map-keys"] = json!(["type"]);
    Ok(status)
}

/// A server that filled in a status would fight with who writes it.
fn without_defaults(schema: &mut Value) {
    match schema {
        Value::Object(keywords) => {
            keywords.remove("default");
            keywords.values_mut().for_each(without_defaults);
        }
        Value::Array(all) => all.iter_mut().for_each(without_defaults),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::structural::violations;

    fn schemas() -> Vec<Value> {
        let all = custom_resources().unwrap();
        all.into_iter().map(|one| one["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()).collect()
    }

    #[test]
    fn the_schemas_are_structural() {
        for schema in schemas() {
            assert_eq!(violations(&schema), Vec::<String>::new());
        }
    }

    #[test]
    fn the_schema_has_every_field_of_the_objects_and_kubernetes_own() {
        let schema = &schemas()[0]["properties"]["spec"]["properties"];
        let spec = ignite_api::schema::schema_of("vm").unwrap().to_value();
        for (name, _) in spec["$defs"]["VmSpec"]["properties"].as_object().unwrap() {
            assert!(schema.get(name).is_some(), "{name}");
        }
        for name in crate::wish::POD_FIELDS {
            assert!(schema.get(name).is_some(), "{name}");
        }
        assert_eq!((&schema["cpus"]["default"], &schema["memory"]["default"]), (&json!(1), &json!("512MB")));
    }

    /// What `kubectl apply` gets is checked in; `UPDATE_GOLDEN=1 cargo test -p ignite-operator crd` writes it anew.
    #[test]
    fn the_definitions_in_deploy_are_the_generated_ones() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/kubernetes/crds/crds.yaml");
        let generated = to_yaml(&custom_resources().unwrap());
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(path, &generated).unwrap();
        }
        let checked_in = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            checked_in == generated,
            "{path} is not what is generated: UPDATE_GOLDEN=1 cargo test -p ignite-operator crd"
        );
    }
}
