//! A JSON Schema, as the objects' types give it, as Kubernetes' structural schema.
//!
//! Kubernetes takes a subset (apiextensions.k8s.io/v1 "Specifying a structural schema"): no references, one type per
//! place, alternatives only of values and never of types, and unknown fields are pruned rather than refused.

use serde_json::{Map, Value, json};
use thiserror::Error;

/// References followed inside one another; a schema of ours needs five.
const MAX_DEPTH: usize = 64;

/// Why a schema cannot be said in Kubernetes' way.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StructuralError {
    /// A reference leads nowhere.
    #[error("{path}: there is no definition {reference:?}")]
    NoDefinition {
        /// Where it stands.
        path: String,
        /// The reference.
        reference: String,
    },
    /// A type contains itself.
    #[error("{path}: more than {MAX_DEPTH} references inside one another: Kubernetes has no recursive types")]
    Recursive {
        /// Where it was given up.
        path: String,
    },
    /// Something Kubernetes has no word for.
    #[error("{path}: {what} cannot be said in a structural schema")]
    NotStructural {
        /// Where it stands.
        path: String,
        /// What it is.
        what: String,
    },
}

/// The structural schema of `schema`, whose references lead into the `$defs` of `root`.
pub fn structural(root: &Value, schema: &Value) -> Result<Value, StructuralError> {
    convert(root, schema, "", 0)
}

fn convert(root: &Value, schema: &Value, path: &str, depth: usize) -> Result<Value, StructuralError> {
    if depth > MAX_DEPTH {
        return Err(StructuralError::Recursive { path: path.to_owned() });
    }
    let mut schema = resolve(root, schema, path)?;
    let mut out = Map::new();
    if let Some(description) = schema.get("description") {
        out.insert("description".to_owned(), description.clone());
    }
    let is_nullable = settle_alternatives(root, &mut schema, &mut out, path, depth)?;
    settle_type(&mut schema, &mut out, is_nullable, path)?;
    for (keyword, value) in schema {
        let at = |part: &str| format!("{path}.{part}");
        match keyword.as_str() {
            "properties" => {
                let properties = value.as_object().into_iter().flatten();
                let converted: Result<Map<String, Value>, _> = properties
                    .map(|(name, property)| Ok((name.clone(), convert(root, property, &at(name), depth + 1)?)))
                    .collect();
                out.insert(keyword, Value::Object(converted?));
            }
            "items" => {
                out.insert(keyword, convert(root, &value, &format!("{path}[]"), depth + 1)?);
            }
            // What is unknown is pruned by the server, and refused by clients that look.
            "additionalProperties" if value == Value::Bool(false) => {}
            "additionalProperties" => {
                out.insert(keyword, convert(root, &value, &at("*"), depth + 1)?);
            }
            "const" => {
                out.insert("enum".to_owned(), json!([value]));
            }
            "format" => settle_format(&value, &mut out),
            // Defaults of sections are what is left out of them; the server fills in fields only.
            "default" if value.is_object() || value.is_null() || value.is_array() => {}
            // Written already, or only for readers of the schema itself.
            "description" | "title" | "$schema" | "$defs" => {}
            "minimum" | "maximum" | "minLength" | "maxLength" | "minItems" | "maxItems" | "minProperties"
            | "maxProperties" | "pattern" | "enum" | "required" | "default" => {
                out.insert(keyword, value);
            }
            word if word.starts_with("x-kubernetes-") => {
                out.insert(keyword, value);
            }
            word => return Err(StructuralError::NotStructural { path: path.to_owned(), what: word.to_owned() }),
        }
    }
    Ok(Value::Object(out))
}

/// Puts what a reference leads to in its place; what stands beside the reference wins.
fn resolve(root: &Value, schema: &Value, path: &str) -> Result<Map<String, Value>, StructuralError> {
    let mut schema = schema.as_object().cloned().unwrap_or_default();
    for _ in 0..MAX_DEPTH {
        let Some(reference) = schema.remove("$ref") else { return Ok(schema) };
        let reference = reference.as_str().unwrap_or_default();
        let definition = reference.strip_prefix("#/$defs/").and_then(|name| root["$defs"][name].as_object());
        let Some(definition) = definition else {
            return Err(StructuralError::NoDefinition { path: path.to_owned(), reference: reference.to_owned() });
        };
        for (keyword, value) in definition {
            schema.entry(keyword.clone()).or_insert_with(|| value.clone());
        }
    }
    Err(StructuralError::Recursive { path: path.to_owned() })
}

