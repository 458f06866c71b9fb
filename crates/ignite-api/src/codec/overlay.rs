//! Laying a manifest over defaults: what it names wins, what it leaves out stays.

use super::documents::Document;
use super::error::{DecodeError, DecodeProblem};
use super::typed::decode_typed;
use super::{Object, decode_one};
use crate::{Vm, VmSpec};
use serde::Deserialize;
use serde::de::{self, Deserializer};
use serde_json::Value;
use std::collections::BTreeMap;

/// Decodes exactly one VM whose absent fields come from `base` instead of the built-in defaults.
///
/// Sections are merged field by field, lists and maps of a field are replaced, as `ignite create --config` always did.
pub fn decode_vm_over(input: &[u8], base: &VmSpec) -> Result<Vm, DecodeError> {
    let (object, document) = decode_one(input)?;
    over_document(object, &document, base)
}

/// Decodes any number of VMs, each as [`decode_vm_over`] does; another kind is an error.
pub fn decode_vms_over(input: &[u8], base: &VmSpec) -> Result<Vec<Vm>, DecodeError> {
    let documents = super::documents::split(input)?;
    documents.iter().map(|document| over_document(super::decode_document(document)?, document, base)).collect()
}

pub(super) fn over_document(object: Object, document: &Document<'_>, base: &VmSpec) -> Result<Vm, DecodeError> {
    let mut vm = match object {
        Object::Vm(vm) => vm,
        other => return Err(super::unexpected_kind(document, <Vm as crate::ApiObject>::KIND, other.kind())),
    };
    let presence = decode_typed::<SpecPresence>(document)?.spec;
    vm.spec = overlay_spec(base, &vm.spec, &presence, document)?;
    Ok(*vm)
}

/// Which fields of `spec` a manifest names.
#[derive(Debug, Default, Deserialize)]
struct SpecPresence {
    #[serde(default)]
    spec: Presence,
}

/// Names without values: the values come from the typed object, so nothing is read untyped.
#[derive(Debug, Default)]
enum Presence {
    /// Written without value, as good as absent.
    #[default]
    Null,
    /// A scalar or a list.
    Value,
    /// A section.
    Section(BTreeMap<String, Presence>),
}

impl<'de> Deserialize<'de> for Presence {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Presence, D::Error> {
        deserializer.deserialize_any(PresenceVisitor)
    }
}

struct PresenceVisitor;

impl<'de> de::Visitor<'de> for PresenceVisitor {
    type Value = Presence;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Presence, E> {
        Ok(Presence::Null)
    }

    fn visit_none<E>(self) -> Result<Presence, E> {
        Ok(Presence::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Presence, D::Error> {
        Presence::deserialize(deserializer)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Presence, E> {
        Ok(Presence::Value)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Presence, E> {
        Ok(Presence::Value)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Presence, E> {
        Ok(Presence::Value)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Presence, E> {
        Ok(Presence::Value)
    }

    fn visit_str<E>(self, _: &str) -> Result<Presence, E> {
        Ok(Presence::Value)
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Presence, A::Error> {
        while seq.next_element::<de::IgnoredAny>()?.is_some() {}
        Ok(Presence::Value)
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Presence, A::Error> {
        let mut fields = BTreeMap::new();
        while let Some((name, presence)) = map.next_entry()? {
            fields.insert(name, presence);
        }
        Ok(Presence::Section(fields))
    }
}

fn overlay_spec(
    base: &VmSpec,
    wanted: &VmSpec,
    presence: &Presence,
    document: &Document<'_>,
) -> Result<VmSpec, DecodeError> {
    let merge = || -> Result<VmSpec, serde_json::Error> {
        let mut merged = serde_json::to_value(base)?;
        overlay(&mut merged, &serde_json::to_value(wanted)?, presence);
        serde_json::from_value(merged)
    };
    merge().map_err(|error| {
        let message = super::error::printable(&error.to_string());
        DecodeError::at(document.first_line, 1, "spec", DecodeProblem::InvalidValue { message })
    })
}

/// A field that is present in the manifest and absent from the typed value equals its default, and is not written.
fn overlay(base: &mut Value, wanted: &Value, presence: &Presence) {
    let (Presence::Section(fields), Value::Object(base), Value::Object(wanted)) = (presence, base, wanted) else {
        return;
    };
    for (name, presence) in fields {
        match (presence, wanted.get(name)) {
            (Presence::Null, _) => {}
            (Presence::Section(_), Some(section @ Value::Object(_))) => {
                let target = base.entry(name.clone()).or_insert_with(|| Value::Object(serde_json::Map::new()));
                if !target.is_object() {
                    *target = Value::Object(serde_json::Map::new());
                }
                overlay(target, section, presence);
            }
            (Presence::Section(_) | Presence::Value, Some(value)) => {
                base.insert(name.clone(), value.clone());
            }
            (Presence::Section(_) | Presence::Value, None) => {
                base.remove(name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Size;

    fn over(base: &VmSpec, spec: &str) -> VmSpec {
        let manifest = format!("apiVersion: {}\nkind: VM\nspec: {spec}\n", crate::API_VERSION);
        decode_vm_over(manifest.as_bytes(), base).unwrap().spec
    }

    fn base() -> VmSpec {
        let mut spec = over(&VmSpec::default(), "{cpus: 4, memory: 2GB, tty: true, ssh: true, user: redis, args: [a]}");
        spec.kernel.oci = Some("kernel:6".to_owned());
        spec.kernel.cmd_line = Some("quiet".to_owned());
        spec.network.ports = crate::ports::parse_ports("80:80").unwrap();
        spec
    }

    #[test]
    fn what_a_manifest_leaves_out_stays_as_it_was() {
        assert_eq!(over(&base(), "{}"), base());
        assert_eq!(over(&base(), ""), base());
        assert_eq!(over(&base(), "{kernel: {}, network: , ssh: ~}"), base());
    }

    #[test]
    fn what_a_manifest_names_wins_even_when_it_is_the_default() {
        let spec = over(&base(), "{cpus: 1, memory: 512MB, tty: false, ssh: false, kernel: {cmdLine: ''}, args: []}");
        assert_eq!((spec.cpus, spec.memory, spec.tty), (1, Size::mib(512), false));
        assert_eq!(spec.ssh, Some(crate::vm::Ssh::Generate(false)));
        assert_eq!((spec.kernel.oci.as_deref(), spec.kernel.cmd_line.as_deref()), (Some("kernel:6"), Some("")));
        assert_eq!(spec.args, Some(vec![]));
        assert_eq!((spec.user.as_deref(), spec.network.ports.len()), (Some("redis"), 1));
    }

    #[test]
    fn lists_are_replaced() {
        let spec = over(&base(), "{network: {ports: [{hostPort: 1, vmPort: 2}]}}");
        assert_eq!(spec.network.ports, crate::ports::parse_ports("1:2").unwrap());
        assert!(over(&base(), "{network: {ports: []}}").network.ports.is_empty());
    }

    #[test]
    fn another_kind_is_refused() {
        let manifest = format!("apiVersion: {}\nkind: Kernel\nspec: {{oci: a}}\n", crate::API_VERSION);
        let error = decode_vm_over(manifest.as_bytes(), &base()).unwrap_err();
        assert_eq!(error.to_string(), "line 1, column 1: kind: a VM is expected, this is a Kernel");
    }
}
