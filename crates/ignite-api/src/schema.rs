//! JSON Schema (2020-12) of the objects, for editors, linters and Kubernetes: derived from the types, so that it says what
//! decoding does.

use crate::configuration::Configuration;
use crate::vm::Ssh;
use crate::{API_VERSION, ApiObject, Image, ImageSource, Kernel, Size, Uid, Vm};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use std::borrow::Cow;

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
    if let Some(properties) = schema.get_mut("properties").and_then(serde_json::Value::as_object_mut) {
        for (name, value) in constants {
            properties.insert(name.to_owned(), serde_json::json!({ "const": value }));
        }
    }
    schema
}

impl JsonSchema for Uid {
    fn schema_name() -> Cow<'static, str> {
        "Uid".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[a-z0-9]{16}$", "description": "16 lower-case letters or digits" })
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
                { "type": "string", "pattern": r"^\s*[0-9]+\s*([kKmMgGtTpPeE][bB]?|[bB])?\s*$" },
            ],
        })
    }
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
