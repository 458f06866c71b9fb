//! `ignite diff`: what `apply` would do, and why.

use crate::commands::{manifests, print};
use crate::context::Context;
use crate::render::plan;
use crate::report;
use crate::signals::interruptible;
use ignite_reconcile::{Controller, Limits, Options, Owner};
use std::path::PathBuf;

/// There are differences.
const DIFFERENT: u8 = 1;
/// It could not be found out, as with kubectl.
const FAILED: u8 = 2;

/// Flags of `diff`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes:\n  0   there is no difference\n  1   there are differences\n  2   an error")]
pub struct Args {
    /// Manifests: a file, a directory and what is below it, or - for standard input (may be repeated)
    #[arg(short, long, required = true, value_name = "FILE|DIR|-")]
    pub filename: Vec<PathBuf>,
    /// Show also what `apply --prune` would remove
    #[arg(long)]
    pub prune: bool,
    /// Show what `ignited` would do that keeps the VMs as this set
    #[arg(long, value_name = "NAME")]
    pub set: Option<String>,
}

/// Prints the plan.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    let set = manifests::read(&args.filename, &context.settings)?;
    let is_broken = !set.problems.is_empty();
    let owner = args.set.as_deref().map_or_else(Owner::apply, Owner::ignited);
    let is_adopting = args.set.is_none();
    let options = Options { owner, stack: None, is_adopting, is_pruning: args.prune, is_healing: false };
    let mut controller = Controller::new(options, Limits { concurrency: 8 });
    controller.want(set);
    let steps = match interruptible(controller.preview(context.engine()?)).await {
        Ok(steps) => steps,
        Err(error) => {
            report::print(&error);
            return Ok(FAILED);
        }
    };
    print(&plan::render(&steps))?;
    Ok(match (is_broken, plan::is_empty(&steps)) {
        (true, _) => FAILED,
        (false, true) => 0,
        (false, false) => DIFFERENT,
    })
}
