//! The schema knows every field that decoding knows, and no other.

use ignite_api::schema::{KINDS, schema_of};
use serde_json::Value;
use std::path::Path;

/// The section of a schema that a field's schema leads to, through references and alternatives.
fn sections<'s>(root: &'s Value, schema: &'s Value) -> Vec<&'s Value> {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.strip_prefix("#/$defs/").expect("a reference to a definition");
        return sections(root, &root["$defs"][name]);
    }
    match schema["anyOf"].as_array() {
        Some(choices) => choices.iter().flat_map(|choice| sections(root, choice)).collect(),
        None => vec![schema],
    }
}

/// Fields of `object` that the schema does not have.
fn unknown(root: &Value, schema: &Value, object: &Value, path: &str, found: &mut Vec<String>) {
    let sections = sections(root, schema);
    match object {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = format!("{path}.{name}");
                let known = sections.iter().find_map(|section| section["properties"].get(name));
                let values = sections.iter().find_map(|section| section.get("additionalProperties"));
                match known.or(values.filter(|values| values.is_object())) {
                    Some(schema) => unknown(root, schema, value, &path, found),
                    None => found.push(path),
                }
            }
        }
        Value::Array(items) => {
            let schema = sections.iter().find_map(|section| section.get("items"));
            match schema {
                Some(schema) => items.iter().for_each(|item| unknown(root, schema, item, path, found)),
                None => found.push(path.to_owned()),
            }
        }
        _ => {}
    }
}

#[test]
fn every_field_that_we_write_is_in_the_schema() {
    let mut count = 0;
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/manifests/good");
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if !path.to_string_lossy().ends_with(".golden.json") {
            continue;
        }
        let written = std::fs::read(&path).unwrap();
        for object in serde_json::Deserializer::from_slice(&written).into_iter::<Value>().map(Result::unwrap) {
            let schema = schema_of(&object["kind"].as_str().unwrap().to_lowercase()).expect("a schema");
            let mut found = Vec::new();
            unknown(schema.as_value(), schema.as_value(), &object, "", &mut found);
            assert_eq!(found, [""; 0], "{}", path.display());
            count += 1;
        }
    }
    assert!(count >= 10, "{count} objects were looked at");
}

#[test]
fn every_section_is_closed_and_a_typo_is_seen() {
    for kind in KINDS {
        let schema = schema_of(kind).unwrap();
        let root = schema.as_value();
        assert_eq!(root["$schema"], "https://json-schema.org/draft/2020-12/schema");
        assert_eq!(root["properties"]["apiVersion"]["const"], ignite_api::API_VERSION, "{kind}");
        let definitions = root["$defs"].as_object().unwrap().iter();
        for (name, section) in definitions.filter(|(_, section)| section.get("properties").is_some()) {
            assert_eq!(section["additionalProperties"], false, "{kind}: {name}");
        }
    }
    let schema = schema_of("vm").unwrap();
    let mut found = Vec::new();
    let object = serde_json::json!({"kind": "VM", "spec": {"memroy": "1GB", "network": {"ports": [{"hostport": 1}]}}});
    unknown(schema.as_value(), schema.as_value(), &object, "", &mut found);
    found.sort();
    assert_eq!(found, [".spec.memroy", ".spec.network.ports.hostport"]);
    assert!(schema_of("pool").is_none());
}
