//! Sizes in bytes, parsed and printed as Weave Ignite and Docker do: units are powers of 1024.

use serde::{Deserialize, Serialize};

/// A number of bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Size(u64);

impl Size {
    /// So many bytes.
    pub const fn bytes(n: u64) -> Size {
        Size(n)
    }
    /// So many MiB.
    pub const fn mib(n: u64) -> Size {
        Size(n << 20)
    }
    /// So many GiB.
    pub const fn gib(n: u64) -> Size {
        Size(n << 30)
    }
    /// The number of bytes.
    pub const fn as_bytes(self) -> u64 {
        self.0
    }
    /// Whole MiB, rounded down.
    pub const fn as_mib(self) -> u64 {
        self.0 >> 20
    }
}

/// A text that is not a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid size {text:?}: {reason}")]
pub struct InvalidSize {
    /// The text, at most 64 characters of it.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl std::str::FromStr for Size {
    type Err = InvalidSize;

    /// Reads a decimal integer and an optional unit (`b k kb m mb g gb t tb p pb e eb`, any case, optional space).
    fn from_str(text: &str) -> Result<Size, InvalidSize> {
        let invalid = |reason| InvalidSize { text: text.chars().take(64).collect(), reason };
        let trimmed = text.trim();
        let digits = trimmed.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = trimmed.split_at(digits);
        let number: u64 = number.parse().map_err(|_| invalid("a whole number such as 512MB is expected"))?;
        let unit = unit.trim();
        if matches!(unit, "Kb" | "Mb" | "Gb" | "Tb" | "Pb" | "Eb") {
            return Err(invalid("this unit means bits; write MB, GB, ..."));
        }
        let shift = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "k" | "kb" | "kib" | "ki" => 10,
            "m" | "mb" | "mib" | "mi" => 20,
            "g" | "gb" | "gib" | "gi" => 30,
            "t" | "tb" | "tib" | "ti" => 40,
            "p" | "pb" | "pib" | "pi" => 50,
            "e" | "eb" | "eib" | "ei" => 60,
            _ => return Err(invalid("the unit is not one of B, KB, MB, GB, TB, PB, EB")),
        };
        number.checked_mul(1 << shift).map(Size).ok_or_else(|| invalid("it is larger than 16 EB"))
    }
}

impl TryFrom<String> for Size {
    type Error = InvalidSize;
    fn try_from(text: String) -> Result<Size, InvalidSize> {
        text.parse()
    }
}

impl From<Size> for String {
    /// The largest unit that divides exactly: `1500MB`, `3GB`, `0B`.
    fn from(size: Size) -> String {
        let mut n = size.0;
        let mut unit = 0;
        while n != 0 && n.is_multiple_of(1024) && unit < 6 {
            n /= 1024;
            unit += 1;
        }
        format!("{n}{}", ["B", "KB", "MB", "GB", "TB", "PB", "EB"][unit])
    }
}
