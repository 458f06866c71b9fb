//! A validator with our schema and our own decoding agree about what a manifest may hold.

use ignite_api::schema::schema_of;
use ignite_api::{API_VERSION, codec};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Bad manifests that no schema of v1alpha4 can judge, with the reason.
const NOT_STRUCTURAL: [(&str, &str); 16] = [
    ("bomb.yaml", "limit of the reader: aliases"),
    ("configuration-v1alpha2.yaml", "older version"),
    ("deep-block.yaml", "limit of the reader: depth"),
    ("deep.yaml", "limit of the reader: depth"),
    ("duplicate-field.yaml", "syntax: lost when read into a map"),
    ("duplicate-label.json", "syntax: lost when read into a map"),
    ("extension-in-old-version.yaml", "older version"),
    ("lower-case-kind.yaml", "names no kind that has a schema"),
    ("no-kind.yaml", "names no kind that has a schema"),
    ("not-utf8.yaml", "syntax"),
    ("pool.yaml", "names no kind that has a schema"),
    ("reference.yaml", "grammar of image references"),
    ("scalar.yaml", "names no kind that has a schema"),
    ("tab.yaml", "syntax"),
    ("unclosed.yaml", "syntax"),
    ("unknown-group.yaml", "names no kind that has a schema"),
];

fn manifests(folder: &str) -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/manifests").join(folder);
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| !path.to_string_lossy().contains(".golden")).collect()
}

