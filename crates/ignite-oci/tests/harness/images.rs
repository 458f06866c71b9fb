//! Small OCI images made by hand.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fs;
use std::io::Write;
use std::path::Path;

pub fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// A tar with one file.
pub fn layer_tar(name: &str, content: &[u8]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    builder.append_data(&mut header, name, content).unwrap();
    builder.into_inner().unwrap()
}

/// Bytes that do not compress, the same for the same seed.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

/// One blob of an image: media type and bytes.
#[derive(Clone)]
pub struct Blob {
    pub media_type: &'static str,
    pub bytes: Vec<u8>,
}

impl Blob {
    pub fn digest(&self) -> String {
        sha256(&self.bytes)
    }

    pub fn descriptor(&self) -> Value {
        json!({"mediaType": self.media_type, "digest": self.digest(), "size": self.bytes.len()})
    }
}

/// An image in memory.
#[derive(Clone)]
pub struct TestImage {
    pub config: Blob,
    pub layers: Vec<Blob>,
    /// The layers' tars.
    pub tars: Vec<Vec<u8>>,
    pub manifest: Blob,
    pub architecture: String,
}

pub const PLAIN: &str = "application/vnd.oci.image.layer.v1.tar";
pub const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub const ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

impl TestImage {
    /// An image for `architecture` with one gzip layer per content.
    pub fn new(architecture: &str, contents: &[&[u8]]) -> TestImage {
        let layers = contents.iter().enumerate().map(|(at, content)| {
            let tar = layer_tar(&format!("file{at}"), content);
            (Blob { media_type: GZIP, bytes: gzip(&tar) }, tar)
        });
        TestImage::from_layers(architecture, layers.collect())
    }

    pub fn from_layers(architecture: &str, layers: Vec<(Blob, Vec<u8>)>) -> TestImage {
        let diff_ids: Vec<String> = layers.iter().map(|(_, tar)| sha256(tar)).collect();
        let config = json!({
            "architecture": architecture, "os": "linux",
            "config": {"Cmd": ["/bin/true"], "Env": ["PATH=/bin"], "WorkingDir": "/srv"},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config =
            Blob { media_type: "application/vnd.oci.image.config.v1+json", bytes: config.to_string().into_bytes() };
        let (layers, tars): (Vec<Blob>, Vec<Vec<u8>>) = layers.into_iter().unzip();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config.descriptor(),
            "layers": layers.iter().map(Blob::descriptor).collect::<Vec<_>>(),
        });
        let manifest =
            Blob { media_type: "application/vnd.oci.image.manifest.v1+json", bytes: manifest.to_string().into_bytes() };
        TestImage { config, layers, tars, manifest, architecture: architecture.to_owned() }
    }

    /// Blobs in the order a tool may write them.
    pub fn blobs(&self) -> Vec<&Blob> {
        self.layers.iter().chain([&self.config, &self.manifest]).collect()
    }

    pub fn entry(&self, tag: Option<&str>) -> Value {
        let mut entry = self.manifest.descriptor();
        entry["platform"] = json!({"os": "linux", "architecture": self.architecture});
        if let Some(tag) = tag {
            entry["annotations"] = json!({"org.opencontainers.image.ref.name": tag});
        }
        entry
    }
}

/// An index over `images`.
pub fn index(images: &[&TestImage]) -> Blob {
    let entries: Vec<Value> = images.iter().map(|image| image.entry(None)).collect();
    let index =
        json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": entries});
    Blob { media_type: "application/vnd.oci.image.index.v1+json", bytes: index.to_string().into_bytes() }
}

/// The members of a layout: `oci-layout`, `index.json` with `entries`, and the blobs.
pub fn layout_members(entries: Vec<Value>, blobs: &[&Blob]) -> Vec<(String, Vec<u8>)> {
    let mut members: Vec<(String, Vec<u8>)> = blobs
        .iter()
        .map(|blob| (format!("blobs/sha256/{}", blob.digest().trim_start_matches("sha256:")), blob.bytes.clone()))
        .collect();
    members.push(("index.json".to_owned(), json!({"schemaVersion": 2, "manifests": entries}).to_string().into_bytes()));
    members.push(("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()));
    members
}

pub fn write_layout(dir: &Path, members: &[(String, Vec<u8>)]) {
    for (name, bytes) in members {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

/// A tar of `members`.
pub fn archive(members: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in members {
        append(&mut builder, name, bytes);
    }
    builder.into_inner().unwrap()
}

pub fn append(builder: &mut tar::Builder<Vec<u8>>, name: &str, bytes: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    builder.append_data(&mut header, name, bytes).unwrap();
}
