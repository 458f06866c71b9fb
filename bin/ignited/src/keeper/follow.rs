//! The loop that reads what a set wants from where it is written.

use super::watch::{self, Watch};
use super::{Around, SourceReport, Wanted};
use crate::status_file;
use ignite::commands::manifests;
use ignite_api::chain_of;
use ignite_git::{Checkout, GitError, History, StatusBranch, Synced, Tree};
use ignite_reconcile::{WantedSet, load};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch as channel};

/// Changes that come together are read together: a save is often several events.
const SETTLE: Duration = Duration::from_millis(100);
/// Status is pushed at most so often.
const STATUS_PAUSE: Duration = Duration::from_secs(2);

/// Where a set is written.
pub enum Follow {
    /// A directory.
    Directory(Directory),
    /// A Git repository.
    Git(Box<GitRepository>),
}

/// A directory of manifests.
pub struct Directory {
    /// Its path.
    pub path: PathBuf,
}

/// A repository of manifests.
pub struct GitRepository {
    /// Where its files come.
    pub checkout: Checkout,
    /// Time between two looks.
    pub interval: Duration,
    /// Where the status is told.
    pub status_branch: Option<StatusBranch>,
}

/// Never ends. `told` is woken when the report of the set says something else.
pub(super) async fn run(
    follow: Follow,
    index: usize,
    wanted: channel::Sender<Option<Wanted>>,
    told: Arc<Notify>,
    around: &Around<'_>,
) {
    match follow {
        Follow::Directory(directory) => follow_directory(&directory.path, index, wanted, around).await,
        Follow::Git(repository) => follow_git(*repository, index, wanted, told, around).await,
    }
}

