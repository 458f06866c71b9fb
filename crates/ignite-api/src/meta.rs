//! What every object carries: name, uid, creation time, labels, annotations.

use serde::{Deserialize, Serialize};
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

/// `metadata` of every object.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
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
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations; the known ones are in COMPATIBILITY.md.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}
