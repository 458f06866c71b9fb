//! Small images, a real registry, and a proxy that misbehaves on request.
#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses a part")]

pub mod certificate;
pub mod engines;
pub mod images;
pub mod proxy;
pub mod registry;

use ignite_oci::{ContentStore, OciError, Progress, ProgressEvent, PullOptions, StoredImage, fetch};
use images::TestImage;
use registry::{Setup, TestRegistry};
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;

/// What the test images are called.
pub const NAME: &str = "test/busybox:v1";

/// Remembers the events of a fetch.
#[derive(Default)]
pub struct Events(Mutex<Vec<ProgressEvent>>);

impl Progress for Events {
    fn event(&self, event: ProgressEvent) {
        self.0.lock().unwrap().push(event);
    }
}

impl Events {
    pub fn count(&self, is: impl Fn(&ProgressEvent) -> bool) -> usize {
        self.0.lock().unwrap().iter().filter(|event| is(event)).count()
    }
}

/// Options with short pauses, for the platform the test images are made for.
pub fn options() -> PullOptions {
    PullOptions {
        platform: "linux/amd64".parse().unwrap(),
        retry_pause: Duration::from_millis(10),
        idle_timeout: Duration::from_secs(20),
        ..PullOptions::default()
    }
}

pub fn silent() -> Arc<dyn Progress> {
    Arc::new(())
}

pub fn store() -> (TempDir, ContentStore) {
    let dir = tempfile::tempdir().unwrap();
    let store = ContentStore::open(&dir.path().join("store")).unwrap();
    (dir, store)
}

pub async fn pull(
    store: &ContentStore,
    host: &str,
    name: &str,
    options: &PullOptions,
) -> Result<StoredImage, OciError> {
    fetch(store, &format!("{host}/{name}").parse().unwrap(), None, options, silent()).await
}

/// A registry that holds the image as [`NAME`].
pub fn registry_with(image: &TestImage) -> TestRegistry {
    let registry = TestRegistry::start(&Setup::default());
    registry.push(image, NAME, &Setup::default());
    registry
}

/// Every layer of a stored image, read to its verified end.
pub fn layer_contents(store: &ContentStore, image: &StoredImage) -> Vec<Vec<u8>> {
    let read = |layer| {
        let mut content = Vec::new();
        store.open_layer(layer).unwrap().read_to_end(&mut content).unwrap();
        content
    };
    image.layers.iter().map(read).collect()
}

/// Names of the files below the store that are no locks and no part of an empty store.
pub fn leftovers(store: &ContentStore) -> Vec<String> {
    fn walk(dir: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if !["lock", "json"].iter().any(|end| path.extension().is_some_and(|ext| ext == *end))
                && path.file_name().is_some_and(|name| name != "oci-layout")
            {
                found.push(path.display().to_string());
            }
        }
    }
    let mut found = Vec::new();
    walk(store.root(), &mut found);
    found
}

/// True when there is a registry to test with.
pub fn have_registry() -> bool {
    have(&["docker-registry", "skopeo", "htpasswd"])
}

/// True when all `programs` can be run; else says so where the test's reader sees it.
pub fn have(programs: &[&str]) -> bool {
    for program in programs {
        let found = std::env::var_os("PATH")
            .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()));
        if !found {
            use std::io::Write;
            // Past the test harness's capture: a skipped test must be seen.
            let _ = writeln!(std::io::stderr(), "SKIPPED: needs the program {program}, which is not installed");
            return false;
        }
    }
    true
}
