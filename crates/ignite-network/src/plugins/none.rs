//! `none`: no interface but the guest's own loopback.

use crate::NetworkError;
use crate::plugin::{AttachRequest, Attachment, Carrier, Plugin};
use async_trait::async_trait;

/// The plugin.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoNetwork;

#[async_trait]
impl Plugin for NoNetwork {
    fn name(&self) -> &'static str {
        "none"
    }

    fn carriers(&self) -> &'static [Carrier] {
        &[]
    }

    fn check(&self, request: &AttachRequest) -> Result<(), NetworkError> {
        if let Some(port) = request.network.ports.first() {
            return Err(NetworkError::CannotPublish { network: "none", port: port.host_port });
        }
        match () {
            () if !request.network.ips.is_empty() => {
                Err(NetworkError::CannotGive { network: "none", what: "an address (ips)" })
            }
            () if request.network.mac.is_some() => {
                Err(NetworkError::CannotGive { network: "none", what: "a MAC address (mac)" })
            }
            () if request.network.bandwidth.is_some() => {
                Err(NetworkError::CannotGive { network: "none", what: "a limit of its traffic (bandwidth)" })
            }
            () => Ok(()),
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
