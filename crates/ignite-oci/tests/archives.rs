//! Layouts and archives: what is in them comes into the store whole, or nothing does.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test that panics has failed")]

mod harness;

use harness::images::*;
use harness::{Events, have, layer_contents, leftovers, options, silent, store};
use ignite_api::ImageSource;
use ignite_oci::{
    ContainerdOptions, ContentStore, OciError, ProgressEvent, PullOptions, StoredImage, fetch, fetch_all, load_stored,
    resolve_digest,
};
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;

fn image() -> TestImage {
    let (a, b, c) = (layer_tar("a", b"one"), layer_tar("b", &noise(1, 50_000)), layer_tar("c", b"three"));
    TestImage::from_layers(
        "amd64",
        vec![
            (Blob { media_type: GZIP, bytes: gzip(&a) }, a),
            (Blob { media_type: ZSTD, bytes: zstd(&b) }, b),
            (Blob { media_type: PLAIN, bytes: c.clone() }, c),
        ],
    )
}

async fn import_bytes(store: &ContentStore, bytes: &[u8]) -> Result<StoredImage, OciError> {
    let mut reader = bytes;
    fetch(store, &ImageSource::Stdin, Some(&mut reader), &options(), silent()).await
}

async fn import(store: &ContentStore, source: &str) -> Result<StoredImage, OciError> {
    fetch(store, &source.parse().unwrap(), None, &options(), silent()).await
}

