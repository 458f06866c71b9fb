//! Images of a real containerd and of a real Docker engine, each private to its test.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test that panics has failed")]

mod harness;

use harness::engines::*;
use harness::images::*;
use harness::registry::{Setup, TestRegistry};
use harness::{Events, have, layer_contents, leftovers, options, silent};
use ignite_api::ImageSource;
use ignite_oci::{
    ContainerdOptions, ContentStore, OciError, ProgressEvent, PullOptions, StoredImage, fetch, resolve_digest,
};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const NAME: &str = "test.example/busybox:v1";

fn store() -> (TempDir, ContentStore) {
    let dir = tempfile::tempdir().unwrap();
    let store = ContentStore::open(dir.path()).unwrap();
    (dir, store)
}

fn image() -> TestImage {
    TestImage::new("amd64", &[&noise(1, 3 << 20), b"second"])
}

async fn take(store: &ContentStore, source: &str, options: &PullOptions) -> Result<StoredImage, OciError> {
    fetch(store, &source.parse().unwrap(), None, options, silent()).await
}

fn oci_archive(dir: &Path, image: &TestImage) -> String {
    let path = dir.join("image.tar");
    let mut entry = image.entry(None);
    entry["annotations"] = serde_json::json!({"io.containerd.image.name": NAME});
    std::fs::write(&path, archive(&layout_members(vec![entry], &image.blobs()))).unwrap();
    path.display().to_string()
}

fn can_run_containerd() -> bool {
    have(&["containerd", "ctr"])
}

fn of_containerd(containerd: &Daemon) -> PullOptions {
    PullOptions {
        containerd: ContainerdOptions {
            socket: containerd.socket.clone(),
            hosts_dir: containerd.dir.path().join("certs.d"),
            ..ContainerdOptions::default()
        },
        ..options()
    }
}

