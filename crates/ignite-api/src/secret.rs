//! Files and values of a guest that a manifest gives, or takes from a file that is kept outside of it.

use serde::{Deserialize, Serialize};

/// Most bytes of a file that a manifest gives.
pub const MAX_CONTENT_LEN: usize = 1 << 20;

/// Where a value comes from that is not written in a manifest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ValueFrom {
    /// A file below the host's directory of secrets, as a relative path.
    pub file: String,
}

/// A file that the guest has before anything runs in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GuestFile {
    /// Absolute path in the guest.
    pub path: String,
    /// What is in it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub content: String,
    /// In place of `content`: the file of the host that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_from: Option<ValueFrom>,
    /// Permission bits in octal; absent: `0600` of a secret, else `0644`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
}

impl GuestFile {
    /// Its permission bits; `None` where they cannot be read.
    pub fn mode_bits(&self) -> Option<u32> {
        match self.mode.as_deref() {
            None if self.value_from.is_some() => Some(0o600),
            None => Some(0o644),
            Some(text) => u32::from_str_radix(text, 8).ok().filter(|bits| *bits <= 0o7777),
        }
    }
}

impl crate::VmSpec {
    /// The secrets that its environment and its files take, each once, in their order.
    pub fn secrets(&self) -> Vec<&str> {
        let env = self.env.iter().filter_map(|var| var.value_from.as_ref());
        let files = self.files.iter().filter_map(|file| file.value_from.as_ref());
        let mut names: Vec<&str> = env.chain(files).map(|from| from.file.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}
