//! What a VM's memory is made of, and what it sees of the processor.

use serde::{Deserialize, Serialize};

/// Pages of the host that a VM's memory is made of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum HugePages {
    /// Those the host has.
    #[default]
    #[serde(rename = "none")]
    None,
    /// Huge pages of 2 MiB, which somebody has set aside on the host.
    #[serde(rename = "2M")]
    TwoMib,
}

impl HugePages {
    pub(crate) fn is_none(&self) -> bool {
        *self == HugePages::None
    }
}

/// Firecracker's own CPU templates.
pub const CPU_TEMPLATES: [&str; 6] = ["C3", "T2", "T2A", "T2CL", "T2S", "V1N1"];
