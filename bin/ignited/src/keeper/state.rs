//! What the daemon tells of itself: one report per set, as `ignited status` reads it.

use ignite_api::Vm;
use ignite_reconcile::SetStatus;
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Where a set is written, and how that stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceReport {
    /// Directory or address.
    pub location: String,
    /// What of it is followed; empty for a directory.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reference: String,
    /// The commit that is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// First line of its message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Something of note about the last change, such as a history that was rewritten.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// When it was last read without error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_sync: Option<jiff::Timestamp>,
    /// Why it could not be read the last time; what was there before is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// One set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SetReport {
    /// Its name.
    pub name: String,
    /// Where it is written.
    pub source: SourceReport,
    /// How it stands.
    pub status: SetStatus,
    /// Why nothing could be looked at the last time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Counts what has been read and differed from what was read before.
    #[serde(default)]
    pub read_revision: u64,
    /// Which of them the status is about.
    #[serde(default)]
    pub kept_revision: u64,
    /// Milliseconds that the last look took.
    pub look_ms: f64,
}

impl SetReport {
    /// True when everything is as it is written, and it is known how it is written.
    pub fn is_ready(&self) -> bool {
        let is_known = self.error.is_none() && self.source.error.is_none();
        is_known && self.kept_revision == self.read_revision && self.status.is_ready()
    }
}

/// What the loops tell and the server asks.
#[derive(Debug)]
pub struct Shared {
    reports: Mutex<Vec<SetReport>>,
    vms: Mutex<Arc<Vec<Vm>>>,
    /// Somebody asks to read every source now.
    pub sync_requested: Vec<Arc<Notify>>,
}

impl Shared {
    /// Reports for sets of these names.
    pub fn new(names: impl Iterator<Item = String>) -> Shared {
        let reports: Vec<SetReport> = names.map(|name| SetReport { name, ..SetReport::default() }).collect();
        let sync_requested = reports.iter().map(|_| Arc::new(Notify::new())).collect();
        Shared { reports: Mutex::new(reports), vms: Mutex::default(), sync_requested }
    }

    /// All reports.
    pub fn reports(&self) -> Vec<SetReport> {
        lock(&self.reports).clone()
    }

    /// Changes the report of a set.
    pub fn update(&self, index: usize, change: impl FnOnce(&mut SetReport)) {
        if let Some(report) = lock(&self.reports).get_mut(index) {
            change(report);
        }
    }

    /// The report of a set.
    pub fn report(&self, index: usize) -> SetReport {
        lock(&self.reports).get(index).cloned().unwrap_or_default()
    }

    /// VMs as they were last found.
    pub fn vms(&self) -> Arc<Vec<Vm>> {
        lock(&self.vms).clone()
    }

    /// Takes note of VMs as they were found.
    pub fn set_vms(&self, vms: Vec<Vm>) {
        *lock(&self.vms) = Arc::new(vms);
    }

    /// Reads every source now.
    pub fn request_sync(&self) {
        self.sync_requested.iter().for_each(|notify| notify.notify_one());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
