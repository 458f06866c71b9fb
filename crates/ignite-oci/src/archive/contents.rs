//! What an image archive holds: its members staged and hashed, found by name through links.

use super::tar_members::{Member, MemberKind, TarMembers};
use crate::compression::{Compression, decompress};
use crate::digest::{Algorithm, Digest};
use crate::document::printable;
use crate::limits::{MAX_ARCHIVE_MEMBERS, MAX_MANIFEST_BYTES};
use crate::staging::{StageError, Staged, Staging};
use crate::{ContentStore, OciError, Progress, ProgressEvent};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};

/// Longest chain of links.
const MAX_LINKS: usize = 8;
/// How often reading is told.
const REPORT_BYTES: u64 = 4 << 20;

/// An archive that was read to its end.
pub(crate) struct ArchiveContents {
    label: String,
    staging: Staging,
    members: HashMap<String, Content>,
}

enum Content {
    File(Staged),
    /// The store has this blob already; the archive's copy was not looked at.
    Stored(Digest, u64),
    /// Normalised name of another member.
    Link(String),
}

/// A member's blob: where it is, and what is known of it.
pub(crate) struct Found {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) compression: Compression,
}

impl ArchiveContents {
    /// Reads all of `reader`, which may be compressed, staging the members. `label` names the archive in errors.
    pub(crate) fn read(
        store: &ContentStore,
        reader: &mut (dyn Read + Send),
        label: &str,
        progress: &dyn Progress,
    ) -> Result<ArchiveContents, OciError> {
        let read_error = |source| OciError::ReadArchive { archive: label.to_owned(), source };
        let invalid = |reason: String| OciError::InvalidArchive { archive: label.to_owned(), reason };
        let (_, reader) = decompress(reader).map_err(read_error)?;
        let counted = Counted { reader, bytes: 0, told: 0, limit: store.max_layer_bytes(), progress };
        let mut tar = TarMembers::new(counted);
        let mut contents =
            ArchiveContents { label: label.to_owned(), staging: Staging::new(store)?, members: HashMap::new() };
        while let Some(member) = tar.next_member().map_err(read_error)? {
            let Some(name) = normalise("", &member.name) else {
                return Err(invalid(format!("member {:?} leads out of the archive", printable(&member.name))));
            };
            if contents.members.len() >= MAX_ARCHIVE_MEMBERS {
                return Err(invalid(format!("more than {MAX_ARCHIVE_MEMBERS} members")));
            }
            if let Some(content) = contents.take(store, &mut tar, &member, &name)? {
                contents.members.insert(name, content);
            }
        }
        // A writer at the other end of a pipe must not be cut off, and a compressed stream has its checksum last.
        let mut rest = tar.into_reader();
        io::copy(&mut rest, &mut io::sink()).map_err(read_error)?;
        if contents.members.is_empty() {
            return Err(invalid("it is empty".to_owned()));
        }
        Ok(contents)
    }

    fn take<R: Read>(
        &mut self,
        store: &ContentStore,
        tar: &mut TarMembers<R>,
        member: &Member,
        name: &str,
    ) -> Result<Option<Content>, OciError> {
        let invalid = |reason: String| OciError::InvalidArchive { archive: self.label.clone(), reason };
        let link = |base: &str, target: &str| {
            normalise(base, target)
                .map(|target| Some(Content::Link(target)))
                .ok_or_else(|| invalid(format!("link {:?} leads out of the archive", printable(&member.name))))
        };
        match &member.kind {
            MemberKind::Other => return Ok(None),
            MemberKind::Symlink(target) => {
                return link(name.rsplit_once('/').map_or("", |(dir, _)| dir), target);
            }
            MemberKind::HardLink(target) => return link("", target),
            MemberKind::File => {}
        }
        let named = blob_digest(name);
        if let Some(digest) = &named
            && store.size_of(digest)? == Some(member.size)
        {
            return Ok(Some(Content::Stored(digest.clone(), member.size)));
        }
        let algorithm = named.as_ref().map_or(Algorithm::Sha256, Digest::algorithm);
        let staged = self.staging.add(tar, algorithm, store.max_layer_bytes()).map_err(|error| match error {
            StageError::Read(source) => OciError::ReadArchive { archive: self.label.clone(), source },
            StageError::TooLarge => {
                OciError::TooLarge { what: format!("member {name}"), limit_bytes: store.max_layer_bytes() }
            }
            StageError::Write(error) => error,
        })?;
        if let Some(digest) = named
            && digest != staged.digest
        {
            return Err(OciError::DigestMismatch {
                what: format!("member of image archive {}", self.label),
                expected: digest.to_string(),
                actual: staged.digest.to_string(),
            });
        }
        Ok(Some(Content::File(staged)))
    }

    /// How the archive is called in errors.
    pub(crate) fn label(&self) -> &str {
        &self.label
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.members.contains_key(name)
    }

    /// The content of the member `name`, links followed.
    fn content(&self, name: &str) -> Result<&Content, OciError> {
        let missing = || OciError::MemberMissing { archive: self.label.clone(), member: printable(name) };
        let mut at = normalise("", name).ok_or_else(missing)?;
        for _ in 0..MAX_LINKS {
            match self.members.get(&at).ok_or_else(missing)? {
                Content::Link(target) => at = target.clone(),
                content => return Ok(content),
            }
        }
        Err(OciError::InvalidArchive {
            archive: self.label.clone(),
            reason: format!("links of {:?} go in circles", printable(name)),
        })
    }

