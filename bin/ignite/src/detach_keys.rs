//! The key sequence that leaves a terminal session without ending what runs in it.

/// Keys as bytes a terminal sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetachKeys(Vec<u8>);

impl Default for DetachKeys {
    /// Ctrl-P Ctrl-Q.
    fn default() -> DetachKeys {
        DetachKeys(vec![16, 17])
    }
}

impl DetachKeys {
    /// No keys detach.
    pub fn none() -> DetachKeys {
        DetachKeys(Vec::new())
    }
}

impl std::str::FromStr for DetachKeys {
    type Err = String;

    /// Docker's format: characters or `ctrl-<a-z @ [ \ ] ^ _>`, separated by commas; empty: no keys detach.
    fn from_str(text: &str) -> Result<DetachKeys, String> {
        if text.is_empty() {
            return Ok(DetachKeys::none());
        }
        text.split(',').map(parse_key).collect::<Option<Vec<u8>>>().map(DetachKeys).ok_or_else(|| {
            format!("invalid detach keys {text:?}: characters or ctrl-<letter>, separated by commas, are expected")
        })
    }
}

fn parse_key(text: &str) -> Option<u8> {
    match text.as_bytes() {
        [byte] => Some(*byte),
        _ => match text.strip_prefix("ctrl-")?.as_bytes() {
            [byte @ (b'a'..=b'z' | b'@' | b'[' | b'\\' | b']' | b'^' | b'_')] => Some(byte.to_ascii_uppercase() & 0x1f),
            _ => None,
        },
    }
}

/// Finds the sequence in what is typed, holding back a beginning of it until it is clear whether it goes on.
#[derive(Debug)]
pub struct DetachFilter {
    keys: Vec<u8>,
    matched: usize,
}

/// What to do with typed bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Typed {
    /// Send these.
    Send(Vec<u8>),
    /// Send these, then leave.
    Detach(Vec<u8>),
}

impl DetachFilter {
    /// A filter that has seen nothing.
    pub fn new(keys: DetachKeys) -> DetachFilter {
        DetachFilter { keys: keys.0, matched: 0 }
    }

    /// Takes typed bytes; what follows the sequence is dropped.
    pub fn push(&mut self, bytes: &[u8]) -> Typed {
        if self.keys.is_empty() {
            return Typed::Send(bytes.to_vec());
        }
        let mut send = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            if byte == self.keys[self.matched] {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    self.matched = 0;
                    return Typed::Detach(send);
                }
                continue;
            }
            self.mismatch(byte, &mut send);
        }
        Typed::Send(send)
    }

    /// The keys held back and `byte` are no detach sequence from where it began; a later beginning is kept.
    fn mismatch(&mut self, byte: u8, send: &mut Vec<u8>) {
        let mut held = self.keys[..self.matched].to_vec();
        held.push(byte);
        let keep = (0..held.len()).rev().find(|&len| self.keys.starts_with(&held[held.len() - len..])).unwrap_or(0);
        send.extend_from_slice(&held[..held.len() - keep]);
        self.matched = keep;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_written_as_docker_has_them() {
        for (text, bytes) in [("ctrl-p,ctrl-q", &[16, 17][..]), ("ctrl-\\", &[28]), ("a,ctrl-@", &[97, 0]), ("", &[])] {
            assert_eq!(text.parse(), Ok(DetachKeys(bytes.to_vec())), "{text}");
        }
        for text in ["ctrl-", "ctrl-pp", "ctrl-1", "ab", "a,,b", "é"] {
            assert!(text.parse::<DetachKeys>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_sequence_is_found_however_it_is_cut_into_reads() {
        let mut filter = DetachFilter::new(DetachKeys::default());
        assert_eq!(filter.push(b"ls\r"), Typed::Send(b"ls\r".to_vec()));
        assert_eq!(filter.push(b"x\x10"), Typed::Send(b"x".to_vec()), "held back");
        assert_eq!(filter.push(b"y"), Typed::Send(b"\x10y".to_vec()), "not a detach after all");
        assert_eq!(filter.push(b"\x10\x10"), Typed::Send(b"\x10".to_vec()), "the second may begin it");
        assert_eq!(filter.push(b"\x11rest"), Typed::Detach(Vec::new()));
        assert_eq!(filter.push(b"a\x10\x11"), Typed::Detach(b"a".to_vec()));
    }

    #[test]
    fn a_sequence_that_overlaps_itself_is_found() {
        let mut filter = DetachFilter::new("a,a,b".parse().unwrap());
        assert_eq!(filter.push(b"aaab"), Typed::Detach(b"a".to_vec()));
    }

    #[test]
    fn without_keys_nothing_detaches() {
        let mut filter = DetachFilter::new("".parse().unwrap());
        assert_eq!(filter.push(b"\x10\x11"), Typed::Send(b"\x10\x11".to_vec()));
    }
}
