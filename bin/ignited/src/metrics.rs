//! What Prometheus is told. Names are documented in `docs/metrics.md`; a test compares them.

use crate::keeper::{SetReport, Shared};
use ignite_engine::Engine;
use ignite_engine::metrics::{Format, Process, Sample};
use ignite_reconcile::{FleetError, ObjectState, SetStatus, Step};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// Bounds of a look's time, in seconds.
const LOOK_BUCKETS: [f64; 9] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct SetLabel {
    set: String,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StepLabels {
    set: String,
    action: String,
    result: String,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StateLabels {
    set: String,
    state: String,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CommitLabels {
    set: String,
    commit: String,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct VersionLabel {
    version: String,
}

/// The metrics of a daemon.
pub struct Metrics {
    registry: Registry,
    looks: Family<SetLabel, Histogram>,
    look_errors: Family<SetLabel, Counter>,
    steps: Family<StepLabels, Counter>,
    objects: Family<StateLabels, Gauge>,
    problems: Family<SetLabel, Gauge>,
    source_up: Family<SetLabel, Gauge>,
    source_errors: Family<SetLabel, Counter>,
    source_time: Family<SetLabel, Gauge<f64, AtomicU64>>,
    source_commit: Family<CommitLabels, Gauge>,
}

impl Metrics {
    /// The metrics of this daemon, and of the VMs that it has last found.
    pub fn new(engine: Engine, shared: Arc<Shared>) -> Metrics {
        let mut registry = Registry::default();
        let metrics = Metrics {
            looks: Family::new_with_constructor(|| Histogram::new(LOOK_BUCKETS)),
            look_errors: Family::default(),
            steps: Family::default(),
            objects: Family::default(),
            problems: Family::default(),
            source_up: Family::default(),
            source_errors: Family::default(),
            source_time: Family::default(),
            source_commit: Family::default(),
            registry: Registry::default(),
        };
        let build: Family<VersionLabel, Gauge> = Family::default();
        build.get_or_create(&VersionLabel { version: env!("CARGO_PKG_VERSION").to_owned() }).set(1);
        registry.register("ignited_build_info", "Version of ignited, as a label; always 1", build);
        let looks = metrics.looks.clone();
        let what = "Time to observe all VMs and to plan a set";
        registry.register_with_unit("ignited_reconcile_duration", what, Unit::Seconds, looks);
        let what = "Times that VMs could not be observed";
        registry.register("ignited_reconcile_errors", what, metrics.look_errors.clone());
        let what = "Steps done to VMs, by what was done and whether it succeeded";
        registry.register("ignited_steps", what, metrics.steps.clone());
        let what = "VMs of a set by how they stand";
        registry.register("ignited_objects", what, metrics.objects.clone());
        let what = "Manifests of a set that cannot be used";
        registry.register("ignited_manifest_problems", what, metrics.problems.clone());
        let what = "Whether a set could be read the last time";
        registry.register("ignited_sync_up", what, metrics.source_up.clone());
        let what = "Times that a set could not be read";
        registry.register("ignited_sync_errors", what, metrics.source_errors.clone());
        let what = "When a set was last read, in seconds since 1970";
        registry.register_with_unit("ignited_sync_timestamp", what, Unit::Seconds, metrics.source_time.clone());
        let what = "The commit that a set is kept at, as a label; always 1";
        registry.register("ignited_sync_commit_info", what, metrics.source_commit.clone());
        registry.register_collector(Box::new(Process));
        registry.register_collector(Box::new(Vms { engine, shared }));
        Metrics { registry, ..metrics }
    }

    /// Everything. Reads below `/proc`.
    pub fn encode(&self, format: Format) -> String {
        format.render(&self.registry)
    }

    /// A set has been looked at.
    pub fn look_done(&self, set: &str, took: Duration, status: &SetStatus) {
        self.looks.get_or_create(&SetLabel { set: set.to_owned() }).observe(took.as_secs_f64());
        for state in ObjectState::ALL {
            let count = status.objects.iter().filter(|object| object.state == state).count();
            let labels = StateLabels { set: set.to_owned(), state: state.to_string() };
            self.objects.get_or_create(&labels).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        let problems = i64::try_from(status.problems.len()).unwrap_or(i64::MAX);
        self.problems.get_or_create(&SetLabel { set: set.to_owned() }).set(problems);
    }

    /// VMs could not be observed.
    pub fn look_failed(&self, set: &str) {
        self.look_errors.get_or_create(&SetLabel { set: set.to_owned() }).inc();
    }

    /// A step has been done.
    pub fn step_done(&self, set: &str, step: &Step, result: &Result<(), FleetError>) {
        let result = if result.is_ok() { "ok" } else { "error" };
        let labels =
            StepLabels { set: set.to_owned(), action: step.action.verb().to_owned(), result: result.to_owned() };
        self.steps.get_or_create(&labels).inc();
    }

    /// A source has been read, or could not be.
    pub fn source_read(&self, report: &SetReport) {
        let label = SetLabel { set: report.name.clone() };
        let is_up = report.source.error.is_none();
        self.source_up.get_or_create(&label).set(is_up.into());
        let errors = self.source_errors.get_or_create(&label);
        if !is_up {
            errors.inc();
        }
        drop(errors);
        if let Some(time) = report.source.last_sync {
            self.source_time.get_or_create(&label).set(time.as_millisecond() as f64 / 1000.0);
        }
        if let Some(commit) = &report.source.commit {
            let labels = CommitLabels { set: report.name.clone(), commit: commit.clone() };
            // A set is at one commit.
            if self.source_commit.get(&labels).is_none() {
                self.source_commit.clear_set(&report.name);
            }
            self.source_commit.get_or_create(&labels).set(1);
        }
    }
}

trait ClearSet {
    fn clear_set(&self, set: &str);
}

impl ClearSet for Family<CommitLabels, Gauge> {
    /// Few sets, few commits: all go, and those of other sets come back with their next read.
    fn clear_set(&self, _set: &str) {
        self.clear();
    }
}

/// The VMs as they were last found.
struct Vms {
    engine: Engine,
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Vms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Vms")
    }
}

impl Collector for Vms {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let vms = self.shared.vms();
        let samples: Vec<Sample<'_>> = vms.iter().map(|vm| self.engine.metrics_sample(vm)).collect();
        ignite_engine::metrics::encode(encoder, &samples)
    }
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
