//! Content digests: parsing, computing, comparing (OCI image-spec 1.1, descriptor.md "Digests").

use crate::OciError;
use sha2::{Digest as _, Sha256, Sha512};
use std::fmt;
use std::str::FromStr;

/// A hash function of the OCI registry of algorithms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Algorithm {
    Sha256,
    Sha512,
}

impl Algorithm {
    pub(crate) const ALL: [Algorithm; 2] = [Algorithm::Sha256, Algorithm::Sha512];

    /// The name before the colon, also the directory under `blobs`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        }
    }

    fn hex_len(self) -> usize {
        match self {
            Algorithm::Sha256 => 64,
            Algorithm::Sha512 => 128,
        }
    }
}

/// A digest whose text was checked: safe as a file name and in a URL.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Digest {
    algorithm: Algorithm,
    hex: String,
}

impl Digest {
    /// SHA-256 of `bytes`.
    pub(crate) fn of(bytes: &[u8]) -> Digest {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        hasher.update(bytes);
        hasher.finish()
    }

    pub(crate) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    pub(crate) fn hex(&self) -> &str {
        &self.hex
    }

    /// True when `bytes` have this digest.
    pub(crate) fn matches(&self, bytes: &[u8]) -> bool {
        let mut hasher = Hasher::new(self.algorithm);
        hasher.update(bytes);
        hasher.finish() == *self
    }
}

impl FromStr for Digest {
    type Err = OciError;
    fn from_str(text: &str) -> Result<Digest, OciError> {
        let invalid = || OciError::InvalidDigest { text: text.chars().take(160).collect() };
        let (name, hex) = text.split_once(':').ok_or_else(invalid)?;
        let algorithm = Algorithm::ALL.into_iter().find(|algorithm| algorithm.name() == name).ok_or_else(invalid)?;
        let is_hex = hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if hex.len() != algorithm.hex_len() || !is_hex {
            return Err(invalid());
        }
        Ok(Digest { algorithm, hex: hex.to_owned() })
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.name(), self.hex)
    }
}

/// A digest being computed.
#[derive(Debug, Clone)]
pub(crate) enum Hasher {
    Sha256(Sha256),
    Sha512(Box<Sha512>),
}

impl Hasher {
    pub(crate) fn new(algorithm: Algorithm) -> Hasher {
        match algorithm {
            Algorithm::Sha256 => Hasher::Sha256(Sha256::new()),
            Algorithm::Sha512 => Hasher::Sha512(Box::new(Sha512::new())),
        }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Hasher::Sha256(hasher) => hasher.update(bytes),
            Hasher::Sha512(hasher) => hasher.update(bytes),
        }
    }

    pub(crate) fn finish(self) -> Digest {
        match self {
            Hasher::Sha256(hasher) => Digest { algorithm: Algorithm::Sha256, hex: hex::encode(hasher.finalize()) },
            Hasher::Sha512(hasher) => Digest { algorithm: Algorithm::Sha512, hex: hex::encode(hasher.finalize()) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn digests_are_parsed_strictly() {
        let good = format!("sha256:{}", "a1".repeat(32));
        assert_eq!(good.parse::<Digest>().unwrap().to_string(), good);
        let long = format!("sha512:{}", "0f".repeat(64));
        assert_eq!(long.parse::<Digest>().unwrap().to_string(), long);
        for bad in [
            "",
            "sha256:",
            "sha256",
            &"a1".repeat(32),
            &format!("sha256:{}", "A1".repeat(32)),
            &format!("sha256:{}", "a1".repeat(33)),
            &format!("sha256:{}/..", "a1".repeat(31)),
            &format!("md5:{}", "a1".repeat(16)),
            &format!("sha512:{}", "a1".repeat(32)),
            &format!(" sha256:{}", "a1".repeat(32)),
        ] {
            assert!(bad.parse::<Digest>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn a_known_digest_is_computed() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(b"").to_string(), empty);
        assert!(empty.parse::<Digest>().unwrap().matches(b""));
        assert!(!empty.parse::<Digest>().unwrap().matches(b"x"));
    }

    proptest! {
        #[test]
        fn no_text_panics_and_what_is_accepted_is_a_safe_file_name(text in "\\PC{0,140}") {
            if let Ok(digest) = text.parse::<Digest>() {
                prop_assert!(digest.hex().bytes().all(|byte| byte.is_ascii_alphanumeric()));
                prop_assert_eq!(digest.to_string(), text);
            }
        }
    }
}
