//! PAX extended headers: `length key=value` records.

use crate::tree::Xattr;

use super::reader::TarError;

/// What the records of one extended header override.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Pax {
    pub path: Option<Vec<u8>>,
    pub link_path: Option<Vec<u8>>,
    pub size: Option<i64>,
    pub uid: Option<i64>,
    pub gid: Option<i64>,
    pub mtime: Option<(i64, u32)>,
    pub xattrs: Vec<Xattr>,
    /// `GNU.sparse.major` and `.minor`.
    pub sparse_version: (Option<i64>, Option<i64>),
    /// `GNU.sparse.name`.
    pub sparse_name: Option<Vec<u8>>,
    /// `GNU.sparse.size` or `GNU.sparse.realsize`.
    pub sparse_size: Option<i64>,
    /// Offsets and lengths of formats 0.0 and 0.1, in turns.
    pub sparse_map: Option<Vec<i64>>,
}

impl Pax {
    /// Reads the records of a header's content.
    pub fn parse(mut content: &[u8]) -> Result<Pax, TarError> {
        let mut pax = Pax::default();
        while !content.is_empty() {
            let (key, value, rest) = split_record(content).ok_or(TarError::Malformed("a PAX record"))?;
            content = rest;
            pax.set(key, value).ok_or(TarError::Malformed("a PAX value"))?;
        }
        Ok(pax)
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            self.xattrs.retain(|xattr| xattr.name != name);
            // An empty value unsets, as in every PAX record; Go's reader, and so umoci, does the same.
            if !value.is_empty() {
                self.xattrs.push(Xattr { name: name.to_vec(), value: value.to_vec() });
            }
            return Some(());
        }
        if value.is_empty() {
            return Some(());
        }
        match key {
            b"path" => self.path = Some(without_nul(value)?),
            b"linkpath" => self.link_path = Some(without_nul(value)?),
            b"size" => self.size = Some(decimal(value)?),
            b"uid" => self.uid = Some(decimal(value)?),
            b"gid" => self.gid = Some(decimal(value)?),
            b"mtime" => self.mtime = Some(parse_time(value)?),
            b"GNU.sparse.major" => self.sparse_version.0 = Some(decimal(value)?),
            b"GNU.sparse.minor" => self.sparse_version.1 = Some(decimal(value)?),
            b"GNU.sparse.name" => self.sparse_name = Some(without_nul(value)?),
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => self.sparse_size = Some(decimal(value)?),
            b"GNU.sparse.offset" => {
                let map = self.sparse_map.get_or_insert_default();
                map.len().is_multiple_of(2).then(|| decimal(value).map(|number| map.push(number)))??;
            }
            b"GNU.sparse.numbytes" => {
                let map = self.sparse_map.get_or_insert_default();
                (map.len() % 2 == 1).then(|| decimal(value).map(|number| map.push(number)))??;
            }
            b"GNU.sparse.map" => {
                let numbers = value.split(|&byte| byte == b',').map(decimal);
                self.sparse_map = Some(numbers.collect::<Option<_>>()?);
            }
            _ => {}
        }
        Some(())
    }
}

/// Splits `length key=value\n` off; the length counts the whole record.
fn split_record(content: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = content.iter().take(20).position(|&byte| byte == b' ')?;
    let length = usize::try_from(decimal(&content[..space])?).ok()?;
    let (record, rest) = content.split_at_checked(length)?;
    let record = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|&byte| byte == b'=')?;
    (equals > 0).then_some((&record[..equals], &record[equals + 1..], rest))
}

fn without_nul(value: &[u8]) -> Option<Vec<u8>> {
    (!value.contains(&0)).then(|| value.to_vec())
}

pub(super) fn decimal(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Seconds with a fraction, such as `-1.5`; nanoseconds count upwards from the floor of the seconds.
fn parse_time(text: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let seconds: i64 = whole.parse().ok()?;
    let nanos =
        fraction.bytes().chain(std::iter::repeat(b'0')).take(9).fold(0, |n, digit| n * 10 + u32::from(digit - b'0'));
    if whole.starts_with('-') && nanos > 0 {
        return Some((seconds.checked_sub(1)?, 1_000_000_000 - nanos));
    }
    Some((seconds, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_fractions_and_may_precede_1970() {
        for (text, time) in [
            ("1350244992.023960108", Some((1_350_244_992, 23_960_108))),
            ("1350244992", Some((1_350_244_992, 0))),
            ("5.1234567899", Some((5, 123_456_789))),
            ("-1.5", Some((-2, 500_000_000))),
            ("-0.25", Some((-1, 750_000_000))),
            ("-3.0", Some((-3, 0))),
            ("7.", Some((7, 0))),
            ("x", None),
            ("1.-5", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(parse_time(text.as_bytes()), time, "{text}");
        }
    }

    #[test]
    fn records_override_and_bad_ones_are_refused() {
        let pax = Pax::parse(b"12 path=a/b\n29 SCHILY.xattr.user.a=x=y\nz\n11 size=12\n").unwrap();
        assert_eq!(pax.path.as_deref(), Some(&b"a/b"[..]));
        assert_eq!(pax.xattrs, [Xattr { name: b"user.a".into(), value: b"x=y\nz".into() }]);
        assert_eq!(pax.size, Some(12));
        for bad in [&b"5 a=b\n"[..], b"99 a=b\n", b"6 a=b", b"-3 a", b"6 =bb\n", b"a b=c\n", b"11 size=1x\n", b"\0"] {
            assert!(Pax::parse(bad).is_err(), "{}", bad.escape_ascii());
        }
    }
}
