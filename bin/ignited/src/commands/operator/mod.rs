//! `ignited operator`: VM objects of a Kubernetes cluster, and the Pods that run them.

mod pod_flags;
mod probes;
mod render;
mod run;

use clap::Subcommand;
use ignite::context::Context;
use ignite_operator::crd;

/// Flags of `operator`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Runs VMs in a Kubernetes cluster: each VM object becomes a Pod that runs it. Also prints the custom resources \
                  (as in deploy/kubernetes/crds) and the Pod of a VM, without a cluster."
)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make Pods of the VMs of a cluster, and keep them so
    Run(Box<run::Args>),
    /// Print the custom resources, for kubectl apply -f -
    Crds,
    /// Print the Pods of VM manifests, as the operator would make them
    Render(Box<render::Args>),
}

/// Does it.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    match args.verb {
        Verb::Run(args) => return run::run(*args, context).await,
        Verb::Crds => ignite::commands::print(&crd::to_yaml(&crd::custom_resources()?))?,
        Verb::Render(args) => render::run(&args)?,
    }
    Ok(0)
}
