//! Writing images to an archive that is both an OCI layout and what `docker load` reads.

use crate::digest::Digest;
use crate::document::{CONTAINERD_NAME, OCI_INDEX, REF_NAME};
use crate::{ContentStore, OciError};
use flate2::write::GzEncoder;
use ignite_api::ImageReference;
use serde_json::json;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;

/// An image to save: its name and the digest of its manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedImage {
    /// As others shall find it in the archive.
    pub name: String,
    /// Of an image in the store.
    pub manifest_digest: String,
}

/// How an archive is compressed. Its layers mostly are already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ArchiveCompression {
    /// As it is.
    #[default]
    None,
    /// gzip (RFC 1952).
    Gzip,
    /// Zstandard (RFC 8878).
    Zstd,
}

impl ContentStore {
    /// Writes `images` to `out` as a tar; a blob that several have is written once. Blocks as long as that takes.
    ///
    /// Each blob is read whole before its header is final, so a damaged one is an error and never an archive's content.
    pub fn save(
        &self,
        images: &[SavedImage],
        out: &mut dyn Write,
        compression: ArchiveCompression,
    ) -> Result<(), OciError> {
        let failed = |source| OciError::WriteArchive { source };
        match compression {
            ArchiveCompression::None => self.write_tar(images, out),
            ArchiveCompression::Gzip => {
                // No name and no time in its header: the same for the same content.
                let mut encoder = GzEncoder::new(out, flate2::Compression::default());
                self.write_tar(images, &mut encoder)?;
                encoder.finish().and_then(|out| out.flush()).map_err(failed)
            }
            ArchiveCompression::Zstd => {
                let mut encoder = zstd::Encoder::new(out, zstd::DEFAULT_COMPRESSION_LEVEL).map_err(failed)?;
                encoder.include_checksum(true).map_err(failed)?;
                self.write_tar(images, &mut encoder)?;
                encoder.finish().and_then(|out| out.flush()).map_err(failed)
            }
        }
    }

    fn write_tar(&self, images: &[SavedImage], out: &mut dyn Write) -> Result<(), OciError> {
        let failed = |source| OciError::WriteArchive { source };
        let mut tar = tar::Builder::new(out);
        let mut written = BTreeSet::new();
        let (mut entries, mut docker) = (Vec::new(), Vec::new());
        for image in images {
            if let Some(digest) = self.damaged_blobs(&image.manifest_digest)?.first() {
                return Err(OciError::BlobDamaged { digest: digest.clone() });
            }
            let (bytes, manifest) = self.manifest(&image.manifest_digest)?;
            for digest in self.blobs_of(&image.manifest_digest)?.into_keys() {
                if written.insert(digest.clone()) {
                    self.append_blob(&mut tar, &digest.parse()?)?;
                }
            }
            let full = image.name.parse::<ImageReference>().map(|reference| reference.to_string());
            let full = full.unwrap_or_else(|_| image.name.clone());
            entries.push(json!({
                "mediaType": manifest.media_type, "digest": image.manifest_digest, "size": bytes.len(),
                "annotations": {REF_NAME: image.name, CONTAINERD_NAME: full},
            }));
            let layers: Result<Vec<String>, OciError> =
                manifest.layers.iter().map(|layer| Ok(member(&layer.parsed_digest()?))).collect();
            docker.push(json!({
                "Config": member(&manifest.config.parsed_digest()?), "RepoTags": [image.name], "Layers": layers?,
            }));
        }
        let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries});
        for (name, content) in [
            ("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#.to_owned()),
            ("index.json", index.to_string()),
            ("manifest.json", json!(docker).to_string()),
        ] {
            let mut header = header(content.len() as u64);
            tar.append_data(&mut header, name, content.as_bytes()).map_err(failed)?;
        }
        tar.finish().and_then(|()| tar.get_mut().flush()).map_err(failed)
    }

    fn append_blob(&self, tar: &mut tar::Builder<&mut dyn Write>, digest: &Digest) -> Result<(), OciError> {
        let path = self.path_of(digest);
        let file = File::open(&path).map_err(OciError::store("open", &path))?;
        let size = file.metadata().map_err(OciError::store("look at", &path))?.len();
        let appended = tar.append_data(&mut header(size), member(digest), file);
        appended.map_err(|source| OciError::WriteArchive { source })
    }
}

fn member(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

/// The same for the same content: no time, no owner.
fn header(size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(0o644);
    header
}
