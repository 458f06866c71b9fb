//! An OCI image layout made by hand, for `umoci` to unpack.

use std::fs;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::layer::Layer;

/// Writes a layout with one image, tagged `test`, whose layers are not compressed.
pub fn write_layout(dir: &Path, layers: &[Layer]) {
    fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
    fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let blob = |bytes: &[u8], media: &str| {
        let digest = hex::encode(Sha256::digest(bytes));
        fs::write(dir.join("blobs/sha256").join(&digest), bytes).unwrap();
        serde_json::json!({
            "mediaType": format!("application/vnd.oci.image.{media}"),
            "digest": format!("sha256:{digest}"),
            "size": bytes.len(),
        })
    };
    let layers: Vec<_> = layers.iter().map(|layer| blob(&layer.bytes, "layer.v1.tar")).collect();
    let diff_ids: Vec<_> = layers.iter().map(|layer| layer["digest"].clone()).collect();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": {}, "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    let config = blob(config.to_string().as_bytes(), "config.v1+json");
    let manifest = serde_json::json!({ "schemaVersion": 2, "config": config, "layers": layers });
    let mut manifest = blob(manifest.to_string().as_bytes(), "manifest.v1+json");
    manifest["annotations"] = serde_json::json!({ "org.opencontainers.image.ref.name": "test" });
    let index = serde_json::json!({ "schemaVersion": 2, "manifests": [manifest] });
    fs::write(dir.join("index.json"), index.to_string()).unwrap();
}