fn blob_in_containerd(containerd: &Daemon, digest: &str) -> std::path::PathBuf {
    let blobs = containerd.dir.path().join("root/io.containerd.content.v1.content/blobs/sha256");
    blobs.join(digest.trim_start_matches("sha256:"))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_of_containerd_is_shared_with_it_and_survives_its_collector() {
    if !can_run_containerd() {
        return;
    }
    let (containerd, image) = (start_containerd(), image());
    let archive = oci_archive(containerd.dir.path(), &image);
    ctr(&containerd, "ignite", &["images", "import", &archive]);
    let options = of_containerd(&containerd);
    let (_dir, store) = store();
    let source = format!("containerd:{NAME}");
    assert_eq!(resolve_digest(&source.parse().unwrap(), &options).await.unwrap(), image.manifest.digest());
    let stored = take(&store, &source, &options).await.unwrap();
    assert_eq!(stored.manifest_digest, image.manifest.digest());
    assert_eq!(stored.name, NAME);
    assert_eq!(layer_contents(&store, &stored), image.tars);
    // Not a byte was copied: both names are of one file.
    for layer in &stored.layers {
        assert_eq!(links(&store.blob_path(&layer.digest).unwrap()), 2);
    }
    // No lease is left, and what containerd collects stays ours.
    let leases = ctr(&containerd, "ignite", &["leases", "ls", "-q"]).stdout;
    assert_eq!(String::from_utf8_lossy(&leases).trim(), "");
    ctr(&containerd, "ignite", &["images", "rm", "--sync", NAME]);
    let deadline = Instant::now() + Duration::from_secs(30);
    while blob_in_containerd(&containerd, &image.layers[0].digest()).exists() {
        assert!(Instant::now() < deadline, "containerd collects nothing");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(layer_contents(&store, &stored), image.tars);
    // Another namespace has no such image, and its registry is not there.
    let elsewhere = ContainerdOptions { namespace: "other".to_owned(), ..options.containerd.clone() };
    assert!(take(&store, &source, &PullOptions { containerd: elsewhere, ..options }).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_linked_is_read_through_the_api() {
    if !can_run_containerd() || !Path::new("/dev/shm").is_dir() {
        return;
    }
    let (containerd, image) = (start_containerd(), image());
    let archive = oci_archive(containerd.dir.path(), &image);
    ctr(&containerd, "ignite", &["images", "import", &archive]);
    // Another file system than containerd's.
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let store = ContentStore::open(dir.path()).unwrap();
    let events = Arc::new(Events::default());
    let source: ImageSource = format!("containerd://{NAME}").parse().unwrap();
    let stored = fetch(&store, &source, None, &of_containerd(&containerd), events.clone()).await.unwrap();
    assert_eq!(layer_contents(&store, &stored), image.tars);
    assert_eq!(links(&store.blob_path(&stored.layers[0].digest).unwrap()), 1);
    assert!(events.count(|event| matches!(event, ProgressEvent::LayerProgress { .. })) > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_blob_of_containerd_is_refused() {
    if !can_run_containerd() {
        return;
    }
    let (containerd, image) = (start_containerd(), image());
    let archive = oci_archive(containerd.dir.path(), &image);
    ctr(&containerd, "ignite", &["images", "import", &archive]);
    let path = blob_in_containerd(&containerd, &image.layers[0].digest());
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[1 << 20] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let (_dir, store) = store();
    let error = take(&store, &format!("containerd:{NAME}"), &of_containerd(&containerd)).await.unwrap_err();
    assert!(matches!(error, OciError::DigestMismatch { .. }), "{error:?}");
    let found = leftovers(&store);
    assert!(
        !found.iter().any(|path| path.contains(image.layers[0].digest().trim_start_matches("sha256:"))),
        "{found:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_containerd_lacks_is_pulled_for_it_by_its_hosts_toml() {
    if !can_run_containerd() || !have(&["docker-registry", "skopeo"]) {
        return;
    }
    let (containerd, image) = (start_containerd(), image());
    let registry = TestRegistry::start(&Setup::default());
    registry.push_index(&index(&[&image]), &[&image], "mirrored/busybox:v1", &Setup::default());
    let options = of_containerd(&containerd);
    // The registry of that name is not there; its mirror is.
    let hosts = containerd.dir.path().join("certs.d/test.example");
    std::fs::create_dir_all(&hosts).unwrap();
    let toml = format!(
        "server = 'http://127.0.0.1:9'\n[host.'http://{}']\n  capabilities = ['pull', 'resolve']\n",
        registry.address
    );
    std::fs::write(hosts.join("hosts.toml"), toml).unwrap();
    let (_dir, store) = store();
    let name = "test.example/mirrored/busybox:v1";
    let stored = take(&store, &format!("containerd:{name}"), &options).await.unwrap();
    assert_eq!(layer_contents(&store, &stored), image.tars);
    assert_eq!(links(&store.blob_path(&stored.layers[0].digest).unwrap()), 2);

    // containerd has it now, whole and for good: it can export it after its collector ran.
    let listed = ctr(&containerd, "ignite", &["images", "check"]).stdout;
    let listed = String::from_utf8_lossy(&listed).into_owned();
    assert!(listed.lines().any(|line| line.starts_with(name) && line.contains("complete")), "{listed}");
    drop(registry);
    let other = tempfile::tempdir().unwrap();
    let second = ContentStore::open(other.path()).unwrap();
    ctr(&containerd, "ignite", &["leases", "create", "--id", "last"]);
    ctr(&containerd, "ignite", &["leases", "rm", "--sync", "last"]);
    let again = take(&second, &format!("containerd:{name}"), &options).await.unwrap();
    assert_eq!(again.manifest_digest, stored.manifest_digest);
    assert_eq!(again.source_digest(), stored.source_digest());
    assert_eq!(layer_contents(&second, &again), image.tars);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_of_docker_is_taken_once_and_a_missing_one_pulled_by_docker() {
    if !have(&["dockerd", "docker", "unshare", "docker-registry", "skopeo"]) {
        return;
    }
    let image = image();
    // The engine's namespaces have a registry of their own: the same content, another process.
    let mut registry = TestRegistry::start(&Setup::default());
    registry.push(&image, "test/pulled:v1", &Setup::default());
    let beside = format!("docker-registry serve {}", registry.config().display());
    registry.end_process();
    let address = &registry.address;
    let dockerd = start_dockerd(&beside);
    let options = PullOptions { docker_socket: dockerd.socket.clone(), ..options() };
    let (_dir, store) = store();

    let tar = dockerd.dir.path().join("image.tar");
    let mut entry = image.entry(None);
    entry["annotations"] = serde_json::json!({"org.opencontainers.image.ref.name": "v1"});
    let layout = tempfile::tempdir().unwrap();
    write_layout(layout.path(), &layout_members(vec![entry], &image.blobs()));
    let copied = std::process::Command::new("skopeo")
        .args(["--insecure-policy", "copy", "--quiet"])
        .arg(format!("oci:{}:v1", layout.path().display()))
        .arg(format!("docker-archive:{}:{NAME}", tar.display()))
        .output()
        .unwrap();
    assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
    docker(&dockerd, &["load", "--quiet", "--input", &tar.display().to_string()]);

    let source = format!("docker-daemon:{NAME}");
    let stored = take(&store, &source, &options).await.unwrap();
    assert_eq!(stored.name, NAME);
    assert_eq!(layer_contents(&store, &stored), image.tars);
    assert_eq!(resolve_digest(&source.parse().unwrap(), &options).await.unwrap(), stored.source_digest());

    let events = Arc::new(Events::default());
    let again = fetch(&store, &source.parse().unwrap(), None, &options, events.clone()).await.unwrap();
    assert_eq!(again, stored);
    assert_eq!(events.count(|event| matches!(event, ProgressEvent::Reading { .. })), 0, "it was exported again");

    let pulled = take(&store, &format!("docker-daemon:{address}/test/pulled:v1"), &options).await.unwrap();
    assert_eq!(layer_contents(&store, &pulled), image.tars);
    let error = take(&store, &format!("docker-daemon:{address}/test/absent:v1"), &options).await.unwrap_err();
    assert!(matches!(&error, OciError::EngineRefused { message, .. } if message.contains("not found")), "{error:?}");
}
