//! The members of a tar stream, with every length bounded before it is believed.
//!
//! The `tar` crate reads long names and PAX records of any size into memory; archives come from strangers here, so the
//! headers are walked by hand and only their fields are decoded by the crate.

use crate::limits::MAX_MEMBER_NAME_BYTES;
use std::io::{self, Read};
use tar::{EntryType, Header};

/// Largest PAX record block that is read.
const MAX_PAX_BYTES: u64 = 1 << 20;
const BLOCK: u64 = 512;

/// What a member is, as far as image archives need to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MemberKind {
    File,
    /// Target as written.
    Symlink(String),
    /// Name of another member.
    HardLink(String),
    /// Directories and whatever else has no content of interest.
    Other,
}

/// A member's header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) kind: MemberKind,
    pub(crate) size: u64,
}

/// Walks a tar; the current member's content is read through [`Read`].
pub(crate) struct TarMembers<R> {
    reader: R,
    /// Content of the current member that was not read yet.
    content: u64,
    /// Padding after it.
    padding: u64,
}

/// What PAX and GNU records say of the member that follows them.
#[derive(Default)]
struct Overrides {
    name: Option<String>,
    link: Option<String>,
    size: Option<u64>,
}

fn invalid(reason: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.into())
}

impl<R: Read> TarMembers<R> {
    pub(crate) fn new(reader: R) -> TarMembers<R> {
        TarMembers { reader, content: 0, padding: 0 }
    }

    /// The next member, after skipping what was not read of the last one; `None` at the archive's end.
    pub(crate) fn next_member(&mut self) -> io::Result<Option<Member>> {
        let mut overrides = Overrides::default();
        loop {
            self.skip_rest()?;
            let Some(header) = self.read_header()? else { return Ok(None) };
            let kind = header.entry_type();
            let size = match overrides.size {
                Some(size) if !is_record(kind) => size,
                _ => header.entry_size().map_err(|error| invalid(format!("a header's size: {error}")))?,
            };
            self.content = size;
            self.padding = (BLOCK - size % BLOCK) % BLOCK;
            match kind {
                EntryType::XHeader => self.read_pax(&mut overrides)?,
                EntryType::GNULongName => overrides.name = Some(self.read_long_name()?),
                EntryType::GNULongLink => overrides.link = Some(self.read_long_name()?),
                EntryType::XGlobalHeader => {}
                EntryType::GNUSparse => return Err(invalid("a sparse member, which image archives do not have")),
                _ => return member(&header, overrides, size).map(Some),
            }
        }
    }

    /// The stream behind the archive's end.
    pub(crate) fn into_reader(self) -> R {
        self.reader
    }

