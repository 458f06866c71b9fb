//! Hard layers, flattened: the tree in the image is the one that `umoci unpack` makes.
#![allow(missing_docs, clippy::print_stderr, reason = "what was skipped and measured is said in the output")]

mod harness;

use std::path::Path;

use harness::layer::{Entry, Layer, entry, header, seal, sources};
use harness::listing::{self, Listing};
use ignite_disk::{BaseInfo, DiskError, write_base};

fn build(layers: &[Layer], dest: &Path) -> Result<BaseInfo, DiskError> {
    write_base(&sources(layers), dest, &|_| {})
}

/// Unpacks the layers with `umoci`, as root, and lists what it made.
fn umoci(layers: &[Layer], dir: &Path) -> Listing {
    harness::oci::write_layout(&dir.join("layout"), layers);
    let image = format!("{}:test", dir.join("layout").display());
    let bundle = dir.join("bundle");
    let output = harness::run("umoci", &["unpack".as_ref(), "--image".as_ref(), image.as_ref(), bundle.as_ref()]);
    assert!(output.status.success(), "umoci: {}", String::from_utf8_lossy(&output.stderr));
    listing::list(&bundle.join("rootfs"))
}

/// Compares with umoci; `implicit` are directories without an entry, whose times and modes umoci takes from the day.
fn assert_equals_umoci(layers: &[Layer], implicit: &[&str]) {
    assert_equals_umoci_of(layers, layers, implicit);
}

/// Compares our tree of `layers` with umoci's of others that should make the same.
fn assert_equals_umoci_of(layers: &[Layer], umoci_layers: &[Layer], implicit: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("base.ext4");
    build(layers, &image).unwrap();
    harness::assert_sound(&image);
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: the comparison with umoci needs root");
        return;
    }
    if !harness::has_program("umoci") {
        return;
    }
    let mut ours = listing::list_image(&image, &dir.path().join("mnt"));
    let mut theirs = umoci(umoci_layers, dir.path());
    for listing in [&mut ours, &mut theirs] {
        for path in implicit {
            let facts = listing.get_mut(path.as_bytes()).unwrap_or_else(|| panic!("{path} is missing"));
            (facts.mtime, facts.mode) = ((0, 0), 0);
        }
    }
    let differences = listing::differences(&ours, &theirs);
    assert!(differences.is_empty(), "ours, then umoci's:\n{}", differences.join("\n"));
}

fn root() -> Layer {
    Layer::default().dir("./")
}

#[test]
fn whiteouts_and_opaque_directories_hide_lower_layers_only() {
    let lower = root()
        .dir("a")
        .file("a/one", b"1")
        .file("a/two", b"2")
        .dir("b")
        .dir("b/sub")
        .file("b/sub/deep", b"d")
        .file("b/lower", b"l")
        .dir("c")
        .file("c/lower", b"l")
        .dir("d")
        .file("d/keep", b"k")
        .file("gone", b"g")
        .dir("e")
        .dir("e/x")
        .file("e/x/lower", b"l");
    let upper = root()
        .file("a/.wh.one", b"")
        .file("b/upper", b"u")
        .file("b/sub/new", b"n")
        .file("b/.wh..wh..opq", b"")
        .file("c/.wh..wh..opq", b"")
        .file("c/upper", b"u")
        .file(".wh.gone", b"")
        .file("gone-not", b"")
        .file(".wh.absent", b"")
        .file("a/three", b"3")
        .file("a/.wh.three", b"")
        .file(".wh.d", b"")
        .dir("d")
        .file("d/fresh", b"f")
        .file("e/x/upper", b"u")
        .file(".wh.e", b"");
    // A directory that stays while a whiteout takes lower files out of it keeps its time here; umoci forgets it.
    assert_equals_umoci(&[lower.finish(), upper.finish()], &["b/sub", "e/x"]);
}

