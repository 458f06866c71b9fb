//! The table of VMs.

use crate::render::{duration, status, table};
use ignite_api::Vm;
use jiff::Timestamp;

const COLUMNS: [&str; 11] =
    ["VM ID", "IMAGE", "KERNEL", "SIZE", "CPUS", "MEMORY", "CREATED", "STATUS", "IPS", "PORTS", "NAME"];
const WIDE_COLUMNS: [&str; 16] = [
    "VM ID",
    "IMAGE",
    "KERNEL",
    "SIZE",
    "CPUS",
    "MEMORY",
    "CREATED",
    "STATUS",
    "IPS",
    "PORTS",
    "NAME",
    "ROLE",
    "VMM",
    "ACCELERATOR",
    "NETWORK",
    "LABELS",
];

/// Weave Ignite's columns; `is_wide`: also what runs the VM.
pub fn render(vms: &[Vm], now: Timestamp, is_wide: bool) -> String {
    if is_wide {
        return render_wide(vms, now);
    }
    table::render(COLUMNS, vms.iter().map(|vm| row(vm, now)).collect())
}

fn render_wide(vms: &[Vm], now: Timestamp) -> String {
    let rows = vms.iter().map(|vm| {
        let mut cells = row(vm, now).into_iter().chain(wide_cells(vm));
        std::array::from_fn(|_| cells.next().unwrap_or_default())
    });
    table::render(WIDE_COLUMNS, rows.collect())
}

/// Age of an object for a table: `5m`, `<unknown>`.
pub fn age(created: Option<Timestamp>, now: Timestamp) -> String {
    created.map_or_else(|| "<unknown>".to_owned(), |time| duration::short(duration::seconds_between(time, now)))
}

fn row(vm: &Vm, now: Timestamp) -> [String; 11] {
    let (spec, status) = (&vm.spec, &vm.status);
    let created = match vm.metadata.created {
        Some(_) => format!("{} ago", age(vm.metadata.created, now)),
        None => age(None, now),
    };
    [
        vm.metadata.uid.as_ref().map(ToString::to_string).unwrap_or_default(),
        spec.image.oci.as_ref().map(|source| source.familiar()).unwrap_or_default(),
        spec.kernel.oci.clone().or_else(|| status.kernel.as_ref().map(|kernel| kernel.id.clone())).unwrap_or_default(),
        spec.disk_size.human(),
        spec.cpus.to_string(),
        spec.memory.human(),
        created,
        status::describe(status, now),
        status.network.as_ref().map(|network| network.ip_addresses.join(", ")).unwrap_or_default(),
        spec.network.ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        vm.metadata.name.clone(),
    ]
}

fn wide_cells(vm: &Vm) -> [String; 5] {
    let (spec, status) = (&vm.spec, &vm.status);
    let network = status.network.as_ref().map(|network| network.plugin.clone());
    let labels = vm.metadata.labels.iter().map(|(name, value)| format!("{name}={value}"));
    [
        status.role.clone().unwrap_or_default(),
        status.vmm.clone().or_else(|| spec.vmm.clone()).unwrap_or_default(),
        status.accelerator.clone().unwrap_or_default(),
        network.or_else(|| spec.network.mode.clone()).unwrap_or_default(),
        labels.collect::<Vec<_>>().join(","),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use ignite_api::vm::{NetworkStatus, SourceStatus};
    use ignite_api::{ObjectMeta, Phase, Size, Uid, VmSpec, VmStatus};

    fn vm() -> Vm {
        let mut spec = VmSpec { cpus: 2, memory: Size::gib(1), ..VmSpec::default() };
        spec.image.oci = Some("redis:7".parse().unwrap());
        spec.network.ports = ignite_api::ports::parse_ports("8080:80").unwrap();
        Vm {
            api_version: ignite_api::API_VERSION.into(),
            kind: "VM".into(),
            metadata: ObjectMeta {
                name: "misty-field".into(),
                uid: Some(Uid::parse("599615df99804ae8").unwrap()),
                created: Some("2026-01-02T03:00:00Z".parse().unwrap()),
                labels: [("tier".to_owned(), "web".to_owned())].into(),
                ..ObjectMeta::default()
            },
            spec,
            status: VmStatus {
                phase: Phase::Running,
                start_time: Some("2026-01-02T03:04:00Z".parse().unwrap()),
                network: Some(NetworkStatus { plugin: "user".into(), ip_addresses: vec!["10.0.2.15".into()] }),
                kernel: Some(SourceStatus { uid: None, id: "linux:6.1.0-56".into(), size: Size::default() }),
                vmm: Some("qemu".into()),
                accelerator: Some("tcg".into()),
                role: Some("task".into()),
                ..VmStatus::default()
            },
        }
    }

    #[test]
    fn the_columns_are_those_of_weave_ignite() {
        let now = "2026-01-02T03:04:05Z".parse().unwrap();
        insta::assert_snapshot!(render(&[vm()], now, false));
    }

    #[test]
    fn a_wide_table_tells_what_runs_the_vm() {
        let now = "2026-01-02T03:04:05Z".parse().unwrap();
        insta::assert_snapshot!(render(&[vm()], now, true));
    }
}