/// The documents of a manifest as a linter sees them, before anything of ours has read them.
fn documents(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    if path.extension().is_some_and(|extension| extension == "json") {
        return serde_json::Deserializer::from_str(&text).into_iter().map(Result::unwrap).collect();
    }
    serde_saphyr::from_multiple(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What a validator says about a document, one line per problem; `None` for a kind that has no schema.
fn problems(document: &Value) -> Option<Vec<String>> {
    let schema = schema_of(&document["kind"].as_str()?.to_lowercase())?;
    let options = jsonschema::options().should_validate_formats(true);
    let validator = options.build(schema.as_value()).unwrap();
    Some(validator.iter_errors(document).map(|error| format!("{}: {error}", error.instance_path())).collect())
}

#[test]
fn good_manifests_are_valid_as_written_and_as_we_write_them() {
    let mut count = 0;
    for path in manifests("good") {
        let golden = PathBuf::from(format!("{}.golden.json", path.display()));
        let as_written = documents(&path).into_iter().filter(|document| document["apiVersion"] == API_VERSION);
        for document in as_written.chain(documents(&golden)) {
            assert_eq!(problems(&document), Some(vec![]), "{}: {document:#}", path.display());
            count += 1;
        }
    }
    assert!(count >= 20, "{count} documents were looked at");
}

#[test]
fn bad_manifests_are_invalid_where_a_schema_can_tell() {
    let mut skipped = BTreeSet::new();
    for path in manifests("bad") {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if NOT_STRUCTURAL.iter().any(|(listed, _)| *listed == name) {
            skipped.insert(name);
            continue;
        }
        let found = documents(&path).iter().filter_map(problems).any(|problems| !problems.is_empty());
        assert!(found, "{name} is valid by the schema");
    }
    assert_eq!(skipped.len(), NOT_STRUCTURAL.len(), "a listed manifest is gone: {skipped:?}");
}

#[test]
fn invalid_manifests_have_the_right_shape() {
    for path in manifests("invalid") {
        for document in documents(&path) {
            assert_eq!(problems(&document), Some(vec![]), "{}", path.display());
        }
    }
}

/// Asserts that decoding and the schema both take, or both refuse, a VM with this `spec`.
fn assert_agreement(spec: &Value, expected: bool) {
    let document = json!({ "apiVersion": API_VERSION, "kind": "VM", "spec": spec });
    let decoded = codec::decode_vm(document.to_string().as_bytes());
    assert_eq!(decoded.is_ok(), expected, "decoding {spec}: {:?}", decoded.err());
    let problems = problems(&document).unwrap();
    assert_eq!(problems.is_empty(), expected, "the schema on {spec}: {problems:?}");
}

#[test]
fn sizes_are_those_that_decoding_takes() {
    for size in ["0", "17", "1b", "1KB", "1k", " 512 MB ", "512mb", "512Mi", "512MiB", "3 giga", "3 Gigabytes", "15eb"]
    {
        assert_agreement(&json!({ "memory": size }), true);
    }
    for size in ["", "MB", "-1", "1.5GB", "1Kb", "1 Gb", "1 XB", "1 MBB", "1 kBi", "+1"] {
        assert_agreement(&json!({ "memory": size }), false);
    }
    assert_agreement(&json!({ "memory": 1048576, "diskSize": 0 }), true);
    for size in [json!(-1), json!(1.5), json!(true), json!([])] {
        assert_agreement(&json!({ "memory": size }), false);
    }
}

/// Follows references and the alternatives of an absent value, to what a field is when it is there.
fn resolved<'s>(root: &'s Value, schema: &'s Value) -> &'s Value {
    if let Some(reference) = schema["$ref"].as_str() {
        return resolved(root, &root["$defs"][reference.strip_prefix("#/$defs/").unwrap()]);
    }
    let choices = schema["anyOf"].as_array().into_iter().flatten();
    let there = choices.map(|choice| resolved(root, choice)).find(|choice| choice["type"] != "null");
    there.filter(|_| schema.get("type").is_none()).unwrap_or(schema)
}

/// The least that a schema takes, by hand for what has a grammar.
fn smallest(root: &Value, schema: &Value) -> Value {
    let schema = resolved(root, schema);
    let required = schema["required"].as_array().into_iter().flatten().map(|name| name.as_str().unwrap());
    let kind = schema["type"].as_array().map_or(&schema["type"], |kinds| &kinds[0]);
    match kind.as_str() {
        Some("object") => required.map(|name| (name.to_owned(), smallest(root, &schema["properties"][name]))).collect(),
        Some("array") => json!([]),
        Some("integer") => json!(1),
        Some("boolean") => json!(false),
        _ => schema.get("const").cloned().unwrap_or(json!("/a")),
    }
}

/// Every field at every depth with a null in it, each in a document that is the least it can be otherwise.
fn with_null_at_each_field(root: &Value, schema: &Value, path: &str, found: &mut Vec<(String, Value)>) {
    let schema = resolved(root, schema);
    if let Some(items) = schema.get("items") {
        let first = found.len();
        with_null_at_each_field(root, items, &format!("{path}[]"), found);
        found[first..].iter_mut().for_each(|(_, value)| *value = json!([value.take()]));
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        let first = found.len();
        found.push((path.clone(), Value::Null));
        with_null_at_each_field(root, property, &path, found);
        for (_, value) in &mut found[first..] {
            let mut section = smallest(root, schema);
            section[name] = value.take();
            *value = section;
        }
    }
}

#[test]
fn a_field_may_be_without_value_where_decoding_lets_it() {
    for kind in ["vm", "configuration"] {
        let schema = schema_of(kind).unwrap();
        let mut documents = Vec::new();
        with_null_at_each_field(schema.as_value(), schema.as_value(), kind, &mut documents);
        assert!(documents.len() > 50, "{}", documents.len());
        let mut differences = Vec::new();
        for (path, document) in documents {
            let decoded = codec::decode(document.to_string().as_bytes());
            let problems = problems(&document).unwrap_or(vec!["no kind".to_owned()]);
            if decoded.is_ok() != problems.is_empty() {
                differences.push(format!("{path}: decoding {:?}, the schema {problems:?}", decoded.err()));
            }
        }
        assert!(differences.is_empty(), "{differences:#?}");
    }
}

#[test]
fn numbers_texts_and_alternatives_are_those_that_decoding_takes() {
    for ssh in [json!(true), json!(false), json!("true"), json!(""), json!("/root/.ssh/id.pub"), json!({})] {
        assert_agreement(&json!({ "ssh": ssh }), true);
    }
    for ssh in [json!(1), json!([]), json!({ "key": "a" })] {
        assert_agreement(&json!({ "ssh": ssh }), false);
    }
    let port = |host: Value, vm: Value| json!({ "network": { "ports": [{ "hostPort": host, "vmPort": vm }] } });
    assert_agreement(&port(json!(65535), json!(1)), true);
    for (host, vm) in [(json!(65536), json!(1)), (json!(-1), json!(1)), (json!(1), json!(1.5))] {
        assert_agreement(&port(host, vm), false);
    }
    for protocol in ["tcp", "udp"] {
        let ports = json!([{ "hostPort": 1, "vmPort": 2, "protocol": protocol }]);
        assert_agreement(&json!({ "network": { "ports": ports } }), true);
    }
    for address in ["127.0.0.1", "::1", "0.0.0.0"] {
        let ports = json!([{ "hostPort": 1, "vmPort": 2, "bindAddress": address }]);
        assert_agreement(&json!({ "network": { "ports": ports } }), true);
    }
    assert_agreement(&json!({ "cpus": 4294967296_u64 }), false);
    assert_agreement(&json!({ "stopTimeoutSeconds": 4294967296_u64 }), false);
    assert_agreement(&json!({ "init": "sometimes" }), false);
    assert_agreement(&json!({ "env": [{ "name": "A" }] }), true);
    for value in [json!("a"), json!(8080), json!(1.1), json!(true)] {
        assert_agreement(&json!({ "env": [{ "name": "A", "value": value }], "user": value }), true);
    }
    for value in [json!([]), json!({})] {
        assert_agreement(&json!({ "env": [{ "name": "A", "value": value }] }), false);
        assert_agreement(&json!({ "user": value }), false);
    }
    assert_agreement(&json!({ "network": { "ports": [null] } }), false);
    assert_agreement(&json!({ "env": [{ "value": "A" }] }), false);
}