    /// What the member `name` is.
    pub(crate) fn find(&self, store: &ContentStore, name: &str) -> Result<Found, OciError> {
        Ok(match self.content(name)? {
            Content::File(staged) => {
                Found { digest: staged.digest.clone(), size: staged.size, compression: staged.compression }
            }
            Content::Stored(digest, size) => {
                let path = store.path_of(digest);
                let mut start = Vec::new();
                File::open(&path)
                    .and_then(|file| file.take(8).read_to_end(&mut start))
                    .map_err(OciError::store("read", &path))?;
                Found { digest: digest.clone(), size: *size, compression: Compression::detect(&start) }
            }
            Content::Link(_) => {
                return Err(OciError::MemberMissing { archive: self.label.clone(), member: printable(name) });
            }
        })
    }

    /// The bytes of a small member.
    pub(crate) fn read_member(&self, store: &ContentStore, name: &str, limit_bytes: u64) -> Result<Vec<u8>, OciError> {
        match self.content(name)? {
            Content::File(staged) => self
                .staging
                .read(staged, limit_bytes)?
                .ok_or_else(|| OciError::TooLarge { what: format!("member {}", printable(name)), limit_bytes }),
            Content::Stored(digest, _) => store.read_blob(digest, limit_bytes),
            Content::Link(_) => Err(OciError::MemberMissing { archive: self.label.clone(), member: printable(name) }),
        }
    }

    /// The JSON documents at the top of the archive.
    pub(crate) fn read_document(&self, store: &ContentStore, name: &str) -> Result<Vec<u8>, OciError> {
        self.read_member(store, name, MAX_MANIFEST_BYTES)
    }

    /// Moves the member's content into the store. True when it was there already.
    pub(crate) fn commit(&self, name: &str) -> Result<bool, OciError> {
        match self.content(name)? {
            Content::File(staged) => self.staging.commit(staged),
            Content::Stored(..) | Content::Link(_) => Ok(true),
        }
    }
}

/// The digest a member's name promises: `blobs/sha256/<hex>`.
fn blob_digest(name: &str) -> Option<Digest> {
    let (algorithm, hex) = name.strip_prefix("blobs/")?.split_once('/')?;
    format!("{algorithm}:{hex}").parse().ok()
}

/// Name of a member in one spelling, relative to `base`; `None` when it leads out of the archive.
fn normalise(base: &str, name: &str) -> Option<String> {
    if name.starts_with('/') || name.contains('\0') {
        return None;
    }
    let mut parts: Vec<&str> = base.split('/').filter(|part| !part.is_empty()).collect();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// Counts what is read, tells it, and ends a stream that goes on beyond all measure.
struct Counted<'a, R> {
    reader: R,
    bytes: u64,
    told: u64,
    limit: u64,
    progress: &'a dyn Progress,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.bytes += count as u64;
        if self.bytes > self.limit {
            let reason = format!("more than {} bytes when decompressed", self.limit);
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        if self.bytes - self.told >= REPORT_BYTES {
            self.told = self.bytes;
            self.progress.event(ProgressEvent::Reading { bytes: self.bytes });
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_normalised_and_kept_inside() {
        for (base, name, expected) in [
            ("", "./a//b/./c", Some("a/b/c")),
            ("x/y", "../z/layer.tar", Some("x/z/layer.tar")),
            ("x", "../../etc/passwd", None),
            ("", "/etc/passwd", None),
            ("", "a/../..", None),
        ] {
            assert_eq!(normalise(base, name).as_deref(), expected, "{base} {name}");
        }
    }

    #[test]
    fn only_blob_names_promise_a_digest() {
        let hex = "ab".repeat(32);
        assert!(blob_digest(&format!("blobs/sha256/{hex}")).is_some());
        assert!(blob_digest(&format!("{hex}/layer.tar")).is_none());
        assert!(blob_digest("blobs/sha256/x").is_none());
    }

    proptest! {
        #[test]
        fn no_name_escapes(base in "[a./]{0,12}", name in "[a./]{0,20}") {
            if let Some(name) = normalise(&base, &name) {
                prop_assert!(!name.starts_with('/'));
            }
            if let Some(name) = normalise("", &name) {
                prop_assert!(name.split('/').all(|part| part != ".."));
            }
        }

        #[test]
        fn foreign_archives_never_panic_and_leave_nothing(bytes in proptest::collection::vec(any::<u8>(), 0..1500)) {
            let dir = tempfile::tempdir().unwrap();
            let store = ContentStore::open(dir.path()).unwrap();
            let result = ArchiveContents::read(&store, &mut bytes.as_slice(), "test", &());
            drop(result);
            let left = std::fs::read_dir(store.ingest_dir()).unwrap()
                .filter(|entry| !entry.as_ref().unwrap().file_name().to_string_lossy().ends_with(".lock")).count();
            prop_assert_eq!(left, 0);
        }
    }
}
