//! A real registry that asks for certificates of its clients.
#![allow(clippy::unwrap_used, missing_docs)]

mod harness;

use harness::images::TestImage;
use harness::registry::{Setup, TestRegistry};
use harness::{have, layer_contents, options, silent};
use ignite_oci::{ContentStore, OciError, PullOptions, fetch};
use std::path::{Path, PathBuf};
use std::process::Command;

const NAME: &str = "test/certified:v1";

/// A certificate that its own key has signed.
fn certificate(dir: &Path, name: &str) -> (PathBuf, PathBuf) {
    let (certificate, key) = (dir.join(format!("{name}.cert")), dir.join(format!("{name}.key")));
    let output = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE", "-out"])
        .arg(&certificate)
        .arg("-keyout")
        .arg(&key)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    (certificate, key)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_asks_who_we_are_is_told() {
    if !have(&["docker-registry", "skopeo", "openssl"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (server, server_key) = certificate(dir.path(), "server");
    let (us, our_key) = certificate(dir.path(), "us");
    let (_, other_key) = certificate(dir.path(), "other");
    let pushing = dir.path().join("pushing");
    std::fs::create_dir(&pushing).unwrap();
    std::fs::copy(&us, pushing.join("me.cert")).unwrap();
    std::fs::copy(&our_key, pushing.join("me.key")).unwrap();
    let setup =
        Setup { tls: Some((server.clone(), server_key)), clients: Some((us.clone(), pushing)), ..Setup::default() };
    let registry = TestRegistry::start(&setup);
    let image = TestImage::new("amd64", &[b"certified"]);
    registry.push(&image, NAME, &setup);

    let store = ContentStore::open(dir.path().join("store").as_path()).unwrap();
    let certificates = dir.path().join("certs.d");
    let ours = certificates.join(&registry.address);
    std::fs::create_dir_all(&ours).unwrap();
    std::fs::copy(&server, ours.join("ca.crt")).unwrap();
    let configured = PullOptions { certificate_dirs: vec![certificates], retries: 0, ..options() };
    let source = format!("{}/{NAME}", registry.address).parse().unwrap();
    let pull = || fetch(&store, &source, None, &configured, silent());

    let unknown = pull().await.unwrap_err();
    assert!(!matches!(unknown, OciError::ClientCertificate { .. } | OciError::Untrusted { .. }), "{unknown:?}");
    std::fs::copy(&us, ours.join("me.cert")).unwrap();
    for (key, says) in [(other_key.as_path(), "does not go with the key"), (us.as_path(), "no private key")] {
        std::fs::copy(key, ours.join("me.key")).unwrap();
        let refused = pull().await.unwrap_err();
        let text = refused.to_string();
        assert!(text.contains(says) && text.contains("me.key") && refused.hint().is_some(), "{text}");
    }
    std::fs::copy(&our_key, ours.join("me.key")).unwrap();
    let stored = pull().await.unwrap();
    assert_eq!(layer_contents(&store, &stored), image.tars);
}
