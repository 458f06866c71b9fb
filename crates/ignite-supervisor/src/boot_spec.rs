//! What the VMM is told to boot.

use crate::launch::{Launch, LaunchNetwork};
use ignite_api::vm::Isolation;
use ignite_network::{Attachment, GuestNicBackend};
use ignite_vmm::{
    BootSpec, CpuTemplate, Drive, DriveLimits, IsolationWanted, Nic, NicBackend, TrafficLimit, TrafficLimits,
};
use std::sync::Arc;

const BITS_OF_A_BYTE: u64 = 8;

/// What the VMM shall limit of the traffic.
fn traffic_limits(network: &LaunchNetwork) -> TrafficLimits {
    let limits = network.spec.bandwidth.filter(|_| network.is_limited_by_vmm).unwrap_or_default();
    let limit = |rate: u64, burst: u64| {
        let bytes = |bits: u64| bits.div_ceil(BITS_OF_A_BYTE).max(1);
        (rate != 0).then(|| TrafficLimit { rate: bytes(rate), burst: bytes(burst) })
    };
    TrafficLimits {
        receive: limit(limits.ingress_rate, limits.ingress_burst),
        send: limit(limits.egress_rate, limits.egress_burst),
    }
}

/// The machine of this launch, with the interfaces of this attachment.
pub(crate) fn boot_spec(launch: &Launch, attachment: &mut Attachment) -> BootSpec {
    let limits = traffic_limits(&launch.network);
    let nics = std::mem::take(&mut attachment.nics)
        .into_iter()
        .map(|nic| Nic {
            mac: nic.mac,
            mtu: nic.mtu,
            backend: match nic.backend {
                GuestNicBackend::TapQueue(queue) => NicBackend::TapQueue(Arc::new(queue)),
                GuestNicBackend::Tap { name, netns } => NicBackend::Tap { name, netns: Some(netns) },
                GuestNicBackend::Stream(socket) => NicBackend::Stream(Arc::new(socket)),
            },
            limits,
        })
        .collect();
    let boot = &launch.boot;
    BootSpec {
        id: launch.uid.to_string(),
        kernel: boot.kernel.clone(),
        initramfs: boot.initramfs.clone(),
        cmdline: boot.cmdline.clone(),
        vcpu_count: boot.vcpu_count,
        mem_size_mib: boot.mem_size_mib,
        has_huge_pages: boot.has_huge_pages,
        cpu_template: boot.cpu_template.as_deref().map(CpuTemplate::parse),
        drives: boot
            .drives
            .iter()
            .map(|drive| Drive {
                id: drive.id.clone(),
                path: drive.path.clone(),
                is_read_only: drive.is_read_only,
                is_pmem: drive.is_pmem,
                limits: DriveLimits { operations: drive.limits.iops, bytes: drive.limits.bytes_per_second },
            })
            .collect(),
        nics,
        isolation: match boot.isolation {
            Isolation::Auto => IsolationWanted::BestEffort,
            Isolation::Strict => IsolationWanted::Strict,
            Isolation::None => IsolationWanted::None,
        },
        accelerator: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ignite_api::network::{Bandwidth, NetworkSpec};

    #[test]
    fn the_vmm_limits_what_the_network_does_not() {
        let bandwidth = Bandwidth { egress_rate: 8_000_000, egress_burst: 800_000, ..Bandwidth::default() };
        let network = |is_limited_by_vmm| LaunchNetwork {
            is_limited_by_vmm,
            spec: NetworkSpec { bandwidth: Some(bandwidth), ..NetworkSpec::default() },
            ..LaunchNetwork::default()
        };
        let sent = TrafficLimit { rate: 1_000_000, burst: 100_000 };
        assert_eq!(traffic_limits(&network(true)), TrafficLimits { receive: None, send: Some(sent) });
        let unlimited = LaunchNetwork { is_limited_by_vmm: true, ..LaunchNetwork::default() };
        for network in [network(false), unlimited] {
            assert_eq!(traffic_limits(&network), TrafficLimits::default());
        }
    }
}
