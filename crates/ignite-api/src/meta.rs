//! What every object carries: name, uid, creation time, labels, annotations.

use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;

/// Identity of an object: 16 lower-case letters or digits (8 random bytes in hexadecimal when we make it).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Uid(String);

impl Uid {
    /// Parses a uid: `^[a-z0-9]{16}$`.
    pub fn parse(text: &str) -> Result<Uid, InvalidUid> {
        let ok = text.len() == 16 && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if ok { Ok(Uid(text.to_owned())) } else { Err(InvalidUid(text.chars().take(64).collect())) }
    }

    /// The uid made of these random bytes.
    pub fn from_bytes(bytes: [u8; 8]) -> Uid {
        Uid(format!("{:016x}", u64::from_be_bytes(bytes)))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A text that is not a uid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid uid {0:?}: 16 lower-case letters or digits are expected")]
pub struct InvalidUid(pub String);

impl TryFrom<String> for Uid {
    type Error = InvalidUid;
    fn try_from(text: String) -> Result<Uid, InvalidUid> {
        Uid::parse(&text)
    }
}

impl From<Uid> for String {
    fn from(uid: Uid) -> String {
        uid.0
    }
}

impl std::fmt::Display for Uid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}

/// What every kind of object has in common.
pub trait ApiObject: Serialize + serde::de::DeserializeOwned {
    /// `kind` as it is written, e.g. `VM`.
    const KIND: &'static str;

    /// Name, uid, labels.
    fn metadata(&self) -> &ObjectMeta;

    /// Name, uid, labels, to be changed.
    fn metadata_mut(&mut self) -> &mut ObjectMeta;
}

macro_rules! api_objects {
    ($($object:ty => $kind:literal),* $(,)?) => {$(
        impl ApiObject for $object {
            const KIND: &'static str = $kind;

            fn metadata(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn metadata_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    )*};
}

api_objects! {
    crate::Vm => "VM",
    crate::Image => "Image",
    crate::Kernel => "Kernel",
    crate::configuration::Configuration => "Configuration",
}

/// Reads a section or list that is written without a value (`labels:`) as if it were absent, as Kubernetes does.
pub(crate) fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// `metadata` of every object.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObjectMeta {
    /// Name, unique per kind.
    #[serde(default)]
    pub name: String,
    /// Identity; absent in a manifest that leaves the choice to us.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<Uid>,
    /// When the object was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<jiff::Timestamp>,
    /// Free-form labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub labels: BTreeMap<String, String>,
    /// Annotations; the known ones are in COMPATIBILITY.md.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub annotations: BTreeMap<String, String>,
}
