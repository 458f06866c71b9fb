//! Empty disks of all sizes, judged by e2fsck.
#![allow(missing_docs, clippy::print_stderr, reason = "what was skipped and measured is said in the output")]

mod harness;

use std::os::unix::fs::MetadataExt;
use std::time::Instant;

const MIB: u64 = 1 << 20;

#[test]
fn empty_disks_of_all_sizes_are_sound_and_sparse() {
    let dir = tempfile::tempdir().unwrap();
    let group = 128 * MIB;
    for size in [8 * MIB, 100 * MIB + 512, group, group + 4096, 3 * group + 300 * 4096, 1 << 30, 4 << 30, 70 << 30] {
        let path = dir.path().join(format!("disk-{size}"));
        ignite_disk::create_writable_disk(&path, size, [0x5a; 16]).unwrap();
        let stat = path.metadata().unwrap();
        assert_eq!(stat.size(), size);
        assert!(stat.blocks() * 512 <= MIB + size / 16384, "{size}: {} bytes stored", stat.blocks() * 512);
        harness::assert_sound(&path);
    }
}

#[test]
fn a_disk_of_one_tebibyte_is_made_in_a_moment() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk");
    let start = Instant::now();
    ignite_disk::create_writable_disk(&path, 1 << 40, [7; 16]).unwrap();
    let elapsed = start.elapsed();
    eprintln!("1 TiB: {elapsed:?}, {} KiB stored", path.metadata().unwrap().blocks() / 2);
    assert!(path.metadata().unwrap().blocks() * 512 < 16 * MIB);
}

#[test]
fn the_same_request_makes_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    for path in [&a, &b] {
        ignite_disk::create_writable_disk(path, 64 * MIB, [9; 16]).unwrap();
    }
    assert!(std::fs::read(a).unwrap() == std::fs::read(b).unwrap());
}