#[test]
fn hard_links_cross_layers_and_outlive_what_they_were_made_from() {
    let lower = root().file("old", b"old content").symlink("soft", "old").link("same", "old").dir("dir");
    let upper = root()
        .link("dir/kept", "/old")
        .file("old", b"new content")
        .link("hard-to-soft", "soft")
        .link("./dir/../again", "./same")
        .file(".wh.soft", b"");
    let top = root().link("third", "dir/kept").file("dir/.wh.kept", b"");
    assert_equals_umoci(&[lower.finish(), upper.finish(), top.finish()], &[]);
}

#[test]
fn paths_go_through_links_inside_the_root() {
    let lower = root()
        .dir("c")
        .symlink("a", "/c")
        .dir("usr")
        .dir("usr/bin")
        .symlink("bin", "usr/bin")
        .symlink("up", "../../../usr")
        .symlink("dangling", "/made/later");
    let upper = root()
        .file("a/b", b"in c")
        .file("bin/sh", b"#!")
        .file("up/x", b"x")
        .file("dangling/y", b"y")
        .link("bin/bash", "bin/sh")
        .dir("implicit/parent/dir")
        .file("bin/.wh.nothing", b"");
    let top = root().file("bin/.wh.bash", b"").file("a/.wh..wh..opq", b"").file("a/z", b"z");
    assert_equals_umoci(
        &[lower.finish(), upper.finish(), top.finish()],
        &["made", "made/later", "implicit", "implicit/parent"],
    );
}

#[test]
fn kinds_replace_each_other() {
    let lower = root()
        .dir("dir")
        .file("dir/inside", b"i")
        .file("file", b"f")
        .symlink("soft", "file")
        .dir("meta")
        .file("meta/kept", b"k")
        .dir("target")
        .symlink("dirlink", "target");
    let upper = root()
        .file("dir", b"now a file")
        .dir("file")
        .file("file/inside", b"i")
        .file("soft", b"now a file")
        .add(Entry { mode: 0o1777, uid: 7, gid: 8, mtime: 5, ..entry(b'5', "meta/") })
        .dir("dirlink")
        .file("twice", b"first")
        .file("twice", b"second, longer");
    let top = root().symlink("file", "meta").add(Entry { mode: 0o600, ..entry(b'6', "twice") });
    assert_equals_umoci(&[lower.finish(), upper.finish(), top.finish()], &[]);
}

#[test]
fn metadata_is_kept_to_the_last_bit() {
    let long = format!("{}/{}", "d".repeat(200), "n".repeat(255));
    let target = "t/".repeat(400);
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let layer = Layer::default()
        .add(Entry { mode: 0o750, uid: 3, gid: 4, mtime: 77, ..entry(b'5', "./") })
        .add(Entry { mode: 0o4755, ..entry(b'0', "setuid") })
        .add(Entry { mode: 0o2755, gid: 12, ..entry(b'5', "setgid") })
        .add(Entry { uid: 3_000_000_000, gid: 2_500_000, ..entry(b'0', "large-ids") })
        .add(Entry { device: (5, 1), mode: 0o620, ..entry(b'3', "console") })
        .add(Entry { device: (259, 300_000), mode: 0o660, ..entry(b'4', "nvme") })
        .add(Entry { mode: 0o600, ..entry(b'6', "fifo") })
        .add(Entry { pax: &[("mtime", b"1234567890.123456789")], ..entry(b'0', "nanoseconds") })
        .add(Entry { pax: &[("mtime", b"-1000.25")], ..entry(b'0', "before-1970") })
        .add(Entry { pax: &[("mtime", b"5000000000.5")], ..entry(b'2', "after-2038") }.linked("x"))
        .add(Entry { pax: &[("uid", b"4000000000"), ("gid", b"70000"), ("path", b"pax-name")], ..entry(b'0', "short") })
        .add(Entry { pax: &[("SCHILY.xattr.security.capability", &capability)], mode: 0o755, ..entry(b'0', "ping") })
        .add(Entry {
            pax: &[("SCHILY.xattr.user.a", b"1=\n2\0"), ("SCHILY.xattr.user.b", &[7; 300])],
            ..entry(b'0', "x")
        })
        .add(Entry { pax: &[("SCHILY.xattr.user.d", b"d"), ("SCHILY.xattr.trusted.t", b"t")], ..entry(b'5', "xd") })
        .add(Entry { pax: &[("SCHILY.xattr.trusted.t", b"t")], ..entry(b'2', "xl") }.linked("nowhere"))
        .add(Entry { pax: &[("SCHILY.xattr.security.selinux", b"label")], ..entry(b'0', "label") })
        .add(Entry { content: b"empty value", pax: &[("SCHILY.xattr.user.empty", b"")], ..entry(b'0', "ev") })
        .dir(&"d".repeat(200))
        .file(&long, b"long")
        .symlink("long-target", &target)
        .symlink("target-59", &"s".repeat(59))
        .symlink("target-60", &"s".repeat(60))
        .add(Entry { name: b"not-utf8-\xff\xfe", content: b"latin", ..entry(b'0', "") })
        .file("empty", b"")
        .file("one-block", &[3; 4096])
        .file("zeros", &[0; 100_000])
        .file("big", &(0..3_000_000u32).map(|n| (n / 7) as u8).collect::<Vec<_>>())
        .file("-strange\nname\\ \t", b"s")
        .finish();
    let dirs = root().dir("nested/").add(Entry { pax: &[("SCHILY.xattr.user.n", b"n")], ..entry(b'5', "xd") });
    assert_equals_umoci(&[layer, dirs.finish()], &[]);
}

