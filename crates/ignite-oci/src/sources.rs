//! The table of image sources, and the walk through it.

mod containerd;
mod docker_archive;
mod docker_daemon;
mod layout_image;
mod oci_archive;
mod oci_layout;
mod registry;
mod several;
mod stdin;

use crate::{ContentStore, OciError, Progress, ProgressEvent, PullOptions, StoredImage};
pub use several::fetch_all;

use ignite_api::ImageSource;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

/// What standard input is, for those sources that may read it.
type Stdin<'a> = Option<&'a mut (dyn Read + Send)>;

/// Brings the image of `source` into `store`, verified. What is there already is not brought again, also when several
/// processes ask at once; what an interrupted fetch left is continued. `stdin` is read by the source `-` only, on the
/// calling thread (inside `block_in_place` where the runtime has several).
///
/// On error nothing of the image is listed, and only whole blobs and resumable downloads stay.
pub async fn fetch(
    store: &ContentStore,
    source: &ImageSource,
    stdin: Option<&mut (dyn Read + Send)>,
    options: &PullOptions,
    progress: Arc<dyn Progress>,
) -> Result<StoredImage, OciError> {
    let _lease = store.lease()?;
    progress.event(ProgressEvent::Resolving { reference: source.to_string() });
    match source {
        ImageSource::Registry(reference) => registry::fetch(store, reference, options, &progress).await,
        ImageSource::OciLayout { path, tag } => {
            blocking(|| oci_layout::fetch(store, path, tag.as_deref(), options, &*progress))
        }
        ImageSource::OciArchive { path, tag } => blocking(|| {
            let (mut reader, path) = open_archive(path, stdin)?;
            oci_archive::fetch(store, &mut *reader, path, tag.as_deref(), options, &*progress)
        }),
        ImageSource::DockerArchive { path, reference } => blocking(|| {
            let (mut reader, path) = open_archive(path, stdin)?;
            docker_archive::fetch(store, &mut *reader, path, reference.as_deref(), options, &*progress)
        }),
        ImageSource::Stdin => blocking(|| {
            let (mut reader, _) = open_archive(Path::new("-"), stdin)?;
            stdin::fetch(store, &mut *reader, options, &*progress)
        }),
        ImageSource::DockerDaemon(reference) => docker_daemon::fetch(store, reference, options, &progress).await,
        ImageSource::Containerd(reference) => containerd::fetch(store, reference, options, &progress).await,
    }
}

/// The digest `source` has now, for `--pull always`: without fetching, from an index where there is one. Compare it with
/// [`StoredImage::source_digest`]. Archives answer [`OciError::DigestNeedsReading`].
pub async fn resolve_digest(source: &ImageSource, options: &PullOptions) -> Result<String, OciError> {
    match source {
        ImageSource::Registry(reference) => registry::resolve_digest(reference, options).await,
        ImageSource::OciLayout { path, tag } => oci_layout::resolve_digest(path, tag.as_deref(), options),
        ImageSource::OciArchive { .. } | ImageSource::DockerArchive { .. } | ImageSource::Stdin => {
            Err(OciError::DigestNeedsReading { location: source.to_string() })
        }
        ImageSource::DockerDaemon(reference) => docker_daemon::resolve_digest(reference, options).await,
        ImageSource::Containerd(reference) => containerd::resolve_digest(reference, options).await,
    }
}

/// Runs file work on this thread, letting a runtime of several threads move its other tasks away first.
fn blocking<T>(work: impl FnOnce() -> T) -> T {
    match tokio::runtime::Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(tokio::runtime::RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

/// The archive's stream, and its path unless it is standard input.
fn open_archive<'p, 's>(
    path: &'p Path,
    stdin: Stdin<'s>,
) -> Result<(Box<dyn Read + Send + 's>, Option<&'p Path>), OciError> {
    if path == Path::new("-") {
        return Ok((Box::new(stdin.ok_or(OciError::NoStandardInput)?), None));
    }
    let read_error = |source| OciError::ReadSource { path: path.to_owned(), source };
    let file = File::open(path).map_err(read_error)?;
    if file.metadata().map_err(read_error)?.is_dir() {
        return Err(read_error(std::io::ErrorKind::IsADirectory.into()));
    }
    Ok((Box::new(file), Some(path)))
}
