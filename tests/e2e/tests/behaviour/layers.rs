//! What an image's layers become: the guest's tree, entry by entry, beside the one `umoci unpack` makes.

use ignite_e2e::images::{hard_layers, layout};
use ignite_e2e::invocation::Invocation;
use ignite_e2e::{Host, Report};
use std::collections::BTreeMap;
use std::time::SystemTime;

pub fn the_guests_tree_is_what_umoci_unpacks() -> Report {
    if !rustix::process::geteuid().is_root() {
        return Err("umoci makes devices and owners only as root".into());
    }
    let host = Host::shared();
    let bundle = host.path("hard-layers");
    let started = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock after 1970").as_secs();
    let image = format!("{}:latest", layout(hard_layers()).display());
    Invocation::new("umoci").args(["unpack", "--image", &image]).args([&bundle]).finish().succeeds();
    let listed = Invocation::new("chroot").args([bundle.join("rootfs")]).args(["/list-tree", "/corpus"]).finish();
    let listing = listed.succeeds().text();
    let expected = entries(&listing);
    std::fs::remove_dir_all(&bundle).expect("remove the bundle");
    assert!(expected.len() > 3000, "the corpus has {} entries", expected.len());

    for root_disk in ["overlay", "private"] {
        let listed =
            host.run(["--rm", "--network", "none", "--root-disk", root_disk, hard_layers(), "/list-tree", "/corpus"]);
        let listing = listed.succeeds().text();
        let differences = differences(&expected, &entries(&listing), started);
        assert!(
            differences.is_empty(),
            "{} entries differ with --root-disk {root_disk}:\n{}",
            differences.len(),
            differences[..differences.len().min(20)].join("\n")
        );
    }
    Ok(())
}

/// Path -> the fields after it, as `list-tree` prints them.
fn entries(listing: &str) -> BTreeMap<&str, Vec<&str>> {
    listing
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(path, rest)| (path, rest.split(' ').collect()))
        .collect()
}

/// Position of the modification time among the fields.
const TIME: usize = 4;
const DIRECTORY: &str = "40000";

fn differences(
    expected: &BTreeMap<&str, Vec<&str>>,
    found: &BTreeMap<&str, Vec<&str>>,
    unpacked_at: u64,
) -> Vec<String> {
    let mut differences = Vec::new();
    for (path, wanted) in expected {
        let Some(got) = found.get(path) else {
            differences.push(format!("{path} is missing"));
            continue;
        };
        let (mut wanted, mut got) = (wanted.clone(), got.clone());
        // No layer says when a directory was changed that it does not name: umoci leaves the time of its own writing.
        if wanted[0] == DIRECTORY
            && seconds(wanted[TIME]).is_some_and(|time| (unpacked_at..unpacked_at + 3600).contains(&time))
        {
            wanted.remove(TIME);
            got.remove(TIME);
        }
        if wanted != got {
            differences.push(format!("{path}\n  umoci: {}\n  guest: {}", wanted.join(" "), got.join(" ")));
        }
    }
    differences
        .extend(found.keys().filter(|path| !expected.contains_key(*path)).map(|path| format!("{path} is too much")));
    differences
}

fn seconds(time: &str) -> Option<u64> {
    time.split_once('.')?.0.parse().ok()
}
