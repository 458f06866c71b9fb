//! What a VM in a Kubernetes Pod needs of its surroundings, beside the verbs that every VM has.

use crate::engine::Engine;
use crate::error::EngineError;
use ignite_network::plugins::pod;
use ignite_vmm::host::{self, KvmVerdict};

impl Engine {
    /// Hands the Pod's interface over to whichever VM this store starts next, as `owner`. Needs `CAP_NET_ADMIN`; from here
    /// on the Pod's address is the guest's.
    pub async fn prepare_pod_network(&self, owner: Option<u32>) -> Result<(), EngineError> {
        let failed = |source| EngineError::Network { name: "this Pod".to_owned(), source: Box::new(source) };
        pod::prepare(&self.paths.run_networks(), owner).await.map_err(failed)
    }

    /// Why guests would run in software here; `None` where KVM can be used.
    pub fn why_no_kvm(&self) -> Option<String> {
        match host::kvm() {
            KvmVerdict::Usable => None,
            KvmVerdict::Unusable(reason) => Some(reason),
        }
    }
}
