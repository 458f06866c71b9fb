//! Objects as templates see them: with the field names and the printing of Weave Ignite's Go types.

use crate::render::vm_table::age;
use ignite_api::image::OciSourceStatus;
use ignite_api::vm::{BlockDevice, FileMapping, OciSource, SourceStatus, Ssh, Volume, VolumeMount};
use ignite_api::{Image, Kernel, ObjectMeta, PortMapping, Size, Vm, VmSpec, VmStatus};
use ignite_template::{Record, Value};
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

type Fields = Vec<(&'static str, Value)>;

/// A VM.
pub fn vm(vm: &Vm, now: Timestamp) -> Value {
    let parts = vec![("Spec", vm_spec(&vm.spec)), ("Status", vm_status(&vm.status, now))];
    object(vm, &vm.api_version, &vm.kind, &vm.metadata, parts, now)
}

/// An image.
pub fn image(image: &Image, now: Timestamp) -> Value {
    let (status, config) = (&image.status, &image.status.config);
    let config_fields = vec![
        ("Entrypoint", Value::texts(&config.entrypoint)),
        ("Cmd", Value::texts(&config.cmd)),
        ("Env", Value::texts(&config.env)),
        ("User", Value::text(&config.user)),
        ("WorkingDir", Value::text(&config.working_dir)),
        ("ExposedPorts", Value::texts(&config.exposed_ports)),
        ("Labels", map(&config.labels)),
        ("StopSignal", Value::text(&config.stop_signal)),
    ];
    let status_fields = vec![
        ("OCISource", source_status(status.oci_source.as_ref())),
        ("ManifestDigest", Value::text(&status.manifest_digest)),
        ("ConfigDigest", Value::text(&status.config_digest)),
        ("DiffIDs", Value::texts(&status.diff_ids)),
        ("BaseKey", Value::text(&status.base_key)),
        ("BaseSize", size(status.base_size)),
        ("Config", record(config, config_fields)),
        ("HasInit", Value::Bool(status.has_init)),
    ];
    let parts = vec![("Spec", oci(&image.spec)), ("Status", record(status, status_fields))];
    object(image, &image.api_version, &image.kind, &image.metadata, parts, now)
}

/// A kernel.
pub fn kernel(kernel: &Kernel, now: Timestamp) -> Value {
    let status = &kernel.status;
    let status_fields = vec![
        ("Version", Value::text(&status.version)),
        ("OCISource", source_status(status.oci_source.as_ref())),
        ("ModulesSize", size(status.modules_size)),
        ("Default", Value::Bool(status.default)),
    ];
    let spec = record(&kernel.spec, vec![("OCI", Value::text(&kernel.spec.oci))]);
    let parts = vec![("Spec", spec), ("Status", record(status, status_fields))];
    object(kernel, &kernel.api_version, &kernel.kind, &kernel.metadata, parts, now)
}

/// `.ObjectMeta.Name` and `.Name` are the same: Go promotes the fields of embedded structs.
fn object(
    whole: &impl Serialize,
    api_version: &str,
    kind: &str,
    metadata: &ObjectMeta,
    parts: Fields,
    now: Timestamp,
) -> Value {
    let types = vec![("Kind", Value::text(kind)), ("APIVersion", Value::text(api_version))];
    let meta = vec![
        ("Name", Value::text(&metadata.name)),
        ("UID", Value::text(metadata.uid.as_ref().map(ToString::to_string).unwrap_or_default())),
        ("Created", time(metadata.created, now)),
        ("Labels", map(&metadata.labels)),
        ("Annotations", map(&metadata.annotations)),
    ];
    let type_json = serde_json::json!({ "apiVersion": api_version, "kind": kind }).to_string();
    let mut fields =
        vec![("TypeMeta", Value::record(type_json, types.clone())), ("ObjectMeta", record(metadata, meta.clone()))];
    fields.extend(parts);
    let promoted = types.into_iter().chain(meta).collect();
    Value::Record(Arc::new(Record { fields, promoted, json: json(whole) }))
}

fn vm_spec(spec: &VmSpec) -> Value {
    let kernel = vec![("OCI", optional(&spec.kernel.oci)), ("CmdLine", optional(&spec.kernel.cmd_line))];
    let network =
        vec![("Ports", Value::comma_list(spec.network.ports.iter().map(port))), ("Mode", optional(&spec.network.mode))];
    let limits = spec.storage.limits;
    let rate = |rate: Option<u64>| Value::or_nil(rate.map(|rate| Value::Int(rate.try_into().unwrap_or(i64::MAX))));
    let disk_limits = vec![("IOPS", rate(limits.iops)), ("BytesPerSecond", rate(limits.bytes_per_second))];
    let storage = vec![
        ("Volumes", Value::list(spec.storage.volumes.iter().map(volume))),
        ("VolumeMounts", Value::list(spec.storage.volume_mounts.iter().map(volume_mount))),
        ("Limits", record(&spec.storage.limits, disk_limits)),
    ];
    let env = spec
        .env
        .iter()
        .map(|var| record(var, vec![("Name", Value::text(&var.name)), ("Value", Value::text(&var.value))]));
    let fields = vec![
        ("Image", oci(&spec.image)),
        ("Sandbox", oci(&spec.sandbox.clone().unwrap_or_default())),
        ("Kernel", record(&spec.kernel, kernel)),
        ("CPUs", Value::Int(spec.cpus.into())),
        ("Memory", size(spec.memory)),
        ("DiskSize", size(spec.disk_size)),
        ("Network", record(&spec.network, network)),
        ("Storage", record(&spec.storage, storage)),
        ("CopyFiles", Value::list(spec.copy_files.iter().map(file))),
        ("SSH", Value::or_nil(spec.ssh.as_ref().and_then(ssh))),
        ("Command", spec.command.as_ref().map_or(Value::list([]), Value::texts)),
        ("Args", spec.args.as_ref().map_or(Value::list([]), Value::texts)),
        ("Env", Value::list(env)),
        ("WorkingDir", optional(&spec.working_dir)),
        ("User", optional(&spec.user)),
        ("Hostname", optional(&spec.hostname)),
        ("Init", word(&spec.init)),
        ("RootDisk", word(&spec.root_disk)),
        ("Isolation", word(&spec.isolation)),
        ("HugePages", word(&spec.huge_pages)),
        ("CPUTemplate", optional(&spec.cpu_template)),
        ("TTY", Value::Bool(spec.tty)),
        ("Stdin", Value::Bool(spec.stdin)),
        ("StopTimeoutSeconds", Value::or_nil(spec.stop_timeout_seconds.map(|seconds| Value::Int(seconds.into())))),
        ("AutoRemove", Value::Bool(spec.auto_remove)),
        ("RestartPolicy", Value::text(spec.restart_policy.to_string())),
        ("VMM", optional(&spec.vmm)),
    ];
    record(spec, fields)
}

fn vm_status(status: &VmStatus, now: Timestamp) -> Value {
    // Never nil: scripts ask every VM for its addresses, and one without a network answers with nothing.
    let runtime = status.runtime.clone().unwrap_or_default();
    let network = status.network.clone().unwrap_or_default();
    let runtime_fields = vec![("ID", Value::text(runtime.id)), ("Name", Value::text(runtime.name))];
    let network_fields = vec![
        ("Plugin", Value::text(network.plugin)),
        ("IPAddresses", Value::comma_list(network.ip_addresses.iter().map(Value::text))),
    ];
    let fields = vec![
        ("Running", Value::Bool(status.running)),
        ("Runtime", record(&status.runtime, runtime_fields)),
        ("StartTime", Value::or_nil(status.start_time.map(|start| time(Some(start), now)))),
        ("Network", record(&status.network, network_fields)),
        ("Image", object_source(status.image.as_ref())),
        ("Kernel", object_source(status.kernel.as_ref())),
        ("IDPrefix", optional(&status.id_prefix)),
        ("Phase", Value::text(status.phase.to_string())),
        ("Reason", optional(&status.reason)),
        ("ExitCode", Value::or_nil(status.exit_code.map(|code| Value::Int(code.into())))),
        ("FinishTime", Value::or_nil(status.finish_time.map(|finish| time(Some(finish), now)))),
        ("VMM", optional(&status.vmm)),
        ("Accelerator", optional(&status.accelerator)),
        ("Isolation", map(&status.isolation)),
        ("Role", optional(&status.role)),
        ("Starts", Value::Int(status.starts.into())),
        ("Restarts", Value::Int(status.restarts.into())),
        ("StoppedByUser", Value::Bool(status.stopped_by_user)),
    ];
    record(status, fields)
}

fn record(object: &impl Serialize, fields: Fields) -> Value {
    Value::record(json(object), fields)
}

/// The vocabulary's types have no map with keys that JSON cannot write, so this does not fail.
fn json(object: &impl Serialize) -> String {
    serde_json::to_string(object).unwrap_or_else(|_| "null".to_owned())
}

fn optional(text: &Option<String>) -> Value {
    Value::text(text.as_deref().unwrap_or_default())
}

fn map(map: &BTreeMap<String, String>) -> Value {
    Value::Map(Arc::new(map.clone()))
}

fn printed(text: String, value: &impl Serialize) -> Value {
    Value::Printed { text: text.into(), json: json(value).into() }
}

fn size(size: Size) -> Value {
    printed(size.human(), &size)
}

/// As Weave Ignite prints times: how long ago, `<unknown>`; as JSON it is the time itself.
fn time(time: Option<Timestamp>, now: Timestamp) -> Value {
    printed(age(time, now), &time)
}

/// An enumeration by its name in manifests.
fn word(value: &impl Serialize) -> Value {
    Value::text(
        serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default(),
    )
}

fn oci(source: &OciSource) -> Value {
    let text = source.oci.as_ref().map(|source| source.familiar()).unwrap_or_default();
    record(source, vec![("OCI", Value::text(text))])
}

fn source_status(source: Option<&OciSourceStatus>) -> Value {
    let known = source.cloned().unwrap_or_default();
    record(&source, vec![("ID", Value::text(&known.id)), ("Size", size(known.size))])
}

fn object_source(source: Option<&SourceStatus>) -> Value {
    let known = source.cloned().unwrap_or_default();
    let uid = known.uid.map(|uid| uid.to_string()).unwrap_or_default();
    record(&source, vec![("ID", Value::text(&known.id)), ("Size", size(known.size)), ("UID", Value::text(uid))])
}

fn port(port: &PortMapping) -> Value {
    printed(port.to_string(), port)
}

fn volume(volume: &Volume) -> Value {
    let device = volume
        .block_device
        .as_ref()
        .map(|device: &BlockDevice| record(device, vec![("Path", Value::text(&device.path))]));
    record(volume, vec![("Name", Value::text(&volume.name)), ("BlockDevice", Value::or_nil(device))])
}

fn volume_mount(mount: &VolumeMount) -> Value {
    record(mount, vec![("Name", Value::text(&mount.name)), ("MountPath", Value::text(&mount.mount_path))])
}

fn file(file: &FileMapping) -> Value {
    record(file, vec![("HostPath", Value::text(&file.host_path)), ("VMPath", Value::text(&file.vm_path))])
}

/// `{true }`, `{false /path/of/key.pub}`, or nil where none is wanted.
fn ssh(ssh: &Ssh) -> Option<Value> {
    let (generate, key) = match ssh {
        Ssh::Generate(false) => return None,
        Ssh::Generate(true) => (true, ""),
        Ssh::PublicKey(path) => (false, path.as_str()),
    };
    Some(record(ssh, vec![("Generate", Value::Bool(generate)), ("PublicKey", Value::text(key))]))
}
