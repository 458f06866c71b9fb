//! Images from a registry: a real one, on the loopback interface.

use ignite_e2e::images::{busybox, redis};
use ignite_e2e::invocation::Invocation;
use ignite_e2e::proxy::CuttingProxy;
use ignite_e2e::registry::Registry;
use ignite_e2e::{Host, Report, Terminal};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

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

/// Somebody at a terminal who stops a pull wants nothing of it.
pub fn a_pull_that_is_stopped_leaves_nothing() -> Report {
    let host = Host::new();
    let registry = Registry::start(&host.path("registry"), None)?;
    registry.push(busybox(), "test/busybox:v1");
    registry.push(redis(), "test/redis:v1");
    host.does(["image", "import", &registry.reference("test/busybox:v1")]).succeeds();
    let before = files(&host.data_dir());
    // A minute would pass before all has come.
    let proxy = CuttingProxy::start_slow(registry.port(), 400 << 10);
    let slow = format!("127.0.0.1:{}/test/redis:v1", proxy.port());

    let ignite = ignite_e2e::host::program("ignite").display().to_string();
    let shell = Invocation::new("bash").args(["--norc", "--noprofile", "--noediting", "-i"]).env("PS1", "> ");
    let shell = shell.env("HOME", host.path("")).env("I", ignite).env("WHAT", &slow).env("BEFORE", host.path("stty"));
    let shell = shell.env("IGNITE_DATA_DIR", host.data_dir()).env("IGNITE_RUN_DIR", host.run_dir());
    let mut terminal = Terminal::open(shell);
    terminal.shows("> ").types("stty -a >$BEFORE\r").shows("> ");
    for verb in ["image import", "create --name never", "run --rm"] {
        terminal.types(&format!("$I {verb} $WHAT\r")).shows("iB / ").types("\x03").shows("> ");
        terminal.types("echo after=$?\r").shows("after=130").shows("> ");
        terminal.types("stty -a | cmp - $BEFORE && echo is sane | tr a-z A-Z\r").shows("IS SANE").shows("> ");
        assert_eq!(files(&host.data_dir()), before, "what `{verb}` leaves");
    }
    terminal.types("exit\r");
    terminal.finish().succeeds();

    drop(registry);
    host.assert_nothing_left();
    Ok(())
}

/// Every file below a directory, with its size.
fn files(dir: &Path) -> BTreeMap<PathBuf, u64> {
    let mut found = BTreeMap::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).expect("list a directory").flatten() {
            let metadata = entry.metadata().expect("look at a file");
            if metadata.is_dir() {
                open.push(entry.path());
            }
            found.insert(entry.path(), if metadata.is_dir() { 0 } else { metadata.len() });
        }
    }
    found
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

pub fn a_moving_tag_is_seen() -> Report {
    let host = Host::new();
    let registry = Registry::start(&host.path("registry"), None)?;
    registry.push(busybox(), "test/moving:v1");
    let reference = registry.reference("test/moving:v1");
    host.does(["image", "import", &reference]).succeeds();
    host.does(["image", "import", "--name", "local", &format!("{}:latest", busybox())]).succeeds();
    let line = |name: &str| {
        let table = host.does(["image", "ls", "--check"]).succeeds().text();
        table.lines().find(|line| line.contains(name)).expect("a line of the image").trim_end().to_string()
    };
    registry.forget_requests();
    assert!(line(&reference).ends_with("current"));
    assert!(line("local").ends_with("current"));
    registry.push(redis(), "test/moving:v1");
    registry.forget_requests();
    assert!(line(&reference).ends_with("stale"));
    let asked = registry.requests();
    assert!(asked.iter().all(|request| request.starts_with("HEAD ") || request == "GET /v2/"), "{asked:?}");
    assert!(asked.iter().any(|request| request.starts_with("HEAD ")), "{asked:?}");

    // Who does not ask for it asks nobody.
    registry.forget_requests();
    host.does(["image", "ls"]).succeeds().does_not_say("stale");
    assert_eq!(registry.requests(), Vec::<String>::new());
    host.does(["image", "pull", &reference]).succeeds();
    assert!(line(&reference).ends_with("current"));
    host.does(["image", "ls", "--check", "-o", "name"]).exits(2);
    drop(registry);
    assert!(line(&reference).contains("unknown: "));
    let listed = host.does(["image", "ls", "--check", "-o", "json"]).succeeds().json();
    let of = |name: &str| {
        let found = listed.as_array().into_iter().flatten().find(|image| image["metadata"]["name"] == name);
        found.expect("the image")["source"].clone()
    };
    assert_eq!(of("local:latest"), serde_json::json!({ "state": "current" }));
    assert_eq!(of(&reference)["state"], "unknown");
    assert!(of(&reference)["reason"].is_string());
    host.assert_nothing_left();
    Ok(())
}

pub fn a_vm_keeps_its_base_when_the_tag_moves() -> Report {
    let host = Host::new();
    let registry = Registry::start(&host.path("registry"), None)?;
    registry.push(busybox(), "test/moving:v1");
    let reference = registry.reference("test/moving:v1");
    let vm = host.vm("keeper");
    host.does(["create", "--name", vm.name(), &reference, "true"]).succeeds();
    let base = || {
        let link = host.data_dir().join("vm").join(vm.uid()).join("base.ext4");
        let disk = std::fs::canonicalize(link).expect("the base disk of the VM is there");
        (disk.clone(), std::fs::metadata(disk).expect("look at a disk").len())
    };
    let imported = || host.does(["image", "inspect", &reference]).json()["status"]["baseDigest"].to_string();
    let (before, digest) = (base(), imported());

    // The tag moves; who does not ask does not see it.
    registry.push(redis(), "test/moving:v1");
    host.does(["create", "--name", "second", &reference, "true"]).succeeds();
    assert_eq!(imported(), digest);
    host.does(["rm", "second"]).succeeds();
    // A pull does, and the VM stays where it is.
    host.does(["image", "pull", &reference]).succeeds();
    assert_ne!(imported(), digest);
    assert_eq!(base(), before);

    // Neither a prune nor a removal takes what a VM needs.
    host.does(["image", "prune"]).succeeds();
    assert_eq!(base(), before);
    host.does(["image", "rm", &reference]).fails().complains(vm.name());
    assert_eq!(base(), before);
    host.does(["start", vm.name()]).succeeds();
    host.does(["rm", "-f", vm.name()]).succeeds();
    host.does(["image", "prune"]).succeeds();
    assert!(!host.does(["image", "ls"]).succeeds().text().contains("test/moving"));
    drop(registry);
    host.assert_nothing_left();
    Ok(())
}
