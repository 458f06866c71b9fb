//! What `daemon` and `gitops` have in common: flags, sockets, and an end that leaves VMs as they are.

use crate::keeper::{self, Pace, Set, Shared};
use crate::metrics::Metrics;
use crate::server::{self, Socket, Told};
use anyhow::Context as _;
use ignite::context::Context;
use ignite::signals;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Flags of every daemon.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct Args {
    /// Everything is looked at so often, in seconds, whether something has changed or not
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86400))]
    pub resync: u64,
    /// VMs made or changed at the same time
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub parallel: u16,
    /// Serve metrics on this loopback address too, such as 127.0.0.1:9463
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
}

/// Keeps the sets until a signal asks to end; VMs go on.
pub async fn run(
    args: &Args,
    sets: Vec<Set>,
    secret: Option<Vec<u8>>,
    link: Option<PathBuf>,
    context: &Context,
) -> anyhow::Result<u8> {
    let engine = context.engine()?;
    let mut interrupts = signals::interrupting()?;
    let shared = Arc::new(Shared::new(sets.iter().map(|set| set.name.clone())));
    let metrics = Arc::new(Metrics::new(engine.clone(), shared.clone()));
    let name = sets.first().map(|set| set.name.clone()).unwrap_or_default();
    let told = Told { shared: shared.clone(), metrics: metrics.clone(), secret: secret.map(Arc::from) };
    let path = socket_dir(context).join(format!("{name}.sock"));
    let tcp = match args.listen {
        Some(address) => Some(server::listen(address).await?),
        None => None,
    };
    if let Some(listener) = &tcp {
        let address = listener.local_addr().context("the listener has no address")?;
        tracing::info!("metrics on http://{address}/metrics");
    }
    let pace = Pace { resync: Duration::from_secs(args.resync), concurrency: args.parallel.into() };
    let keep = keeper::run(
        sets,
        engine,
        &context.settings,
        pace,
        shared,
        metrics,
        || Socket::bind(&path, link),
        |socket| {
            let told = told.clone();
            async move {
                match tcp {
                    Some(listener) => {
                        tokio::try_join!(socket.serve(told.clone()), server::serve_tcp(listener, told)).map(drop)
                    }
                    None => socket.serve(told).await,
                }
            }
        },
    );
    tokio::select! {
        result = keep => result.map(|()| 0),
        Some(signal) = interrupts.recv() => {
            tracing::info!("signal {signal}: ending; VMs go on");
            Ok(0)
        }
    }
}

/// Where the sockets of daemons are.
pub fn socket_dir(context: &Context) -> PathBuf {
    context.settings.run_dir.join("ignited")
}