trait Linked {
    fn linked(self, target: &'static str) -> Self;
}

impl Linked for Entry<'_> {
    fn linked(mut self, target: &'static str) -> Self {
        self.link = target.as_bytes();
        self
    }
}

#[test]
fn directories_of_many_names_are_indexed() {
    let mut layer = root().dir("many").dir("more");
    for n in 0..60_000 {
        layer = layer.file(&format!("many/a-name-of-some-length-{n:x}"), b"");
    }
    for n in 0..90 {
        layer = layer.dir(&format!("more/{n}")).symlink(&format!("more/{n}/{}", "l".repeat(200)), "x");
    }
    assert_equals_umoci(&[layer.finish()], &[]);
}

#[test]
fn sparse_files_of_every_form_stay_sparse() {
    let block = |byte: u8, len: usize| vec![byte; len];
    // PAX 1.0: the map leads the content.
    let mut v1 = b"2\n0\n5000\n1000000\n10\n".to_vec();
    v1.resize(512, 0);
    v1.extend(block(b'a', 5000));
    v1.extend(block(b'b', 10));
    let v01 = [block(b'c', 100), block(b'd', 200), block(b'e', 5000)].concat();
    let old_content = block(b'f', 4096 + 10);
    let mut old = header(&entry(b'S', "old-gnu"), old_content.len() as u64);
    for (at, (offset, len)) in [(8192u64, 4096u64), (40_000, 10), (50_000, 0)].into_iter().enumerate() {
        let field = 386 + at * 24;
        old[field..field + 12].copy_from_slice(format!("{offset:011o}\0").as_bytes());
        old[field + 12..field + 24].copy_from_slice(format!("{len:011o}\0").as_bytes());
    }
    old[483..495].copy_from_slice(format!("{:011o}\0", 50_000).as_bytes());
    seal(&mut old);
    let mut padded = old_content.clone();
    padded.resize(padded.len().next_multiple_of(512), 0);
    let layer = root()
        .add(Entry {
            content: &v1,
            pax: &[
                ("GNU.sparse.major", b"1"),
                ("GNU.sparse.minor", b"0"),
                ("GNU.sparse.name", b"pax-1.0"),
                ("GNU.sparse.realsize", b"2000000"),
            ],
            ..entry(b'0', "GNUSparseFile.0/pax-1.0")
        })
        .add(Entry {
            content: &v01,
            pax: &[
                ("GNU.sparse.size", b"30000"),
                ("GNU.sparse.numblocks", b"3"),
                ("GNU.sparse.map", b"50,100,200,200,10000,5000"),
                ("GNU.sparse.name", b"pax-0.1"),
            ],
            ..entry(b'0', "x")
        })
        .add(Entry {
            content: b"0123456789",
            pax: &[
                ("GNU.sparse.size", b"9000"),
                ("GNU.sparse.numblocks", b"1"),
                ("GNU.sparse.offset", b"8000"),
                ("GNU.sparse.numbytes", b"10"),
            ],
            ..entry(b'0', "pax-0.0")
        });
    // umoci does not know GNU's old form: there the same file is written out.
    let mut dense = vec![0; 50_000];
    dense[8192..8192 + 4096].copy_from_slice(&old_content[..4096]);
    dense[40_000..40_010].copy_from_slice(&old_content[4096..]);
    let ours = layer.clone().raw(&old).raw(&padded).finish();
    assert_equals_umoci_of(&[ours], &[layer.file("old-gnu", &dense).finish()], &[]);
}

