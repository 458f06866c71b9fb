//! `kill -9` of an import at ten random moments of its download and of the making of its disk: each next one goes on with
//! what was verified.

use ignite_e2e::images::{layout, redis};
use ignite_e2e::invocation::Invocation;
use ignite_e2e::proxy::CuttingProxy;
use ignite_e2e::registry::Registry;
use ignite_e2e::wait::{BOOT, QUICK, until};
use ignite_e2e::{Host, Report};
use rustix::process::Signal;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

/// Kills in each of the two phases.
const KILLS: u32 = 5;
/// Attempts of a kill before the disk is made: a moment that was drawn may come too late.
const MAX_ATTEMPTS: u32 = 40;
/// Makes the download of some 20 MiB last seconds.
const BYTES_PER_SECOND: u32 = 4 << 20;
const SEED: u64 = 0x1d87_2b41_9c3a_5e6f;

pub fn an_import_killed_ten_times_goes_on_with_what_was_verified() -> Report {
    let host = Host::empty();
    let registry = Registry::start(&host.path("registry"), None)?;
    registry.push(redis(), "test/redis:v1");
    let proxy = CuttingProxy::start_slow(registry.port(), BYTES_PER_SECOND);
    let reference = format!("127.0.0.1:{}/test/redis:v1", proxy.port());
    let image_bytes: u64 = files(&layout(redis()).join("blobs/sha256")).iter().map(|blob| length(blob)).sum();
    let import = || {
        registry.forget_requests();
        (blobs(&host), host.ignite(["image", "import", &reference]).start())
    };
    let mut random = Random(SEED);

    // Each kill falls into another tenth of the download, at a point drawn within it.
    for kill in 0..u64::from(KILLS) {
        let slice = image_bytes / 10;
        let point = slice * kill + random.below(slice);
        let (had, mut running) = import();
        until("the download to come so far", BOOT, || {
            let is_there = proxy.bytes_carried() >= point;
            assert!(is_there || running.is_running(), "the import ended before {point} bytes");
            is_there.then_some(())
        });
        assert!(making(&host).is_none() && running.is_running(), "the kill at {point} bytes fell out of the download");
        running.kill_now();
        assert_whole(&host, &registry, &had);
    }

    // Each kill falls between the beginning and the end of the making of the disk.
    let (mut kills, mut attempts, mut longest) = (0, 0, Duration::from_millis(400));
    while kills < KILLS {
        attempts += 1;
        assert!(attempts <= MAX_ATTEMPTS, "{kills} of {attempts} kills fell into the making of the disk");
        let left = making(&host);
        let (had, mut running) = import();
        let disk = until("the disk to be made", BOOT, || {
            let made = making(&host).filter(|made| left != Some(*made));
            assert!(made.is_some() || running.is_running(), "the import ended before its disk was begun");
            made
        });
        if attempts == 1 {
            let carried = proxy.bytes_carried();
            let limit = image_bytes + image_bytes / 2;
            assert!(carried < limit, "{carried} bytes were carried for an image of {image_bytes}: it was not resumed");
        }
        let begun = Instant::now();
        std::thread::sleep(Duration::from_micros(random.below(longest.as_micros() as u64)));
        running.signal(Signal::KILL);
        let took = begun.elapsed();
        let is_over = running.finish().code == 0;
        if making(&host) == Some(disk) {
            kills += 1;
            assert_whole(&host, &registry, &had);
            continue;
        }
        // Too late: the disk is there, and is to be made again.
        longest = (took / 2).max(Duration::from_millis(5));
        if is_over {
            host.does(["image", "rm", &reference]).succeeds();
        } else {
            host.does(["image", "import", &reference]).succeeds();
            host.does(["image", "rm", &reference]).succeeds();
        }
    }

    // What the last kill left is all that is needed.
    import().1.finish().succeeds();
    assert_eq!(registry.blobs_asked_for(), Vec::<String>::new(), "blobs that were verified were fetched again");
    assert!(registry.requests().iter().any(|request| request.contains("/manifests/")), "the registry was asked at all");
    host.does(["image", "verify", &reference]).succeeds();
    drop((proxy, registry));
    host.assert_nothing_left();
    Ok(())
}

/// Every blob with a name has the content that its name says, none of those that were here was fetched, and nothing is
/// listed.
fn assert_whole(host: &Host, registry: &Registry, had: &[String]) {
    let blobs = blobs(host);
    if !blobs.is_empty() {
        let sums = Invocation::new("sha256sum").args(&blobs).within(QUICK).finish();
        for (line, blob) in sums.succeeds().text().lines().zip(&blobs) {
            assert!(line.starts_with(hex(blob)), "{line} is not what its name says");
        }
    }
    let asked = registry.blobs_asked_for();
    let again: Vec<_> = had.iter().filter(|blob| asked.iter().any(|digest| digest.ends_with(hex(blob)))).collect();
    assert!(again.is_empty(), "verified and fetched again: {again:?}");
    host.does(["image", "ls"]).succeeds().does_not_say("test/redis");
}

fn hex(blob: &str) -> &str {
    blob.rsplit('/').next().unwrap_or_default()
}

fn blobs(host: &Host) -> Vec<String> {
    files(&host.data_dir().join("oci/blobs/sha256"))
}

/// When the directory was made in which a disk is being made, or was when its maker was killed.
fn making(host: &Host) -> Option<SystemTime> {
    let found = files(&host.data_dir().join("base")).into_iter().find(|path| path.contains("/.making-"))?;
    fs::metadata(found).ok()?.created().ok()
}

/// Paths in a directory, sorted.
fn files(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut paths: Vec<String> = entries.map(|entry| entry.path().display().to_string()).collect();
    paths.sort();
    paths
}

fn length(path: &str) -> u64 {
    fs::metadata(path).map_or(0, |meta| meta.len())
}

/// A small generator with a seed (xorshift64), so that a failure can be had again.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit.max(1)
    }
}
