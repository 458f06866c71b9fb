//! The daemon's heart: sets that are followed where they are written and kept where they run.
//!
//! ```text
//!  follow (directory: inotify, resync; Git: polling, webhook) ── WantedSet ──> keep ── look, plan, do ──> engine
//!                                                                             ^  ^
//!                                   objects of VMs change (inotify) ──────────┘  └── back-off, resync
//! ```
//!
//! Each set has its own two loops on one thread; what blocks is done elsewhere. Stopping leaves VMs as they are: whoever
//! comes next finds them by what is written on them.

mod follow;
mod keep;
mod state;
mod watch;

pub use follow::{Directory, Follow, GitRepository};
pub use state::{SetReport, Shared, SourceReport};

use crate::metrics::Metrics;
use anyhow::Context as _;
use ignite::report::Hinted;
use ignite::settings::Settings;
use ignite_engine::Engine;
use ignite_reconcile::{Controller, Limits, Options, Owner, WantedSet};
use rustix::fs::{FlockOperation, flock};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch as channel};

/// How the sets of a daemon are kept.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Everything is looked at so often, whether something has changed or not.
    pub resync: Duration,
    /// VMs of a set that are made or changed at the same time.
    pub concurrency: usize,
}

/// One set: its name, and where it is written.
pub struct Set {
    /// Names its owner and its stack.
    pub name: String,
    /// Where it is written.
    pub follow: Follow,
}

/// What has been read of a set.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// Its number in the report.
    pub(crate) revision: u64,
    /// What is wanted.
    pub(crate) set: WantedSet,
}

/// What the loops of all sets have in common.
pub(crate) struct Around<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) settings: &'a Settings,
    pub(crate) shared: Arc<Shared>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) pace: Pace,
}

/// Keeps sets until the returned future is dropped. What is served is bound once it is sure that nobody else keeps them.
#[allow(clippy::too_many_arguments, reason = "each is one thing, given once")]
pub async fn run<S, F: Future<Output = anyhow::Result<()>>>(
    sets: Vec<Set>,
    engine: &Engine,
    settings: &Settings,
    pace: Pace,
    shared: Arc<Shared>,
    metrics: Arc<Metrics>,
    bind: impl FnOnce() -> anyhow::Result<S>,
    serve: impl FnOnce(S) -> F,
) -> anyhow::Result<()> {
    let around = Around { engine, settings, shared, metrics, pace };
    let state_dir = settings.data_dir.join("ignited");
    std::fs::create_dir_all(&state_dir).with_context(|| format!("could not make {}", state_dir.display()))?;
    let mut locks = Vec::new();
    for set in &sets {
        locks.push(lock(&state_dir, &set.name)?);
    }
    let served = bind()?;
    let (vms_changed, vms) = channel::channel(0_u64);
    let objects = settings.data_dir.join("vm");
    let loops = sets.into_iter().enumerate().map(|(index, set)| {
        let options = Options {
            owner: Owner::ignited(&set.name),
            stack: Some(set.name),
            is_adopting: false,
            is_pruning: true,
            is_healing: true,
        };
        let controller = Controller::new(options, Limits { concurrency: around.pace.concurrency });
        let (sender, wanted) = channel::channel(None::<Wanted>);
        let told = Arc::new(Notify::new());
        let follow = follow::run(set.follow, index, sender, told.clone(), &around);
        let keep = keep::run(controller, index, wanted, vms.clone(), told, &around);
        async move { tokio::join!(follow, keep) }
    });
    let loops = futures_util::future::join_all(loops);
    // Only serving can end, and only by breaking.
    tokio::select! {
        result = serve(served) => result,
        _ = async { tokio::join!(loops, watch::objects(&objects, vms_changed, pace.resync)) } => Ok(()),
    }
}

/// Nobody else keeps this set while the file is open.
fn lock(dir: &Path, name: &str) -> anyhow::Result<File> {
    let path = dir.join(format!("{name}.lock"));
    let file = File::options().create(true).append(true).open(&path);
    let file = file.with_context(|| format!("could not open {}", path.display()))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Hinted {
            message: format!("another ignited keeps the set {name} of this data directory"),
            hint: "see how it does: ignited status; or give this one another --name".into(),
        }
        .into()),
        Err(error) => Err(error).with_context(|| format!("could not lock {}", path.display())),
    }
}
