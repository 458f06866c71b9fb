//! Images from everywhere: the same content is the same base, whatever brought it, and comes once.

use ignite_e2e::engines::Engine;
use ignite_e2e::images::{busybox, layout, redis};
use ignite_e2e::invocation::Invocation;
use ignite_e2e::registry::Registry;
use ignite_e2e::token_server::{TokenServer, certified};
use ignite_e2e::wait::QUICK;
use ignite_e2e::{Host, Report};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

const NAME: &str = "example.test/busybox:v1";

/// Copies the busybox image with skopeo.
fn copy_to(target: &str) {
    let source = format!("{}:latest", busybox());
    Invocation::new("skopeo").args(["copy", "--quiet", &source, target]).within(QUICK).finish().succeeds();
}

/// Imports on a host with nothing and gives the digest of the base disk that was made there.
fn base_digest(host: &Host, import: Invocation) -> String {
    let uid = import.finish().succeeds().line();
    let digest =
        host.does(["image", "inspect", &uid]).json()["status"]["baseDigest"].as_str().expect("a digest").to_string();
    assert!(digest.starts_with("sha256:"), "{digest}");
    host.assert_nothing_left();
    digest
}

pub fn every_source_of_an_image_gives_the_same_base_disk() -> Report {
    let host = Host::empty();
    let registry = Registry::start(&host.path("registry"), None)?;
    registry.push(busybox(), "test/busybox:v1");
    let containerd = Engine::containerd(&host.path("containerd"))?;
    let oci_archive = host.path("oci.tar").display().to_string();
    copy_to(&format!("oci-archive:{oci_archive}:{NAME}"));
    containerd.ctr(&["images", "import", &oci_archive]);
    let dockerd = Engine::dockerd(&host.path("docker"))?;
    let docker_archive = host.path("docker.tar").display().to_string();
    copy_to(&format!("docker-archive:{docker_archive}:{NAME}"));
    dockerd.docker(&["load", "--quiet", "--input", &docker_archive]);

    let reference = registry.reference("test/busybox:v1");
    let import = |source: &str| {
        let each = Host::empty();
        let call = each.ignite(["image", "import", source]);
        let call = call.env("IGNITE_CONTAINERD_ADDRESS", containerd.socket());
        let call = call.env("DOCKER_HOST", format!("unix://{}", dockerd.socket().display()));
        let call = if source == "-" { call.stdin(fs::read(&docker_archive).expect("read an archive")) } else { call };
        base_digest(&each, call)
    };
    let expected = import(busybox());
    for source in [
        &reference,
        &format!("containerd:{NAME}"),
        &format!("docker-daemon:{NAME}"),
        &format!("oci-archive:{oci_archive}"),
        &format!("docker-archive:{docker_archive}"),
        "-",
    ] {
        assert_eq!(import(source), expected, "{source}");
    }

    // What came from elsewhere is not asked of the registry.
    registry.forget_requests();
    host.ignite(["image", "import", &format!("containerd://{NAME}")])
        .env("IGNITE_CONTAINERD_ADDRESS", containerd.socket())
        .finish()
        .succeeds();
    host.does(["image", "import", &reference]).succeeds();
    assert_eq!(registry.blobs_asked_for(), Vec::<String>::new(), "blobs that were here are fetched again");
    assert!(registry.requests().iter().any(|request| request.contains("/manifests/")), "the registry was asked at all");
    drop((registry, containerd, dockerd));
    host.assert_nothing_left();
    Ok(())
}

