//! Source `-`: an archive on standard input, its kind told from its members.

use super::{docker_archive, oci_archive};
use crate::archive::ArchiveContents;
use crate::error::STDIN_LABEL;
use crate::{ContentStore, OciError, Progress, PullOptions, StoredImage};
use std::io::Read;

pub(super) fn fetch(
    store: &ContentStore,
    reader: &mut (dyn Read + Send),
    options: &PullOptions,
    progress: &dyn Progress,
) -> Result<StoredImage, OciError> {
    let contents = ArchiveContents::read(store, reader, STDIN_LABEL, progress)?;
    // A new `docker save` writes both; the layout has the manifest as it was pulled.
    if contents.has("oci-layout") && contents.has("index.json") {
        return oci_archive::import_contents(store, &contents, None, None, options, progress);
    }
    if contents.has("manifest.json") {
        return docker_archive::import_contents(store, &contents, None, None, options, progress);
    }
    Err(OciError::InvalidArchive {
        archive: contents.label().to_owned(),
        reason: "it has neither oci-layout nor manifest.json: not an image archive".to_owned(),
    })
}
