//! `ignite apply`: makes VMs as manifests say.

use crate::commands::{manifests, print, print_line};
use crate::context::Context;
use crate::render::plan as plan_text;
use crate::render::text::sanitize;
use crate::report::{self, Hinted, SomeFailed};
use crate::signals::interruptible;
use ignite_reconcile::{Action, Controller, Effect, Limits, ObjectState, Options, Owner, Step, WantedSet, settle};
use std::path::PathBuf;
use std::time::Duration;

/// Flags of `apply`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Manifests: a file, a directory and what is below it, or - for standard input (may be repeated)
    #[arg(short, long, required = true, value_name = "FILE|DIR|-")]
    pub filename: Vec<PathBuf>,
    /// How it is done.
    #[command(flatten)]
    pub how: How,
    /// Remove VMs that were applied before and are in none of the manifests
    #[arg(long)]
    pub prune: bool,
}

/// How manifests are applied.
#[derive(Debug, clap::Args)]
pub struct How {
    /// Show what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Longest time to wait for what VMs depend on, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub timeout: u64,
    /// VMs made or changed at the same time
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub parallel: u16,
}

/// Prints what becomes of each VM.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    let set = manifests::read(&args.filename, &context.settings)?;
    let options =
        Options { owner: Owner::apply(), stack: None, is_adopting: true, is_pruning: args.prune, is_healing: false };
    apply(set, options, &args.how, context).await
}

/// Applies a set; an error of one VM does not keep the others from it.
pub async fn apply(set: WantedSet, options: Options, how: &How, context: &Context) -> anyhow::Result<u8> {
    let engine = context.engine()?;
    let is_broken = !set.problems.is_empty();
    let names: Vec<String> = set.vms.iter().map(|wanted| wanted.name().to_owned()).collect();
    let mut controller = Controller::new(options, Limits { concurrency: how.parallel.into() });
    controller.want(set);
    if how.dry_run {
        print(&plan_text::render(&interruptible(controller.preview(engine)).await?))?;
        return if is_broken { Err(SomeFailed.into()) } else { Ok(0) };
    }
    let mut touched = std::collections::HashSet::new();
    let work = settle(&mut controller, engine, Duration::from_secs(how.timeout), |step, result| {
        touched.insert(step.name.clone());
        match result {
            Ok(()) => told(step, context),
            Err(error) => {
                let message = format!("could not {} {}: {}", step.action.verb(), step.name, error.message);
                let hint = error.hint.clone();
                report::print(&hint.map_or_else(
                    || anyhow::anyhow!("{message}"),
                    |hint| Hinted { message: message.clone(), hint }.into(),
                ));
            }
        }
    });
    let unfinished = interruptible(work).await?;
    let mut is_failed = is_broken || unfinished.is_failed;
    for (name, what) in &unfinished.waiting {
        is_failed = true;
        report::print(&anyhow::anyhow!("{name} was not started: it waits {what}"));
    }
    for object in &controller.status().objects {
        match object.state {
            ObjectState::Refused => {
                is_failed = true;
                let message = format!("{} is left as it is: {}", object.name, object.message);
                let hint = object.hint.clone().unwrap_or_else(|| "change its manifest".to_owned());
                report::print(&Hinted { message, hint }.into());
            }
            ObjectState::Ready if names.contains(&object.name) && !touched.contains(&object.name) => {
                told_line(&object.name, object.uid.as_deref(), "unchanged", context)?;
            }
            _ => {}
        }
    }
    if is_failed { Err(SomeFailed.into()) } else { Ok(0) }
}

fn told(step: &Step, context: &Context) {
    let uid = step.uid.as_ref().map(ToString::to_string);
    // A reader who has left does not stop what is being done.
    let _ = told_line(&step.name, uid.as_deref(), done(&step.action), context);
}

/// Ids of VMs that are new are not known before they are found again: quiet prints names then.
fn told_line(name: &str, uid: Option<&str>, what: &str, context: &Context) -> std::io::Result<()> {
    if context.is_quiet() {
        print_line(uid.unwrap_or(name))
    } else {
        print_line(format_args!("{} {what}", sanitize(name)))
    }
}

fn done(action: &Action) -> &'static str {
    match action {
        Action::Create(_) => "created",
        Action::Start => "started",
        Action::Stop => "stopped",
        Action::Change { effect: Effect::Update, .. } => "updated",
        Action::Change { effect: Effect::Restart, .. } => "stopped for its change",
        Action::Change { effect: Effect::Recreate, .. } => "removed to be made anew",
        Action::Remove => "removed",
        _ => "unchanged",
    }
}
