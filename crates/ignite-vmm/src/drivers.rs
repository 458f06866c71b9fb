//! The one table of VMMs.

use crate::machine::{Driver, VmmError};
use crate::qemu::QemuDriver;
use std::sync::Arc;

/// Every VMM, the preferred ones first.
pub fn all() -> Vec<Arc<dyn Driver>> {
    vec![Arc::new(QemuDriver::default())]
}

/// The VMM of that name.
pub fn find(name: &str) -> Option<Arc<dyn Driver>> {
    all().into_iter().find(|driver| driver.name() == name)
}

/// Names of the table, for `--vmm` and its errors.
pub fn names() -> Vec<&'static str> {
    all().iter().map(|driver| driver.name()).collect()
}

/// The first VMM that can run a guest here (`--vmm auto`); the error is that of the last one asked.
pub fn auto() -> Result<Arc<dyn Driver>, VmmError> {
    let mut refusal = None;
    for driver in all() {
        match driver.capabilities() {
            Ok(_) => return Ok(driver),
            Err(error) => refusal = Some(error),
        }
    }
    Err(refusal.unwrap_or_else(|| VmmError::Unsupported {
        what: "this build knows no virtual machine monitor".into(),
        hint: "build it with one".into(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_the_table_is_found_and_no_other() {
        for name in names() {
            assert_eq!(find(name).map(|driver| driver.name()), Some(name));
        }
        assert!(find("fake").is_none(), "the fake is for tests only");
        assert!(find("").is_none());
    }
}
