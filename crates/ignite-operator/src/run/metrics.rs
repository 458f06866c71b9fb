//! What the loop counts, for Prometheus. Names are documented in `docs/metrics.md`; a test of `ignited` compares them.

use crate::objects::VirtualMachine;
use crate::status::Phase;
use kube::runtime::reflector::Store;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Bounds of a look's time, in seconds.
const BUCKETS: [f64; 8] = [0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 30.0];
const PHASES: [Phase; 8] = [
    Phase::Pending,
    Phase::Starting,
    Phase::Running,
    Phase::Stopping,
    Phase::Stopped,
    Phase::Succeeded,
    Phase::Failed,
    Phase::Unknown,
];

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Look {
    kind: &'static str,
    result: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Write {
    action: &'static str,
    result: &'static str,
}

/// Counts of one operator; clones count together.
#[derive(Debug, Clone)]
pub struct Metrics {
    looks: Family<Look, Counter>,
    times: Family<Kind, Histogram>,
    writes: Family<Write, Counter>,
    leads: Gauge,
    vms: Arc<OnceLock<Store<VirtualMachine>>>,
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics {
            looks: Family::default(),
            times: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            writes: Family::default(),
            leads: Gauge::default(),
            vms: Arc::default(),
        }
    }
}

impl Metrics {
    /// Makes them known to `registry`.
    pub fn register(&self, registry: &mut Registry) {
        let what = "Looks at a VM or a set, by result";
        registry.register("ignite_operator_reconciles", what, self.looks.clone());
        let what = "Time of a look, with the requests that it made";
        registry.register_with_unit("ignite_operator_reconcile_duration", what, Unit::Seconds, self.times.clone());
        let what = "Requests that change the cluster, by result";
        registry.register("ignite_operator_writes", what, self.writes.clone());
        let what = "Whether this operator is the one that works";
        registry.register("ignite_operator_leader", what, self.leads.clone());
        registry.register_collector(Box::new(Vms(self.vms.clone())));
    }

    /// It works, or has ceased to.
    pub fn leads(&self, leads: bool) {
        self.leads.set(leads.into());
    }

    pub(crate) fn knows(&self, vms: Store<VirtualMachine>) {
        let _ = self.vms.set(vms);
    }

    pub(crate) fn looked(&self, kind: &'static str, took: Duration, is_ok: bool) {
        self.looks.get_or_create(&Look { kind, result: word(is_ok) }).inc();
        self.times.get_or_create(&Kind { kind }).observe(took.as_secs_f64());
    }

    pub(crate) fn wrote(&self, action: &'static str, is_ok: bool) {
        self.writes.get_or_create(&Write { action, result: word(is_ok) }).inc();
    }
}

fn word(is_ok: bool) -> &'static str {
    if is_ok { "ok" } else { "error" }
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PhaseLabel {
    phase: &'static str,
}

#[derive(Debug)]
struct Vms(Arc<OnceLock<Store<VirtualMachine>>>);

impl Collector for Vms {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Some(store) = self.0.get() else { return Ok(()) };
        let vms = store.state();
        let family: Family<PhaseLabel, Gauge> = Family::default();
        for phase in PHASES {
            let is_in =
                |vm: &&Arc<VirtualMachine>| vm.status.as_ref().map_or(Phase::Pending, |status| status.phase) == phase;
            let count = i64::try_from(vms.iter().filter(is_in).count()).unwrap_or(i64::MAX);
            family.get_or_create(&PhaseLabel { phase: phase.word() }).set(count);
        }
        let what = "VMs by phase";
        family.encode(encoder.encode_descriptor(
            "ignite_operator_vms",
            what,
            None,
            ConstGauge::new(0_i64).metric_type(),
        )?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::runtime::{reflector, watcher};
    use std::collections::BTreeSet;

    const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");

    #[test]
    fn every_name_is_documented_and_every_documented_name_is_there() {
        let metrics = Metrics::default();
        let (store, mut writer) = reflector::store();
        let vm = crate::test_objects::vm(serde_json::json!({ "status": { "phase": "Running" } }));
        writer.apply_watcher_event(&watcher::Event::Apply(vm));
        metrics.knows(store);
        metrics.leads(true);
        metrics.looked("vms", Duration::from_millis(3), true);
        metrics.wrote("create", false);
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let told: BTreeSet<&str> =
            text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
        let page = std::fs::read_to_string(DOCUMENT).unwrap();
        let rows = page.lines().filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0));
        assert_eq!(told, rows.filter(|name| name.starts_with("ignite_operator_")).collect(), "{text}");
        for sample in [
            "ignite_operator_vms{phase=\"Running\"} 1",
            "ignite_operator_vms{phase=\"Pending\"} 0",
            "ignite_operator_leader 1",
            "ignite_operator_writes_total{action=\"create\",result=\"error\"} 1",
        ] {
            assert!(text.lines().any(|line| line == sample), "{sample}: {text}");
        }
    }
}
