//! The loop: watches VMs, their Pods and sets, and does what the plans say.
//!
//! ```text
//!  watch ── stores ────────────────────┘ fresh: what was answered meanwhile
//!    └──── queues ─ work ─ vms / sets ─ plan (pure) ─ api: Pods, finalizers, status, events
//! ```
//!
//! What is unchanged costs the API server nothing; what fails comes again at a slowing pace; everything may be killed at any
//! point, as all that is known is in the cluster.

mod api;
mod fresh;
pub mod lease;
pub mod metrics;
mod pace;
mod sets;
mod vms;
mod watch;
mod work;

use crate::error::OperatorError;
use crate::objects::{VirtualMachine, VirtualMachineSet};
use crate::plan::PlanOptions;
use futures_util::StreamExt;
use ignite_api::error_chain::chain_of;
use kube::api::{Api, ListParams};
use kube::runtime::events::Reporter;
use kube::{Client, Resource};
use metrics::Metrics;
use pace::Pace;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// Name under which the operator writes fields and events.
pub const MANAGER: &str = "ignite-operator";

/// Longest pause while the API server is away at the start.
const LONGEST_PROBE_PAUSE: Duration = Duration::from_secs(15);

/// Options of the loop.
#[derive(Debug, Clone)]
pub struct Options {
    /// The only namespace whose VMs are looked after; absent: all.
    pub namespace: Option<String>,
    /// What VMs become.
    pub plan: PlanOptions,
    /// Objects that are worked on at a time.
    pub concurrency: u16,
    /// Which operator of several this one is, for events.
    pub instance: Option<String>,
    /// What it counts.
    pub metrics: Metrics,
}

/// Looks after VMs until `shutdown`. What is under way then is finished; Pods go on.
pub async fn run(
    client: Client,
    options: Options,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), OperatorError> {
    let mut shutdown = std::pin::pin!(shutdown);
    let probes = async {
        probe::<VirtualMachine>(&client, options.namespace.as_deref()).await?;
        probe::<VirtualMachineSet>(&client, options.namespace.as_deref()).await
    };
    tokio::select! {
        probed = probes => probed?,
        () = shutdown.as_mut() => return Ok(()),
    }
    let (known, vm_queue, set_queue, watching) = watch::start(&client, options.namespace.as_deref());
    let reporter = Reporter { controller: MANAGER.to_owned(), instance: options.instance.clone() };
    options.metrics.knows(known.vms.store().clone());
    let api = Arc::new(api::Api::new(client, reporter, options.metrics.clone()));
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let vm_queue = watch::stream(vm_queue).take_until(told(stopped.clone()));
    let set_queue = watch::stream(set_queue).take_until(told(stopped));
    let working = async {
        tokio::join!(
            vms::run(known.clone(), api.clone(), &options, vm_queue),
            sets::run(known.clone(), api.clone(), &options, set_queue),
        );
    };
    let mut working = std::pin::pin!(working);
    tokio::select! {
        () = watching => Err(OperatorError::WatchLost),
        () = working.as_mut() => Err(OperatorError::WatchLost),
        () = shutdown => {
            // Nothing new is begun, and what was begun is finished.
            let _ = stop.send(true);
            working.await;
            Ok(())
        }
    }
}

async fn told(mut stopped: tokio::sync::watch::Receiver<bool>) {
    // A sender that is gone wants the same.
    let _ = stopped.wait_for(|is_stopped| *is_stopped).await;
}

/// Whether they can be listed at all: what does not pass by itself is said at once, and not by a watch that tries for ever.
async fn probe<K>(client: &Client, namespace: Option<&str>) -> Result<(), OperatorError>
where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    let (api, place): (Api<K>, _) = match namespace {
        Some(namespace) => (Api::namespaced(client.clone(), namespace), format!(" in namespace {namespace}")),
        None => (Api::all(client.clone()), String::new()),
    };
    let what = format!("{}.{}{place}", K::plural(&()), K::group(&()));
    let pace = Pace::default();
    loop {
        let error = match timeout(api::DEADLINE, api.list_metadata(&ListParams::default().limit(1))).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(source)) => OperatorError::Unlisted { what: what.clone(), source: Box::new(source) },
            Err(_) => OperatorError::NoAnswer { action: "list", object: what.clone(), waited: api::DEADLINE },
        };
        if matches!(error.status(), Some(401 | 403 | 404)) {
            return Err(error);
        }
        tracing::warn!("{}", chain_of(&error));
        tokio::time::sleep(pace.failed(()).min(LONGEST_PROBE_PAUSE)).await;
    }
}
