//! Pulling from a real `docker-registry`, also when it or the network misbehaves.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test that panics has failed")]

mod harness;

use harness::images::*;
use harness::proxy::{Action, Proxy, Request};
use harness::registry::{Setup, TestRegistry};
use harness::{Events, NAME, have_registry, layer_contents, leftovers, options, pull, registry_with, silent, store};
use ignite_oci::{ContentStore, OciError, ProgressEvent, PullOptions, fetch, load_stored, resolve_digest};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A path's end that only the first layer's blob has.
fn blob_path(image: &TestImage, layer: usize) -> String {
    format!("/blobs/{}", image.layers[layer].digest())
}

fn range_start(request: &Request) -> u64 {
    request.headers.get("range").map_or(0, |range| {
        range.trim_start_matches("bytes=").trim_end_matches('-').parse().expect("a range without an end")
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_pulled_once_and_then_only_looked_up() {
    if !have_registry() {
        return;
    }
    let (plain, packed) = (layer_tar("a", b"plain"), layer_tar("b", &noise(2, 100_000)));
    let image = TestImage::from_layers(
        "amd64",
        vec![
            (Blob { media_type: PLAIN, bytes: plain.clone() }, plain),
            (Blob { media_type: ZSTD, bytes: zstd(&packed) }, packed.clone()),
            (Blob { media_type: GZIP, bytes: gzip(&packed) }, packed),
        ],
    );
    let registry = registry_with(&image);
    let proxy = Proxy::start(&registry.address, |_, _| Action::Forward);
    let (_dir, store) = store();
    let stored = pull(&store, &proxy.address, NAME, &options()).await.unwrap();
    assert_eq!(stored.name, format!("{}/{NAME}", proxy.address));
    assert_eq!(stored.manifest_digest, image.manifest.digest());
    assert_eq!(stored.source_id, format!("oci://{}/test/busybox@{}", proxy.address, image.manifest.digest()));
    assert_eq!(layer_contents(&store, &stored), image.tars);
    assert_eq!(load_stored(&store, &stored.manifest_digest).await.unwrap(), stored);
    assert_eq!(proxy.requests("/blobs/").len(), 4);

    let source = format!("{}/{NAME}", proxy.address).parse().unwrap();
    assert_eq!(resolve_digest(&source, &options()).await.unwrap(), stored.source_digest());
    assert_eq!(proxy.requests("/manifests/").last().unwrap().method, "HEAD");
    let events = Arc::new(Events::default());
    assert_eq!(fetch(&store, &source, None, &options(), events.clone()).await.unwrap(), stored);
    assert_eq!(events.count(|event| matches!(event, ProgressEvent::LayerDone { reused: true, .. })), 3);
    assert_eq!(proxy.requests("/blobs/").len(), 4);

    // By digest, what is stored needs no registry at all.
    let (address, by_digest) = (proxy.address.clone(), format!("test/busybox@{}", stored.manifest_digest));
    drop((proxy, registry));
    let again = pull(&store, &address, &by_digest, &options()).await.unwrap();
    assert_eq!(again.manifest_digest, stored.manifest_digest);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_helper_is_asked() {
    if !have_registry() {
        return;
    }
    let image = TestImage::new("amd64", &[b"private"]);
    let setup = Setup { user: Some(("joe", "secret")), ..Setup::default() };
    let registry = TestRegistry::start(&setup);
    registry.push(&image, NAME, &setup);
    let (dir, store) = store();
    let bin = dir.path().join("bin");
    let helper = bin.join("docker-credential-test");
    std::fs::create_dir(&bin).unwrap();
    std::fs::write(
        &helper,
        "#!/bin/sh\ncat >/dev/null\necho '{\"ServerURL\":\"x\",\"Username\":\"joe\",\"Secret\":\"secret\"}'\n",
    )
    .unwrap();
    std::fs::set_permissions(&helper, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let config = serde_json::json!({"credHelpers": {registry.address.clone(): "test"}});
    std::fs::write(dir.path().join("config.json"), config.to_string()).unwrap();

    // PATH belongs to the process: the pull happens in one of its own.
    let path = std::env::join_paths(
        std::iter::once(bin).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())),
    );
    let output = child_pull(&store, &registry.address, Some(dir.path()), |command| {
        command.env("PATH", path.unwrap());
    })
    .wait_with_output()
    .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(load_stored(&store, &image.manifest.digest()).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_download_goes_on_where_it_was_cut() {
    if !have_registry() {
        return;
    }
    let image = TestImage::new("amd64", &[&noise(3, 3 << 20)]);
    let registry = registry_with(&image);
    let blob = blob_path(&image, 0);
    let part = blob.clone();
    let proxy = Proxy::start(&registry.address, move |request, before| {
        if request.path.ends_with(&part) && before < 2 { Action::CutAfter(1 << 20) } else { Action::Forward }
    });
    let (_dir, store) = store();
    let events = Arc::new(Events::default());
    let source = format!("{}/{NAME}", proxy.address).parse().unwrap();
    let stored = fetch(&store, &source, None, &options(), events.clone()).await.unwrap();
    assert_eq!(layer_contents(&store, &stored), image.tars);
    let starts: Vec<u64> = proxy.requests(&blob).iter().map(range_start).collect();
    assert_eq!(starts, [0, 1 << 20, 2 << 20]);
    assert_eq!(events.count(|event| matches!(event, ProgressEvent::Retrying { .. })), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_ended_fetch_left_is_continued_and_a_damaged_rest_is_not_believed() {
    if !have_registry() {
        return;
    }
    let image = TestImage::new("amd64", &[&noise(4, 2 << 20)]);
    let registry = registry_with(&image);
    let blob = blob_path(&image, 0);
    let part = blob.clone();
    let proxy = Proxy::start(&registry.address, move |request, before| {
        if request.path.ends_with(&part) && before == 0 { Action::CutAfter(1 << 20) } else { Action::Forward }
    });
    let (_dir, store) = store();
    let once = PullOptions { retries: 0, ..options() };
    let error = pull(&store, &proxy.address, NAME, &once).await.unwrap_err();
    assert!(matches!(error, OciError::Interrupted { .. } | OciError::CutShort { .. }), "{error:?}");
    let left = leftovers(&store).into_iter().find(|path| path.ends_with(".partial")).unwrap();
    assert_eq!(std::fs::metadata(&left).unwrap().len(), 1 << 20);
    let stored = pull(&store, &proxy.address, NAME, &once).await.unwrap();
    assert_eq!(range_start(&proxy.requests(&blob)[1]), 1 << 20);
    assert_eq!(layer_contents(&store, &stored), image.tars);

    // The same with a rest that a crash turned into zeros.
    store.remove_blob(&image.layers[0].digest()).unwrap();
    std::fs::write(&left, vec![0; 1 << 20]).unwrap();
    let stored = pull(&store, &proxy.address, NAME, &once).await.unwrap();
    let starts: Vec<u64> = proxy.requests(&blob).iter().skip(2).map(range_start).collect();
    assert_eq!(starts, [1 << 20, 0]);
    assert_eq!(layer_contents(&store, &stored), image.tars);
    assert!(!leftovers(&store).iter().any(|path| path.ends_with(".partial")));
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_content_is_refused_without_a_second_try_and_leaves_nothing_of_it() {
    if !have_registry() {
        return;
    }
    let image = TestImage::new("amd64", &[&noise(5, 200_000)]);
    let registry = registry_with(&image);
    for victim in [blob_path(&image, 0), format!("/blobs/{}", image.config.digest()), "/manifests/v1".to_owned()] {
        let part = victim.clone();
        let proxy = Proxy::start(&registry.address, move |request, _| {
            if request.path.ends_with(&part) { Action::Corrupt(100) } else { Action::Forward }
        });
        let (_dir, store) = store();
        let error = pull(&store, &proxy.address, NAME, &options()).await.unwrap_err();
        let OciError::DigestMismatch { expected, actual, .. } = &error else { panic!("{victim}: {error:?}") };
        assert_ne!(expected, actual);
        assert_eq!(proxy.requests(&victim).len(), 1, "{victim}");
        assert!(!leftovers(&store).iter().any(|path| path.ends_with(".partial")), "{victim}");
        assert!(matches!(load_stored(&store, &image.manifest.digest()).await, Err(OciError::BlobMissing { .. })));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_is_followed_by_platform() {
    if !have_registry() {
        return;
    }
    let (amd, arm) = (TestImage::new("amd64", &[b"amd"]), TestImage::new("arm64", &[b"arm"]));
    let index = index(&[&arm, &amd]);
    let registry = TestRegistry::start(&Setup::default());
    registry.push_index(&index, &[&amd, &arm], NAME, &Setup::default());
    let (_dir, store) = store();
    for (platform, image) in [("linux/amd64", &amd), ("linux/arm64/v8", &arm)] {
        let wanted = PullOptions { platform: platform.parse().unwrap(), ..options() };
        let stored = pull(&store, &registry.address, NAME, &wanted).await.unwrap();
        assert_eq!(stored.manifest_digest, image.manifest.digest());
        assert_eq!(stored.source_digest(), index.digest());
        let source = format!("{}/{NAME}", registry.address).parse().unwrap();
        assert_eq!(resolve_digest(&source, &wanted).await.unwrap(), index.digest());
        assert_eq!(layer_contents(&store, &stored), image.tars);
    }
    let wanted = PullOptions { platform: "linux/s390x".parse().unwrap(), ..options() };
    let error = pull(&store, &registry.address, NAME, &wanted).await.unwrap_err();
    assert!(
        error.to_string().ends_with("not available for linux/s390x, only for: linux/amd64, linux/arm64"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_that_pull_the_same_image_download_each_blob_once() {
    if !have_registry() {
        return;
    }
    let image = TestImage::new("amd64", &[&noise(6, 1 << 20), &noise(7, 1 << 20), b"small"]);
    let registry = registry_with(&image);
    let proxy = Proxy::start(&registry.address, |_, _| Action::Forward);
    let (_dir, store) = store();
    let options = options();
    let (a, b, c) = tokio::join!(
        pull(&store, &proxy.address, NAME, &options),
        pull(&store, &proxy.address, NAME, &options),
        pull(&store, &proxy.address, NAME, &options),
    );
    let stored = a.unwrap();
    assert_eq!((b.unwrap(), c.unwrap()), (stored.clone(), stored.clone()));
    assert_eq!(proxy.requests("/blobs/").len(), 4);
    assert_eq!(layer_contents(&store, &stored), image.tars);
}

/// This test program again, as another process that pulls [`NAME`].
fn child_pull(
    store: &ContentStore,
    address: &str,
    docker_config: Option<&std::path::Path>,
    change: impl FnOnce(&mut std::process::Command),
) -> std::process::Child {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "pull_as_told_by_another_test", "--ignored", "--nocapture"])
        .env("TEST_STORE", store.root())
        .env("TEST_ADDRESS", address)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    if let Some(dir) = docker_config {
        command.env("TEST_DOCKER_CONFIG", dir);
    }
    change(&mut command);
    command.spawn().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by other tests as a process of its own"]
async fn pull_as_told_by_another_test() {
    let Some(dir) = std::env::var_os("TEST_STORE") else { return };
    let store = ContentStore::open(dir.as_ref()).unwrap();
    let options =
        PullOptions { docker_config_dir: std::env::var_os("TEST_DOCKER_CONFIG").map(Into::into), ..options() };
    let stored = pull(&store, &std::env::var("TEST_ADDRESS").unwrap(), NAME, &options).await.unwrap();
    for layer in &stored.layers {
        store.open_layer(layer).unwrap().finish().unwrap();
    }
    // Read by the test about memory.
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    std::io::Write::write_all(&mut std::io::stdout(), format!("{peak}\n").as_bytes()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_pull_the_same_image_download_each_blob_once() {
    if !have_registry() {
        return;
    }
    let image = TestImage::new("amd64", &[&noise(8, 2 << 20), &noise(9, 1 << 20)]);
    let registry = registry_with(&image);
    let proxy = Proxy::start(&registry.address, |_, _| Action::Forward);
    let (_dir, store) = store();
    let children: Vec<_> = (0..3).map(|_| child_pull(&store, &proxy.address, None, |_| {})).collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    assert_eq!(proxy.requests("/blobs/").len(), 3);
    let stored = load_stored(&store, &image.manifest.digest()).await.unwrap();
    assert_eq!(layer_contents(&store, &stored), image.tars);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_leaves_what_the_next_continues() {
    if !have_registry() {
        return;
    }
    let image = TestImage::new("amd64", &[&noise(10, 2 << 20)]);
    let registry = registry_with(&image);
    let blob = blob_path(&image, 0);
    let part = blob.clone();
    // The first answer ends half-way and the second never comes: there the process is killed.
    let (asked, was_asked) = std::sync::mpsc::channel();
    let proxy = Proxy::start(&registry.address, move |request, before| match before {
        0 if request.path.ends_with(&part) => Action::CutAfter(1 << 20),
        1 if request.path.ends_with(&part) => {
            asked.send(()).unwrap();
            std::thread::sleep(Duration::from_secs(5));
            Action::CutAfter(0)
        }
        _ => Action::Forward,
    });
    let (_dir, store) = store();
    let mut child = child_pull(&store, &proxy.address, None, |_| {});
    was_asked.recv_timeout(Duration::from_secs(60)).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let stored = pull(&store, &proxy.address, NAME, &options()).await.unwrap();
    assert_eq!(range_start(&proxy.requests(&blob)[2]), 1 << 20);
    assert_eq!(layer_contents(&store, &stored), image.tars);
}

#[tokio::test(flavor = "multi_thread")]
async fn passing_troubles_are_waited_out_and_the_server_is_obeyed() {
    if !have_registry() {
        return;
    }
    let image = TestImage::new("amd64", &[b"content"]);
    let registry = registry_with(&image);
    let blob = blob_path(&image, 0);
    let part = blob.clone();
    let proxy = Proxy::start(&registry.address, move |request, before| {
        let respond = |status, headers| Action::Respond(status, headers, "busy".to_owned());
        match before {
            0 if request.path.ends_with("/manifests/v1") => {
                respond("429 Too Many Requests", vec![("Retry-After", "1".to_owned())])
            }
            0 if request.path.ends_with(&part) => respond("503 Service Unavailable", Vec::new()),
            _ => Action::Forward,
        }
    });
    let (_dir, store) = store();
    let begin = Instant::now();
    let stored = pull(&store, &proxy.address, NAME, &options()).await.unwrap();
    assert!(begin.elapsed() >= Duration::from_secs(1), "Retry-After was not obeyed");
    assert_eq!(layer_contents(&store, &stored), image.tars);
    assert_eq!((proxy.requests("/manifests/v1").len(), proxy.requests(&blob).len()), (2, 2));
}

#[tokio::test]
async fn lasting_troubles_end_in_the_last_error_after_the_retries() {
    let proxy = Proxy::start("127.0.0.1:9", |_, _| {
        Action::Respond("500 Internal Server Error", Vec::new(), "on \x1b[1mfire".to_owned())
    });
    let (_dir, store) = store();
    let error = pull(&store, &proxy.address, NAME, &PullOptions { retries: 2, ..options() }).await.unwrap_err();
    assert!(matches!(error, OciError::GaveUp { attempts: 3, .. }), "{error:?}");
    assert!(std::error::Error::source(&error).unwrap().to_string().ends_with("status 500: on  [1mfire"));
    assert_eq!(proxy.requests("/manifests/").len(), 3);

    let far = Proxy::start("127.0.0.1:9", |_, _| {
        Action::Respond("429 Too Many Requests", vec![("Retry-After", "86400".to_owned())], String::new())
    });
    let error = pull(&store, &far.address, NAME, &options()).await.unwrap_err();
    assert!(matches!(error, OciError::RateLimited { .. }), "{error:?}");
    assert!(error.hint().unwrap().contains("ignite login"));
    assert_eq!(far.requests("").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_asked_for_once() {
    if !have_registry() {
        return;
    }
    let registry = registry_with(&TestImage::new("amd64", &[b"x"]));
    let proxy = Proxy::start(&registry.address, |_, _| Action::Forward);
    let (_dir, store) = store();
    let error = pull(&store, &proxy.address, "test/busybox:v2", &options()).await.unwrap_err();
    assert_eq!(error.to_string(), format!("{}/test/busybox:v2 not found", proxy.address));
    assert!(error.hint().unwrap().ends_with(&format!("skopeo list-tags docker://{}/test/busybox", proxy.address)));
    assert_eq!(proxy.requests("").len(), 1);
    let address = proxy.address.clone();
    drop(proxy);
    let error = pull(&store, &address, NAME, &options()).await.unwrap_err();
    assert!(matches!(error, OciError::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn an_endless_manifest_is_not_read_to_its_end() {
    let proxy = Proxy::start("127.0.0.1:9", |_, _| Action::Respond("200 OK", Vec::new(), " ".repeat(5 << 20)));
    let (_dir, store) = store();
    let error = pull(&store, &proxy.address, NAME, &options()).await.unwrap_err();
    assert!(matches!(error, OciError::TooLarge { limit_bytes: 4_194_304, .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_does_not_grow_with_the_layer() {
    if !have_registry() {
        return;
    }
    let tar = layer_tar("big", &noise(12, 1 << 20).repeat(160));
    let image = TestImage::from_layers("amd64", vec![(Blob { media_type: PLAIN, bytes: tar.clone() }, tar)]);
    let registry = registry_with(&image);
    let (_dir, store) = store();
    let output = child_pull(&store, &registry.address, None, |_| {}).wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let peak = text.lines().find_map(|line| line.split_once("VmHWM:")).expect("the peak").1;
    let peak_kib: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak_kib < 64 << 10, "{peak_kib} KiB for a layer of 160 MiB");
}

#[tokio::test]
async fn a_fetch_can_be_spawned() {
    let (_dir, store) = store();
    let source = "oci:/nowhere".parse().unwrap();
    let task = tokio::spawn(async move { fetch(&store, &source, None, &options(), silent()).await });
    assert!(matches!(task.await.unwrap(), Err(OciError::NotALayout { .. })));
}
