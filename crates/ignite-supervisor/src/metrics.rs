//! What Prometheus is told of VMs, by whoever tells it. Names are documented in `docs/metrics.md`; a test compares them.

use crate::usage::Usage;
use hyper::header::{ACCEPT, HeaderMap};
use ignite_api::health::Health;
use ignite_api::{Phase, Vm};
use ignite_store::Paths;
use ignite_vmm::VmmCounters;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

/// A format of metrics, by its media type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0, for whoever asks for it: Prometheus does.
    OpenMetrics,
    /// Prometheus' text format 0.0.4, for everybody else.
    Text,
}

impl Format {
    /// By the `Accept` among a request's headers.
    pub fn accepted(headers: &HeaderMap) -> Format {
        let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
        match accept.is_some_and(|accept| accept.contains("application/openmetrics-text")) {
            true => Format::OpenMetrics,
            false => Format::Text,
        }
    }

    /// Its `Content-Type`.
    pub fn media_type(self) -> &'static str {
        match self {
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// Everything that is registered.
    pub fn render(self, registry: &Registry) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, registry);
        match self {
            Format::OpenMetrics => text,
            Format::Text => to_text_format(&text),
        }
    }
}

/// In the older format a counter's description bears the name of its samples; units and the end are not told.
fn to_text_format(open_metrics: &str) -> String {
    let counters: std::collections::HashSet<&str> =
        open_metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter")).collect();
    let mut text = String::with_capacity(open_metrics.len());
    for line in open_metrics.lines() {
        let described = ["# HELP ", "# TYPE "].iter().find_map(|what| Some((*what, line.strip_prefix(*what)?)));
        match described.and_then(|(what, rest)| Some((what, rest.split_once(' ')?))) {
            Some((what, (name, rest))) if counters.contains(name) => {
                text.extend([what, name, "_total ", rest]);
            }
            None if line.starts_with("# UNIT ") || line == "# EOF" => continue,
            Some(_) | None => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

/// The process that is asked, under the names that every client library of Prometheus uses.
#[derive(Debug)]
pub struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Some((cpu, memory)) = Usage::of_process("self") else { return Ok(()) };
        let cpu = ConstCounter::new(cpu.as_secs_f64());
        let name = "process_cpu";
        let what = "Processor time of the process that is asked";
        cpu.encode(encoder.encode_descriptor(name, what, Some(&Unit::Seconds), cpu.metric_type())?)?;
        let memory = ConstGauge::new(i64::try_from(memory).unwrap_or(i64::MAX));
        let name = "process_resident_memory";
        let what = "Resident memory of the process that is asked";
        memory.encode(encoder.encode_descriptor(name, what, Some(&Unit::Bytes), memory.metric_type())?)
    }
}

/// One VM at the moment of a scrape.
pub struct Sample<'a> {
    vm: &'a Vm,
    usage: Option<Usage>,
    disk: Option<u64>,
}