/// Reads `anyOf` and `oneOf`: constants become an `enum`, an alternative of null the answer `true`, the only one that is
/// left stands for itself, and a choice of types is named by what Kubernetes has for it.
fn settle_alternatives(
    root: &Value,
    schema: &mut Map<String, Value>,
    out: &mut Map<String, Value>,
    path: &str,
    depth: usize,
) -> Result<bool, StructuralError> {
    if depth > MAX_DEPTH {
        return Err(StructuralError::Recursive { path: path.to_owned() });
    }
    let Some(alternatives) = schema.remove("oneOf").or_else(|| schema.remove("anyOf")) else { return Ok(false) };
    let is_null = |one: &Value| one["type"] == "null";
    let all = alternatives.as_array().cloned().unwrap_or_default();
    let is_nullable = all.iter().any(is_null);
    let mut rest: Vec<Value> = all.into_iter().filter(|one| !is_null(one)).collect();
    if rest.len() == 1 && rest[0].get("const").is_none() {
        let only = resolve(root, &rest.remove(0), path)?;
        for (keyword, value) in only {
            schema.entry(keyword).or_insert(value);
        }
        if !out.contains_key("description")
            && let Some(description) = schema.get("description")
        {
            out.insert("description".to_owned(), description.clone());
        }
        return Ok(settle_alternatives(root, schema, out, path, depth + 1)? || is_nullable);
    }
    if rest.iter().all(|one| one.get("const").is_some()) {
        let values: Vec<Value> = rest.iter().map(|one| one["const"].clone()).collect();
        schema.insert("type".to_owned(), rest.first().map(|one| one["type"].clone()).unwrap_or_default());
        schema.insert("enum".to_owned(), Value::Array(values));
        let said: Vec<String> = rest
            .iter()
            .filter_map(|one| Some(format!("{}: {}", one["const"].as_str()?, one["description"].as_str()?)))
            .collect();
        let before = out.get("description").and_then(Value::as_str).unwrap_or_default();
        out.insert("description".to_owned(), json!(format!("{before} {}", said.join(" ")).trim()));
        return Ok(is_nullable);
    }
    let types: Vec<&str> = rest.iter().filter_map(|one| one["type"].as_str()).collect();
    match &types[..] {
        [] if rest.iter().all(|one| one.as_object().is_some_and(|one| one.keys().all(|word| word == "format"))) => {
            out.insert("anyOf".to_owned(), Value::Array(rest));
        }
        ["integer", "string"] | ["string", "integer"] => {
            schema.insert("type".to_owned(), json!(["integer", "string"]));
            for (keyword, value) in rest.iter().filter_map(Value::as_object).flatten() {
                if keyword != "type" {
                    schema.entry(keyword.clone()).or_insert_with(|| value.clone());
                }
            }
        }
        types if types.len() == rest.len() => {
            schema.insert("type".to_owned(), json!(types));
        }
        _ => return Err(StructuralError::NotStructural { path: path.to_owned(), what: "anyOf".to_owned() }),
    }
    Ok(is_nullable)
}

fn settle_type(
    schema: &mut Map<String, Value>,
    out: &mut Map<String, Value>,
    is_nullable: bool,
    path: &str,
) -> Result<(), StructuralError> {
    let given = schema.remove("type");
    let mut types: Vec<String> = match &given {
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(all)) => all.iter().filter_map(|one| one.as_str().map(str::to_owned)).collect(),
        _ => Vec::new(),
    };
    let before = types.len();
    types.retain(|one| one != "null");
    if is_nullable || types.len() < before {
        out.insert("nullable".to_owned(), Value::Bool(true));
    }
    types.sort();
    let names: Vec<&str> = types.iter().map(String::as_str).collect();
    match &names[..] {
        [one] => {
            out.insert("type".to_owned(), json!(one));
        }
        ["integer", "string"] => {
            out.insert("x-kubernetes-int-or-string".to_owned(), Value::Bool(true));
        }
        // Kubernetes has no word for such a choice: anything is kept, and the operator looks.
        [_, _, ..] => {
            out.insert("x-kubernetes-preserve-unknown-fields".to_owned(), Value::Bool(true));
        }
        [] if schema.contains_key("x-kubernetes-preserve-unknown-fields") => {}
        [] => {
            return Err(StructuralError::NotStructural { path: path.to_owned(), what: "a place without type".into() });
        }
    }
    Ok(())
}

