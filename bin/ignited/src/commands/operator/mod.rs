//! `ignited operator`: VM objects of a Kubernetes cluster, and the Pods that run them.

mod pod_flags;
mod render;

use clap::Subcommand;
use ignite::context::Context;
use ignite_operator::crd;

/// Flags of `operator`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Prints what VMs are in a Kubernetes cluster: the custom resources (also in deploy/kubernetes/crds), and the \
                  Pod that runs a VM. Nothing here watches a cluster yet."
)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Print the custom resources, for kubectl apply -f -
    Crds,
    /// Print the Pods of VM manifests, as the operator would make them
    Render(Box<render::Args>),
}

/// Does it.
pub async fn run(args: Args, _: &Context) -> anyhow::Result<u8> {
    match args.verb {
        Verb::Crds => ignite::commands::print(&crd::to_yaml(&crd::custom_resources()?))?,
        Verb::Render(args) => render::run(&args)?,
    }
    Ok(0)
}
