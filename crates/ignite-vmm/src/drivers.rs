//! The one table of VMMs.

use crate::firecracker::FirecrackerDriver;
use crate::machine::Driver;
use crate::qemu::QemuDriver;
use std::path::PathBuf;
use std::sync::Arc;

/// Where VMMs are found when they are not where programs usually are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Programs {
    /// This Firecracker and no other.
    pub firecracker: Option<PathBuf>,
    /// Directories that are looked into first, in this order.
    pub directories: Vec<PathBuf>,
}

/// Every VMM, the preferred ones first.
pub fn all(programs: &Programs) -> Vec<Arc<dyn Driver>> {
    let firecracker = match &programs.firecracker {
        Some(program) => FirecrackerDriver::at(program),
        None => FirecrackerDriver::looking_into(programs.directories.clone()),
    };
    vec![Arc::new(firecracker), Arc::new(QemuDriver::default())]
}

/// The VMM of that name.
pub fn find(name: &str, programs: &Programs) -> Option<Arc<dyn Driver>> {
    all(programs).into_iter().find(|driver| driver.name() == name)
}

/// The VMM of that name, by a program that was found before.
pub fn at(name: &str, program: impl Into<PathBuf>) -> Option<Arc<dyn Driver>> {
    match name {
        "firecracker" => Some(Arc::new(FirecrackerDriver::at(program))),
        "qemu" => Some(Arc::new(QemuDriver::at(program))),
        _ => None,
    }
}

/// Names of the table, for `--vmm` and its errors.
pub fn names() -> Vec<&'static str> {
    all(&Programs::default()).iter().map(|driver| driver.name()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_the_table_is_found_and_no_other() {
        let programs = Programs::default();
        for name in names() {
            assert_eq!(find(name, &programs).map(|driver| driver.name()), Some(name));
            assert_eq!(at(name, "/bin/vmm").map(|driver| driver.name()), Some(name));
        }
        assert!(find("fake", &programs).is_none(), "the fake is for tests only");
        assert!(find("", &programs).is_none() && at("", "/bin/vmm").is_none());
    }
}
