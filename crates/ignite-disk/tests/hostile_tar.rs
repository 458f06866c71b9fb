//! Damaged and random archives: refused or flattened into a sound image, never a panic.
#![allow(missing_docs, clippy::print_stderr, reason = "what was skipped and measured is said in the output")]

mod harness;

use harness::layer::{Entry, Layer, entry, sources};
use ignite_disk::write_base;
use proptest::prelude::*;

fn flatten(layers: &[Layer]) -> Option<u64> {
    let dir = tempfile::tempdir().unwrap();
    let dest = dir.path().join("base");
    let made = write_base(&sources(layers), &dest, &|_| {});
    let left = std::fs::read_dir(dir.path()).unwrap().count();
    match made {
        Ok(info) => {
            harness::assert_sound(&dest);
            Some(info.entries)
        }
        Err(error) => {
            assert_eq!(left, 0, "{error}");
            None
        }
    }
}

fn sample() -> Layer {
    Layer::default()
        .dir("./")
        .dir("a")
        .file("a/file", &[7; 5000])
        .symlink("l", "/a")
        .link("hard", "a/file")
        .add(Entry { pax: &[("mtime", b"1.5"), ("SCHILY.xattr.user.x", b"y")], ..entry(b'0', "pax") })
        .file(&"long/".repeat(30), b"x")
        .file("a/.wh.file", b"")
        .finish()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn damaged_archives_never_panic(at in any::<prop::sample::Index>(), bytes in prop::collection::vec(any::<u8>(), 1..16)) {
        let mut layer = sample();
        let at = at.index(layer.bytes.len() - bytes.len());
        layer.bytes[at..at + bytes.len()].copy_from_slice(&bytes);
        flatten(&[sample(), layer]);
    }

    #[test]
    fn truncated_archives_never_panic(len in any::<prop::sample::Index>()) {
        let mut layer = sample();
        layer.bytes.truncate(len.index(layer.bytes.len()));
        flatten(&[layer]);
    }

    #[test]
    fn random_layers_make_sound_images(
        entries in prop::collection::vec(
            (
                prop::sample::select(vec![b'0', b'1', b'2', b'3', b'5', b'6']),
                "(\\.\\./|/|a/|b/|l/|\\./|\\.wh\\.){0,3}(a|b|c|l|\\.wh\\.a|\\.wh\\.\\.wh\\.\\.opq|\\.wh\\.l)/?",
                "(\\.\\./|/|a/|b/){0,3}(a|b|c|l)",
                0usize..9000,
            ),
            0..40,
        ),
        cut in 0usize..40,
    ) {
        let mut layers = [Layer::default(), Layer::default()];
        for (number, (kind, name, link, len)) in entries.iter().enumerate() {
            let content = if *kind == b'0' { vec![1; *len] } else { Vec::new() };
            let layer = &mut layers[usize::from(number >= cut)];
            let entry = Entry { link: link.as_bytes(), content: &content, ..entry(*kind, name) };
            // One refused entry refuses the whole image: try each alone first.
            let candidate = layer.clone().add(entry);
            let sources = if number >= cut {
                vec![layers[0].clone(), candidate.clone()]
            } else {
                vec![candidate.clone()]
            };
            if flatten(&sources).is_some() {
                layers[usize::from(number >= cut)] = candidate;
            }
        }
        prop_assert!(flatten(&layers).is_some());
    }

    #[test]
    fn noise_is_refused(noise in prop::collection::vec(any::<u8>(), 1..2000)) {
        let is_empty = noise.iter().all(|&byte| byte == 0);
        prop_assert_eq!(flatten(&[Layer { bytes: noise }]).is_some(), is_empty);
    }
}
