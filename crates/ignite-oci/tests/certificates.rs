//! Certificates: the registry's, by an authority of its own, and ours, where it asks for them.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test that panics has failed")]

mod harness;

use harness::certificate::self_signed;
use harness::images::TestImage;
use harness::registry::{Setup, TestRegistry};
use harness::{NAME, have, have_registry, layer_contents, options, pull, silent, store};
use ignite_oci::{ContentStore, OciError, PullOptions, fetch, resolve_digest};

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_with_its_own_authority_needs_its_certificate() {
    if !have_registry() || !have(&["openssl"]) {
        return;
    }
    let (dir, store) = store();
    let (certificate, key) = self_signed(dir.path(), "server");
    let setup = Setup { tls: Some((certificate.clone(), key)), ..Setup::default() };
    let registry = TestRegistry::start(&setup);
    let image = TestImage::new("amd64", &[b"tls"]);
    registry.push(&image, NAME, &setup);
    let error = pull(&store, &registry.address, NAME, &options()).await.unwrap_err();
    assert!(matches!(error, OciError::Untrusted { .. }), "{error:?}");
    let trusting = PullOptions { ca_certificates: vec![certificate], ..options() };
    let source = format!("{}/{NAME}", registry.address).parse().unwrap();
    assert_eq!(resolve_digest(&source, &trusting).await.unwrap(), image.manifest.digest());
    let stored = pull(&store, &registry.address, NAME, &trusting).await.unwrap();
    assert_eq!(layer_contents(&store, &stored), image.tars);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_asks_who_we_are_is_told() {
    if !have(&["docker-registry", "skopeo", "openssl"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (server, server_key) = self_signed(dir.path(), "server");
    let (us, our_key) = self_signed(dir.path(), "us");
    let (_, other_key) = self_signed(dir.path(), "other");
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
