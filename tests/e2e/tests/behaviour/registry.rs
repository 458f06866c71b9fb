//! Images from a registry: a real one, on the loopback interface.

use ignite_e2e::images::{busybox, redis};
use ignite_e2e::proxy::CuttingProxy;
use ignite_e2e::registry::Registry;
use ignite_e2e::{Host, Report};

pub fn an_image_of_a_registry_runs() -> Report {
    let host = Host::new();
    let registry = Registry::start(&host.path("registry"), None)?;
    registry.push(busybox(), "test/busybox:v1");
    let reference = registry.reference("test/busybox:v1");
    host.run(["--rm", &reference, "echo", "from a registry"]).succeeds().prints("from a registry\n");
    host.does(["image", "ls"]).succeeds().says(&reference);

    // A name is exact: v1 is here, v10 is not.
    host.does(["image", "import", &registry.reference("test/busybox:v10")]).gives_a_hint();
    host.does(["create", "--pull", "never", &registry.reference("test/busybox:v10")]).fails();
    // What is here already needs no registry.
    drop(registry);
    host.does(["create", "--name", "offline", &reference, "true"]).succeeds();
    host.does(["create", "--pull", "always", &reference, "true"]).fails();
    host.does(["rm", "offline"]).succeeds();
    host.assert_nothing_left();
    Ok(())
}

pub fn a_password_is_taken_from_docker_config() -> Report {
    let host = Host::new();
    let registry = Registry::start(&host.path("registry"), Some(("alice", "open sesame")))?;
    registry.push(busybox(), "private/busybox:v1");
    let reference = registry.reference("private/busybox:v1");
    host.does(["image", "import", &reference]).gives_a_hint();

    // base64 of "alice:open sesame", and of "alice:wrong".
    let config = |auth: &str| format!(r#"{{"auths":{{"127.0.0.1:{}":{{"auth":"{auth}"}}}}}}"#, registry.port());
    host.file("home/.docker/config.json", config("YWxpY2U6d3Jvbmc="));
    host.does(["image", "import", &reference]).gives_a_hint();
    host.file("home/.docker/config.json", config("YWxpY2U6b3BlbiBzZXNhbWU="));
    host.does(["image", "import", &reference]).succeeds();
    drop(registry);
    host.assert_nothing_left();
    Ok(())
}

pub fn a_cut_download_is_resumed() -> Report {
    let host = Host::new();
    let registry = Registry::start(&host.path("registry"), None)?;
    registry.push(redis(), "test/redis:v1");
    // Three cuts, each far into the big layer: only a client that resumes has less than the whole to fetch again.
    let proxy = CuttingProxy::start(registry.port(), 3, 4 << 20);
    host.does(["image", "import", &format!("127.0.0.1:{}/test/redis:v1", proxy.port())]).succeeds();
    assert_eq!(proxy.cuts_left(), 0, "the connection was cut");
    let layer_bytes = registry.largest_blob();
    let carried = proxy.bytes_carried();
    assert!(carried < layer_bytes * 2, "{carried} bytes were carried for a layer of {layer_bytes}: it was not resumed");
    drop(registry);
    host.assert_nothing_left();
    Ok(())
}

pub fn a_registry_that_lies_about_content_is_refused() -> Report {
    let host = Host::new();
    let registry = Registry::start(&host.path("registry"), None)?;
    registry.push(redis(), "test/redis:v1");
    let wrong = format!("test/redis@sha256:{}", "0".repeat(64));
    host.does(["image", "import", &registry.reference(&wrong)]).fails();
    registry.corrupt_blobs_larger_than(1 << 20);
    host.does(["image", "import", &registry.reference("test/redis:v1")]).fails().complains("digest");
    host.does(["image", "ls"]).succeeds().does_not_say("test/redis");
    drop(registry);
    host.assert_nothing_left();
    Ok(())
}
