//! Names of objects: which are valid, and how a random one is made.

use crate::name_words::{ADJECTIVES, NOUNS};

/// Longest name of a VM, in bytes (RFC 1123 subdomain, as Kubernetes names objects).
pub const MAX_VM_NAME_LEN: usize = 253;
/// Longest label of a host name, in bytes.
pub const MAX_LABEL_LEN: usize = 63;
/// Longest host name, in bytes (Linux' `HOST_NAME_MAX`).
pub const MAX_HOSTNAME_LEN: usize = 64;
/// Longest name of an image or kernel, in bytes: that of the longest source.
pub const MAX_OBJECT_NAME_LEN: usize = crate::image_source::MAX_SOURCE_LEN;

/// A text that cannot name an object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid name {name:?}: {reason}")]
pub struct InvalidName {
    /// The text, at most 64 characters of it.
    pub name: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// Checks a VM's name: a DNS-1123 subdomain of at most 253 characters, such as `web-1` or `db.example`.
pub fn check_vm_name(name: &str) -> Result<(), InvalidName> {
    let reason = match name {
        _ if name.is_empty() => "it is empty",
        _ if name.len() > MAX_VM_NAME_LEN => "it is longer than 253 characters",
        _ if !name.bytes().all(|b| is_name_byte(b) || b == b'-' || b == b'.') => {
            "only lower-case letters, digits, `-` and `.` are allowed"
        }
        _ if !name.split('.').all(|part| has_word_ends(part.as_bytes())) => {
            "each part between dots has to start and end with a letter or digit"
        }
        _ => return Ok(()),
    };
    Err(InvalidName { name: name.chars().take(64).collect(), reason })
}

/// Checks a host name: like a VM's name, but upper case is allowed, a label has at most 63 characters (RFC 1123) and all of
/// it at most 64 (Linux).
pub fn check_hostname(hostname: &str) -> Result<(), InvalidName> {
    let reason = match check_vm_name(&hostname.to_ascii_lowercase()) {
        Err(error) => error.reason,
        Ok(()) if hostname.len() > MAX_HOSTNAME_LEN => "it is longer than 64 characters",
        Ok(()) if hostname.split('.').any(|label| label.len() > MAX_LABEL_LEN) => {
            "a part between dots is longer than 63 characters"
        }
        Ok(()) => return Ok(()),
    };
    Err(InvalidName { name: hostname.chars().take(64).collect(), reason })
}

/// Checks the name of an image, kernel or configuration: printable, not empty, and of bounded length.
pub fn check_object_name(name: &str) -> Result<(), InvalidName> {
    let reason = match name {
        _ if name.is_empty() => "it is empty",
        _ if name.len() > MAX_OBJECT_NAME_LEN => "it is too long",
        _ if name.chars().any(|c| c.is_control() || c.is_whitespace()) => "it has white space or control characters",
        _ => return Ok(()),
    };
    Err(InvalidName { name: name.chars().take(64).collect(), reason })
}

/// A host name for a VM of this name: the name itself, its parts cut to 63 characters and all of it to 64.
pub fn hostname_of(vm_name: &str) -> String {
    let mut hostname = String::new();
    for label in vm_name.split('.') {
        let dot = usize::from(!hostname.is_empty());
        let room = MAX_HOSTNAME_LEN.saturating_sub(hostname.len() + dot).min(MAX_LABEL_LEN);
        let cut: String = label.chars().take(room).collect();
        let cut = cut.trim_end_matches('-');
        if cut.is_empty() {
            break;
        }
        if dot == 1 {
            hostname.push('.');
        }
        hostname.push_str(cut);
    }
    hostname
}

/// The name `adjective-noun` chosen by these random bytes, such as `misty-heron`: one of more than 12,000.
///
/// Whoever calls asks for another one when it is taken.
pub fn random_name(bytes: [u8; 8]) -> String {
    let n = u64::from_be_bytes(bytes);
    let (adjectives, nouns) = (ADJECTIVES.len() as u64, NOUNS.len() as u64);
    // Both indexes are below the lengths of the lists.
    format!("{}-{}", ADJECTIVES[(n % adjectives) as usize], NOUNS[(n / adjectives % nouns) as usize])
}

fn is_name_byte(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

fn has_word_ends(part: &[u8]) -> bool {
    part.first().copied().is_some_and(is_name_byte) && part.last().copied().is_some_and(is_name_byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn vm_names_are_dns_subdomains() {
        for name in ["a", "web-1", "db.example.org", "1a", &"a".repeat(253)] {
            assert_eq!(check_vm_name(name), Ok(()), "{name}");
        }
        for (name, reason) in [
            ("", "empty"),
            (&*"a".repeat(254), "253"),
            ("Web", "lower-case"),
            ("a_b", "lower-case"),
            ("a/b", "lower-case"),
            ("../a", "lower-case"),
            ("a\n", "lower-case"),
            ("ä", "lower-case"),
            ("-a", "start and end"),
            ("a-", "start and end"),
            ("a..b", "start and end"),
            (".", "start and end"),
            ("a.-b", "start and end"),
        ] {
            let error = check_vm_name(name).expect_err(name);
            assert!(error.reason.contains(reason), "{name}: {error}");
        }
    }

    #[test]
    fn host_names_have_short_labels() {
        assert_eq!(check_hostname("Node-1.example"), Ok(()));
        assert!(check_hostname(&"a".repeat(63)).is_ok());
        assert!(check_hostname(&"a".repeat(64)).is_err());
        assert!(check_hostname("a b").is_err());
        assert_eq!(hostname_of(&format!("{}-x.b", "a".repeat(62))), format!("{}.b", "a".repeat(62)));
        assert_eq!(hostname_of(&format!("{}.b.c", "a".repeat(61))), format!("{}.b", "a".repeat(61)));
        assert_eq!(hostname_of("db.example"), "db.example");
    }

    #[test]
    fn object_names_are_printable() {
        assert_eq!(check_object_name("127.0.0.1:5000/App:V1"), Ok(()));
        for name in ["", "a b", "a\u{1b}[31m", "a\n"] {
            assert!(check_object_name(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn the_words_are_distinct() {
        for words in [&ADJECTIVES[..], &NOUNS[..]] {
            let distinct: std::collections::BTreeSet<_> = words.iter().collect();
            assert_eq!(distinct.len(), words.len());
        }
        assert!(ADJECTIVES.len() * NOUNS.len() > 12_000);
    }

    proptest! {
        #[test]
        fn every_random_name_is_a_vm_name_and_a_host_name(bytes: [u8; 8]) {
            let name = random_name(bytes);
            prop_assert_eq!(check_vm_name(&name), Ok(()));
            prop_assert_eq!(check_hostname(&name), Ok(()));
            prop_assert_eq!(hostname_of(&name), name);
        }

        #[test]
        fn a_vm_name_always_gives_a_host_name(name in "[a-z0-9.-]{1,90}") {
            if check_vm_name(&name).is_ok() {
                prop_assert_eq!(check_hostname(&hostname_of(&name)), Ok(()));
            }
        }
    }
}
