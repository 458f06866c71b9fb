//! What the store holds of an image: its blobs, whether they are whole, and how the image was built.

use crate::digest::{Digest, Hasher};
use crate::document::{Document, Manifest, parse_document, printable};
use crate::limits::{MAX_CONFIG_BYTES, MAX_MANIFEST_BYTES};
use crate::{ContentStore, OciError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;

/// One step of an image's build (OCI image-spec 1.1, config.md "history").
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HistoryEntry {
    /// When, as the image says.
    pub created: Option<String>,
    /// The command.
    pub created_by: String,
    /// A remark.
    pub comment: String,
    /// Bytes of the layer as it is stored; absent where the step made none.
    pub size: Option<u64>,
}

impl ContentStore {
    /// All blobs of an image with their sizes: manifest, configuration, layers.
    pub fn blobs_of(&self, manifest_digest: &str) -> Result<BTreeMap<String, u64>, OciError> {
        let (bytes, manifest) = self.manifest(manifest_digest)?;
        let mut blobs = BTreeMap::from([(manifest_digest.to_owned(), bytes.len() as u64)]);
        for blob in std::iter::once(&manifest.config).chain(&manifest.layers) {
            blobs.insert(blob.digest.clone(), blob.size);
        }
        Ok(blobs)
    }

    /// Reads all blobs of an image again and names those that are missing or have changed. Blocks as long as that takes.
    pub fn damaged_blobs(&self, manifest_digest: &str) -> Result<Vec<String>, OciError> {
        let blobs = match self.blobs_of(manifest_digest) {
            Ok(blobs) => blobs,
            Err(OciError::DigestMismatch { .. } | OciError::BlobMissing { .. }) => {
                return Ok(vec![manifest_digest.to_owned()]);
            }
            Err(error) => return Err(error),
        };
        let mut damaged = Vec::new();
        for digest in blobs.into_keys() {
            if !self.is_whole(&digest.parse()?)? {
                damaged.push(digest);
            }
        }
        Ok(damaged)
    }

    /// Bytes of all blobs, whoever needs them.
    pub fn total_bytes(&self) -> Result<u64, OciError> {
        let mut total = 0;
        for algorithm in crate::digest::Algorithm::ALL {
            let dir = self.root().join("blobs").join(algorithm.name());
            for entry in std::fs::read_dir(&dir).map_err(OciError::store("list", &dir))? {
                let entry = entry.map_err(OciError::store("list", &dir))?;
                total += entry.metadata().map_err(OciError::store("look at", entry.path()))?.len();
            }
        }
        Ok(total)
    }

    /// How an image was built, the lowest layer first.
    pub fn history(&self, manifest_digest: &str) -> Result<Vec<HistoryEntry>, OciError> {
        #[derive(Deserialize)]
        struct Configuration {
            #[serde(default)]
            history: Option<Vec<Step>>,
        }
        #[derive(Deserialize)]
        struct Step {
            created: Option<String>,
            #[serde(default)]
            created_by: Option<String>,
            #[serde(default)]
            comment: Option<String>,
            #[serde(default)]
            empty_layer: bool,
        }
        let (_, manifest) = self.manifest(manifest_digest)?;
        let bytes = self.read_blob(&manifest.config.parsed_digest()?, MAX_CONFIG_BYTES)?;
        let configuration: Configuration =
            serde_json::from_slice(&bytes).map_err(|error| OciError::InvalidDocument {
                what: format!("configuration {}", manifest.config.digest),
                reason: error.to_string(),
            })?;
        let mut layers = manifest.layers.iter();
        let steps = configuration.history.unwrap_or_default().into_iter().map(|step| HistoryEntry {
            created: step.created.map(|text| printable(&text)),
            created_by: printable(&step.created_by.unwrap_or_default()),
            comment: printable(&step.comment.unwrap_or_default()),
            size: if step.empty_layer { None } else { layers.next().map(|layer| layer.size) },
        });
        let mut entries: Vec<HistoryEntry> = steps.collect();
        // Images made by hand tell nothing of their layers.
        let untold = |layer: &crate::document::Descriptor| HistoryEntry {
            created: None,
            created_by: String::new(),
            comment: String::new(),
            size: Some(layer.size),
        };
        entries.extend(layers.map(untold));
        Ok(entries)
    }

    pub(crate) fn manifest(&self, manifest_digest: &str) -> Result<(Vec<u8>, Manifest), OciError> {
        let bytes = self.read_blob(&manifest_digest.parse()?, MAX_MANIFEST_BYTES)?;
        match parse_document(&bytes, None, manifest_digest)? {
            Document::Manifest(manifest) => Ok((bytes, *manifest)),
            Document::Index(_) => {
                let reason = "it is an index".to_owned();
                Err(OciError::InvalidDocument { what: format!("manifest {manifest_digest}"), reason })
            }
        }
    }

    fn is_whole(&self, digest: &Digest) -> Result<bool, OciError> {
        let path = self.path_of(digest);
        let mut file = match File::open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            other => other.map_err(OciError::store("open", &path))?,
        };
        let mut hasher = Hasher::new(digest.algorithm());
        let mut buffer = vec![0; 256 << 10];
        loop {
            match file.read(&mut buffer).map_err(OciError::store("read", &path))? {
                0 => return Ok(hasher.finish() == *digest),
                count => hasher.update(&buffer[..count]),
            }
        }
    }
}