async fn follow_directory(path: &Path, index: usize, wanted: channel::Sender<Option<Wanted>>, around: &Around<'_>) {
    let requested = around.shared.sync_requested[index].clone();
    let mut watch = match Watch::of_manifests() {
        Ok(watch) => Some(watch),
        Err(error) => {
            tracing::warn!("cannot watch {}: {error}; changes are seen at the next resync", path.display());
            None
        }
    };
    loop {
        // Watched first, read then: what changes in between is seen.
        if let Some(watch) = &mut watch {
            watch.add_tree(path, 0);
        }
        let set = read(path, around).await;
        let error =
            set.is_incomplete.then(|| set.problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "));
        if let Some(error) = &error
            && around.shared.report(index).source.error.as_ref() != Some(error)
        {
            tracing::warn!("{}: {error}; what was there before is kept", path.display());
        }
        around.shared.update(index, |report| {
            let is_read = error.is_none();
            report.source = SourceReport {
                location: path.display().to_string(),
                last_sync: if is_read { Some(jiff::Timestamp::now()) } else { report.source.last_sync },
                error,
                ..SourceReport::default()
            };
        });
        around.metrics.source_read(&around.shared.report(index));
        send(&wanted, set, index, around);
        let changed = async {
            match &mut watch {
                Some(watch) => match watch.changed(|_| true).await {
                    Ok(()) => {}
                    Err(error) => {
                        tracing::warn!("cannot watch {}: {error}", path.display());
                        std::future::pending().await
                    }
                },
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = changed => tokio::time::sleep(SETTLE).await,
            () = made(path) => tokio::time::sleep(SETTLE).await,
            () = requested.notified() => {}
            () = tokio::time::sleep(around.pace.resync) => {}
        }
    }
}

/// Ends when a path that was not there is; never for one that is.
async fn made(path: &Path) {
    if path.exists() {
        std::future::pending().await
    }
    if let Err(error) = watch::made(path).await {
        tracing::warn!("cannot watch for {}: {error}; it is seen at the next resync", path.display());
        std::future::pending().await
    }
}

async fn follow_git(
    mut repository: GitRepository,
    index: usize,
    wanted: channel::Sender<Option<Wanted>>,
    told: Arc<Notify>,
    around: &Around<'_>,
) {
    let requested = around.shared.sync_requested[index].clone();
    let (location, reference) = {
        let source = repository.checkout.source();
        let path = source.path.as_str();
        let path = if path.is_empty() { String::new() } else { format!(", {path}") };
        (source.url.to_string(), format!("{}{path}", source.follow))
    };
    around.shared.update(index, |report| {
        report.source = SourceReport { location, reference, ..SourceReport::default() };
    });
    // What was good before is kept at once, whether the remote can be reached or not.
    if let Some(tree) = repository.checkout.current().cloned() {
        around.shared.update(index, |report| tell_tree(&mut report.source, &tree));
        send(&wanted, read(&tree.directory, around).await, index, around);
    }
    let mut last_status = Vec::new();
    loop {
        match repository.checkout.sync().await {
            Ok(synced) => {
                let tree = synced.tree().clone();
                let note = note(&synced);
                // What is wanted first: nobody may take what is kept for what the commit says.
                send(&wanted, read(&tree.directory, around).await, index, around);
                around.shared.update(index, |report| {
                    tell_tree(&mut report.source, &tree);
                    report.source.last_sync = Some(jiff::Timestamp::now());
                    report.source.error = None;
                    report.source.hint = None;
                    if matches!(synced, Synced::Updated { .. }) {
                        report.source.note = note.clone();
                    }
                });
                if let Synced::Updated { tree, .. } = &synced {
                    let name = around.shared.report(index).name;
                    tracing::info!("{name}: commit {}: {}", tree.commit.short(), tree.subject);
                }
            }
            Err(error) => tell_error(index, &error, around),
        }
        around.metrics.source_read(&around.shared.report(index));
        let pause = tokio::time::sleep(repository.interval);
        tokio::pin!(pause);
        loop {
            tokio::select! {
                () = &mut pause => break,
                () = requested.notified() => break,
                () = told.notified(), if repository.status_branch.is_some() => {
                    tokio::time::sleep(STATUS_PAUSE).await;
                    push_status(&repository, index, &mut last_status, around).await;
                }
            }
        }
    }
}

/// Says what is wanted; the same again wakes nobody.
fn send(wanted: &channel::Sender<Option<Wanted>>, set: WantedSet, index: usize, around: &Around<'_>) {
    if wanted.borrow().as_ref().is_some_and(|current| current.set == set) {
        return;
    }
    let mut revision = 0;
    // Told before it is handed over: from now on the status is about something older.
    around.shared.update(index, |report| {
        report.read_revision += 1;
        revision = report.read_revision;
    });
    wanted.send_replace(Some(Wanted { revision, set }));
}

async fn read(path: &Path, around: &Around<'_>) -> WantedSet {
    let (path, defaults) = (path.to_owned(), around.settings.vm_defaults.clone());
    let mut set = match tokio::task::spawn_blocking(move || load(&path, &defaults)).await {
        Ok(set) => set,
        Err(error) => {
            tracing::error!("reading manifests broke: {error}");
            WantedSet { is_incomplete: true, ..WantedSet::default() }
        }
    };
    manifests::prepare(&mut set, around.settings);
    set
}

fn tell_tree(source: &mut SourceReport, tree: &Tree) {
    source.commit = Some(tree.commit.to_string());
    source.subject = Some(tree.subject.clone());
}

fn note(synced: &Synced) -> Option<String> {
    match synced {
        Synced::Updated { history: History::Rewritten, .. } => Some("its history was rewritten".to_owned()),
        Synced::Updated { .. } | Synced::Unchanged(_) => None,
    }
}

fn tell_error(index: usize, error: &GitError, around: &Around<'_>) {
    let message = chain_of(error);
    let report = around.shared.report(index);
    if report.source.error.as_ref() != Some(&message) {
        tracing::error!("{}: {message}; what was there before is kept", report.name);
    }
    around.shared.update(index, |report| {
        report.source.error = Some(message);
        report.source.hint = error.hint();
    });
}

async fn push_status(repository: &GitRepository, index: usize, last: &mut Vec<u8>, around: &Around<'_>) {
    let Some(branch) = &repository.status_branch else { return };
    let report = around.shared.report(index);
    let files = match status_file::files(&report) {
        Ok(files) => files,
        Err(error) => return tracing::error!("{}: status: {error}", report.name),
    };
    let content: Vec<u8> = files.iter().flat_map(|file| file.content.iter().copied()).collect();
    if content == *last || repository.checkout.current().is_none() {
        return;
    }
    match repository.checkout.push_status(branch, &files, &status_file::message(&report)).await {
        Ok(_) => *last = content,
        Err(error) => tracing::error!("{}: could not push the status: {error}", report.name),
    }
}