/// What `docker save` wrote for many years: directories with layer.tar, repeated layers as links.
fn docker_archive(images: &[(&TestImage, &[&str])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut list = Vec::new();
    for (at, (image, tags)) in images.iter().enumerate() {
        let mut layers = Vec::new();
        for (number, tar) in image.tars.iter().enumerate() {
            let name = format!("i{at}l{number}/layer.tar");
            match image.tars[..number].iter().position(|other| other == tar) {
                Some(same) => {
                    let mut header = tar::Header::new_gnu();
                    header.set_entry_type(tar::EntryType::Symlink);
                    header.set_size(0);
                    builder.append_link(&mut header, &name, format!("../i{at}l{same}/layer.tar")).unwrap();
                }
                None => append(&mut builder, &name, tar),
            }
            layers.push(name);
        }
        let config = format!("{}.json", image.config.digest().trim_start_matches("sha256:"));
        append(&mut builder, &config, &image.config.bytes);
        list.push(json!({"Config": config, "RepoTags": tags, "Layers": layers}));
    }
    append(&mut builder, "manifest.json", json!(list).to_string().as_bytes());
    builder.into_inner().unwrap()
}

#[tokio::test]
async fn a_layout_directory_is_imported_and_found_again() {
    let (dir, store) = store();
    let image = image();
    let layout = dir.path().join("BusyBox");
    write_layout(&layout, &layout_members(vec![image.entry(Some("v1"))], &image.blobs()));
    let source = format!("oci:{}:v1", layout.display());
    let stored = import(&store, &source).await.unwrap();
    assert_eq!(stored.name, "busybox:v1");
    assert_eq!(stored.manifest_digest, image.manifest.digest());
    assert_eq!(stored.config_digest, image.config.digest());
    assert_eq!(stored.source_id, format!("oci://busybox@{}", image.manifest.digest()));
    assert_eq!(stored.config.cmd, ["/bin/true"]);
    assert_eq!(stored.config.working_dir, "/srv");
    assert_eq!(stored.platform.as_deref(), Some("linux/amd64"));
    assert_eq!(layer_contents(&store, &stored), image.tars);
    assert_eq!(load_stored(&store, &stored.manifest_digest).await.unwrap(), stored);
    assert_eq!(resolve_digest(&source.parse().unwrap(), &options()).await.unwrap(), stored.source_digest());

    let events = Arc::new(Events::default());
    let again = fetch(&store, &source.parse().unwrap(), None, &options(), events.clone()).await.unwrap();
    assert_eq!(again, stored);
    assert_eq!(events.count(|event| matches!(event, ProgressEvent::LayerDone { reused: true, .. })), 3);
    assert_eq!(leftovers(&store).len(), 5, "three layers, configuration, manifest");
}

#[tokio::test(flavor = "multi_thread")]
async fn archives_of_every_kind_are_imported_from_files_and_standard_input() {
    let image = image();
    let oci = archive(&layout_members(vec![image.entry(Some("docker.io/library/demo:v2"))], &image.blobs()));
    let docker = docker_archive(&[(&image, &["demo:v2"])]);
    for (kind, bytes) in [("oci-archive", oci), ("docker-archive", docker)] {
        for packed in [bytes.clone(), gzip(&bytes), zstd(&bytes)] {
            let (dir, store) = store();
            let stored = import_bytes(&store, &packed).await.unwrap();
            assert_eq!(stored.name, "demo:v2", "{kind}");
            assert_eq!(layer_contents(&store, &stored), image.tars, "{kind}");
            let path = dir.path().join("image.tar");
            std::fs::write(&path, &packed).unwrap();
            let again = import(&store, &format!("{kind}:{}", path.display())).await.unwrap();
            assert_eq!(again, stored, "{kind}");
            let mut reader = packed.as_slice();
            let source = format!("{kind}:-").parse().unwrap();
            assert_eq!(fetch(&store, &source, Some(&mut reader), &options(), silent()).await.unwrap(), stored);
        }
    }
}

#[tokio::test]
async fn a_new_docker_archive_is_both_kinds_and_imports_the_same_twice() {
    let image = image();
    let mut members = layout_members(vec![image.entry(Some("demo:v2"))], &image.blobs());
    let member = |blob: &Blob| format!("blobs/sha256/{}", blob.digest().trim_start_matches("sha256:"));
    let layers: Vec<String> = image.layers.iter().map(member).collect();
    let list = json!([{"Config": member(&image.config), "RepoTags": ["demo:v2"], "Layers": layers}]);
    members.push(("manifest.json".to_owned(), list.to_string().into_bytes()));
    let (dir, store) = store();
    let path = dir.path().join("saved.tar");
    std::fs::write(&path, archive(&members)).unwrap();
    let source = format!("docker-archive:{}", path.display());
    let first = import(&store, &source).await.unwrap();
    assert_eq!(import(&store, &source).await.unwrap(), first);
    assert_eq!(layer_contents(&store, &first), image.tars);
    let from_stdin = import_bytes(&store, &archive(&members)).await.unwrap();
    assert_eq!(from_stdin.manifest_digest, image.manifest.digest());
}

#[tokio::test]
async fn repeated_layers_of_an_old_docker_archive_are_links() {
    let tar = layer_tar("a", b"same");
    let layer = (Blob { media_type: PLAIN, bytes: tar.clone() }, tar);
    let image = TestImage::from_layers("amd64", vec![layer.clone(), layer]);
    let (_dir, store) = store();
    let stored = import_bytes(&store, &docker_archive(&[(&image, &["twice:1"])])).await.unwrap();
    assert_eq!(stored.layers[0], stored.layers[1]);
    assert_eq!(stored.layers[0].digest, stored.layers[0].diff_id);
    assert_eq!(layer_contents(&store, &stored), image.tars);
}

#[tokio::test]
async fn several_images_need_a_name() {
    let (one, two) = (TestImage::new("amd64", &[b"1"]), TestImage::new("amd64", &[b"2"]));
    let (dir, store) = store();
    let path = dir.path().join("two.tar");
    std::fs::write(&path, docker_archive(&[(&one, &["one:1"]), (&two, &["two:2"])])).unwrap();
    let source = format!("docker-archive:{}", path.display());
    let error = import(&store, &source).await.unwrap_err();
    assert_eq!(error.to_string(), format!("{source} holds 2 images: one:1, two:2"));
    assert_eq!(error.hint().unwrap(), format!("say which one, for example {source}:one:1"));
    assert!(leftovers(&store).is_empty(), "{:?}", leftovers(&store));
    assert_eq!(layer_contents(&store, &import(&store, &format!("{source}:two:2")).await.unwrap()), two.tars);

    let entries = vec![one.entry(Some("a")), two.entry(Some("b"))];
    let blobs: Vec<&Blob> = one.blobs().into_iter().chain(two.blobs()).collect();
    std::fs::write(&path, archive(&layout_members(entries, &blobs))).unwrap();
    let source = format!("oci-archive:{}", path.display());
    assert!(import(&store, &source).await.unwrap_err().to_string().ends_with("holds 2 images: a, b"));
    let stored = import(&store, &format!("{source}:b")).await.unwrap();
    assert_eq!((stored.name.as_str(), layer_contents(&store, &stored)), ("two:b", two.tars));
}

#[test]
fn images_of_an_archive_are_loaded_by_their_names_or_all() {
    let (one, two) = (TestImage::new("amd64", &[b"1"]), TestImage::new("amd64", &[b"2"]));
    let blobs: Vec<&Blob> = one.blobs().into_iter().chain(two.blobs()).collect();
    let layout = archive(&layout_members(vec![one.entry(Some("a:v1")), two.entry(Some("b:v1"))], &blobs));
    let docker = docker_archive(&[(&one, &["a:v1"]), (&two, &["b:v1"])]);
    for archive in [layout, docker] {
        let (_dir, store) = store();
        let load = |wanted: &[&str]| {
            let wanted: Vec<String> = wanted.iter().map(|name| (*name).to_owned()).collect();
            let found = fetch_all(&store, &mut archive.as_slice(), None, &wanted, &options(), &());
            found.map(|images| images.into_iter().map(|image| image.name).collect::<Vec<_>>())
        };
        let error = load(&["c:v1"]).unwrap_err();
        assert!(matches!(&error, OciError::NoSuchImage { names, .. } if names.len() == 2), "{error:?}");
        assert_eq!(load(&["b:v1"]).unwrap(), ["b:v1"]);
        assert_eq!(load(&[]).unwrap(), ["a:v1", "b:v1"]);
    }
}

#[tokio::test]
async fn an_index_in_a_layout_is_followed_by_platform() {
    let (amd, arm) = (TestImage::new("amd64", &[b"amd"]), TestImage::new("arm64", &[b"arm"]));
    let index = index(&[&arm, &amd]);
    let blobs: Vec<&Blob> = amd.blobs().into_iter().chain(arm.blobs()).chain([&index]).collect();
    let bytes = archive(&layout_members(vec![index.descriptor()], &blobs));
    let (_dir, store) = store();
    let stored = import_bytes(&store, &bytes).await.unwrap();
    assert_eq!(stored.manifest_digest, amd.manifest.digest());
    assert_eq!(stored.source_digest(), index.digest());
    let mut wanted = options();
    wanted.platform = "linux/s390x".parse().unwrap();
    let mut reader = bytes.as_slice();
    let error = fetch(&store, &ImageSource::Stdin, Some(&mut reader), &wanted, silent()).await.unwrap_err();
    assert!(error.to_string().contains("only for: linux/amd64, linux/arm64"), "{error}");
}

#[tokio::test]
async fn an_image_for_another_processor_is_refused() {
    let image = TestImage::new("arm64", &[b"x"]);
    let (_dir, store) = store();
    let error = import_bytes(&store, &docker_archive(&[(&image, &["x:1"])])).await.unwrap_err();
    assert_eq!(error.to_string(), "standard input is made for linux/arm64, not for linux/amd64");
    assert!(leftovers(&store).is_empty());
}

#[tokio::test]
async fn truncated_archives_are_refused_and_leave_nothing() {
    let image = image();
    let oci = archive(&layout_members(vec![image.entry(None)], &image.blobs()));
    let docker = docker_archive(&[(&image, &["x:1"])]);
    for bytes in [oci, docker] {
        for packed in [bytes.clone(), gzip(&bytes), zstd(&bytes)] {
            let (_dir, store) = store();
            for tenth in 0..10 {
                let cut = packed.len() * tenth / 10;
                let error = import_bytes(&store, &packed[..cut]).await.expect_err("a truncated archive was taken");
                let is_clear = matches!(
                    error,
                    OciError::ReadArchive { .. } | OciError::InvalidArchive { .. } | OciError::MemberMissing { .. }
                );
                assert!(is_clear, "cut at {cut}: {error:?}");
                assert!(leftovers(&store).is_empty(), "cut at {cut}: {:?}", leftovers(&store));
            }
        }
    }
}

#[tokio::test]
async fn lying_archives_and_layouts_are_refused_and_leave_nothing() {
    let image = image();
    let good = layout_members(vec![image.entry(None)], &image.blobs());
    let changed = |at: usize, change: fn(&mut Vec<u8>)| {
        let mut members = good.clone();
        change(&mut members[at].1);
        members
    };
    let mut without_layer = good.clone();
    without_layer.remove(0);
    let cases = [
        ("a layer with other content", changed(0, |bytes| bytes[20] ^= 1)),
        ("a shorter layer", changed(1, |bytes| bytes.truncate(100))),
        ("another configuration", changed(3, |bytes| bytes.push(b' '))),
        ("another manifest", changed(4, |bytes| bytes.push(b' '))),
        ("no layer", without_layer),
    ];
    for (lie, members) in cases {
        let (dir, store) = store();
        let error = import_bytes(&store, &archive(&members)).await.expect_err(lie);
        assert!(!error.to_string().is_empty());
        assert!(leftovers(&store).is_empty(), "{lie} in an archive: {:?}", leftovers(&store));
        let layout = dir.path().join("layout");
        write_layout(&layout, &members);
        let error = import(&store, &format!("oci:{}", layout.display())).await.expect_err(lie);
        assert!(!error.to_string().is_empty());
        assert!(leftovers(&store).is_empty(), "{lie} in a layout: {:?}", leftovers(&store));
    }

    // A docker-archive whose layer is not what its configuration says.
    let mut other = image.clone();
    other.tars[2] = layer_tar("c", b"evil");
    let (_dir, store) = store();
    let error = import_bytes(&store, &docker_archive(&[(&other, &["x:1"])])).await.unwrap_err();
    assert!(matches!(error, OciError::DigestMismatch { .. }), "{error:?}");
    assert!(leftovers(&store).is_empty());
}

#[tokio::test]
async fn members_that_lead_out_or_in_circles_are_refused() {
    let link = |name: &str, target: &str| {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        builder.append_link(&mut header, name, target).unwrap();
        let list = json!([{"Config": name, "RepoTags": null, "Layers": []}]);
        append(&mut builder, "manifest.json", list.to_string().as_bytes());
        builder.into_inner().unwrap()
    };
    let (_dir, store) = store();
    for (bytes, reason) in [
        (link("config", "../../etc/passwd"), "leads out of the archive"),
        (link("config", "/etc/passwd"), "leads out of the archive"),
        (link("config", "config"), "go in circles"),
        (link("config", "nowhere"), "lacks config"),
        (b"not a tar, whatever it says; ".repeat(40), "not a tar"),
        (archive(&[("readme".to_owned(), b"x".to_vec())]), "not an image archive"),
    ] {
        let error = import_bytes(&store, &bytes).await.unwrap_err();
        let text =
            format!("{error} {}", std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default());
        assert!(text.contains(reason), "expected {reason:?} in {text:?}");
        assert!(leftovers(&store).is_empty());
    }
}

#[tokio::test]
async fn an_archive_bomb_ends_at_the_limit() {
    let (_dir, store) = store();
    let store = store.with_max_layer_bytes(1 << 20);
    let bomb = zstd(&archive(&[("manifest.json".to_owned(), vec![b' '; 4 << 20])]));
    let error = import_bytes(&store, &bomb).await.unwrap_err();
    assert!(matches!(error, OciError::ReadArchive { .. } | OciError::TooLarge { .. }), "{error:?}");
    assert!(leftovers(&store).is_empty());
}

#[tokio::test]
async fn sources_that_are_not_there_are_told_apart() {
    let (_dir, store) = store();
    let options = PullOptions {
        docker_socket: "/nowhere/docker.sock".into(),
        containerd: ContainerdOptions { socket: "/nowhere/containerd.sock".into(), ..ContainerdOptions::default() },
        ..options()
    };
    for (source, hint) in [("docker-daemon:redis", "DOCKER_HOST"), ("containerd:redis", "IGNITE_CONTAINERD_ADDRESS")] {
        let error = fetch(&store, &source.parse().unwrap(), None, &options, silent()).await.unwrap_err();
        assert!(matches!(error, OciError::EngineUnreachable { .. }), "{error}");
        assert!(error.hint().unwrap().contains(hint));
    }
    assert!(matches!(import(&store, "-").await, Err(OciError::NoStandardInput)));
    assert!(matches!(import(&store, "oci:/nowhere/at/all").await, Err(OciError::NotALayout { .. })));
    assert!(matches!(import(&store, "docker-archive:/nowhere").await, Err(OciError::ReadSource { .. })));
}

#[tokio::test]
async fn sweeping_keeps_what_is_referred_to_and_waits_for_nobody() {
    let (_dir, store) = store();
    let (one, two) = (TestImage::new("amd64", &[b"1", b"shared"]), TestImage::new("amd64", &[b"2", b"shared"]));
    let one = import_bytes(&store, &docker_archive(&[(&one, &["one:1"])])).await.unwrap();
    let two = import_bytes(&store, &docker_archive(&[(&two, &["two:1"])])).await.unwrap();
    std::fs::write(store.root().join("ingest/sha256-00.partial"), b"left by a dead process").unwrap();
    let keep = BTreeSet::from([one.manifest_digest.clone()]);

    let lease = store.lease().unwrap();
    assert!(matches!(store.remove_unreferenced(&keep), Err(OciError::StoreBusy { .. })));
    assert!(load_stored(&store, &two.manifest_digest).await.is_ok());
    drop(lease);

    let freed = store.remove_unreferenced(&keep).unwrap();
    assert!(freed > 22);
    assert_eq!(load_stored(&store, &one.manifest_digest).await.unwrap(), one);
    assert!(matches!(load_stored(&store, &two.manifest_digest).await, Err(OciError::BlobMissing { .. })));
    assert_eq!(leftovers(&store).len(), 4, "{:?}", leftovers(&store));
    assert_eq!(store.remove_unreferenced(&keep).unwrap(), 0);
    assert!(store.remove_unreferenced(&BTreeSet::new()).unwrap() > 0);
    assert!(leftovers(&store).is_empty());
}

#[tokio::test]
async fn what_skopeo_writes_is_read_and_the_store_is_a_layout_for_it() {
    if !have(&["skopeo"]) {
        return;
    }
    let (dir, store) = store();
    let image = TestImage::new("amd64", &[b"one", &noise(1, 50_000)]);
    let layout = dir.path().join("layout");
    write_layout(&layout, &layout_members(vec![image.entry(Some("v1"))], &image.blobs()));
    let skopeo = |from: String, to: &str| {
        let output = std::process::Command::new("skopeo")
            .args(["--insecure-policy", "copy", "--quiet", &from, to])
            .env("HOME", dir.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "skopeo: {}", String::from_utf8_lossy(&output.stderr));
    };
    for (transport, suffix, name) in
        [("docker-archive", ":demo:v3", "demo:v3"), ("oci-archive", ":v3", "x-oci-archive:v3")]
    {
        let target = format!("{transport}:{}", dir.path().join(format!("x-{transport}.tar")).display());
        skopeo(format!("oci:{}:v1", layout.display()), &format!("{target}{suffix}"));
        let stored = import(&store, &target).await.unwrap();
        assert_eq!((stored.name.as_str(), layer_contents(&store, &stored)), (name, image.tars.clone()));
    }
    let out = dir.path().join("out");
    skopeo(format!("oci:{}:demo:v3", store.root().display()), &format!("dir:{}", out.display()));
    assert!(out.join("manifest.json").exists());
}
