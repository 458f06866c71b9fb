//! Labels and annotations of a VM that are changed while its Pod runs: pure.

use crate::pod::MANIFEST_ANNOTATION;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Annotation of a Pod: the keys of the labels and annotations that it has from its VM.
pub const KEYS_ANNOTATION: &str = "ignite.weave.works/metadata-keys";

/// A JSON merge patch (RFC 7396) of a Pod's metadata.
#[derive(Debug, Clone, PartialEq)]
pub struct MetadataChange(pub Value);

/// Says in the annotations of a Pod which keys it has from its VM, so that they can be taken away again.
pub(crate) fn remember_keys(metadata: &mut ObjectMeta) {
    let keys = |map: &Option<BTreeMap<String, String>>| map.iter().flatten().map(|(key, _)| key.clone()).collect();
    let (labels, annotations): (Vec<String>, Vec<String>) = (keys(&metadata.labels), keys(&metadata.annotations));
    let text = json!({ "labels": labels, "annotations": annotations }).to_string();
    metadata.annotations.get_or_insert_default().insert(KEYS_ANNOTATION.to_owned(), text);
}

/// What makes of the metadata that a Pod has those that it should have; what others have put there stays.
pub(crate) fn metadata_change(has: &ObjectMeta, wanted: &ObjectMeta) -> Option<MetadataChange> {
    let remembered = has.annotations.as_ref().and_then(|all| all.get(KEYS_ANNOTATION));
    let remembered: Value = remembered.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let mut patch = Map::new();
    for (name, has, wanted) in
        [("labels", &has.labels, &wanted.labels), ("annotations", &has.annotations, &wanted.annotations)]
    {
        let (has, wanted) = (has.clone().unwrap_or_default(), wanted.clone().unwrap_or_default());
        // The manifest is what this run was started from.
        let is_new = |(key, value): &(&String, &String)| has.get(*key) != Some(value) && *key != MANIFEST_ANNOTATION;
        let mut change: Map<String, Value> =
            wanted.iter().filter(is_new).map(|(key, value)| (key.clone(), json!(value))).collect();
        let old = remembered[name].as_array().into_iter().flatten().filter_map(Value::as_str);
        let gone = old.filter(|key| has.contains_key(*key) && !wanted.contains_key(*key));
        change.extend(gone.map(|key| (key.to_owned(), Value::Null)));
        if !change.is_empty() {
            patch.insert(name.to_owned(), Value::Object(change));
        }
    }
    (!patch.is_empty()).then(|| MetadataChange(json!({ "metadata": patch })))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(labels: &[(&str, &str)], annotations: &[(&str, &str)]) -> ObjectMeta {
        let map = |all: &[(&str, &str)]| {
            Some(all.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
        };
        ObjectMeta { labels: map(labels), annotations: map(annotations), ..ObjectMeta::default() }
    }

    fn made(labels: &[(&str, &str)], annotations: &[(&str, &str)]) -> ObjectMeta {
        let mut metadata = metadata(labels, annotations);
        remember_keys(&mut metadata);
        metadata
    }

    #[test]
    fn what_the_vm_has_lost_goes_and_what_others_gave_stays() {
        let mut pod = made(&[("app", "web"), ("old", "x")], &[("note", "1"), (MANIFEST_ANNOTATION, "{}")]);
        pod.labels.as_mut().unwrap().insert("theirs".to_owned(), "y".to_owned());
        pod.annotations.as_mut().unwrap().insert("cni/addresses".to_owned(), "z".to_owned());
        assert_eq!(
            metadata_change(
                &pod,
                &made(&[("app", "web"), ("old", "x")], &[("note", "1"), (MANIFEST_ANNOTATION, "{1}")])
            ),
            None
        );
        let change = metadata_change(&pod, &made(&[("app", "shop")], &[(MANIFEST_ANNOTATION, "{}")])).unwrap();
        assert_eq!(change.0["metadata"]["labels"], json!({ "app": "shop", "old": null }));
        assert_eq!(change.0["metadata"]["annotations"]["note"], Value::Null);
        assert!(change.0["metadata"]["annotations"][KEYS_ANNOTATION].is_string());
    }

    #[test]
    fn a_pod_whose_keys_are_nonsense_loses_nothing() {
        let mut pod = made(&[("app", "web")], &[]);
        pod.annotations.as_mut().unwrap().insert(KEYS_ANNOTATION.to_owned(), "[".to_owned());
        let change = metadata_change(&pod, &made(&[], &[])).unwrap();
        assert_eq!(change.0["metadata"].get("labels"), None);
    }
}
