//! JSON Schema (2020-12) of the objects, for editors, linters and Kubernetes: derived from the types, so that it says what
//! decoding does.

use crate::configuration::Configuration;
use crate::restart_policy::RestartPolicy;
use crate::vm::Ssh;
use crate::{API_VERSION, ApiObject, Image, ImageSource, Kernel, Size, Uid, Vm};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::collections::BTreeSet;

/// Kinds that have a schema, by the names that commands take.
pub const KINDS: [&str; 4] = ["vm", "image", "kernel", "configuration"];

/// The schema of a kind, in lower case; `None` for one that is not known.
pub fn schema_of(kind: &str) -> Option<Schema> {
    match kind {
        "vm" => Some(of::<Vm>()),
        "image" => Some(of::<Image>()),
        "kernel" => Some(of::<Kernel>()),
        "configuration" => Some(of::<Configuration>()),
        _ => None,
    }
}

fn of<T: ApiObject + JsonSchema>() -> Schema {
    let mut schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>();
    let constants = [("apiVersion", API_VERSION), ("kind", T::KIND)];
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        for (name, value) in constants {
            properties.insert(name.to_owned(), json!({ "const": value }));
        }
    }
    say_what_decoding_does(&mut schema);
    let sections = optional_sections(schema.as_value());
    if let Some(definitions) = schema.get_mut("$defs").and_then(Value::as_object_mut) {
        for (_, section) in definitions.iter_mut().filter(|(name, _)| sections.contains(*name)) {
            // In the definition and not in an alternative beside it, so that a validator still points at the very field.
            section["type"] = json!(["object", "null"]);
        }
    }
    schema
}

/// What the derivation cannot know of our decoding, in one schema and all below it.
fn say_what_decoding_does(schema: &mut Schema) {
    schemars::transform::transform_subschemas(&mut say_what_decoding_does, schema);
    match schema.get("format").and_then(Value::as_str) {
        Some("ip") => {
            schema.remove("format");
            schema.insert("anyOf".to_owned(), json!([{ "format": "ipv4" }, { "format": "ipv6" }, { "type": "null" }]));
        }
        Some("uint32") => {
            schema.insert("maximum".to_owned(), u32::MAX.into());
        }
        _ => {}
    }
    for_each_optional(schema, |property| {
        let Some(property) = property.as_object_mut() else { return };
        // A list or a map without a value is as good as absent.
        if let Some(kind) = property.get("type").filter(|kind| **kind == "array" || **kind == "object").cloned() {
            property.insert("type".to_owned(), json!([kind, "null"]));
        }
    });
}

fn for_each_optional(schema: &mut Schema, mut change: impl FnMut(&mut Value)) {
    let required = schema.get("required").cloned().unwrap_or_default();
    let is_required =
        |name: &str| required.as_array().is_some_and(|names| names.iter().any(|required| required == name));
    let properties = schema.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten();
    properties.filter(|(name, _)| !is_required(name)).for_each(|(_, property)| change(property));
}

/// Definitions of sections that stand in an optional field: without a value, such a field is as good as absent.
fn optional_sections(root: &Value) -> BTreeSet<String> {
    let mut sections = BTreeSet::new();
    let definitions = root["$defs"].as_object().into_iter().flatten().map(|(_, definition)| definition);
    for schema in definitions.chain([root]) {
        let required = schema["required"].as_array();
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let reference = property["$ref"].as_str().and_then(|reference| reference.strip_prefix("#/$defs/"));
            let is_required = required.is_some_and(|names| names.iter().any(|required| required == name));
            sections.extend(
                reference.filter(|name| !is_required && root["$defs"][name]["type"] == "object").map(str::to_owned),
            );
        }
    }
    sections
}

/// A text that may be written as a number or a boolean, as `PORT: 8080` is.
pub(crate) fn text_of_scalar(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["string", "number", "boolean"] })
}

/// As [`text_of_scalar`], or absent.
pub(crate) fn optional_text_of_scalar(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["string", "number", "boolean", "null"] })
}

impl JsonSchema for Uid {
    fn schema_name() -> Cow<'static, str> {
        "Uid".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[a-z0-9]{16}$", "description": "16 lower-case letters or digits" })
    }
}

impl JsonSchema for RestartPolicy {
    fn schema_name() -> Cow<'static, str> {
        "RestartPolicy".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^(no|on-failure(:[0-9]{1,9})?|always|unless-stopped|Never|OnFailure(:[0-9]{1,9})?|Always|)$",
            "description": "no, on-failure[:MAX-RETRIES], always or unless-stopped; Kubernetes' Never, OnFailure and Always are read, too",
        })
    }
}

impl JsonSchema for Size {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "a number of bytes, or a whole number with a unit; units are powers of 1024: 512MB, 4GB",
            "anyOf": [
                { "type": "integer", "minimum": 0 },
                { "type": "string", "pattern": size_pattern() },
            ],
        })
    }
}

/// The texts that [`Size`] is read from, but for their range: any case, except that `Kb`, `Mb`, ... are bits.
fn size_pattern() -> String {
    let any_case = |word: &str| -> String {
        word.chars().map(|letter| format!("[{letter}{}]", letter.to_ascii_uppercase())).collect()
    };
    let words = ["kilo", "mega", "giga", "tera", "peta", "exa"].map(any_case).join("|");
    let bytes = format!("{}{}?", any_case("byte"), any_case("s"));
    format!(r"^\s*[0-9]+\s*([bB]|{bytes}|[kmgtpe][bB]?|[KMGTPE]B?|[kKmMgGtTpPeE][iI][bB]?|({words})({bytes})?)?\s*$")
}

impl JsonSchema for ImageSource {
    fn schema_name() -> Cow<'static, str> {
        "ImageSource".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "minLength": 1,
            "description": "REF, docker-daemon:REF, containerd:REF, oci:PATH[:TAG], oci-archive:PATH[:TAG] or \
                            docker-archive:PATH[:REF], as containers-transports(5) has them",
        })
    }
}

impl JsonSchema for Ssh {
    fn schema_name() -> Cow<'static, str> {
        "Ssh".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "true generates a key pair; a text is the path of a public key on the host",
            "anyOf": [{ "type": "boolean" }, { "type": "string" }, { "type": "object", "maxProperties": 0 }],
        })
    }
}