impl<'a> Sample<'a> {
    /// Looks at what the VM takes now. Reads below `/proc`.
    pub fn take(vm: &'a Vm, paths: &Paths) -> Sample<'a> {
        let disk = vm.metadata.uid.as_ref().and_then(|uid| Usage::of_disk(uid, paths));
        Sample { vm, usage: Usage::of_vm(vm, paths), disk }
    }

    fn labels(&self) -> Vec<(&'static str, String)> {
        let uid = self.vm.metadata.uid.as_ref().map(ToString::to_string).unwrap_or_default();
        vec![("name", escaped(&self.vm.metadata.name)), ("uid", uid)]
    }
}

/// OpenMetrics 1.0, "Escaping": the encoder writes values as they are.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Tells of these VMs.
pub fn encode(mut encoder: DescriptorEncoder<'_>, samples: &[Sample<'_>]) -> Result<(), std::fmt::Error> {
    let phase = ("ignite_vm_phase", "phase", "1 for the phase that a VM is in, 0 for the others");
    states(&mut encoder, phase, samples, &Phase::ALL, |s| Some(s.vm.status.phase))?;
    let what = "1 for the health of a running VM that has a health check, 0 for the others";
    let health = |s: &Sample<'_>| Some(s.vm.status.health.as_ref()?.state);
    states(&mut encoder, ("ignite_vm_health", "health", what), samples, &Health::ALL, health)?;
    let what = "Times that a VM has been started";
    counters(&mut encoder, ("ignite_vm_starts", what, None), samples, |s| Some(f64::from(s.vm.status.starts)))?;
    let what = "Memory that a VM is given";
    let limit = |s: &Sample<'_>| Some(s.vm.spec.memory.as_bytes());
    gauges(&mut encoder, ("ignite_vm_memory_limit", what, Some(&Unit::Bytes)), samples, limit)?;
    let what = "Resident memory of a VM's monitor: what the guest has touched, and its own";
    let memory = |s: &Sample<'_>| s.usage.map(|usage| usage.memory_bytes);
    gauges(&mut encoder, ("ignite_vm_memory_resident", what, Some(&Unit::Bytes)), samples, memory)?;
    let what = "Processor time of a VM's monitor, and so of its guest";
    let cpu = |s: &Sample<'_>| s.usage.map(|usage| usage.cpu.as_secs_f64());
    counters(&mut encoder, ("ignite_vm_cpu", what, Some(&Unit::Seconds)), samples, cpu)?;
    let what = "What a VM's writable disk takes of the host";
    gauges(&mut encoder, ("ignite_vm_disk_used", what, Some(&Unit::Bytes)), samples, |s| s.disk)?;
    let what = "Bytes that a VM's monitor has read from disks";
    let read = |s: &Sample<'_>| s.usage.map(|usage| usage.read_bytes as f64);
    counters(&mut encoder, ("ignite_vm_disk_read", what, Some(&Unit::Bytes)), samples, read)?;
    let what = "Bytes that a VM's monitor has written to disks";
    let written = |s: &Sample<'_>| s.usage.map(|usage| usage.written_bytes as f64);
    counters(&mut encoder, ("ignite_vm_disk_written", what, Some(&Unit::Bytes)), samples, written)?;
    let what = "Bytes that a guest on a CNI network has received";
    let received = |s: &Sample<'_>| Some(s.usage?.network?.received_bytes as f64);
    counters(&mut encoder, ("ignite_vm_network_received", what, Some(&Unit::Bytes)), samples, received)?;
    let what = "Bytes that a guest on a CNI network has sent";
    let sent = |s: &Sample<'_>| Some(s.usage?.network?.sent_bytes as f64);
    counters(&mut encoder, ("ignite_vm_network_sent", what, Some(&Unit::Bytes)), samples, sent)?;
    for (description, value) in OF_THE_VMM {
        let counted = |s: &Sample<'_>| Some(value(&s.usage?.counters?) as f64);
        counters(&mut encoder, description, samples, counted)?;
    }
    Ok(())
}

/// A metric that is one of a VMM's counters.
type OfTheVmm = (Description<'static>, fn(&VmmCounters) -> u64);

/// What a VMM itself counts.
const OF_THE_VMM: [OfTheVmm; 12] = [
    (("ignite_vm_disk_reads", "Reads that a VM's disks have done", None), |c| c.disk_reads),
    (("ignite_vm_disk_writes", "Writes that a VM's disks have done", None), |c| c.disk_writes),
    (("ignite_vm_disk_flushes", "Flushes that a VM's disks have done", None), |c| c.disk_flushes),
    (("ignite_vm_disk_failures", "Requests that a VM's disks could not do", None), |c| c.disk_failures),
    (("ignite_vm_disk_throttled", "Times that its limits have made a VM's disk wait", None), |c| c.disk_throttled),
    (("ignite_vm_network_received_packets", "Packets that a guest has received", None), |c| c.network_received_packets),
    (("ignite_vm_network_sent_packets", "Packets that a guest has sent", None), |c| c.network_sent_packets),
    (("ignite_vm_network_failures", "Packets lost between a guest and its tap", None), |c| c.network_failures),
    (
        ("ignite_vm_network_spoofed_packets", "Packets that a guest has sent under another hardware address", None),
        |c| c.network_spoofed_packets,
    ),
    (("ignite_vm_network_throttled", "Times that its limits have made a VM's traffic wait", None), |c| {
        c.network_throttled
    }),
    (("ignite_vm_vsock_received", "Bytes that a guest has received on its virtio socket", Some(&Unit::Bytes)), |c| {
        c.vsock_received_bytes
    }),
    (("ignite_vm_vsock_sent", "Bytes that a guest has sent on its virtio socket", Some(&Unit::Bytes)), |c| {
        c.vsock_sent_bytes
    }),
];

type Description<'a> = (&'a str, &'a str, Option<&'a Unit>);