#[test]
fn an_init_is_found_through_links() {
    let dir = tempfile::tempdir().unwrap();
    let executable = |name| Entry { mode: 0o755, content: b"\x7fELF", ..entry(b'0', name) };
    let merged = root()
        .dir("usr")
        .dir("usr/sbin")
        .dir("usr/lib")
        .symlink("sbin", "usr/sbin")
        .symlink("lib", "usr/lib")
        .symlink("usr/sbin/init", "/lib/systemd/systemd");
    for (layer, has_init) in [
        (merged.clone().add(executable("lib/systemd/systemd")), true),
        (merged.clone(), false),
        (root().add(executable("sbin/init")), true),
        (root().file("sbin/init", b"not executable"), false),
        (root(), false),
    ] {
        let info = build(&[layer.finish()], &dir.path().join("base")).unwrap();
        assert_eq!(info.has_init, has_init);
    }
}

#[test]
fn a_private_root_has_its_size_a_journal_and_the_same_tree() {
    let dir = tempfile::tempdir().unwrap();
    let layers = [root().file("a", &[1; 9000]).file("b", &[2; 5_000_000]).finish(), root().file("b", b"2").finish()];
    let (base, private) = (dir.path().join("base"), dir.path().join("private"));
    build(&layers, &base).unwrap();
    let size = 300 << 20;
    let info = ignite_disk::write_private_root(&sources(&layers), &private, size, &|_| {}).unwrap();
    assert_eq!((info.size, private.metadata().unwrap().len()), (size, size));
    harness::assert_sound(&private);
    let image = std::fs::File::open(&private).unwrap();
    let fs = mkext4::reader::Fs::open(&image).unwrap();
    assert_eq!(fs.read_file(fs.resolve("/b").unwrap()).unwrap(), b"2");
    if rustix::process::geteuid().is_root() {
        let [left, right] = [&base, &private].map(|image| listing::list_image(image, &dir.path().join("mnt")));
        assert_eq!(listing::differences(&left, &right), [] as [String; 0]);
    }
    let big = [root().file("c", &vec![1; 20 << 20]).finish()];
    let error = ignite_disk::write_private_root(&sources(&big), &dir.path().join("full"), 8 << 20, &|_| {});
    assert!(matches!(error, Err(DiskError::BadLayer { .. })));
    assert!(!dir.path().join("full").exists());
}

