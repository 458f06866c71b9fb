//! The host's huge pages: whether there are enough for a VM's memory.

use crate::machine::VmmError;
use std::path::Path;

/// Size of a page, in MiB.
pub const PAGE_MIB: u32 = 2;
/// The pool of pages of that size (Linux' `Documentation/admin-guide/mm/hugetlbpage.rst`).
const POOL: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB";

/// What the host has, in pages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Pool {
    total: u64,
    free: u64,
    reserved: u64,
    overcommit: u64,
    surplus: u64,
}

impl Pool {
    fn read(dir: &Path) -> Option<Pool> {
        let number = |name: &str| std::fs::read_to_string(dir.join(name)).ok()?.trim().parse().ok();
        Some(Pool {
            total: number("nr_hugepages")?,
            free: number("free_hugepages")?,
            reserved: number("resv_hugepages")?,
            overcommit: number("nr_overcommit_hugepages")?,
            surplus: number("surplus_hugepages")?,
        })
    }

    /// Those that nobody has or is promised, and those that the kernel may add.
    fn available(self) -> u64 {
        self.free.saturating_sub(self.reserved) + self.overcommit.saturating_sub(self.surplus)
    }
}

/// Fails, with what to type, where the host has fewer free huge pages than this memory takes. They are not reserved by it.
pub fn check(mem_size_mib: u32) -> Result<(), VmmError> {
    judge(mem_size_mib, Pool::read(Path::new(POOL)))
}

fn judge(mem_size_mib: u32, pool: Option<Pool>) -> Result<(), VmmError> {
    let needed = u64::from(mem_size_mib.div_ceil(PAGE_MIB));
    let Some(pool) = pool else {
        return Err(VmmError::Unsupported {
            what: format!("this host's kernel has no huge pages of {PAGE_MIB} MiB"),
            hint: "run the VM without --hugepages".to_owned(),
        });
    };
    let available = pool.available();
    if available >= needed {
        return Ok(());
    }
    let total = pool.total.saturating_sub(pool.surplus) + (needed - available);
    Err(VmmError::Unsupported {
        what: format!(
            "{mem_size_mib} MiB of memory take {needed} huge pages of {PAGE_MIB} MiB, and this host has {available} free"
        ),
        hint: format!("make room for them, as root: sysctl vm.nr_hugepages={total}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_counted() {
        let pool =
            |total, free, reserved, overcommit, surplus| Some(Pool { total, free, reserved, overcommit, surplus });
        for (pool, sysctl) in [
            (pool(256, 256, 0, 0, 0), None),
            (pool(0, 0, 0, 256, 0), None),
            (pool(0, 0, 0, 0, 0), Some(256)),
            (pool(300, 200, 0, 0, 0), Some(356)),
            (pool(300, 300, 100, 0, 0), Some(356)),
            (pool(310, 100, 0, 40, 10), Some(426)),
        ] {
            match (judge(512, pool), sysctl) {
                (Ok(()), None) => {}
                (Err(VmmError::Unsupported { what, hint }), Some(total)) => {
                    assert!(what.contains("take 256 huge pages"), "{what}");
                    assert!(hint.ends_with(&format!("vm.nr_hugepages={total}")), "{hint}");
                }
                other => panic!("{pool:?}: {other:?}"),
            }
        }
        let none = judge(512, None).unwrap_err();
        assert!(matches!(&none, VmmError::Unsupported { what, .. } if what.contains("no huge pages")), "{none:?}");
    }

    #[test]
    fn a_pool_is_read_or_is_none() {
        let dir = tempfile::tempdir().unwrap();
        for (name, value) in [
            ("nr_hugepages", "5\n"),
            ("free_hugepages", "4\n"),
            ("resv_hugepages", "3\n"),
            ("nr_overcommit_hugepages", "2\n"),
        ] {
            std::fs::write(dir.path().join(name), value).unwrap();
        }
        assert_eq!(Pool::read(dir.path()), None);
        std::fs::write(dir.path().join("surplus_hugepages"), "1\n").unwrap();
        assert_eq!(Pool::read(dir.path()).map(Pool::available), Some(2));
    }
}