fn gauges(
    encoder: &mut DescriptorEncoder<'_>,
    description: Description<'_>,
    samples: &[Sample<'_>],
    value: impl Fn(&Sample<'_>) -> Option<u64>,
) -> Result<(), std::fmt::Error> {
    family(encoder, description, MetricType::Gauge, samples, value, |family, sample, value| {
        let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
        gauge.encode(family.encode_family(&sample.labels())?)
    })
}

fn counters(
    encoder: &mut DescriptorEncoder<'_>,
    description: Description<'_>,
    samples: &[Sample<'_>],
    value: impl Fn(&Sample<'_>) -> Option<f64>,
) -> Result<(), std::fmt::Error> {
    family(encoder, description, MetricType::Counter, samples, value, |family, sample, value| {
        ConstCounter::new(value).encode(family.encode_family(&sample.labels())?)
    })
}

/// 1 for the state that something is in, 0 for all others that it could be in.
fn states<T: Copy + PartialEq + std::fmt::Display>(
    encoder: &mut DescriptorEncoder<'_>,
    (name, label, what): (&str, &'static str, &str),
    samples: &[Sample<'_>],
    all: &[T],
    current: impl Fn(&Sample<'_>) -> Option<T>,
) -> Result<(), std::fmt::Error> {
    family(encoder, (name, what, None), MetricType::Gauge, samples, current, |family, sample, current| {
        for state in all {
            let mut labels = sample.labels();
            labels.push((label, state.to_string()));
            ConstGauge::new(i64::from(current == *state)).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    })
}

/// A metric without a sample is not named: its family would be empty.
fn family<T>(
    encoder: &mut DescriptorEncoder<'_>,
    (name, what, unit): Description<'_>,
    kind: MetricType,
    samples: &[Sample<'_>],
    value: impl Fn(&Sample<'_>) -> Option<T>,
    tell: impl Fn(&mut MetricEncoder<'_>, &Sample<'_>, T) -> Result<(), std::fmt::Error>,
) -> Result<(), std::fmt::Error> {
    let mut values = samples.iter().filter_map(|sample| Some((sample, value(sample)?))).peekable();
    if values.peek().is_none() {
        return Ok(());
    }
    let mut family = encoder.encode_descriptor(name, what, unit, kind)?;
    for (sample, value) in values {
        tell(&mut family, sample, value)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    #[test]
    fn whoever_asks_gets_the_format_that_it_reads() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.3,*/*;q=0.1";
        for (accept, format) in
            [(None, Format::Text), (Some("*/*"), Format::Text), (Some(prometheus), Format::OpenMetrics)]
        {
            let headers = accept.map(|accept| (ACCEPT, HeaderValue::from_static(accept))).into_iter().collect();
            assert_eq!(Format::accepted(&headers), format, "{accept:?}");
        }
    }

    #[test]
    fn the_older_format_describes_counters_by_their_samples() {
        let open = "# HELP a Words of # TYPE b counter\n# TYPE a counter\n# UNIT a seconds\na_total{x=\"# EOF\"} 1.0\n\
                    # HELP b Words\n# TYPE b gauge\nb 2\n# EOF\n";
        let text = "# HELP a_total Words of # TYPE b counter\n# TYPE a_total counter\na_total{x=\"# EOF\"} 1.0\n\
                    # HELP b Words\n# TYPE b gauge\nb 2\n";
        assert_eq!(to_text_format(open), text);
    }
}
