//! `ignited operator run`: the loop, its lease, and what it tells of itself over HTTP.

use super::pod_flags::PodFlags;
use super::probes::{self, State};
use anyhow::Context as _;
use ignite::context::Context;
use ignite::report::Hinted;
use ignite::signals;
use ignite_operator::error::OperatorError;
use ignite_operator::plan::PlanOptions;
use ignite_operator::run::lease::{LeaseOptions, acquire};
use ignite_operator::run::metrics::Metrics;
use ignite_operator::run::{self, Options};
use kube::Client;
use std::net::SocketAddr;
use std::time::Duration;

/// Flags of `run`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Makes a Pod of every VM and VMs of every VMSet in a cluster, and keeps them so. The cluster is the one it runs in, \
                  or that of KUBECONFIG. VMs go on when it ends. Of several operators one works: the one that holds the Lease."
)]
pub struct Args {
    #[command(flatten)]
    pub pods: PodFlags,
    /// Look after this namespace only
    #[arg(long, value_name = "NAME")]
    pub namespace: Option<String>,
    /// Serve /healthz, /readyz and /metrics here
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// Work only while holding the Lease; --leader-elect=false: there is no other operator
    #[arg(long, value_name = "BOOL", default_value_t = true, default_missing_value = "true", num_args = 0..=1, require_equals = true,
          action = clap::ArgAction::Set)]
    pub leader_elect: bool,
    /// Namespace of the Lease [default: that of the operator's Pod]
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAME")]
    pub lease_namespace: Option<String>,
    /// This operator's name among others [default: that of its Pod, else of its host]
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    pub identity: Option<String>,
    /// VMs and sets worked on at the same time
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub parallel: u16,
    /// Give up a Pod so many seconds after its node should have ended it, and start another. The old guest may still run
    /// and write to the same claims: only where something else has stopped the node
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86400))]
    pub force_delete_after: Option<u64>,
}

/// Works until a signal, or until the Lease is lost.
pub async fn run(args: Args, _: &Context) -> anyhow::Result<u8> {
    let mut interrupts = signals::interrupting()?;
    let client = client().await?;
    let metrics = Metrics::default();
    let state = State::new(metrics.clone());
    let listener = probes::listen(args.listen).await?;
    tracing::info!("listening on {}", listener.local_addr().context("the listener has no address")?);
    let work = work(args, client, metrics, state.clone(), async move {
        if let Some(signal) = interrupts.recv().await {
            tracing::info!("signal {signal}: ending; VMs go on");
        }
    });
    tokio::select! {
        result = work => result.map(|()| 0).map_err(with_hint),
        result = probes::serve(listener, state) => result.map(|()| 0),
    }
}

async fn work(
    args: Args,
    client: Client,
    metrics: Metrics,
    state: State,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), OperatorError> {
    let identity = args.identity.filter(|name| !name.is_empty()).unwrap_or_else(host_name);
    let options = Options {
        namespace: args.namespace,
        plan: PlanOptions {
            pods: args.pods.options(),
            force_delete_after: args.force_delete_after.map(Duration::from_secs),
        },
        concurrency: args.parallel,
        instance: Some(identity.clone()),
        metrics: metrics.clone(),
    };
    let mut shutdown = std::pin::pin!(shutdown);
    if !args.leader_elect {
        state.is_ready();
        metrics.leads(true);
        return run::run(client, options, shutdown).await;
    }
    let namespace = args.lease_namespace.unwrap_or_else(|| client.default_namespace().to_owned());
    // Who waits is as ready as can be.
    state.is_ready();
    let holder = tokio::select! {
        holder = acquire(client.clone(), LeaseOptions::new(namespace, identity)) => holder?,
        () = shutdown.as_mut() => return Ok(()),
    };
    metrics.leads(true);
    let result = holder.lead(run::run(client, options, shutdown)).await;
    metrics.leads(false);
    result?
}

async fn client() -> anyhow::Result<Client> {
    let failed = |error: &dyn std::error::Error| Hinted {
        message: format!("no cluster is known: {error}"),
        hint: "run it in a Pod (deploy/kubernetes), or set KUBECONFIG to the file of a cluster".into(),
    };
    let config = kube::Config::infer().await.map_err(|error| failed(&error))?;
    Client::try_from(config).map_err(|error| failed(&error).into())
}

fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{name}-{}", std::process::id())
}

fn with_hint(error: OperatorError) -> anyhow::Error {
    match error.hint() {
        Some(hint) => {
            let hint = hint.to_owned();
            let message = format!("{:#}", anyhow::Error::from(error));
            Hinted { message, hint }.into()
        }
        None => error.into(),
    }
}
