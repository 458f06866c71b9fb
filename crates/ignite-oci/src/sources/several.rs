//! Several images of an archive, for `image load`: all of them, each under every name it has there, or those that are named.

use super::{docker_archive, oci_archive};
use crate::archive::ArchiveContents;
use crate::document::{CONTAINERD_NAME, LayoutIndex, REF_NAME};
use crate::{ContentStore, OciError, Progress, PullOptions, StoredImage};
use std::io::Read;
use std::path::Path;

/// Brings the images `wanted` of the archive `reader`, whose path is `path` unless it is a stream, into `store`; where none is
/// named, every one. On an error those before it stay. Blocks as long as the archive takes.
pub fn fetch_all(
    store: &ContentStore,
    reader: &mut (dyn Read + Send),
    path: Option<&Path>,
    wanted: &[String],
    options: &PullOptions,
    progress: &dyn Progress,
) -> Result<Vec<StoredImage>, OciError> {
    let _lease = store.lease()?;
    let label = path.map_or_else(|| crate::error::STDIN_LABEL.to_owned(), |path| path.display().to_string());
    let contents = ArchiveContents::read(store, reader, &label, progress)?;
    if contents.has("oci-layout") && contents.has("index.json") {
        let index = LayoutIndex::parse(&contents.read_document(store, "index.json")?, &label)?;
        let mut names: Vec<&str> = wanted.iter().map(String::as_str).collect();
        for entry in index.manifests.iter().filter(|_| wanted.is_empty()) {
            let name = entry.annotation(CONTAINERD_NAME).or_else(|| entry.annotation(REF_NAME));
            names.extend(name.filter(|name| !names.contains(name)));
        }
        if names.is_empty() {
            return Ok(vec![oci_archive::import_contents(store, &contents, path, None, options, progress)?]);
        }
        let import = |name: &&str| oci_archive::import_contents(store, &contents, path, Some(*name), options, progress);
        return names.iter().map(import).collect();
    }
    if contents.has("manifest.json") {
        let names = match wanted.is_empty() {
            true => docker_archive::names(&contents.read_document(store, "manifest.json")?, &label)?,
            false => wanted.to_vec(),
        };
        if names.is_empty() {
            return Ok(vec![docker_archive::import_contents(store, &contents, path, None, options, progress)?]);
        }
        let import =
            |name: &String| docker_archive::import_contents(store, &contents, path, Some(name), options, progress);
        return names.iter().map(import).collect();
    }
    let reason = "it has neither oci-layout nor manifest.json: not an image archive".to_owned();
    Err(OciError::InvalidArchive { archive: label, reason })
}