#[test]
fn access_control_lists_are_the_kernels_own() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: needs root");
        return;
    }
    let acl = |entries: &[(u16, u16, u32)]| {
        let mut bytes = 2u32.to_le_bytes().to_vec();
        for (tag, permissions, id) in entries {
            bytes.extend([tag.to_le_bytes(), permissions.to_le_bytes()].concat());
            bytes.extend(id.to_le_bytes());
        }
        bytes
    };
    let none = u32::MAX;
    let access = acl(&[(1, 7, none), (2, 6, 1000), (4, 5, none), (8, 4, 50), (16, 7, none), (32, 1, none)]);
    let minimal = acl(&[(1, 6, none), (4, 4, none), (32, 0, none)]);
    let layer = root()
        .add(Entry { pax: &[("SCHILY.xattr.system.posix_acl_access", &access)], ..entry(b'0', "file") })
        .add(Entry { pax: &[("SCHILY.xattr.system.posix_acl_access", &minimal)], ..entry(b'0', "minimal") })
        .add(Entry { pax: &[("SCHILY.xattr.system.posix_acl_default", &access)], ..entry(b'5', "dir") })
        .finish();
    assert_equals_umoci(&[layer], &[]);
}

#[test]
fn the_same_layers_make_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let layers = [root().file("a", &[1; 9000]).finish(), root().file("a", b"2").dir("d").finish()];
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    let info = build(&layers, &one).unwrap();
    build(&layers, &two).unwrap();
    assert!(std::fs::read(&one).unwrap() == std::fs::read(&two).unwrap());
    assert_eq!((info.content_size, info.entries), (1, 3));
    assert_eq!(info.size, one.metadata().unwrap().len());
}

#[test]
fn hostile_archives_are_refused_by_name_and_leave_nothing() {
    let good = root().file("good", b"x");
    let lying = |size: u64| root().raw(&header(&entry(b'0', "liar"), size)).raw(b"little");
    let mut deep = root();
    for n in 0..30 {
        deep = deep.dir(&"d/".repeat(2000)).symlink(&format!("d/l{n}"), &"d/".repeat(1900));
    }
    for n in 0..30 {
        deep = deep.dir(&format!("d/l{n}/{}", "e/".repeat(1000)));
    }
    let acl: &[u8] = b"not an acl";
    for (what, entry_name, layer) in [
        ("escape", "../etc/passwd", good.clone().file("../etc/passwd", b"x")),
        ("escape", "a/../../b", good.clone().file("a/../../b", b"x")),
        ("link out", "evil", good.clone().link("evil", "../../etc/shadow")),
        ("link to nothing", "evil", good.clone().link("evil", "etc/shadow")),
        ("link to directory", "evil", good.clone().dir("d").link("evil", "d")),
        ("through a file", "good/x", good.clone().file("good/x", b"x")),
        ("loop", "l/x", good.clone().symlink("l", "l").file("l/x", b"x")),
        ("root replaced", "./", good.clone().symlink("./", "/etc")),
        ("whiteout of parent", ".wh...", good.clone().file(".wh...", b"")),
        ("long name", "n", good.clone().file(&"n".repeat(256), b"x")),
        ("long path", "n", good.clone().file(&"n/".repeat(2100), b"x")),
        ("deep", "d/", deep),
        ("more than there is", "liar", lying(1 << 20)),
        ("more than any disk", "liar", lying(1 << 60)),
        ("huge", "liar", lying(u64::MAX >> 1)),
        ("truncated header", "good", good.clone().raw(&[1; 100])),
        ("garbage", "good", good.clone().raw(&[0xaa; 512])),
        ("device", "dev", good.clone().add(Entry { device: (5000, 0), ..entry(b'3', "dev") })),
        ("type", "odd", good.clone().add(entry(b'D', "odd"))),
        (
            "acl",
            "acl",
            good.clone().add(Entry { pax: &[("SCHILY.xattr.system.posix_acl_access", acl)], ..entry(b'0', "acl") }),
        ),
        ("negative", "neg", good.clone().add(Entry { pax: &[("size", b"-5")], ..entry(b'0', "neg") })),
        ("empty target", "s", good.clone().symlink("s", "")),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let error = build(&[good.clone().finish(), layer], &dir.path().join("base")).expect_err(what);
        let DiskError::BadLayer { layer, entry, .. } = &error else { panic!("{what}: {error:?}") };
        assert!(entry.starts_with(entry_name) && layer.starts_with("of "), "{what}: {error}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "{what} left something");
    }
}
