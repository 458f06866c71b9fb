//! Every body against Firecracker's own description of its API: `IGNITE_TEST_FIRECRACKER_API` names a directory that holds
//! `src/firecracker/swagger/firecracker.yaml` of each version as `1.7.yaml`, `1.8.yaml` and so on.

use super::*;
use crate::firecracker::machine::{PAUSED, RESUMED, SEND_CTRL_ALT_DEL};

/// Where in the API the sections of the configuration are, and the requests that a running machine is sent.
fn requests(config: &Value) -> Vec<(&'static str, &'static str, Value)> {
    let sections = [
        ("boot-source", "/boot-source"),
        ("machine-config", "/machine-config"),
        ("drives", "/drives/{drive_id}"),
        ("network-interfaces", "/network-interfaces/{iface_id}"),
        ("vsock", "/vsock"),
        ("balloon", "/balloon"),
        ("entropy", "/entropy"),
        ("pmem", "/pmem/{id}"),
    ];
    let mut requests = Vec::new();
    for (name, value) in config.as_object().unwrap() {
        let (_, path) = sections.iter().find(|(section, _)| section == name).expect("the section has no path");
        let bodies = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
        requests.extend(bodies.into_iter().map(|body| ("put", *path, body)));
    }
    requests.push(("patch", "/vm", json!({ "state": PAUSED })));
    requests.push(("patch", "/vm", json!({ "state": RESUMED })));
    requests.push(("put", "/actions", json!({ "action_type": SEND_CTRL_ALT_DEL })));
    requests
}

/// The description, with every object closed: a field that it does not name is wrong.
fn description(text: &str) -> Value {
    let mut description: Value = serde_saphyr::from_str(text).unwrap();
    for definition in description["definitions"].as_object_mut().unwrap().values_mut() {
        let is_open = definition["properties"].is_object() && definition.get("additionalProperties").is_none();
        if is_open {
            definition["additionalProperties"] = json!(false);
        }
    }
    description
}

/// What is wrong with a body.
fn faults(description: &Value, method: &str, path: &str, body: &Value) -> Vec<String> {
    let parameters = description["paths"][path][method]["parameters"].as_array().cloned().unwrap_or_default();
    let Some(parameter) = parameters.iter().find(|parameter| parameter["in"] == "body") else {
        return vec![format!("there is no {method} {path}")];
    };
    let mut schema = parameter["schema"].clone();
    schema["definitions"] = description["definitions"].clone();
    let validator = jsonschema::draft4::new(&schema).unwrap();
    validator.iter_errors(body).map(|error| format!("{method} {path} {body}: {error}")).collect()
}

#[test]
#[allow(clippy::print_stderr, reason = "a skipped test says why, and what was held against what")]
fn every_body_is_one_that_its_version_describes() {
    let Some(directory) = std::env::var_os("IGNITE_TEST_FIRECRACKER_API") else {
        eprintln!("skip: IGNITE_TEST_FIRECRACKER_API names no directory with descriptions of Firecracker's API");
        return;
    };
    let mut seen = Vec::new();
    for minor in OLDEST.minor..=NEWEST.minor {
        let version = Version { major: 1, minor };
        let file = std::path::Path::new(&directory).join(format!("{version}.yaml"));
        let Ok(text) = std::fs::read_to_string(&file) else { continue };
        let description = description(&text);
        let bodies = machines(version).into_iter().map(|spec| translate(&spec, version, &paths()));
        let requests: Vec<_> = bodies.flat_map(|config| requests(&config)).collect();
        let found: Vec<String> =
            requests.iter().flat_map(|(method, path, body)| faults(&description, method, path, body)).collect();
        assert_eq!(found, Vec::<String>::new(), "{version}");
        let wrong = json!({ "guest_cid": "3", "uds_path": "v", "nonsense": 1 });
        assert_eq!(faults(&description, "put", "/vsock", &wrong).len(), 2, "what is wrong is found");
        seen.push(format!("{version} ({} bodies)", requests.len()));
    }
    assert!(!seen.is_empty(), "no description in {}", directory.display());
    eprintln!("held against: {}", seen.join(", "));
}
