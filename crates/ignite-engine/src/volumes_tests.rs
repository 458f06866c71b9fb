//! What becomes of an owner's disks.

use super::*;
use ignite_api::Size;

fn storage(path: &Path, size: Option<Size>, format: Option<DiskFormat>) -> StorageSpec {
    let file = DiskFile { path: path.to_str().unwrap().to_owned(), size, format };
    let volume = Volume { name: "data".into(), block_device: None, file: Some(file), read_only: false };
    StorageSpec { volumes: vec![volume], ..StorageSpec::default() }
}

fn is_ext4(path: &Path) -> bool {
    let mut magic = [0; 2];
    File::open(path).unwrap().read_exact_at(&mut magic, 0x438).is_ok() && magic == [0x53, 0xef]
}

fn fsck(path: &Path) {
    let checked = std::process::Command::new("e2fsck").args(["-fn"]).arg(path).output().expect("e2fsck");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
}

#[test]
fn only_what_is_missing_empty_or_blank_is_formatted_and_only_when_asked() {
    let size = Some(Size::mib(16));
    let ext4 = Some(DiskFormat::Ext4);
    /// What is there before, what is asked, and whether it is an ext4 afterwards, of how many bytes.
    type Row = (&'static str, Option<Vec<u8>>, Option<Size>, Option<DiskFormat>, bool, u64);
    let mut almost_blank = vec![0; 8 << 20];
    almost_blank[(8 << 20) - 1] = 1;
    let table: [Row; 7] = [
        ("missing", None, size, ext4, true, 16 << 20),
        ("missing, no format", None, size, None, false, 16 << 20),
        ("empty", Some(vec![]), size, ext4, true, 16 << 20),
        ("blank", Some(vec![0; 8 << 20]), size, ext4, true, 8 << 20),
        ("blank, no format", Some(vec![0; 8 << 20]), size, None, false, 8 << 20),
        ("one byte at its end", Some(almost_blank.clone()), size, ext4, false, 8 << 20),
        ("short text", Some(b"my notes".to_vec()), size, ext4, false, 8),
    ];
    for (what, before, size, format, is_formatted, length) in table {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk.img");
        if let Some(bytes) = &before {
            std::fs::write(&path, bytes).unwrap();
        }
        let storage = storage(&path, size, format);
        ensure(&storage, dir.path()).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!((is_ext4(&path), path.metadata().unwrap().len()), (is_formatted, length), "{what}");
        if is_formatted {
            fsck(&path);
        } else if let Some(bytes) = before {
            assert!(std::fs::read(&path).unwrap() == bytes, "{what}: untouched");
        }
        // Again: whatever it has become, it stays.
        let first = std::fs::read(&path).unwrap();
        ensure(&storage, dir.path()).unwrap();
        assert!(std::fs::read(&path).unwrap() == first, "{what}: the second time");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "{what}: nothing else is left");
    }
}

#[test]
fn a_blank_disk_that_a_vm_has_is_not_formatted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk.img");
    std::fs::write(&path, vec![0; 8 << 20]).unwrap();
    let _held = FileLock::take_on(File::open(&path).unwrap(), &path, Sharing::Readers, Duration::ZERO).unwrap();
    ensure(&storage(&path, None, Some(DiskFormat::Ext4)), dir.path()).unwrap_err();
    assert!(!is_ext4(&path));
}

#[test]
fn what_cannot_be_a_disk_is_refused_with_a_hint() {
    let dir = tempfile::tempdir().unwrap();
    let device = |path: &str| {
        let device = ignite_api::vm::BlockDevice { path: path.into(), format: None };
        let volume = Volume { name: "data".into(), block_device: Some(device), file: None, read_only: false };
        StorageSpec { volumes: vec![volume], ..StorageSpec::default() }
    };
    let missing = dir.path().join("missing.img");
    let nowhere = dir.path().join("no/such/dir/disk.img");
    for (storage, reason) in [
        (storage(dir.path(), None, None), "is a directory"),
        (storage(&missing, None, Some(DiskFormat::Ext4)), "cannot be opened"),
        (storage(&nowhere, Some(Size::mib(16)), None), "is not a directory"),
        (storage(Path::new("/dev/null"), None, None), "is not a file"),
        (device("/dev/no-such-device"), "cannot be opened"),
        (device("/etc/passwd"), "is not a block device"),
    ] {
        let error = check(&storage).unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
        assert!(error.hint().is_some(), "{error}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn mounts_find_their_drives_by_name() {
    let volume = |name: &str, read_only| Volume { name: name.into(), block_device: None, file: None, read_only };
    let mount = |name: &str, path: &str, read_only| ignite_api::vm::VolumeMount {
        name: name.into(),
        mount_path: path.into(),
        read_only,
    };
    let storage = StorageSpec {
        volumes: vec![volume("a", false), volume("b", true), volume("c", false)],
        volume_mounts: vec![mount("c", "/c", false), mount("b", "/b", false), mount("a", "/a", true)],
        ..StorageSpec::default()
    };
    let found = mounts(&storage, |id| Some(Disk::Serial(id.to_owned())));
    let found: Vec<_> = found.iter().map(|mount| (mount.disk.clone(), mount.path.as_str(), mount.read_only)).collect();
    let serial = |id: &str| Disk::Serial(id.to_owned());
    assert_eq!(
        found,
        [(serial("volume-2"), "/c", false), (serial("volume-1"), "/b", true), (serial("volume-0"), "/a", true)]
    );
}
