//! QEMU's microvm machine as a driver.

use crate::boot_spec::BootSpec;
use crate::machine::{Capabilities, Driver, Machine, RunDir, VmmError};
use async_trait::async_trait;
use std::path::PathBuf;

/// The driver; [`QemuDriver::at`] for a QEMU that is not in a standard directory.
#[derive(Debug, Clone, Default)]
pub struct QemuDriver {
    program: Option<PathBuf>,
}

impl QemuDriver {
    /// A driver for this program.
    pub fn at(program: impl Into<PathBuf>) -> Self {
        QemuDriver { program: Some(program.into()) }
    }
}

#[async_trait]
impl Driver for QemuDriver {
    fn name(&self) -> &'static str {
        "qemu"
    }

    fn capabilities(&self) -> Result<Capabilities, VmmError> {
        Err(VmmError::ProgramMissing { program: "qemu".into(), hint: "being written".into() })
    }

    fn version(&self) -> Result<String, VmmError> {
        Err(VmmError::ProgramMissing { program: format!("{:?}", self.program), hint: "being written".into() })
    }

    async fn boot(&self, _spec: &BootSpec, _dir: &RunDir) -> Result<Box<dyn Machine>, VmmError> {
        Err(VmmError::ProgramMissing { program: "qemu".into(), hint: "being written".into() })
    }
}