    fn read_header(&mut self) -> io::Result<Option<Header>> {
        let mut block = [0; BLOCK as usize];
        let mut filled = 0;
        while filled < block.len() {
            match self.reader.read(&mut block[filled..]) {
                // The two zero blocks at the end are often missing; half a header never is in order.
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive ends within a header")),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let header = Header::from_byte_slice(&block).clone();
        let sum: u32 = block
            .iter()
            .enumerate()
            .map(|(at, byte)| if (148..156).contains(&at) { u32::from(b' ') } else { u32::from(*byte) })
            .sum();
        match header.cksum() {
            Ok(stated) if stated == sum => Ok(Some(header)),
            _ => Err(invalid("not a tar: a header's checksum is wrong")),
        }
    }

    fn skip_rest(&mut self) -> io::Result<()> {
        let rest = self.content.checked_add(self.padding).ok_or_else(|| invalid("a member's size is absurd"))?;
        let skipped = io::copy(&mut (&mut self.reader).take(rest), &mut io::sink())?;
        if skipped < rest {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive ends within a member"));
        }
        self.content = 0;
        self.padding = 0;
        Ok(())
    }

    fn read_record(&mut self, limit: u64) -> io::Result<Vec<u8>> {
        if self.content > limit {
            return Err(invalid(format!("a header record of {} bytes, at most {limit}", self.content)));
        }
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn read_long_name(&mut self) -> io::Result<String> {
        let bytes = self.read_record(MAX_MEMBER_NAME_BYTES as u64 + 1)?;
        Ok(text(bytes.split(|byte| *byte == 0).next().unwrap_or_default()))
    }

    fn read_pax(&mut self, overrides: &mut Overrides) -> io::Result<()> {
        let bytes = self.read_record(MAX_PAX_BYTES)?;
        for record in tar::PaxExtensions::new(&bytes) {
            let record = record?;
            match record.key_bytes() {
                b"path" => overrides.name = Some(text(record.value_bytes())),
                b"linkpath" => overrides.link = Some(text(record.value_bytes())),
                b"size" => {
                    let size = record.value().ok().and_then(|value| value.parse().ok());
                    overrides.size = Some(size.ok_or_else(|| invalid("a PAX record's size is no number"))?);
                }
                key if key.starts_with(b"GNU.sparse.") => {
                    return Err(invalid("a sparse member, which image archives do not have"));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl<R: Read> Read for TarMembers<R> {
    /// Reads the current member's content; a stream that ends too early is an error.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.content).unwrap_or(usize::MAX).min(buffer.len());
        if wanted == 0 {
            return Ok(0);
        }
        let count = self.reader.read(&mut buffer[..wanted])?;
        if count == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive ends within a member"));
        }
        self.content -= count as u64;
        Ok(count)
    }
}

fn is_record(kind: EntryType) -> bool {
    matches!(kind, EntryType::XHeader | EntryType::XGlobalHeader | EntryType::GNULongName | EntryType::GNULongLink)
}

fn member(header: &Header, overrides: Overrides, size: u64) -> io::Result<Member> {
    let name = overrides.name.unwrap_or_else(|| text(&header.path_bytes()));
    let link = || overrides.link.clone().unwrap_or_else(|| text(&header.link_name_bytes().unwrap_or_default()));
    let kind = match header.entry_type() {
        EntryType::Regular | EntryType::Continuous => MemberKind::File,
        EntryType::Symlink => MemberKind::Symlink(link()),
        EntryType::Link => MemberKind::HardLink(link()),
        _ => MemberKind::Other,
    };
    let longest = name.len().max(match &kind {
        MemberKind::Symlink(target) | MemberKind::HardLink(target) => target.len(),
        MemberKind::File | MemberKind::Other => 0,
    });
    if longest > MAX_MEMBER_NAME_BYTES {
        return Err(invalid(format!("a name of {longest} bytes, at most {MAX_MEMBER_NAME_BYTES}")));
    }
    Ok(Member { name, kind, size })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn archive() -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        let mut file = |name: &str, content: &[u8]| {
            let mut header = Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, content).unwrap();
        };
        file("a", b"first");
        file(&"long/".repeat(60), b"second");
        let mut link = Header::new_gnu();
        link.set_entry_type(EntryType::Symlink);
        link.set_size(0);
        builder.append_link(&mut link, "b/layer.tar", "../a").unwrap();
        builder.append_pax_extensions([("path", &b"renamed"[..])]).unwrap();
        let mut header = Header::new_ustar();
        header.set_size(3);
        builder.append_data(&mut header, "short", &b"pax"[..]).unwrap();
        builder.into_inner().unwrap()
    }

    fn walk(bytes: &[u8]) -> io::Result<Vec<(Member, Vec<u8>)>> {
        let mut members = TarMembers::new(bytes);
        let mut found = Vec::new();
        while let Some(member) = members.next_member()? {
            let mut content = Vec::new();
            if found.len() != 1 {
                members.read_to_end(&mut content)?;
            }
            found.push((member, content));
        }
        Ok(found)
    }

    #[test]
    fn members_are_walked_with_long_names_links_and_pax() {
        let found = walk(&archive()).unwrap();
        let names: Vec<&str> = found.iter().map(|(member, _)| member.name.as_str()).collect();
        assert_eq!(names, ["a", "long/".repeat(60).as_str(), "b/layer.tar", "renamed"]);
        assert_eq!(found[0].1, b"first");
        assert_eq!(found[2].0.kind, MemberKind::Symlink("../a".to_owned()));
        assert_eq!(found[3].1, b"pax");
    }

    #[test]
    fn every_truncation_within_a_member_is_an_error() {
        let bytes = archive();
        let full = walk(&bytes).unwrap().len();
        for end in 0..bytes.len() - 1024 {
            match walk(&bytes[..end]) {
                Ok(found) => assert!(end % 512 == 0 && found.len() < full, "cut at {end}"),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "cut at {end}: {error}"),
            }
        }
    }

    #[test]
    fn a_huge_record_is_refused_before_it_is_read() {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::GNULongName);
        header.set_size(1 << 40);
        header.set_cksum();
        let error = TarMembers::new(header.as_bytes().chain(io::repeat(b'x'))).next_member().unwrap_err();
        assert!(error.to_string().contains("1099511627776 bytes"), "{error}");
    }

    #[test]
    fn absurd_sizes_are_errors() {
        let mut header = Header::new_gnu();
        header.set_size(u64::MAX);
        header.set_cksum();
        let mut members = TarMembers::new(header.as_bytes().as_slice());
        let first = members.next_member();
        assert!(first.is_err() || members.next_member().is_err());
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
            let _ = walk(&bytes);
            // With a right checksum the decoding of the fields is reached.
            if bytes.len() >= 512 {
                let mut block = [0; 512];
                block.copy_from_slice(&bytes[..512]);
                let mut header = Header::from_byte_slice(&block).clone();
                header.set_cksum();
                bytes[..512].copy_from_slice(header.as_bytes());
                let _ = walk(&bytes);
            }
        }

        #[test]
        fn a_damaged_archive_never_panics(at in 0usize..4000, value: u8) {
            let mut bytes = archive();
            let at = at % bytes.len();
            bytes[at] = value;
            let _ = walk(&bytes);
        }
    }
}
