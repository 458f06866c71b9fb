//! Reading a layer: its tar, decompressed and verified against the diff id.

use crate::compression::decompress;
use crate::digest::{Digest, Hasher};
use crate::{ContentStore, Layer, OciError};
use std::fs::File;
use std::io::{self, Read};

impl ContentStore {
    /// Opens a stored layer for reading.
    pub fn open_layer(&self, layer: &Layer) -> Result<LayerReader, OciError> {
        let diff_id: Digest = layer.diff_id.parse()?;
        let digest: Digest = layer.digest.parse()?;
        let open_error = |source| OciError::OpenLayer { digest: layer.digest.clone(), source };
        let file = match File::open(self.path_of(&digest)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(OciError::BlobMissing { digest: layer.digest.clone() });
            }
            other => other.map_err(open_error)?,
        };
        let (compression, decoder) = decompress(file).map_err(open_error)?;
        if let Some(format) = compression.refused_for_layers() {
            return Err(OciError::UnsupportedLayer { digest: layer.digest.clone(), format: format.to_owned() });
        }
        let hasher = Some(Hasher::new(diff_id.algorithm()));
        Ok(LayerReader { decoder, hasher, digest, diff_id, read: 0, max_bytes: self.max_layer_bytes() })
    }
}

/// The tar stream of a layer.
///
/// Every read is bounded; the end of the stream is reported only when all of it has the layer's diff id, otherwise an
/// error of kind `InvalidData` names the layer and both digests. A tar reader stops before the end: call
/// [`LayerReader::finish`] afterwards, before the content is believed.
pub struct LayerReader {
    decoder: Box<dyn Read + Send>,
    hasher: Option<Hasher>,
    digest: Digest,
    diff_id: Digest,
    read: u64,
    max_bytes: u64,
}

impl LayerReader {
    /// Decompressed bytes read so far.
    pub fn bytes_read(&self) -> u64 {
        self.read
    }

    /// Reads what is left and verifies the whole; gives the layer's decompressed size.
    pub fn finish(mut self) -> io::Result<u64> {
        let mut buffer = vec![0; 64 << 10];
        while self.read(&mut buffer)? > 0 {}
        Ok(self.read)
    }

    fn invalid(&self, reason: impl std::fmt::Display) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, format!("layer {}: {reason}", self.digest))
    }
}

impl Read for LayerReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let count = self.decoder.read(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::Interrupted => error,
            kind => io::Error::new(kind, format!("layer {}: {error}", self.digest)),
        })?;
        if count == 0 {
            let Some(hasher) = self.hasher.take() else { return Ok(0) };
            let actual = hasher.clone().finish();
            if actual != self.diff_id {
                // Every further read fails as well.
                self.hasher = Some(hasher);
                return Err(self.invalid(format_args!("content has digest {actual}, the image says {}", self.diff_id)));
            }
            return Ok(0);
        }
        self.read += count as u64;
        if self.read > self.max_bytes {
            return Err(self.invalid(format_args!("more than {} bytes when decompressed", self.max_bytes)));
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..count]);
        }
        Ok(count)
    }
}

impl std::fmt::Debug for LayerReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LayerReader")
            .field("digest", &self.digest.to_string())
            .field("read", &self.read)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn stored(bytes: &[u8], content: &[u8]) -> (tempfile::TempDir, ContentStore, Layer) {
        let dir = tempfile::tempdir().unwrap();
        let store = ContentStore::open(dir.path()).unwrap();
        let digest = Digest::of(bytes);
        store.put_blob(bytes, &digest).unwrap();
        let layer = Layer {
            digest: digest.to_string(),
            diff_id: Digest::of(content).to_string(),
            media_type: "application/vnd.oci.image.layer.v1.tar".to_owned(),
            size: bytes.len() as u64,
        };
        (dir, store, layer)
    }

    #[test]
    fn a_layer_is_read_whatever_its_media_type_says() {
        let content = vec![42u8; 300_000];
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&content).unwrap();
        for bytes in [gzip.finish().unwrap(), zstd::encode_all(&content[..], 1).unwrap(), content.clone()] {
            let (_dir, store, layer) = stored(&bytes, &content);
            let mut read = Vec::new();
            store.open_layer(&layer).unwrap().read_to_end(&mut read).unwrap();
            assert!(read == content);
            assert_eq!(store.open_layer(&layer).unwrap().finish().unwrap(), 300_000);
        }
    }

    #[test]
    fn another_diff_id_is_an_error_naming_both_at_the_end_and_ever_after() {
        let (_dir, store, layer) = stored(b"content", b"other content");
        let mut reader = store.open_layer(&layer).unwrap();
        for _ in 0..2 {
            let error = reader.read_to_end(&mut Vec::new()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            for part in [&layer.digest, &layer.diff_id, &Digest::of(b"content").to_string()] {
                assert!(error.to_string().contains(part.as_str()), "{error} lacks {part}");
            }
        }
    }

    #[test]
    fn a_bomb_ends_at_the_limit() {
        let content = vec![0u8; 2 << 20];
        let bytes = zstd::encode_all(&content[..], 1).unwrap();
        assert!(bytes.len() < 1000);
        let (_dir, store, layer) = stored(&bytes, &content);
        let error = store.with_max_layer_bytes(1 << 20).open_layer(&layer).unwrap().finish().unwrap_err();
        assert!(error.to_string().contains("more than 1048576 bytes"), "{error}");
    }

    #[test]
    fn a_layer_that_is_not_there_is_named() {
        let (_dir, store, mut layer) = stored(b"x", b"x");
        layer.digest = Digest::of(b"y").to_string();
        assert!(matches!(store.open_layer(&layer), Err(OciError::BlobMissing { .. })));
    }
}