pub fn four_processes_fetch_each_blob_once() -> Report {
    let host = Host::empty();
    let registry = Registry::start(&host.path("registry"), None)?;
    // Four images with configurations of their own over the same two layers.
    let shared = host.path("shared").display().to_string();
    let umoci = |args: &[&str]| {
        Invocation::new("umoci").args(args).within(QUICK).finish().succeeds();
    };
    Invocation::new("cp")
        .args(["-a", &layout(redis()).display().to_string(), &shared])
        .within(QUICK)
        .finish()
        .succeeds();
    for tag in ["one", "two", "three", "four"] {
        let image = format!("{shared}:latest");
        umoci(&["config", "--image", &image, "--tag", tag, "--config.label", &format!("which={tag}"), "--no-history"]);
        let source = format!("oci:{shared}:{tag}");
        let target = format!("docker://{}", registry.reference(&format!("test/shared:{tag}")));
        let skopeo = Invocation::new("skopeo").args(["copy", "--quiet", "--dest-tls-verify=false", &source, &target]);
        skopeo.within(QUICK).finish().succeeds();
    }
    registry.forget_requests();
    let running: Vec<_> = ["one", "two", "three", "four"]
        .map(|tag| host.ignite(["image", "import", &registry.reference(&format!("test/shared:{tag}"))]).start())
        .into_iter()
        .collect();
    for process in running {
        process.finish().succeeds();
    }
    let mut asked = registry.blobs_asked_for();
    let total = asked.len();
    asked.sort();
    asked.dedup();
    assert_eq!(asked.len(), total, "a blob crossed the wire more than once: {:?}", registry.requests());
    let layers = layer_count(&shared);
    assert_eq!(total, 4 + layers, "four configurations and {layers} shared layers: {asked:?}");
    let images = host.does(["image", "ls", "--output", "json"]).json();
    let keys: Vec<_> = images.as_array().expect("a list").iter().map(|image| &image["status"]["baseKey"]).collect();
    assert!(keys.len() == 4 && keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    drop(registry);
    host.assert_nothing_left();
    Ok(())
}

/// Layers of the image `latest` of a layout.
fn layer_count(dir: &str) -> usize {
    let skopeo = Invocation::new("skopeo").args(["inspect", "--raw", &format!("oci:{dir}:latest")]).within(QUICK);
    skopeo.finish().json()["layers"].as_array().expect("layers").len()
}

pub fn a_mirror_is_asked_first_and_the_registry_when_it_is_down() -> Report {
    let host = Host::empty();
    // The same content behind both: one open to all, one with an authority of its own and tokens.
    let open = Registry::start(&host.path("private"), None)?;
    open.push(busybox(), "team/busybox:v1");
    let mirror = Registry::start(&host.path("mirror"), None)?;
    mirror.push(busybox(), "copies/team/busybox:v1");
    let tokens = TokenServer::start(&host.path("tokens"), "alice", "open sesame");
    let (authority, certificate, key) = certified(&host.path("tokens"));
    let tls = format!("tls: {{certificate: {}, key: {}}}", certificate.display(), key.display());
    let private = Registry::start_over(&host.path("private"), &tls, &tokens.registry_auth())?;
    drop(open);
    let reference = private.reference("team/busybox:v1");
    let registry_host = format!("127.0.0.1:{}", private.port());

    // Without its authority it is not believed, without a password it says no.
    host.does(["image", "import", &reference]).complains("certificate").gives_a_hint();
    let certs = format!("home/.config/containers/certs.d/{registry_host}/ca.crt");
    host.file(&certs, fs::read(&authority).expect("read a certificate"));
    host.does(["image", "import", &reference]).complains("refuses access").gives_a_hint();
    // base64 of "alice:open sesame".
    let auth = format!(r#"{{"auths":{{"{registry_host}/team":{{"auth":"YWxpY2U6b3BlbiBzZXNhbWU="}}}}}}"#);
    host.file("home/.config/containers/auth.json", auth);

    host.file(
        "home/.config/containers/registries.conf",
        format!(
            "[[registry]]\nlocation = '{registry_host}'\n[[registry.mirror]]\nlocation = '127.0.0.1:{}/copies'\ninsecure = true\n",
            mirror.port()
        ),
    );
    private.forget_requests();
    host.does(["image", "import", &reference]).succeeds();
    assert!(!mirror.blobs_asked_for().is_empty(), "the mirror was asked");
    assert_eq!(private.requests(), Vec::<String>::new(), "the registry was asked although its mirror answers");

    // The mirror is down: the registry itself, with tokens.
    drop(mirror);
    let other = Host::empty();
    for file in ["registries.conf", "auth.json", &format!("certs.d/{registry_host}/ca.crt")] {
        let name = format!("home/.config/containers/{file}");
        other.file(&name, fs::read(host.path(&name)).expect("read a file"));
    }
    other.does(["image", "import", &reference]).succeeds();
    assert!(!private.blobs_asked_for().is_empty(), "the registry was asked");
    other.assert_nothing_left();

    // All are down: it says where it went.
    drop(private);
    let failed = host.does(["image", "import", &reference]);
    failed.fails().complains("none of 2 places").complains("/copies/team/busybox:v1").complains(&reference);
    failed.gives_a_hint();
    host.assert_nothing_left();
    Ok(())
}

pub fn a_flipped_bit_is_found_and_archives_carry_several_images() -> Report {
    let host = Host::empty();
    host.does(["image", "import", "--name", "one:v1", busybox()]).succeeds();
    host.does(["image", "tag", "one:v1", "two:v2"]).succeeds();
    host.does(["image", "history", "one:v1"]).succeeds();
    host.does(["image", "verify"]).succeeds().says("one:v1: ok").says("two:v2: ok");
    let archive = host.path("both.tar").display().to_string();
    host.does(["image", "save", "--output", &archive, "one:v1", "two:v2"]).succeeds();
    let other = Host::empty();
    other.does(["image", "load", "--input", &archive]).succeeds();
    other.does(["image", "ls"]).succeeds().says("one:v1").says("two:v2");
    let choosy = Host::empty();
    choosy
        .does(["image", "load", "--input", &archive, "three:v3"])
        .fails()
        .complains("only: one:v1, two:v2")
        .gives_a_hint();
    choosy.does(["image", "load", "--input", &archive, "two:v2"]).succeeds();
    choosy.does(["image", "ls"]).succeeds().says("two:v2").does_not_say("one:v1");
    let piped = Host::empty();
    let saved = host.does(["image", "save", "two:v2"]);
    piped.ignite(["image", "load"]).stdin(saved.succeeds().stdout.clone()).finish().succeeds();
    piped.does(["image", "ls"]).succeeds().says("two:v2").does_not_say("one:v1");
    // Others read it: skopeo as a layout's archive.
    let skopeo = Invocation::new("skopeo").args(["inspect", &format!("oci-archive:{archive}:one:v1")]).within(QUICK);
    skopeo.finish().succeeds();

    let usage = other.does(["system", "df", "--output", "json"]).json();
    let alone = piped.does(["system", "df", "--output", "json"]).json();
    assert_eq!(usage["images"]["size"], alone["images"]["size"], "what two images share is counted once");

    flip_a_bit(&base_of(&other, "one:v1"));
    other.does(["image", "verify", "one:v1"]).exits(1).says("DAMAGED").complains("base disk").gives_a_hint();
    other.does(["doctor"]).says("not as they were written");
    let blob = fs::read_dir(piped.data_dir().join("oci/blobs/sha256")).expect("blobs").flatten();
    let largest = blob.max_by_key(|entry| entry.metadata().map_or(0, |meta| meta.len())).expect("a blob").path();
    flip_a_bit(&largest);
    piped.does(["image", "verify"]).exits(1).complains("blob sha256:").gives_a_hint();
    piped.does(["image", "save", "--output", &archive, "two:v2"]).fails().complains("damaged");
    for host in [&host, &other, &piped] {
        host.does(["system", "prune", "--all"]).succeeds();
        host.does(["image", "ls", "-q"]).succeeds().prints("");
    }
    Ok(())
}

fn base_of(host: &Host, image: &str) -> std::path::PathBuf {
    let key = host.does(["image", "inspect", image]).json()["status"]["baseKey"].as_str().expect("a key").to_string();
    host.data_dir().join("base").join(format!("{key}.ext4"))
}

fn flip_a_bit(path: &Path) {
    let mut bytes = fs::read(path).expect("read a file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::remove_file(path).expect("remove a file");
    fs::write(path, bytes).expect("write a file");
}

pub fn an_archive_is_loaded_however_it_is_packed_and_wherever_it_is() -> Report {
    let host = Host::empty();
    host.does(["image", "import", "--name", "one:v1", busybox()]).succeeds();
    let base = |host: &Host| {
        let image = host.does(["image", "inspect", "one:v1"]).succeeds().json();
        image["status"]["baseDigest"].as_str().expect("a digest").to_owned()
    };
    let wanted = base(&host);
    let at = |name: &str| host.path(name).display().to_string();
    let save = |name: &str, more: &[&str]| {
        host.ignite(["image", "save", "--output", &at(name)]).args(more).args(["one:v1"]).finish().succeeds();
        fs::read(host.path(name)).expect("read it")
    };
    let plain = save("plain.tar", &[]);
    for (name, magic) in [("a.tar.gz", &[0x1f, 0x8b][..]), ("a.tar.zst", &[0x28, 0xb5, 0x2f, 0xfd])] {
        let packed = save(name, &[]);
        assert!(packed.starts_with(magic), "{name}");
        assert_eq!(
            packed,
            save("again", &["--compress", if name.ends_with("gz") { "gzip" } else { "zstd" }]),
            "{name}"
        );
    }
    for (program, name) in [("xz", "a.tar.xz"), ("bzip2", "a.tar.bz2")] {
        let packed = Invocation::new(program).args(["-c"]).stdin(plain.clone()).finish();
        fs::write(host.path(name), &packed.succeeds().stdout).expect("write it");
    }
    fs::create_dir(host.path("unpacked")).expect("make a directory");
    Invocation::new("tar").args(["-xf", &at("plain.tar"), "-C", &at("unpacked")]).finish().succeeds();
    let registry = Registry::start(&host.path("registry"), Some(("alice", "open sesame")))?;
    let blob = registry.push_blob("archives/one", &plain);

    let loads = |input: &str, more: &[&str]| {
        let other = Host::empty();
        // base64 of "alice:open sesame".
        let auth = format!(r#"{{"auths":{{"127.0.0.1:{}":{{"auth":"YWxpY2U6b3BlbiBzZXNhbWU="}}}}}}"#, registry.port());
        other.file("home/.docker/config.json", auth);
        let loaded = other.ignite(["image", "load", "--input", input]).args(more).finish();
        (other, loaded)
    };
    for input in
        ["plain.tar", "a.tar.gz", "a.tar.zst", "a.tar.xz", "a.tar.bz2", "unpacked"].map(at).iter().chain([&blob])
    {
        let (other, loaded) = loads(input, &[]);
        loaded.succeeds().complains("Loaded image one:v1");
        assert_eq!(base(&other), wanted, "{input}");
    }
    let digest = blob.rsplit_once('/').expect("a digest").1;
    loads(&blob, &["--digest", digest]).1.succeeds();
    let other_digest = format!("sha256:{}", "0".repeat(64));
    loads(&blob, &["--digest", &other_digest]).1.fails().complains("another digest");
    loads(&at("plain.tar"), &["--digest", digest]).1.exits(2).complains("--digest is for a URL");
    let nothing = format!("http://127.0.0.1:{}/nothing.tar", registry.port());
    loads(&nothing, &[]).1.fails().complains("not found");
    loads("http://archives.example/a.tar", &[]).1.fails().complains("without TLS").gives_a_hint();
    loads(&at("nothing"), &[]).1.fails().complains("nothing");
    Ok(())
}

/// Writes a blob into a layout and gives its descriptor.
fn write_blob(layout: &Path, media_type: &str, content: &Value) -> Value {
    let text = content.to_string();
    let sum = Invocation::new("sha256sum").stdin(text.clone()).finish().succeeds().text();
    let hex = sum.split_whitespace().next().expect("a sum");
    fs::write(layout.join("blobs/sha256").join(hex), &text).expect("write a blob");
    json!({ "mediaType": media_type, "digest": format!("sha256:{hex}"), "size": text.len() })
}

/// An image of two platforms: busybox's own, and one that only says that it is another's.
fn two_platforms(layout: &Path) {
    let read = |descriptor: &Value| -> Value {
        let digest = descriptor["digest"].as_str().expect("a digest").trim_start_matches("sha256:");
        let text = fs::read(layout.join("blobs/sha256").join(digest)).expect("a blob");
        serde_json::from_slice(&text).expect("JSON")
    };
    let index: Value = serde_json::from_slice(&fs::read(layout.join("index.json")).expect("an index")).expect("JSON");
    let mut own = index["manifests"][0].clone();
    let mut manifest = read(&own);
    let mut config = read(&manifest["config"]);
    let architecture = config["architecture"].clone();
    config["architecture"] = json!("s390x");
    manifest["config"] = write_blob(layout, manifest["config"]["mediaType"].as_str().expect("a type"), &config);
    let mut other = write_blob(layout, own["mediaType"].as_str().expect("a type"), &manifest);
    own.as_object_mut().expect("an object").remove("annotations");
    own["platform"] = json!({ "os": "linux", "architecture": architecture });
    other["platform"] = json!({ "os": "linux", "architecture": "s390x" });
    let type_of_index = "application/vnd.oci.image.index.v1+json";
    let both = json!({ "schemaVersion": 2, "mediaType": type_of_index, "manifests": [own, other] });
    let mut entry = write_blob(layout, type_of_index, &both);
    entry["annotations"] = json!({ "org.opencontainers.image.ref.name": "latest" });
    let index = json!({ "schemaVersion": 2, "manifests": [entry] });
    fs::write(layout.join("index.json"), index.to_string()).expect("write an index");
}

pub fn the_platform_that_is_asked_for_is_imported_and_a_foreign_one_is_not_run() -> Report {
    let host = Host::new();
    let both = host.path("both");
    Invocation::new("cp").args([Path::new("-r"), layout(busybox()), &both]).finish().succeeds();
    two_platforms(&both);
    let source = format!("oci:{}", both.display());
    let platform = |query: &str| {
        let image = host.does(["image", "inspect", query]).succeeds().json();
        image["status"]["platform"].as_str().expect("a platform").to_owned()
    };
    host.does(["image", "import", "--platform", "linux/s390x", "--name", "foreign:v1", &source]).succeeds();
    assert_eq!(platform("foreign:v1"), "linux/s390x");
    let refused = host.does(["create", "--platform", "linux/s390x", &source, "true"]);
    refused.fails().complains("made for linux/s390x, which does not run here").gives_a_hint();
    host.does(["image", "import", "--platform", "s390x", &source]).succeeds();
    let kept = host.does(["image", "import", "--pull", "never", "--platform", "linux/riscv64", &source]);
    kept.fails().complains("is here for linux/s390x, not for linux/riscv64").gives_a_hint();
    let absent = host.does(["image", "import", "--platform", "linux/riscv64", &source]);
    absent.fails().complains("only for").complains("linux/s390x").gives_a_hint();
    host.does(["image", "import", "--platform", "a/b/c/d", &source]).exits(2).complains("at most three parts");
    // Nobody wants what does not run here but who says so.
    assert_eq!(platform(&source), "linux/s390x");
    host.run(["--rm", &source, "echo", "here"]).prints("here\n");
    assert_ne!(platform(&source), "linux/s390x");
    host.assert_nothing_left();
    Ok(())
}
