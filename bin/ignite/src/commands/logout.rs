//! `ignite logout`: credentials of a registry, forgotten.

use crate::context::Context;
use crate::render::text::sanitize;
use ignite_api::DOCKER_HUB;
use ignite_engine::{Keeper, registry_of};

/// Flags of `logout`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Registry: a host name with a dot or a port
    #[arg(value_name = "REGISTRY", default_value = DOCKER_HUB)]
    pub registry: String,
}

/// Says where credentials were, or that there were none: that is no error, as with Docker.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    let registry = registry_of(&args.registry);
    let left = context.engine()?.logout(registry).await?;
    if left.is_empty() {
        context.note(&format!("not logged in to {}", sanitize(registry)));
    }
    for keeper in left {
        let place = match keeper {
            Keeper::File(path) => path.display().to_string(),
            Keeper::Helper(helper) => format!("docker-credential-{helper}"),
        };
        context.note(&format!("removed the credentials of {} from {}", sanitize(registry), sanitize(&place)));
    }
    Ok(0)
}
