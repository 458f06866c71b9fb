//! Flags that limit what a VM does with its disks and its network.

use ignite_api::VmSpec;
use ignite_api::network::Bandwidth;

/// A megabyte as disks are sold by, and a megabit.
const MEGA: u64 = 1_000_000;
/// The part of a second whose traffic may come at once.
const BURSTS_PER_SECOND: u64 = 10;

/// Flags of `run` and `create`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct LimitFlags {
    /// Operations per second on each of its disks [default: no limit]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub disk_iops: Option<u64>,
    /// Megabytes (1,000,000 bytes) per second from and to each of its disks [default: no limit]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub disk_mbps: Option<u64>,
    /// Megabits per second to it, and as many from it, by the network where it can, else by the VMM [default: no limit]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub net_mbps: Option<u64>,
}

impl LimitFlags {
    /// Puts what was given over what is there.
    pub fn apply(&self, spec: &mut VmSpec) {
        let disk = &mut spec.storage.limits;
        disk.iops = self.disk_iops.or(disk.iops);
        disk.bytes_per_second = self.disk_mbps.map(|rate| rate * MEGA).or(disk.bytes_per_second);
        if let Some(rate) = self.net_mbps.map(|rate| rate * MEGA) {
            let burst = rate / BURSTS_PER_SECOND;
            spec.network.bandwidth =
                Some(Bandwidth { ingress_rate: rate, ingress_burst: burst, egress_rate: rate, egress_burst: burst });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_replaces_what_is_there_and_nothing_else() {
        let mut spec = VmSpec::default();
        LimitFlags { disk_iops: Some(50), net_mbps: Some(100), ..LimitFlags::default() }.apply(&mut spec);
        LimitFlags { disk_mbps: Some(20), ..LimitFlags::default() }.apply(&mut spec);
        assert_eq!((spec.storage.limits.iops, spec.storage.limits.bytes_per_second), (Some(50), Some(20_000_000)));
        let bandwidth = spec.network.bandwidth.unwrap();
        assert_eq!((bandwidth.ingress_rate, bandwidth.egress_burst), (100_000_000, 10_000_000));
    }
}
