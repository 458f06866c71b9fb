//! Exact bodies for the oldest and the newest version, and each field held against the API of its version.

mod api_description;

use super::*;
use crate::boot_spec::{Drive, IsolationWanted, Nic, TrafficLimits};
use crate::firecracker::version::OLDEST;

/// The newest version whose API has been read.
const NEWEST: Version = Version { major: 1, minor: 17 };

/// A field of the API: name, type, whether it is required, and the minor version of 1 that brought it (0: at most the
/// oldest that is driven). Written from Firecracker's API documentation and change log.
type Field = (&'static str, fn(&Value) -> bool, bool, u32);
const SECTIONS: &[(&str, &[Field])] = &[
    (
        "boot-source",
        &[
            ("kernel_image_path", Value::is_string, true, 0),
            ("initrd_path", Value::is_string, false, 0),
            ("boot_args", Value::is_string, false, 0),
        ],
    ),
    (
        "machine-config",
        &[
            ("vcpu_count", Value::is_u64, true, 0),
            ("mem_size_mib", Value::is_u64, true, 0),
            ("huge_pages", |value| value == "2M", false, 0),
            ("cpu_template", Value::is_string, false, 0),
        ],
    ),
    (
        "drives",
        &[
            ("drive_id", is_id, true, 0),
            ("path_on_host", Value::is_string, false, 0),
            ("is_root_device", Value::is_boolean, true, 0),
            ("is_read_only", Value::is_boolean, false, 0),
            ("cache_type", is_cache_type, false, 0),
            ("rate_limiter", Value::is_object, false, 0),
        ],
    ),
    (
        "network-interfaces",
        &[
            ("iface_id", is_id, true, 0),
            ("host_dev_name", Value::is_string, true, 0),
            ("guest_mac", Value::is_string, false, 0),
            ("mtu", Value::is_u64, false, 16),
            ("rx_rate_limiter", Value::is_object, false, 0),
            ("tx_rate_limiter", Value::is_object, false, 0),
        ],
    ),
    ("vsock", &[("guest_cid", Value::is_u64, true, 0), ("uds_path", Value::is_string, true, 0)]),
    (
        "balloon",
        &[
            ("amount_mib", Value::is_u64, true, 0),
            ("deflate_on_oom", Value::is_boolean, true, 0),
            ("stats_polling_interval_s", Value::is_u64, false, 0),
            ("free_page_reporting", Value::is_boolean, false, 14),
        ],
    ),
    ("entropy", &[]),
    (
        "pmem",
        &[
            ("id", is_id, true, 14),
            ("path_on_host", Value::is_string, true, 14),
            ("root_device", Value::is_boolean, false, 14),
            ("read_only", Value::is_boolean, false, 14),
        ],
    ),
];

fn is_id(value: &Value) -> bool {
    value.as_str().is_some_and(|id| !id.is_empty() && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
}

fn is_cache_type(value: &Value) -> bool {
    value == "Unsafe" || value == "Writeback"
}

fn spec() -> BootSpec {
    let tap = |name: &str| NicBackend::Tap { name: name.into(), netns: Some("/run/netns/vm".into()) };
    BootSpec {
        id: "3f9c2b7de1a04856".into(),
        kernel: "/kernels/vmlinux".into(),
        initramfs: "/kernels/initramfs".into(),
        cmdline: "quiet  loglevel=3 reboot=t".into(),
        vcpu_count: 2,
        mem_size_mib: 512,
        has_huge_pages: false,
        cpu_template: None,
        drives: vec![
            Drive {
                id: "base".into(),
                path: "/images/base.ext4".into(),
                is_read_only: true,
                is_pmem: false,
                limits: DriveLimits::default(),
            },
            Drive {
                id: "volume-data".into(),
                path: "/volumes/data".into(),
                is_read_only: false,
                is_pmem: false,
                limits: DriveLimits { operations: Some(500), bytes: Some(50_000_000) },
            },
        ],
        nics: vec![
            Nic {
                mac: "02:00:00:00:00:01".into(),
                mtu: Some(1450),
                backend: tap("vm_eth0"),
                limits: TrafficLimits {
                    receive: Some(TrafficLimit { rate: 12_500_000, burst: 1_250_000 }),
                    send: Some(TrafficLimit { rate: 1_250_000, burst: 1 }),
                },
            },
            Nic {
                mac: "02:00:00:00:00:02".into(),
                mtu: None,
                backend: tap("vm_eth1"),
                limits: TrafficLimits::default(),
            },
        ],
        isolation: IsolationWanted::BestEffort,
        accelerator: None,
    }
}

fn paths() -> Paths {
    Paths {
        kernel: "/proc/self/fd/10".into(),
        initramfs: "/proc/self/fd/11".into(),
        drives: vec!["/images/base.ext4".into(), "/volumes/data".into()],
        cpu_template: Some("/proc/self/fd/12".into()),
        vsock: "/run/ignite/vm/3f9c2b7de1a04856/firecracker/vsock".into(),
    }
}

fn shown(version: Version) -> String {
    serde_json::to_string_pretty(&translate(&spec(), version, &paths())).unwrap()
}

#[test]
#[cfg(target_arch = "x86_64")]
fn the_oldest_version() {
    insta::assert_snapshot!(shown(OLDEST));
}

#[test]
#[cfg(target_arch = "x86_64")]
fn the_newest_version() {
    insta::assert_snapshot!(shown(NEWEST));
}

/// What else a machine may be: on huge pages, with a template by its name, or from a file.
#[test]
fn memory_and_processor_as_they_were_asked_for() {
    let of = |has_huge_pages, cpu_template| {
        let config = translate(&BootSpec { has_huge_pages, cpu_template, ..spec() }, NEWEST, &paths());
        (config["machine-config"].clone(), config["cpu-config"].clone(), config["balloon"].is_object())
    };
    let plain = json!({ "vcpu_count": 2, "mem_size_mib": 512 });
    let with = |field: &str, value: &str| {
        let mut body = plain.clone();
        body[field] = json!(value);
        body
    };
    assert_eq!(of(false, None), (plain.clone(), Value::Null, true));
    assert_eq!(of(true, None), (with("huge_pages", "2M"), Value::Null, false));
    let named = Some(CpuTemplate::Named("T2".into()));
    assert_eq!(of(false, named), (with("cpu_template", "T2"), Value::Null, true));
    let file = Some(CpuTemplate::File("/etc/ignite/template.json".into()));
    assert_eq!(of(false, file), (plain, json!("/proc/self/fd/12"), true));
}

#[test]
fn a_read_only_base_may_be_persistent_memory_and_the_other_disks_count_without_it() {
    let config = translate(&with_pmem(), NEWEST, &paths());
    let pmem = json!({ "id": "base", "path_on_host": "/images/base.ext4", "root_device": false, "read_only": true });
    assert_eq!(config["pmem"], json!([pmem]));
    let drives: Vec<&Value> = config["drives"].as_array().unwrap().iter().map(|drive| &drive["drive_id"]).collect();
    assert_eq!(drives, ["volume_data"]);
    assert_eq!(config["drives"][0]["path_on_host"], "/volumes/data");
    assert_eq!(translate(&spec(), NEWEST, &paths())["pmem"], Value::Null);
}

fn with_pmem() -> BootSpec {
    let mut spec = spec();
    spec.drives[0].is_pmem = true;
    spec
}

/// Holds one body against the fields of its section; says what is wrong.
fn faults(section: &str, fields: &[Field], body: &Value, version: Version) -> Vec<String> {
    let Some(body) = body.as_object() else { return vec![format!("{section} is no object")] };
    let mut faults = Vec::new();
    for (name, value) in body {
        match fields.iter().find(|(field, ..)| field == name) {
            None => faults.push(format!("{section} has no {name}")),
            Some((_, _, _, since)) if version.minor < *since => {
                faults.push(format!("{section}.{name} came with 1.{since}, not {version}"));
            }
            Some((_, is_right, ..)) if !is_right(value) => faults.push(format!("{section}.{name} cannot be {value}")),
            Some(_) => {}
        }
    }
    for (name, ..) in fields.iter().filter(|(name, _, is_required, _)| *is_required && !body.contains_key(*name)) {
        faults.push(format!("{section} needs {name}"));
    }
    faults
}

fn all_faults(config: &Value, version: Version) -> Vec<String> {
    let mut found = Vec::new();
    for (section, body) in config.as_object().unwrap() {
        let Some((_, fields)) = SECTIONS.iter().find(|(name, _)| name == section) else {
            found.push(format!("there is no {section}"));
            continue;
        };
        let bodies = body.as_array().cloned().unwrap_or_else(|| vec![body.clone()]);
        found.extend(bodies.iter().flat_map(|body| faults(section, fields, body, version)));
    }
    found
}

/// Machines that have between them all there is.
fn machines(version: Version) -> Vec<BootSpec> {
    let template = Some(CpuTemplate::Named("T2".into()));
    let pmem = version.has_pmem().then(with_pmem);
    let plain = [
        spec(),
        BootSpec { has_huge_pages: version.has_huge_pages(), ..spec() },
        BootSpec { cpu_template: template, ..spec() },
    ];
    plain.into_iter().chain(pmem).collect()
}

#[test]
fn every_version_is_told_only_what_it_knows() {
    for minor in OLDEST.minor..=NEWEST.minor {
        let version = Version { major: 1, minor };
        for spec in machines(version) {
            assert_eq!(all_faults(&translate(&spec, version, &paths()), version), Vec::<String>::new(), "{version}");
        }
    }
}

#[test]
fn the_table_finds_what_is_wrong() {
    let faults = all_faults(&translate(&spec(), NEWEST, &paths()), OLDEST);
    assert_eq!(faults.len(), 2, "{faults:?}");
    assert_eq!(all_faults(&json!({ "vsock": { "guest_cid": "3" }, "serial": {} }), NEWEST).len(), 3);
}

#[test]
fn what_boot_needs_has_the_last_word_on_the_command_line() {
    let line = kernel_arguments(&spec());
    assert!(line.starts_with("quiet loglevel=3 reboot=t console=ttyS0 reboot=k panic=1 "), "{line}");
}

#[test]
fn buckets_keep_their_rate_whatever_the_burst() {
    for (rate, burst, size, refill) in [
        (1_000_000, 100_000, 100_000, 100),
        (1_000_000, 1, 10_000, 10),
        (1_000_000, 5_000_000, 5_000_000, 5_000),
        (1, 0, 1, 1000),
        (3, 0, 1, 334),
        (1_000_000_000_000, 0, 10_000_000_000, 10),
        (1, u64::MAX, u64::MAX, u64::MAX),
    ] {
        assert_eq!(token_bucket(rate, burst), json!({ "size": size, "refill_time": refill }), "{rate}, {burst}");
    }
}
