//! A [`BootSpec`] as Firecracker's configuration: pure.
//!
//! Its sections are the bodies of the API's `PUT` requests of the same names.

use super::version::Version;
use crate::boot_spec::{BootSpec, CpuTemplate, Drive, DriveLimits, NicBackend, TrafficLimit};
use serde_json::{Map, Value, json};

/// Where Firecracker finds what it opens.
#[derive(Debug, Clone, Default)]
pub(crate) struct Paths {
    pub(crate) kernel: String,
    pub(crate) initramfs: String,
    /// In the order of [`BootSpec::drives`].
    pub(crate) drives: Vec<String>,
    /// The template of [`CpuTemplate::File`].
    pub(crate) cpu_template: Option<String>,
    /// Socket that carries the guest's virtio socket.
    pub(crate) vsock: String,
}

/// The guest's address on its virtio socket: each Firecracker has one guest, and so the same for all.
const GUEST_CID: u32 = 3;
/// What booting under Firecracker takes: a reset is the only end it knows, and the keyboard controller that it goes
/// through is not to be probed.
const KERNEL_ARGUMENTS: &[&str] = &[
    "console=ttyS0",
    "reboot=k",
    "panic=1",
    "8250.nr_uarts=1",
    "random.trust_cpu=on",
    #[cfg(target_arch = "x86_64")]
    "i8042.noaux",
    #[cfg(target_arch = "x86_64")]
    "i8042.nomux",
    #[cfg(target_arch = "x86_64")]
    "i8042.nopnp",
    #[cfg(target_arch = "x86_64")]
    "i8042.dumbkbd",
];

/// The content of `--config-file`.
pub(crate) fn translate(spec: &BootSpec, version: Version, paths: &Paths) -> Value {
    let mut config = json!({
        "boot-source": {
            "kernel_image_path": paths.kernel,
            "initrd_path": paths.initramfs,
            "boot_args": kernel_arguments(spec),
        },
        "machine-config": machine_config(spec),
        "drives": drives(spec, paths),
        "network-interfaces": interfaces(spec, version),
        "vsock": { "guest_cid": GUEST_CID, "uds_path": paths.vsock },
        "entropy": {},
    });
    let pmem = pmem(spec, paths);
    if !pmem.is_empty() {
        config["pmem"] = Value::Array(pmem);
    }
    // Pages of 2 MiB are taken as a whole: a balloon of 4 KiB pages frees none, and before 1.14 Firecracker refuses both.
    if !spec.has_huge_pages {
        config["balloon"] = balloon(version);
    }
    if let (Some(CpuTemplate::File(_)), Some(path)) = (&spec.cpu_template, &paths.cpu_template) {
        config["cpu-config"] = json!(path);
    }
    config
}

fn machine_config(spec: &BootSpec) -> Value {
    let mut body = json!({ "vcpu_count": spec.vcpu_count, "mem_size_mib": spec.mem_size_mib });
    if spec.has_huge_pages {
        body["huge_pages"] = json!("2M");
    }
    if let Some(CpuTemplate::Named(name)) = &spec.cpu_template {
        body["cpu_template"] = json!(name);
    }
    body
}

/// The caller's optional arguments first, so that what boot needs has the last word.
fn kernel_arguments(spec: &BootSpec) -> String {
    let words: Vec<&str> = spec.cmdline.split_ascii_whitespace().chain(KERNEL_ARGUMENTS.iter().copied()).collect();
    words.join(" ")
}

/// Letters, digits and underscores only.
fn drive_id(drive: &Drive) -> String {
    drive.id.replace('-', "_")
}

fn pmem(spec: &BootSpec, paths: &Paths) -> Vec<Value> {
    let drives = spec.drives.iter().zip(&paths.drives).filter(|(drive, _)| drive.is_pmem);
    let body = |(drive, path): (&Drive, &String)| {
        json!({
            "id": drive_id(drive),
            "path_on_host": path,
            "root_device": false,
            "read_only": true,
        })
    };
    drives.map(body).collect()
}

fn drives(spec: &BootSpec, paths: &Paths) -> Vec<Value> {
    let drives = spec.drives.iter().zip(&paths.drives).filter(|(drive, _)| !drive.is_pmem);
    drives
        .map(|(drive, path)| {
            let mut body = json!({
                "drive_id": drive_id(drive),
                "path_on_host": path,
                "is_root_device": false,
                "is_read_only": drive.is_read_only,
                // What the guest has flushed is on the host's disk, too.
                "cache_type": if drive.is_read_only { "Unsafe" } else { "Writeback" },
            });
            if drive.limits != DriveLimits::default() {
                body["rate_limiter"] = drive_limiter(drive.limits);
            }
            body
        })
        .collect()
}

/// Bursts of a tenth of a second, which are QEMU's.
fn drive_limiter(limits: DriveLimits) -> Value {
    let mut body = Map::new();
    for (name, rate) in [("ops", limits.operations), ("bandwidth", limits.bytes)] {
        if let Some(rate) = rate {
            body.insert(name.to_owned(), token_bucket(rate, rate / 10));
        }
    }
    Value::Object(body)
}

fn traffic_limiter(limit: TrafficLimit) -> Value {
    json!({ "bandwidth": token_bucket(limit.rate, limit.burst) })
}

/// Shortest time in which a bucket is filled: shorter ones would be rounded too much to keep the rate.
const SHORTEST_REFILL_MS: u64 = 10;

/// A bucket is `size` tokens, and empty it is full again after `refill_time` milliseconds.
fn token_bucket(rate: u64, burst: u64) -> Value {
    let size = burst.max(rate.div_ceil(1000 / SHORTEST_REFILL_MS));
    let refill = (u128::from(size) * 1000).div_ceil(u128::from(rate));
    json!({ "size": size, "refill_time": u64::try_from(refill).unwrap_or(u64::MAX) })
}

fn interfaces(spec: &BootSpec, version: Version) -> Vec<Value> {
    let mut interfaces = Vec::new();
    for (index, nic) in spec.nics.iter().enumerate() {
        let NicBackend::Tap { name, .. } = &nic.backend else { continue };
        let mut body = Map::new();
        body.insert("iface_id".to_owned(), json!(format!("nic{index}")));
        body.insert("host_dev_name".to_owned(), json!(name));
        body.insert("guest_mac".to_owned(), json!(nic.mac));
        if let (Some(mtu), true) = (nic.mtu, version.has_nic_mtu()) {
            body.insert("mtu".to_owned(), json!(mtu));
        }
        for (name, limit) in [("rx_rate_limiter", nic.limits.receive), ("tx_rate_limiter", nic.limits.send)] {
            if let Some(limit) = limit {
                body.insert(name.to_owned(), traffic_limiter(limit));
            }
        }
        interfaces.push(Value::Object(body));
    }
    interfaces
}

fn balloon(version: Version) -> Value {
    let mut body = json!({ "amount_mib": 0, "deflate_on_oom": true, "stats_polling_interval_s": 0 });
    if version.has_free_page_reporting() {
        body["free_page_reporting"] = json!(true);
    }
    body
}

#[cfg(test)]
mod tests;
