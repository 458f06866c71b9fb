//! Tests of manifests, indexes and the choice among their entries.

use super::*;
use proptest::prelude::*;

const D1: &str = "sha256:1111111111111111111111111111111111111111111111111111111111111111";
const D2: &str = "sha256:2222222222222222222222222222222222222222222222222222222222222222";

fn manifest(config_type: &str, layer: serde_json::Value) -> Vec<u8> {
    serde_json::to_vec(&serde_json::json!({
        "schemaVersion": 2,
        "config": {"mediaType": config_type, "digest": D1, "size": 2},
        "layers": [layer],
    }))
    .unwrap()
}

fn layer(media_type: &str) -> serde_json::Value {
    serde_json::json!({"mediaType": media_type, "digest": D2, "size": 3})
}

fn entry(digest: &str, platform: Option<(&str, &str, Option<&str>)>) -> Descriptor {
    Descriptor {
        media_type: OCI_MANIFEST.to_owned(),
        digest: digest.to_owned(),
        size: 1,
        platform: platform.map(|(os, architecture, variant)| DescriptorPlatform {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.map(str::to_owned),
        }),
        ..Descriptor::default()
    }
}

fn named(digest: &str, annotation: &str, name: &str) -> Descriptor {
    let annotations = Some([(annotation.to_owned(), name.to_owned())].into());
    Descriptor { annotations, ..entry(digest, None) }
}

fn layout(manifests: Vec<Descriptor>) -> LayoutIndex {
    LayoutIndex { schema_version: 2, media_type: OCI_INDEX.to_owned(), manifests }
}

#[test]
fn docker_and_oci_layers_are_accepted() {
    for media_type in [
        "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.oci.image.layer.v1.tar+gzip",
        "application/vnd.oci.image.layer.v1.tar+zstd",
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
        "application/vnd.docker.image.rootfs.diff.tar",
    ] {
        let document = parse_document(&manifest(OCI_CONFIG, layer(media_type)), None, "test").unwrap();
        let Document::Manifest(manifest) = document else { panic!("{media_type}: an index") };
        assert_eq!(manifest.layers.len(), 1);
    }
}

