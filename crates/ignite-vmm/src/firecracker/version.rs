//! A Firecracker program's version, and what follows from it.

use std::fmt;

/// Major and minor number: what the API depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    pub(crate) major: u32,
    pub(crate) minor: u32,
}

/// The oldest version that is driven.
pub(crate) const OLDEST: Version = Version { major: 1, minor: 7 };
/// The firmware's tables describe virtio devices (CHANGELOG 1.8.0).
const ACPI: Version = Version { major: 1, minor: 8 };
/// Guests with an initramfs boot on huge pages ("Known Limitations" of `docs/hugepages.md` in 1.10 and 1.11).
const HUGE_PAGES: Version = Version { major: 1, minor: 11 };
/// Balloons report the pages that the guest has freed (CHANGELOG 1.14.0).
const FREE_PAGE_REPORTING: Version = Version { major: 1, minor: 14 };
/// Files are shown as persistent memory (CHANGELOG 1.14.0).
const PMEM: Version = Version { major: 1, minor: 14 };
/// Network interfaces tell the guest their MTU (CHANGELOG 1.16.0).
const NIC_MTU: Version = Version { major: 1, minor: 16 };

impl Version {
    /// Reads `Firecracker v1.17.0-dev` and whatever lines follow.
    pub(crate) fn parse(output: &str) -> Option<Version> {
        let word = output.lines().next()?.strip_prefix("Firecracker v")?;
        let mut numbers = word.trim().split('.').map(|number| number.parse::<u32>().ok());
        Some(Version { major: numbers.next()??, minor: numbers.next()?? })
    }

    pub(crate) fn has_acpi(self) -> bool {
        self >= ACPI
    }

    pub(crate) fn has_huge_pages(self) -> bool {
        self >= HUGE_PAGES
    }

    pub(crate) fn has_free_page_reporting(self) -> bool {
        self >= FREE_PAGE_REPORTING
    }

    pub(crate) fn has_pmem(self) -> bool {
        self >= PMEM
    }

    pub(crate) fn has_nic_mtu(self) -> bool {
        self >= NIC_MTU
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_the_program_says_them() {
        let version = |major, minor| Some(Version { major, minor });
        for (said, expected) in [
            ("Firecracker v1.7.0\n", version(1, 7)),
            ("Firecracker v1.17.0-dev\n\nSupported snapshot data format versions: v9\n", version(1, 17)),
            ("Firecracker v2.0.1-rc1", version(2, 0)),
            ("Firecracker 1.7.0", None),
            ("Firecracker v1", None),
            ("", None),
        ] {
            assert_eq!(Version::parse(said), expected, "{said}");
        }
    }

    #[test]
    fn versions_are_ordered_by_number() {
        let version = |minor| Version { major: 1, minor };
        assert!(version(9) < version(10) && version(10) < Version { major: 2, minor: 0 });
        assert!(!version(7).has_acpi() && version(8).has_acpi());
        assert!(!version(10).has_huge_pages() && version(11).has_huge_pages());
        assert!(!version(13).has_free_page_reporting() && version(14).has_free_page_reporting());
        assert!(!version(13).has_pmem() && version(14).has_pmem());
        assert!(!version(15).has_nic_mtu() && version(16).has_nic_mtu());
    }
}
