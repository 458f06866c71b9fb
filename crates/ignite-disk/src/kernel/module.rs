//! One kernel module: its name, and what it says of itself in `.modinfo`.

use object::Endianness;
use object::elf::FileHeader64;
use object::read::elf::{FileHeader, SectionHeader};

/// What `.modinfo` holds that matters for loading.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ModInfo {
    /// Names of modules whose symbols it uses.
    pub depends: Vec<String>,
    pub aliases: Vec<String>,
    /// Each as `pre: a b post: c`.
    pub softdeps: Vec<String>,
}

/// The module that a file name stands for: `virtio-rng.ko.xz` is `virtio_rng`. `None` for other files.
pub(super) fn module_name(file_name: &str) -> Option<String> {
    let stem = [".ko", ".ko.xz", ".ko.zst", ".ko.gz"].iter().find_map(|suffix| file_name.strip_suffix(suffix))?;
    (!stem.is_empty()).then(|| normalise(stem))
}

/// Module names know no difference between `-` and `_`.
pub(super) fn normalise(name: &str) -> String {
    name.replace('-', "_")
}

/// Reads the `.modinfo` of an uncompressed module.
pub(super) fn parse_modinfo(module: &[u8]) -> Option<ModInfo> {
    let header = FileHeader64::<Endianness>::parse(module).ok()?;
    let endian = header.endian().ok()?;
    let sections = header.sections(endian, module).ok()?;
    let (_, section) = sections.section_by_name(endian, b".modinfo")?;
    Some(parse_records(section.data(endian, module).ok()?))
}

/// Reads `key=value` records, each ended by a NUL.
pub(super) fn parse_records(records: &[u8]) -> ModInfo {
    let mut info = ModInfo::default();
    for record in records.split(|&byte| byte == 0).filter_map(|record| std::str::from_utf8(record).ok()) {
        match record.split_once('=') {
            Some(("depends", names)) => {
                info.depends.extend(names.split(',').filter(|name| !name.is_empty()).map(normalise));
            }
            Some(("alias", alias)) => info.aliases.push(alias.to_owned()),
            Some(("softdep", softdep)) => info.softdeps.push(softdep.to_owned()),
            _ => {}
        }
    }
    info
}

/// The modules of a softdep that are wanted before.
pub(super) fn softdep_pre(softdep: &str) -> impl Iterator<Item = String> + '_ {
    let mut is_pre = false;
    softdep.split_whitespace().filter_map(move |word| {
        match word {
            "pre:" => is_pre = true,
            "post:" => is_pre = false,
            name if is_pre => return Some(normalise(name)),
            _ => {}
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_come_from_files_of_every_compression() {
        for (file, name) in [
            ("virtio-rng.ko", Some("virtio_rng")),
            ("ext4.ko.xz", Some("ext4")),
            ("fuse.ko.zst", Some("fuse")),
            ("a.ko.gz", Some("a")),
            (".ko", None),
            ("modules.dep", None),
        ] {
            assert_eq!(module_name(file).as_deref(), name, "{file}");
        }
    }

    #[test]
    fn records_are_told_apart() {
        let info = parse_records(
            b"license=GPL\0depends=failover,net-failover\0alias=virtio:d1v*\0softdep=pre: crc32c post: x\0",
        );
        assert_eq!(info.depends, ["failover", "net_failover"]);
        assert_eq!(info.aliases, ["virtio:d1v*"]);
        assert_eq!(softdep_pre(&info.softdeps[0]).collect::<Vec<_>>(), ["crc32c"]);
    }

    proptest! {
        #[test]
        fn garbage_is_no_module(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse_modinfo(&[b"\x7fELF\x02\x01\x01", &bytes[..]].concat());
        }
    }
}
