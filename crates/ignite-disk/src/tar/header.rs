//! One 512-byte tar header block.

use super::reader::TarError;

pub(super) const BLOCK: usize = 512;

/// Which dialect a header is written in; it decides what the last 167 bytes mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    V7,
    Ustar,
    Gnu,
}

/// A header whose checksum is right.
pub(super) struct Header<'a>(&'a [u8; BLOCK]);

impl<'a> Header<'a> {
    /// Checks the checksum, which some old writers summed over signed bytes.
    pub fn parse(block: &'a [u8; BLOCK]) -> Result<Header<'a>, TarError> {
        let header = Header(block);
        let stored = parse_number(header.field(148, 8)).ok_or(TarError::Malformed("a header's checksum"))?;
        let (mut unsigned, mut signed) = (0i64, 0i64);
        for (at, &byte) in block.iter().enumerate() {
            let byte = if (148..156).contains(&at) { b' ' } else { byte };
            unsigned += i64::from(byte);
            signed += i64::from(byte as i8);
        }
        if stored != unsigned && stored != signed {
            return Err(TarError::Malformed("a header (its checksum is wrong)"));
        }
        Ok(header)
    }

    pub fn format(&self) -> Format {
        match self.field(257, 8) {
            b"ustar  \0" => Format::Gnu,
            magic if magic.starts_with(b"ustar\0") => Format::Ustar,
            _ => Format::V7,
        }
    }

    pub fn type_flag(&self) -> u8 {
        self.0[156]
    }

    /// The name, with its ustar prefix.
    pub fn name(&self) -> Vec<u8> {
        let name = text(self.field(0, 100));
        let prefix = match self.format() {
            Format::Ustar => text(self.field(345, 155)),
            Format::Gnu | Format::V7 => b"",
        };
        if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
    }

    pub fn link_name(&self) -> Vec<u8> {
        text(self.field(157, 100)).to_vec()
    }

    pub fn mode(&self) -> Result<i64, TarError> {
        self.number(100, 8, "mode")
    }

    pub fn uid(&self) -> Result<i64, TarError> {
        self.number(108, 8, "owner")
    }

    pub fn gid(&self) -> Result<i64, TarError> {
        self.number(116, 8, "group")
    }

    pub fn size(&self) -> Result<i64, TarError> {
        self.number(124, 12, "size")
    }

    pub fn mtime(&self) -> Result<i64, TarError> {
        self.number(136, 12, "time")
    }

    /// Device numbers; headers older than ustar have none.
    pub fn device(&self) -> Result<(i64, i64), TarError> {
        match self.format() {
            Format::V7 => Ok((0, 0)),
            Format::Ustar | Format::Gnu => {
                Ok((self.number(329, 8, "device number")?, self.number(337, 8, "device number")?))
            }
        }
    }

    /// The four sparse entries of an old GNU header, whether more follow, and the file's real size.
    pub fn gnu_sparse(&self) -> (&'a [u8], bool, &'a [u8]) {
        (&self.0[386..482], self.0[482] != 0, &self.0[483..495])
    }

    fn field(&self, at: usize, len: usize) -> &'a [u8] {
        &self.0[at..at + len]
    }

    fn number(&self, at: usize, len: usize, what: &'static str) -> Result<i64, TarError> {
        parse_number(self.field(at, len)).ok_or(TarError::Malformed(what))
    }
}

/// Bytes up to the first NUL.
fn text(field: &[u8]) -> &[u8] {
    field.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// A number in octal, or in base 256 when the first bit is set (GNU; two's complement).
pub(super) fn parse_number(field: &[u8]) -> Option<i64> {
    let (&first, rest) = field.split_first()?;
    if first & 0x80 != 0 {
        let is_negative = first & 0x40 != 0;
        let head = if is_negative { i128::from(first) - 256 } else { i128::from(first & 0x7f) };
        let value = rest.iter().try_fold(head, |value, &byte| value.checked_mul(256)?.checked_add(i128::from(byte)))?;
        return i64::try_from(value).ok();
    }
    let digits = field.trim_ascii_start();
    let end = digits.iter().position(|&byte| byte == 0 || byte == b' ').unwrap_or(digits.len());
    let (digits, rest) = digits.split_at(end);
    if rest.iter().any(|&byte| byte != 0 && byte != b' ') && !digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0i64, |value, &byte| match byte {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(byte - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_base_256() {
        for (field, number) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"644\0\0\0\0\0", Some(0o644)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"        ", Some(0)),
            (b"\x80\0\0\0\x12\x34\x56\x78", Some(0x1234_5678)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xfe", Some(-2)),
            (b"0000998\0", None),
            (b"12 34\0\0\0", None),
            (b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
            (b"-1\0\0\0\0\0\0", None),
        ] {
            assert_eq!(parse_number(field), number, "{}", field.escape_ascii());
        }
    }
}
