//! `none`: no interface but the guest's own loopback.

use crate::plugin::{AttachRequest, Attachment, NetworkError, Plugin};
use async_trait::async_trait;

/// The plugin.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoNetwork;

#[async_trait]
impl Plugin for NoNetwork {
    fn name(&self) -> &'static str {
        "none"
    }

    fn check(&self, request: &AttachRequest) -> Result<(), NetworkError> {
        match request.ports.first() {
            Some(port) => Err(NetworkError::CannotPublish { network: "none", port: port.host_port }),
            None => Ok(()),
        }
    }

    async fn attach(&self, request: &AttachRequest) -> Result<Attachment, NetworkError> {
        self.check(request)?;
        Ok(Attachment::default())
    }

    async fn detach(&self, _request: &AttachRequest) -> Vec<NetworkError> {
        Vec::new()
    }
}
