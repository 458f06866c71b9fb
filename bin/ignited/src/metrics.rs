//! What Prometheus is told. Names are documented in `docs/metrics.md`; a test compares them.

use crate::keeper::{SetReport, Shared};
use ignite_api::health::Health;
use ignite_api::{Phase, Vm};
use ignite_engine::{Engine, Usage};
use ignite_reconcile::{FleetError, ObjectState, SetStatus, Step};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
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

    /// Everything, in the text format that Prometheus reads (OpenMetrics 1.0). Reads below `/proc`.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
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

/// This process, under the names that every client library of Prometheus uses.
#[derive(Debug)]
struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Some((cpu, memory)) = Usage::of_process("self") else { return Ok(()) };
        let cpu = ConstCounter::new(cpu.as_secs_f64());
        let name = "process_cpu";
        let what = "Processor time of ignited";
        cpu.encode(encoder.encode_descriptor(name, what, Some(&Unit::Seconds), cpu.metric_type())?)?;
        let memory = ConstGauge::new(i64::try_from(memory).unwrap_or(i64::MAX));
        let name = "process_resident_memory";
        let what = "Resident memory of ignited";
        memory.encode(encoder.encode_descriptor(name, what, Some(&Unit::Bytes), memory.metric_type())?)
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

/// One VM at the moment of a scrape.
struct Sample<'a> {
    vm: &'a Vm,
    usage: Option<Usage>,
    disk: Option<u64>,
}

impl Sample<'_> {
    fn labels(&self) -> Vec<(&'static str, String)> {
        let uid = self.vm.metadata.uid.as_ref().map(ToString::to_string).unwrap_or_default();
        vec![("name", escaped(&self.vm.metadata.name)), ("uid", uid)]
    }
}

/// OpenMetrics 1.0, "Escaping": the encoder writes values as they are.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

impl Collector for Vms {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let vms = self.shared.vms();
        let samples: Vec<Sample<'_>> = vms
            .iter()
            .map(|vm| Sample {
                vm,
                usage: self.engine.usage(vm),
                disk: vm.metadata.uid.as_ref().and_then(|uid| self.engine.disk_usage(uid)),
            })
            .collect();
        phases(&mut encoder, &samples)?;
        healths(&mut encoder, &samples)?;
        let what = "Times that a VM has been started";
        counters(&mut encoder, ("ignite_vm_starts", what, None), &samples, |s| Some(f64::from(s.vm.status.starts)))?;
        let what = "Memory that a VM is given";
        let limit = |s: &Sample<'_>| Some(s.vm.spec.memory.as_bytes());
        gauges(&mut encoder, ("ignite_vm_memory_limit", what, Some(&Unit::Bytes)), &samples, limit)?;
        let what = "Resident memory of a VM's monitor: what the guest has touched, and its own";
        let memory = |s: &Sample<'_>| s.usage.map(|usage| usage.memory_bytes);
        gauges(&mut encoder, ("ignite_vm_memory_resident", what, Some(&Unit::Bytes)), &samples, memory)?;
        let what = "Processor time of a VM's monitor, and so of its guest";
        let cpu = |s: &Sample<'_>| s.usage.map(|usage| usage.cpu.as_secs_f64());
        counters(&mut encoder, ("ignite_vm_cpu", what, Some(&Unit::Seconds)), &samples, cpu)?;
        let what = "What a VM's writable disk takes of the host";
        gauges(&mut encoder, ("ignite_vm_disk_used", what, Some(&Unit::Bytes)), &samples, |s| s.disk)?;
        let what = "Bytes that a VM's monitor has read from disks";
        let read = |s: &Sample<'_>| s.usage.map(|usage| usage.read_bytes as f64);
        counters(&mut encoder, ("ignite_vm_disk_read", what, Some(&Unit::Bytes)), &samples, read)?;
        let what = "Bytes that a VM's monitor has written to disks";
        let written = |s: &Sample<'_>| s.usage.map(|usage| usage.written_bytes as f64);
        counters(&mut encoder, ("ignite_vm_disk_written", what, Some(&Unit::Bytes)), &samples, written)?;
        let what = "Bytes that a guest on a CNI network has received";
        let received = |s: &Sample<'_>| Some(s.usage?.network?.received_bytes as f64);
        counters(&mut encoder, ("ignite_vm_network_received", what, Some(&Unit::Bytes)), &samples, received)?;
        let what = "Bytes that a guest on a CNI network has sent";
        let sent = |s: &Sample<'_>| Some(s.usage?.network?.sent_bytes as f64);
        counters(&mut encoder, ("ignite_vm_network_sent", what, Some(&Unit::Bytes)), &samples, sent)
    }
}

