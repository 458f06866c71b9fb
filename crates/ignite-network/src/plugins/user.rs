//! `user`: passt carries the guest's connections as the host's own, without privileges.

use crate::plugin::{AttachRequest, Attachment, NetworkError, Plugin};
use async_trait::async_trait;
use std::path::{Path, PathBuf};

/// The plugin; [`UserNetwork::at`] for a passt that is not in a standard directory.
#[derive(Debug, Clone, Default)]
pub struct UserNetwork {
    program: Option<PathBuf>,
}

impl UserNetwork {
    /// A network by this program.
    pub fn at(program: impl Into<PathBuf>) -> Self {
        UserNetwork { program: Some(program.into()) }
    }

    /// The program, if it is installed.
    pub fn program(&self) -> Option<PathBuf> {
        match &self.program {
            Some(program) => program.is_file().then(|| program.clone()),
            None => PROGRAM_PATHS.iter().map(Path::new).find(|path| path.is_file()).map(Path::to_owned),
        }
    }
}

/// Where passt may be. Not `$PATH`: libraries read no environment, and root must not run what someone's `$PATH` says.
const PROGRAM_PATHS: [&str; 4] =
    ["/usr/local/bin/passt", "/usr/bin/passt", "/bin/passt", "/run/current-system/sw/bin/passt"];

#[async_trait]
impl Plugin for UserNetwork {
    fn name(&self) -> &'static str {
        "user"
    }

    fn check(&self, _request: &AttachRequest) -> Result<(), NetworkError> {
        Ok(())
    }

    async fn attach(&self, _request: &AttachRequest) -> Result<Attachment, NetworkError> {
        Ok(Attachment::default())
    }

    async fn detach(&self, _request: &AttachRequest) -> Vec<NetworkError> {
        Vec::new()
    }
}
