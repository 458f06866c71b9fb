//! Sizes in bytes, parsed and printed as Weave Ignite and Docker do: units are powers of 1024.

use serde::Serialize;
use serde::de::{self, Deserialize, Deserializer};

/// A number of bytes.
///
/// Written as a text with the largest unit that divides exactly (`1500MB`); read from such a text or from a plain
/// number of bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(into = "String")]
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

    /// For people, as Weave Ignite's tables and templates print it: one decimal, and a unit only above it, so 1 GiB is
    /// `1024.0 MB`, 2 GiB `2.0 GB`, nothing `0 B`. Does not read back exactly.
    pub fn human(self) -> String {
        let step = UNITS.iter().enumerate().skip(1).rev().find(|(power, _)| self.0 > 1 << (10 * power));
        match step {
            Some((power, unit)) => {
                let one = 1_u64 << (10 * power);
                format!("{:.1} {unit}", (self.0 / one) as f64 + (self.0 % one) as f64 / one as f64)
            }
            None => format!("{} B", self.0),
        }
    }
}

const UNITS: [&str; 7] = ["B", "KB", "MB", "GB", "TB", "PB", "EB"];

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

    /// Reads a decimal integer and an optional unit (`b k kb m mb g gb t tb p pb e eb`, also spelled out or as `Ki`,
    /// `KiB`, ...; any case, optional space). Every unit is a power of 1024; `Kb`, `Mb`, ... mean bits and are refused.
    fn from_str(text: &str) -> Result<Size, InvalidSize> {
        let invalid = |reason| InvalidSize { text: text.chars().take(64).collect(), reason };
        let trimmed = text.trim();
        let digits = trimmed.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = trimmed.split_at(digits);
        if number.is_empty() {
            return Err(invalid("a whole number such as 512MB is expected"));
        }
        let number: u64 = number.parse().map_err(|_| invalid("it is larger than 16 EB"))?;
        let unit = unit.trim();
        if matches!(unit, "Kb" | "Mb" | "Gb" | "Tb" | "Pb" | "Eb") {
            return Err(invalid("this unit means bits; write MB, GB, ..."));
        }
        let shift = match unit.to_ascii_lowercase().as_str() {
            "" | "b" | "byte" | "bytes" => 0,
            "k" | "kb" | "kib" | "ki" | "kilo" | "kilobyte" | "kilobytes" => 10,
            "m" | "mb" | "mib" | "mi" | "mega" | "megabyte" | "megabytes" => 20,
            "g" | "gb" | "gib" | "gi" | "giga" | "gigabyte" | "gigabytes" => 30,
            "t" | "tb" | "tib" | "ti" | "tera" | "terabyte" | "terabytes" => 40,
            "p" | "pb" | "pib" | "pi" | "peta" | "petabyte" | "petabytes" => 50,
            "e" | "eb" | "eib" | "ei" | "exa" | "exabyte" | "exabytes" => 60,
            _ if unit.starts_with(['.', ',']) => return Err(invalid("fractions are not accepted; use a smaller unit")),
            _ => return Err(invalid("the unit is not one of B, KB, MB, GB, TB, PB, EB")),
        };
        number.checked_mul(1 << shift).map(Size).ok_or_else(|| invalid("it is larger than 16 EB"))
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Size, D::Error> {
        deserializer.deserialize_any(SizeVisitor)
    }
}

struct SizeVisitor;

impl de::Visitor<'_> for SizeVisitor {
    type Value = Size;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a size such as 512MB, or a number of bytes")
    }

    fn visit_u64<E: de::Error>(self, n: u64) -> Result<Size, E> {
        Ok(Size(n))
    }

    fn visit_i64<E: de::Error>(self, n: i64) -> Result<Size, E> {
        u64::try_from(n).map(Size).map_err(|_| E::invalid_value(de::Unexpected::Signed(n), &self))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Size, E> {
        text.parse().map_err(E::custom)
    }
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&String::from(*self))
    }
}

impl From<Size> for String {
    /// The largest unit that divides exactly: `1500MB`, `3GB`, `0B`.
    fn from(size: Size) -> String {
        let mut n = size.0;
        let mut unit = 0;
        while n != 0 && n.is_multiple_of(1024) && unit < UNITS.len() - 1 {
            n /= 1024;
            unit += 1;
        }
        format!("{n}{}", UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn texts_are_read_as_weave_ignite_reads_them() {
        for (text, bytes) in [
            ("0", 0),
            ("17", 17),
            ("1b", 1),
            ("1KB", 1 << 10),
            ("1k", 1 << 10),
            (" 512 MB ", 512 << 20),
            ("512mb", 512 << 20),
            ("512Mi", 512 << 20),
            ("3 giga", 3 << 30),
            ("3GB", 3 << 30),
            ("15eb", 15 << 60),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(text.parse::<Size>().map(Size::as_bytes), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_size_is_refused_with_its_reason() {
        for (text, reason) in [
            ("", "a whole number"),
            ("MB", "a whole number"),
            ("-1", "a whole number"),
            ("1.5GB", "fractions"),
            ("1Kb", "bits"),
            ("1 Gb", "bits"),
            ("1 XB", "the unit"),
            ("16eb", "larger"),
            ("18446744073709551616", "larger"),
        ] {
            let error = text.parse::<Size>().expect_err(text);
            assert!(error.reason.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn json_takes_texts_and_plain_numbers_of_bytes() {
        for (json, size) in [("\"3GB\"", Size::gib(3)), ("1048576", Size::mib(1)), ("\"1024\"", Size::bytes(1024))] {
            assert_eq!(serde_json::from_str::<Size>(json).unwrap(), size);
        }
        for json in ["-1", "1.5", "true", "null", "[]", "\"1.5GB\""] {
            assert!(serde_json::from_str::<Size>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn exact_and_human_texts_are_those_of_weave_ignite() {
        for (bytes, exact, human) in [
            (0, "0B", "0 B"),
            (1, "1B", "1 B"),
            (1 << 10, "1KB", "1024 B"),
            (1025, "1025B", "1.0 KB"),
            (512 << 20, "512MB", "512.0 MB"),
            (1500 << 20, "1500MB", "1.5 GB"),
            (1 << 30, "1GB", "1024.0 MB"),
            (2 << 30, "2GB", "2.0 GB"),
            (4 << 30, "4GB", "4.0 GB"),
            (u64::MAX, "18446744073709551615B", "16.0 EB"),
        ] {
            let size = Size::bytes(bytes);
            assert_eq!((size.to_string().as_str(), size.human().as_str()), (exact, human), "{bytes}");
        }
    }

    proptest! {
        #[test]
        fn every_size_reads_back_from_its_exact_text(bytes: u64) {
            let size = Size::bytes(bytes);
            prop_assert_eq!(size.to_string().parse::<Size>(), Ok(size));
        }

        #[test]
        fn foreign_texts_never_panic(text in "\\PC{0,40}|[0-9]{0,25} ?[a-zA-Z]{0,4}") {
            let _ = text.parse::<Size>();
        }
    }
}