type Description<'a> = (&'a str, &'a str, Option<&'a Unit>);

/// A metric without a sample is not named: its family would be empty.
fn gauges(
    encoder: &mut DescriptorEncoder<'_>,
    (name, what, unit): Description<'_>,
    samples: &[Sample<'_>],
    value: impl Fn(&Sample<'_>) -> Option<u64>,
) -> Result<(), std::fmt::Error> {
    let mut values = samples.iter().filter_map(|sample| Some((sample, value(sample)?))).peekable();
    if values.peek().is_none() {
        return Ok(());
    }
    let kind = prometheus_client::metrics::MetricType::Gauge;
    let mut descriptor = encoder.encode_descriptor(name, what, unit, kind)?;
    for (sample, value) in values {
        let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
        gauge.encode(descriptor.encode_family(&sample.labels())?)?;
    }
    Ok(())
}

fn counters(
    encoder: &mut DescriptorEncoder<'_>,
    (name, what, unit): Description<'_>,
    samples: &[Sample<'_>],
    value: impl Fn(&Sample<'_>) -> Option<f64>,
) -> Result<(), std::fmt::Error> {
    let mut values = samples.iter().filter_map(|sample| Some((sample, value(sample)?))).peekable();
    if values.peek().is_none() {
        return Ok(());
    }
    let kind = prometheus_client::metrics::MetricType::Counter;
    let mut descriptor = encoder.encode_descriptor(name, what, unit, kind)?;
    for (sample, value) in values {
        ConstCounter::new(value).encode(descriptor.encode_family(&sample.labels())?)?;
    }
    Ok(())
}

fn healths(encoder: &mut DescriptorEncoder<'_>, samples: &[Sample<'_>]) -> Result<(), std::fmt::Error> {
    let mut known = samples.iter().filter_map(|sample| Some((sample, sample.vm.status.health.as_ref()?))).peekable();
    if known.peek().is_none() {
        return Ok(());
    }
    let what = "1 for the health of a running VM that has a health check, 0 for the others";
    let kind = prometheus_client::metrics::MetricType::Gauge;
    let mut descriptor = encoder.encode_descriptor("ignite_vm_health", what, None, kind)?;
    for (sample, status) in known {
        for health in Health::ALL {
            let mut labels = sample.labels();
            labels.push(("health", health.to_string()));
            ConstGauge::new(i64::from(status.state == health)).encode(descriptor.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

fn phases(encoder: &mut DescriptorEncoder<'_>, samples: &[Sample<'_>]) -> Result<(), std::fmt::Error> {
    if samples.is_empty() {
        return Ok(());
    }
    let what = "1 for the phase that a VM is in, 0 for the others";
    let kind = prometheus_client::metrics::MetricType::Gauge;
    let mut descriptor = encoder.encode_descriptor("ignite_vm_phase", what, None, kind)?;
    for sample in samples {
        for phase in Phase::ALL {
            let mut labels = sample.labels();
            labels.push(("phase", phase.to_string()));
            let gauge = ConstGauge::new(i64::from(sample.vm.status.phase == phase));
            gauge.encode(descriptor.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
