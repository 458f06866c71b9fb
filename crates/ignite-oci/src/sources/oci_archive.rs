//! Source `oci-archive:PATH[:TAG]`: a tar, plain or compressed, of an OCI image layout.

use super::layout_image::{LayoutBlobs, Request, import};
use crate::archive::ArchiveContents;
use crate::digest::Digest;
use crate::document::{Descriptor, LayoutIndex};
use crate::{ContentStore, OciError, Progress, PullOptions, StoredImage};
use std::io::Read;
use std::path::Path;

pub(super) fn fetch(
    store: &ContentStore,
    reader: &mut (dyn Read + Send),
    path: Option<&Path>,
    tag: Option<&str>,
    options: &PullOptions,
    progress: &dyn Progress,
) -> Result<StoredImage, OciError> {
    let location = path.map_or_else(|| "oci-archive:-".to_owned(), |path| format!("oci-archive:{}", path.display()));
    let contents = ArchiveContents::read(store, reader, &location, progress)?;
    import_contents(store, &contents, path, tag, options, progress)
}

/// Brings the image that `tag` means out of an archive that was read.
pub(super) fn import_contents(
    store: &ContentStore,
    contents: &ArchiveContents,
    path: Option<&Path>,
    tag: Option<&str>,
    options: &PullOptions,
    progress: &dyn Progress,
) -> Result<StoredImage, OciError> {
    let location = contents.label().to_owned();
    let index = LayoutIndex::parse(&contents.read_document(store, "index.json")?, &location)?;
    let request = Request { location: &location, path, tag, options };
    import(store, &index, &mut ArchiveBlobs { store, contents }, &request, progress)
}

struct ArchiveBlobs<'a> {
    store: &'a ContentStore,
    contents: &'a ArchiveContents,
}

/// Reading the archive has compared every blob with its name.
impl LayoutBlobs for ArchiveBlobs<'_> {
    fn read(&mut self, digest: &Digest, limit_bytes: u64) -> Result<Vec<u8>, OciError> {
        self.contents.read_member(self.store, &member_name(digest), limit_bytes)
    }

    fn stage(&mut self, blob: &Descriptor) -> Result<(), OciError> {
        let found = self.contents.find(self.store, &member_name(&blob.parsed_digest()?))?;
        if found.size != blob.size {
            return Err(OciError::SizeMismatch { what: blob.digest.clone(), expected: blob.size, actual: found.size });
        }
        Ok(())
    }

    fn commit(&mut self, digest: &Digest) -> Result<bool, OciError> {
        self.contents.commit(&member_name(digest))
    }
}

fn member_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}
