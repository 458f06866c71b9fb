//! What a VM's Pod asks of a node: the guest's CPUs and memory with the VMM's overhead, and devices.

use crate::pod_options::{DeviceAccess, PodOptions};
use crate::wish::{POD_NETWORK, Refusal, Wish};
use ignite_api::vm::HugePages;
use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;

const MIB: u64 = 1 << 20;
/// Page tables and the VMM's bookkeeping grow with the guest: one part in so many.
const OVERHEAD_DIVISOR: u64 = 100;

/// Kubernetes' resource of huge pages of 2 MiB.
const HUGE_PAGES: &str = "hugepages-2Mi";

/// What a VM needs of its node besides CPU and memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Needs {
    pub(crate) is_pod_network: bool,
    /// Without KVM it must not run.
    pub(crate) is_kvm_required: bool,
    /// How it gets KVM; `None`: it does not ask for it.
    pub(crate) kvm: Option<DeviceAccess>,
}

impl Needs {
    pub(crate) fn of(wish: &Wish, options: &PodOptions) -> Needs {
        let may_emulate = wish.pod.allow_emulation.unwrap_or(options.allow_emulation);
        let kvm = match &options.kvm {
            // Kubernetes knows no resource that is nice to have.
            DeviceAccess::Resource(_) if may_emulate => None,
            access => Some(access.clone()),
        };
        let is_pod_network = wish.vm.spec.network.mode.as_deref() == Some(POD_NETWORK);
        Needs { is_pod_network, is_kvm_required: !may_emulate, kvm }
    }
}

/// Requests and limits of a Pod's containers.
pub(crate) struct PodResources {
    pub(crate) for_vm: ResourceRequirements,
    pub(crate) for_init: ResourceRequirements,
    pub(crate) for_network: ResourceRequirements,
}

pub(crate) fn resources_of(wish: &Wish, options: &PodOptions, needs: &Needs) -> Result<PodResources, Refusal> {
    let guest_bytes = wish.vm.spec.memory.as_bytes();
    // Kubernetes counts huge pages apart from other memory.
    let huge_pages_mib = if wish.vm.spec.huge_pages == HugePages::TwoMib { guest_bytes / MIB } else { 0 };
    let memory_mib =
        guest_bytes.div_ceil(MIB) - huge_pages_mib + options.overhead_memory_mib + guest_bytes / MIB / OVERHEAD_DIVISOR;
    let vcpu_millis = u64::from(wish.vm.spec.cpus) * 1000;
    let limit_millis = vcpu_millis + options.overhead_cpu_millis;
    let request_millis = vcpu_millis / u64::from(options.cpu_overcommit.max(1)) + options.overhead_cpu_millis;
    let memory = || Quantity(format!("{memory_mib}Mi"));
    let pair = |millis: u64| {
        BTreeMap::from([("cpu".to_owned(), Quantity(format!("{millis}m"))), ("memory".to_owned(), memory())])
    };
    let (mut requests, mut limits) = (pair(request_millis), pair(limit_millis));
    if huge_pages_mib > 0 {
        for amounts in [&mut requests, &mut limits] {
            amounts.insert(HUGE_PAGES.to_owned(), Quantity(format!("{huge_pages_mib}Mi")));
        }
    }
    if let Some(own) = &wish.pod.resources {
        for (field, theirs, computed) in
            [("requests", &own.requests, &mut requests), ("limits", &own.limits, &mut limits)]
        {
            for (name, quantity) in theirs.iter().flatten() {
                let path = format!("spec.resources.{field}.{name}");
                let value = amount_of(&quantity.0)
                    .ok_or_else(|| Refusal(format!("{path}: Invalid value: {:?}: must be a quantity", quantity.0)))?;
                if name == "memory" && field == "limits" && value < (memory_mib * MIB) as f64 {
                    let why = format!("the guest's {} and its VMM need {memory_mib}Mi", wish.vm.spec.memory);
                    return Err(Refusal(format!("{path}: Invalid value: {:?}: {why}", quantity.0)));
                }
                computed.insert(name.clone(), quantity.clone());
            }
        }
        // What was computed gives way to what its owner has said.
        for (name, limit) in &limits {
            let Some(request) = requests.get(name).and_then(|request| amount_of(&request.0)) else { continue };
            let is_own = own.requests.as_ref().is_some_and(|own| own.contains_key(name));
            if !is_own && amount_of(&limit.0).is_some_and(|limit| request > limit) {
                requests.insert(name.clone(), limit.clone());
            }
        }
        for (name, request) in &requests {
            let limit = limits.get(name).and_then(|limit| amount_of(&limit.0));
            let is_own = own.limits.as_ref().is_some_and(|own| own.contains_key(name));
            if let (Some(request_amount), Some(limit)) = (amount_of(&request.0), limit)
                && request_amount > limit
            {
                if is_own {
                    return Err(Refusal(format!(
                        "spec.resources.requests.{name}: Invalid value: {:?}: must not be above its limit",
                        request.0
                    )));
                }
                limits.insert(name.clone(), request.clone());
            }
        }
    }
    let for_init =
        ResourceRequirements { requests: Some(requests.clone()), limits: Some(limits.clone()), claims: None };
    let with_devices = |devices: &[Option<&DeviceAccess>]| {
        let mut with = for_init.clone();
        for access in devices.iter().flatten() {
            if let DeviceAccess::Resource(name) = access {
                for side in [&mut with.requests, &mut with.limits] {
                    side.get_or_insert_default().insert(name.clone(), Quantity("1".to_owned()));
                }
            }
        }
        with
    };
    let tun = needs.is_pod_network.then_some(&options.tun);
    Ok(PodResources {
        for_vm: with_devices(&[needs.kvm.as_ref(), tun]),
        for_network: with_devices(&[tun]),
        // The first to look whether KVM can be used is who prepares.
        for_init: with_devices(&[needs.kvm.as_ref()]),
    })
}

/// The number that a quantity says (`1`, `500m`, `1.5Gi`, `1e3`); `None` for what is none.
pub(crate) fn amount_of(text: &str) -> Option<f64> {
    const UNITS: [(&str, f64); 16] = [
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("Pi", 1_125_899_906_842_624.0),
        ("Ei", 1_152_921_504_606_846_976.0),
        ("n", 1e-9),
        ("u", 1e-6),
        ("m", 1e-3),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("P", 1e15),
        ("E", 1e18),
        ("", 1.0),
    ];
    let (number, factor) = UNITS.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)))?;
    let is_number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
    let value: f64 = if is_number { number.parse().ok()? } else { return None };
    Some(value * factor).filter(|value| value.is_finite() && *value >= 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_kubernetes() {
        for (text, expected) in [
            ("1", Some(1.0)),
            ("500m", Some(0.5)),
            ("1.5Gi", Some(1_610_612_736.0)),
            ("2M", Some(2e6)),
            ("1e3", Some(1000.0)),
            ("", None),
            ("Gi", None),
            ("1 Gi", None),
            ("-1", None),
            ("inf", None),
            ("1GB", None),
        ] {
            assert_eq!(amount_of(text), expected, "{text:?}");
        }
    }
}
