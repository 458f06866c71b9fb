//! What hostile archives cannot do.

use super::*;
use crate::copy::pack::pack;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use tar::{Builder, Header};

fn archive(entries: &[(&str, EntryType, &str)]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (name, kind, content) in entries {
        let mut header = Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o6755);
        header.set_mtime(1_000);
        // Written by hand: the builder refuses the names that are tested here.
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        let data = match kind {
            EntryType::Symlink | EntryType::Link => {
                header.as_mut_bytes()[157..157 + content.len()].copy_from_slice(content.as_bytes());
                ""
            }
            _ => content,
        };
        header.set_size(data.len() as u64);
        header.set_cksum();
        builder.append(&header, data.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

fn unpack_into(dir: &Path, top: Option<&str>, bytes: &[u8]) -> io::Result<()> {
    unpack(&Target::open(dir, top.map(OsString::from), false, 7).unwrap(), bytes)
}

const FILE: EntryType = EntryType::Regular;
const DIR: EntryType = EntryType::Directory;
const LINK: EntryType = EntryType::Symlink;
const HARD: EntryType = EntryType::Link;

#[test]
fn nothing_is_written_outside_of_the_destination() {
    let outer = tempfile::tempdir().unwrap();
    let dir = outer.path().join("inner");
    let victim = outer.path().join("victim");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(&victim, "safe").unwrap();
    symlink("..", dir.join("up")).unwrap();
    symlink(outer.path(), dir.join("absolute")).unwrap();
    let absolute = victim.to_str().unwrap().to_owned();
    let attacks: [&[(&str, EntryType, &str)]; 13] = [
        &[("../victim", FILE, "bad")],
        &[("t/../../victim", FILE, "bad")],
        &[(&absolute, FILE, "bad")],
        &[("t/up/victim", FILE, "bad")],
        &[("t/absolute/victim", FILE, "bad")],
        &[("t/l", LINK, ".."), ("t/l/victim", FILE, "bad")],
        &[("t/l", LINK, outer.path().to_str().unwrap()), ("t/l/victim", FILE, "bad")],
        &[("t/l", LINK, ".."), ("t/l", DIR, ""), ("t/l/victim", FILE, "bad")],
        &[("t/h", HARD, "../victim"), ("t/h", FILE, "bad")],
        &[("t/h", HARD, &absolute)],
        &[("t/h", HARD, "t/up/victim")],
        &[("t/l", LINK, "../victim"), ("t/h", HARD, "t/l")],
        &[("t/dev", EntryType::Char, "")],
    ];
    for attack in attacks {
        unpack_into(&dir, None, &archive(attack)).unwrap_err();
        assert_eq!(std::fs::read(&victim).unwrap(), b"safe", "{attack:?}");
        assert_eq!(std::fs::metadata(&victim).unwrap().nlink(), 1, "{attack:?}");
        assert_eq!(std::fs::read_dir(outer.path()).unwrap().count(), 2, "{attack:?}");
        let _ = std::fs::remove_file(dir.join("l"));
    }
    // An existing link is replaced and not written through.
    symlink("../victim", dir.join("file")).unwrap();
    unpack_into(&dir, Some("file"), &archive(&[("any", FILE, "good")])).unwrap();
    assert_eq!(std::fs::read(&victim).unwrap(), b"safe");
    assert_eq!(std::fs::read(dir.join("file")).unwrap(), b"good");
    // Set-id bits are the guest's, not ours.
    assert_eq!(std::fs::metadata(dir.join("file")).unwrap().mode() & 0o7777, 0o755);
}

#[test]
fn an_error_names_the_entry() {
    let dir = tempfile::tempdir().unwrap();
    let error = unpack_into(dir.path(), None, &archive(&[("t/dev", EntryType::Block, "")])).unwrap_err();
    assert!(error.to_string().starts_with("t/dev: is a device"), "{error}");
}

#[test]
fn a_cut_archive_leaves_the_old_file_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("f"), "old").unwrap();
    let whole = archive(&[("f", FILE, &"x".repeat(5000))]);
    for length in [100, 512, 600, 5000] {
        let cut = unpack_into(dir.path(), Some("f"), &whole[..length]);
        assert!(cut.is_err(), "{length}");
        assert_eq!(std::fs::read(dir.path().join("f")).unwrap(), b"old", "{length}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "{length}");
    }
}

#[test]
fn a_name_longer_than_a_path_is_refused_before_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::GNULongName);
    header.set_size(1 << 40);
    header.set_cksum();
    let endless = io::Read::chain(header.as_bytes().as_slice(), io::repeat(b'a'));
    let target = Target::open(dir.path(), None, false, 7).unwrap();
    let error = unpack(&target, endless).unwrap_err();
    assert!(error.to_string().contains("too long"), "{error}");
}

#[test]
fn what_is_packed_is_unpacked_under_another_name() {
    let from = tempfile::tempdir().unwrap();
    let to = tempfile::tempdir().unwrap();
    let long = "n".repeat(150);
    let tree = from.path().join("tree");
    std::fs::create_dir_all(tree.join("sub")).unwrap();
    std::fs::write(tree.join("sub/a"), "content").unwrap();
    std::fs::hard_link(tree.join("sub/a"), tree.join("b")).unwrap();
    std::fs::write(tree.join(&long), "long").unwrap();
    symlink("/nowhere/at/all", tree.join("link")).unwrap();
    std::fs::set_permissions(tree.join("sub/a"), std::fs::Permissions::from_mode(0o640)).unwrap();
    std::fs::set_permissions(tree.join("sub"), std::fs::Permissions::from_mode(0o550)).unwrap();
    let mut bytes = Vec::new();
    pack(&tree, Some(Path::new("tree")), false, &mut bytes).unwrap();
    unpack_into(to.path(), Some("other"), &bytes).unwrap();
    let other = to.path().join("other");
    assert_eq!(std::fs::read(other.join("sub/a")).unwrap(), b"content");
    assert_eq!(std::fs::read(other.join(&long)).unwrap(), b"long");
    assert_eq!(std::fs::read_link(other.join("link")).unwrap(), Path::new("/nowhere/at/all"));
    let a = std::fs::metadata(other.join("sub/a")).unwrap();
    assert_eq!((a.mode() & 0o7777, a.nlink()), (0o640, 2));
    assert_eq!(std::fs::metadata(other.join("sub")).unwrap().mode() & 0o7777, 0o550);
    // Again over what is there, and its contents without its top.
    std::fs::set_permissions(other.join("sub"), std::fs::Permissions::from_mode(0o750)).unwrap();
    unpack_into(to.path(), Some("other"), &bytes).unwrap();
    unpack_into(to.path(), None, &bytes).unwrap();
    assert_eq!(std::fs::read(to.path().join("b")).unwrap(), b"content");
    for dir in [tree.join("sub"), to.path().join("sub")] {
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o750)).unwrap();
    }
}

#[test]
fn no_cut_or_bit_of_an_archive_makes_it_panic() {
    let bytes = archive(&[("t/", DIR, ""), ("t/a", FILE, "content"), ("t/l", LINK, "a"), ("t/h", HARD, "t/a")]);
    for position in (0..bytes.len().min(2600)).step_by(3) {
        let dir = tempfile::tempdir().unwrap();
        let mut damaged = bytes.clone();
        damaged[position] ^= 0x55;
        let _ = unpack_into(dir.path(), None, &damaged);
        let _ = unpack_into(dir.path(), None, &bytes[..position]);
    }
}