#[test]
fn what_is_no_image_is_refused_by_name() {
    let tar = "application/vnd.oci.image.layer.v1.tar";
    let mut foreign = layer("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip");
    foreign["urls"] = serde_json::json!(["https://example.com/layer"]);
    let mut bad_digest = layer(tar);
    bad_digest["digest"] = "sha256:../../etc/passwd".into();
    let both = br#"{"schemaVersion":2,"layers":[],"manifests":[]}"#.to_vec();
    let cases: Vec<(Vec<u8>, Option<&str>, &str)> = vec![
        (
            manifest("application/vnd.cncf.helm.config.v1+json", layer(tar)),
            None,
            "not a container image but application/vnd.cncf",
        ),
        (manifest(OCI_CONFIG, foreign), None, "https://example.com/layer"),
        (manifest(OCI_CONFIG, bad_digest), None, "invalid digest"),
        (manifest(OCI_CONFIG, layer("application/vnd.oci.image.layer.v1.tar+encrypted")), None, "unsupported format"),
        (manifest(OCI_CONFIG, layer("application/vnd.wasm.content")), None, "unsupported format"),
        (manifest(OCI_CONFIG, layer(tar)), Some(OCI_INDEX), "calls itself"),
        (both, None, "at once"),
        (br#"{"schemaVersion":1,"fsLayers":[]}"#.to_vec(), None, "schema 1"),
        (
            br#"{"schemaVersion":2}"#.to_vec(),
            Some("application/vnd.docker.distribution.manifest.v1+prettyjws"),
            "schema 1",
        ),
        (br#"{"schemaVersion":3,"manifests":[]}"#.to_vec(), None, "schemaVersion 3"),
        (br#"{"schemaVersion":2}"#.to_vec(), None, "neither"),
        (vec![b' '; MAX_MANIFEST_BYTES as usize + 1], None, "larger than"),
    ];
    for (bytes, sent_as, reason) in cases {
        let error = parse_document(&bytes, sent_as, "test").unwrap_err().to_string();
        assert!(error.contains(reason), "expected {reason:?} in {error:?}");
    }
}

#[test]
fn too_many_layers_are_refused() {
    let layers: Vec<_> = (0..=MAX_LAYERS).map(|_| layer("application/vnd.oci.image.layer.v1.tar")).collect();
    let text = serde_json::json!({"schemaVersion": 2, "config": layer(OCI_CONFIG), "layers": layers});
    let error = parse_document(&serde_json::to_vec(&text).unwrap(), None, "test").unwrap_err();
    assert!(error.to_string().contains("513 layers"), "{error}");
}

#[test]
fn the_best_fitting_entry_is_chosen() {
    let entries = [
        entry(D1, Some(("unknown", "unknown", None))),
        entry(D1, Some(("linux", "arm", Some("v6")))),
        entry(D2, Some(("linux", "arm", Some("v7")))),
    ];
    let arm = |variant: &str| format!("linux/arm/{variant}").parse::<Platform>().unwrap();
    assert_eq!(choose(&entries, &arm("v7"), "test").unwrap().digest, D2);
    assert_eq!(choose(&entries, &arm("v6"), "test").unwrap().digest, D1);
    let error = choose(&entries, &"linux/s390x".parse().unwrap(), "test").unwrap_err();
    assert_eq!(error.to_string(), "test is not available for linux/s390x, only for: linux/arm/v6, linux/arm/v7");
    let entries = [entry(D1, Some(("windows", "amd64", None))), entry(D2, None)];
    assert_eq!(choose(&entries, &"linux/amd64".parse().unwrap(), "test").unwrap().digest, D2);
    assert!(choose(&[], &Platform::host(), "test").is_err());
}

#[test]
fn a_layout_image_is_selected_by_tag_or_because_it_is_alone() {
    let index = layout(vec![named(D1, REF_NAME, "v1"), named(D2, CONTAINERD_NAME, "docker.io/library/redis:7")]);
    let pick = |tag| index.select(tag, "oci:/x").map(|(entries, name)| (entries[0].digest.clone(), name.unwrap()));
    assert_eq!(pick(Some("v1")).unwrap(), (D1.to_owned(), "v1".to_owned()));
    assert_eq!(pick(Some("redis:7")).unwrap().0, D2);
    assert_eq!(
        pick(Some("v2")).unwrap_err().to_string(),
        r#"oci:/x holds no image "v2", only: v1, docker.io/library/redis:7"#
    );
    let error = pick(None).unwrap_err();
    assert_eq!(error.to_string(), "oci:/x holds 2 images: docker.io/library/redis:7, v1");
    assert!(error.hint().unwrap().contains("oci:/x:docker.io/library/redis:7"));
    assert_eq!(layout(vec![named(D1, REF_NAME, "only")]).select(None, "x").unwrap().1.unwrap(), "only");
    let by_platform =
        layout(vec![entry(D1, Some(("linux", "amd64", None))), entry(D2, Some(("linux", "arm64", None)))]);
    assert_eq!(by_platform.select(None, "x").unwrap().0.len(), 2);
    assert!(layout(Vec::new()).select(None, "x").is_err());
}

#[test]
fn control_characters_do_not_reach_messages() {
    assert_eq!(printable("a\x1b[31mb\n"), "a [31mb");
    assert_eq!(printable(&"x".repeat(1000)).len(), 300);
}

proptest! {
    #[test]
    fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse_document(&bytes, None, "test");
        let _ = LayoutIndex::parse(&bytes, "test");
    }

    #[test]
    fn foreign_json_never_panics(
        version in 0u32..4,
        member in "(layers|manifests|config)",
        value in "(null|1|\\[\\]|\\[1\\]|\\[\\{\\}\\]|\\{\"digest\":\"x\",\"size\":-1\\}|\\{\"digest\":\"x\",\"size\":1\\})",
    ) {
        let text = format!(r#"{{"schemaVersion":{version},"{member}":{value}}}"#);
        let _ = parse_document(text.as_bytes(), None, "test");
        let _ = LayoutIndex::parse(text.as_bytes(), "test");
    }
}
