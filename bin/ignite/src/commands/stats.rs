//! `ignite stats`: what running VMs use, as the host and as their guests see it.

use crate::commands::{print, print_line};
use crate::context::Context;
use crate::render::stats_table::{self, Usage};
use crate::report;
use crate::signals::interruptible;
use futures_util::future::join_all;
use ignite_api::Uid;
use ignite_engine::{Engine, EngineError, Sample};
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Duration;

/// Time between two samples.
const INTERVAL: Duration = Duration::from_secs(1);
/// Clears a terminal and goes to its first line.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Flags of `stats`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print once instead of again and again
    #[arg(long)]
    pub no_stream: bool,
    /// How they are shown
    #[arg(short, long, visible_alias = "format", value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Output,
    /// Name or id [default: all that run]
    #[arg(value_name = "VM")]
    pub vms: Vec<String>,
}

/// `--output`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// A table
    #[default]
    Table,
    /// A JSON object a line: bytes, counted from the start of the VM, and percents of one CPU
    Json,
}

/// Prints a table, or a line each, every second until it is interrupted or the VMs named have ended.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    interruptible(watch(&args, context)).await
}

async fn watch(args: &Args, context: &Context) -> anyhow::Result<u8> {
    let engine = context.engine()?;
    let named = args.vms.iter().map(|query| engine.find_vm(query)).collect::<Result<Vec<Uid>, _>>()?;
    // One that does not run is an error when it is named, at the beginning.
    let mut before = BTreeMap::new();
    for uid in &named {
        before.insert(uid.clone(), engine.stats(uid).await?);
    }
    if named.is_empty() {
        before = samples(engine, &named).await?;
    }
    let is_screen = args.output == Output::Table && !args.no_stream && std::io::stdout().is_terminal();
    loop {
        tokio::time::sleep(INTERVAL).await;
        let now = samples(engine, &named).await?;
        let is_over = !named.is_empty() && now.is_empty();
        let usages: Vec<Usage> = now.iter().map(|(uid, sample)| Usage::between(before.get(uid), sample)).collect();
        match args.output {
            Output::Json => {
                for usage in &usages {
                    print_line(serde_json::to_string(usage)?)?;
                }
            }
            Output::Table if is_over => {}
            Output::Table => {
                let table = stats_table::render(&usages);
                print(&if is_screen { format!("{CLEAR}{table}") } else { table })?;
            }
        }
        if args.no_stream || is_over {
            return Ok(0);
        }
        before = now;
    }
}

/// A sample of each that runs; those that end meanwhile are left out.
async fn samples(engine: &Engine, named: &[Uid]) -> Result<BTreeMap<Uid, Sample>, EngineError> {
    let uids = match named {
        [] => {
            let listing = engine.list().await?;
            listing.warnings.iter().for_each(|warning| report::warning(warning));
            let running = listing.vms.into_iter().filter(|vm| vm.status.running);
            running.filter_map(|vm| vm.metadata.uid).collect()
        }
        named => named.to_vec(),
    };
    let taken = join_all(uids.iter().map(|uid| engine.stats(uid))).await;
    Ok(uids.into_iter().zip(taken).filter_map(|(uid, sample)| Some((uid, sample.ok()?))).collect())
}