/// Kubernetes knows Go's numbers, of which JSON can carry the signed ones.
fn settle_format(format: &Value, out: &mut Map<String, Value>) {
    let (format, limits) = match format.as_str().unwrap_or_default() {
        "uint8" => ("int32", Some((0_i64, Some(i64::from(u8::MAX))))),
        "uint16" => ("int32", Some((0, Some(i64::from(u16::MAX))))),
        "uint32" => ("int64", Some((0, Some(i64::from(u32::MAX))))),
        "uint64" => ("int64", Some((0, None))),
        other => (other, None),
    };
    out.insert("format".to_owned(), json!(format));
    if let Some((minimum, maximum)) = limits {
        out.entry("minimum").or_insert(json!(minimum));
        if let Some(maximum) = maximum {
            out.entry("maximum").or_insert(json!(maximum));
        }
    }
}

/// What breaks the rules of a structural schema, as the API server applies them; empty: nothing.
pub fn violations(schema: &Value) -> Vec<String> {
    let mut found = Vec::new();
    look(schema, "schema", false, &mut found);
    found
}

fn look(schema: &Value, path: &str, is_value_validation: bool, found: &mut Vec<String>) {
    let Some(keywords) = schema.as_object() else {
        found.push(format!("{path}: is no object"));
        return;
    };
    let is_true = |word: &str| keywords.get(word) == Some(&Value::Bool(true));
    let (is_free, is_int_or_string) =
        (is_true("x-kubernetes-preserve-unknown-fields"), is_true("x-kubernetes-int-or-string"));
    if is_value_validation {
        for word in ["type", "nullable", "default", "description", "additionalProperties"] {
            if keywords.contains_key(word) {
                found.push(format!("{path}: {word} in an alternative"));
            }
        }
    } else {
        match keywords.get("type") {
            Some(Value::String(kind))
                if ["string", "integer", "number", "boolean", "object", "array"].contains(&kind.as_str()) => {}
            Some(other) => found.push(format!("{path}: type {other}")),
            None if is_free || is_int_or_string => {}
            None => found.push(format!("{path}: no type")),
        }
        if keywords.get("type") == Some(&json!("array")) && !keywords.contains_key("items") {
            found.push(format!("{path}: an array without items"));
        }
        if keywords.contains_key("properties") && keywords.contains_key("additionalProperties") {
            found.push(format!("{path}: properties and additionalProperties"));
        }
        if is_int_or_string && (keywords.contains_key("type") || is_free) {
            found.push(format!("{path}: int-or-string has no type"));
        }
    }
    for word in ["$ref", "$defs", "$schema", "definitions", "const", "patternProperties", "dependencies", "deprecated"]
    {
        if keywords.contains_key(word) {
            found.push(format!("{path}: {word}"));
        }
    }
    if keywords.get("additionalProperties") == Some(&Value::Bool(false)) {
        found.push(format!("{path}: additionalProperties: false"));
    }
    for (name, property) in keywords.get("properties").and_then(Value::as_object).into_iter().flatten() {
        look(property, &format!("{path}.{name}"), is_value_validation, found);
    }
    for word in ["items", "additionalProperties"] {
        if let Some(inner @ Value::Object(_)) = keywords.get(word) {
            look(inner, &format!("{path}.{word}"), is_value_validation, found);
        }
    }
    for word in ["anyOf", "oneOf", "allOf"] {
        for (index, one) in keywords.get(word).and_then(Value::as_array).into_iter().flatten().enumerate() {
            look(one, &format!("{path}.{word}[{index}]"), true, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_construct_of_our_schemas_has_its_structural_form() {
        let root = json!({ "$defs": {
            "Mode": { "description": "How.", "oneOf": [
                { "type": "string", "const": "auto", "description": "As it comes." },
                { "type": "string", "const": "none", "description": "Not." },
            ] },
            "Size": { "description": "bytes", "anyOf": [
                { "type": "integer", "minimum": 0 }, { "type": "string", "pattern": "^[0-9]+$" } ] },
            "Section": { "type": ["object", "null"], "additionalProperties": false, "required": ["size"],
                "properties": { "size": { "$ref": "#/$defs/Size" } } },
        } });
        for (schema, expected) in [
            (json!({ "type": "string", "title": "x" }), json!({ "type": "string" })),
            (json!({ "type": ["string", "null"] }), json!({ "type": "string", "nullable": true })),
            (
                json!({ "$ref": "#/$defs/Mode", "default": "auto", "description": "Which." }),
                json!({ "type": "string", "enum": ["auto", "none"], "default": "auto",
                    "description": "Which. auto: As it comes. none: Not." }),
            ),
            (
                json!({ "anyOf": [{ "$ref": "#/$defs/Size" }, { "type": "null" }] }),
                json!({ "x-kubernetes-int-or-string": true, "minimum": 0, "pattern": "^[0-9]+$", "nullable": true,
                    "description": "bytes" }),
            ),
            (
                json!({ "$ref": "#/$defs/Section", "default": {} }),
                json!({ "type": "object", "nullable": true, "required": ["size"], "properties": { "size": {
                    "x-kubernetes-int-or-string": true, "minimum": 0, "pattern": "^[0-9]+$", "description": "bytes" } } }),
            ),
            (
                json!({ "type": "object", "additionalProperties": { "type": "string" } }),
                json!({ "type": "object", "additionalProperties": { "type": "string" } }),
            ),
            (
                json!({ "type": ["string", "number", "boolean"] }),
                json!({ "x-kubernetes-preserve-unknown-fields": true }),
            ),
            (
                json!({ "type": ["string", "null"], "anyOf": [{ "format": "ipv4" }, { "format": "ipv6" }, { "type": "null" }] }),
                json!({ "type": "string", "nullable": true, "anyOf": [{ "format": "ipv4" }, { "format": "ipv6" }] }),
            ),
            (
                json!({ "type": "integer", "format": "uint16", "minimum": 1 }),
                json!({ "type": "integer", "format": "int32", "minimum": 1, "maximum": 65535 }),
            ),
            (json!({ "const": "VM", "type": "string" }), json!({ "type": "string", "enum": ["VM"] })),
        ] {
            let converted = structural(&root, &schema).unwrap();
            // A format that came first must not hide the limit that the schema has of its own.
            assert_eq!(converted, expected, "{schema}");
            assert_eq!(violations(&converted), Vec::<String>::new());
        }
    }

    #[test]
    fn what_cannot_be_said_is_refused_with_its_place() {
        let root =
            json!({ "$defs": { "Loop": { "type": "object", "properties": { "next": { "$ref": "#/$defs/Loop" } } } } });
        for (schema, expected) in [
            (
                json!({ "type": "object", "properties": { "a": { "$ref": "#/$defs/Nosuch" } } }),
                ".a: there is no definition",
            ),
            (json!({ "$ref": "#/$defs/Loop" }), "more than 64 references"),
            (json!({ "type": "array", "items": {} }), "[]: a place without type"),
            (json!({ "type": "object", "patternProperties": {} }), "patternProperties cannot be said"),
        ] {
            let error = structural(&root, &schema).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn violations_are_found() {
        for (schema, expected) in [
            (json!({}), "no type"),
            (json!({ "type": ["string"] }), "type"),
            (json!({ "type": "array" }), "without items"),
            (json!({ "type": "object", "additionalProperties": false }), "additionalProperties: false"),
            (json!({ "type": "object", "properties": { "a": { "$ref": "#/x" } } }), "schema.a: $ref"),
            (json!({ "type": "string", "anyOf": [{ "type": "string" }] }), "type in an alternative"),
            (json!({ "type": "string", "x-kubernetes-int-or-string": true }), "int-or-string"),
        ] {
            let found = violations(&schema).join("; ");
            assert!(found.contains(expected), "{schema}: {found}");
        }
    }
}
