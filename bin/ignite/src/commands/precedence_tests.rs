//! Flag over environment over VM file over configuration file over default: every field in every combination of them.

use super::*;
use crate::cli::{Cli, Command, GlobalFlags};
use crate::settings::{self, Host};
use clap::Parser;

/// What says a value, weakest first.
const LAYERS: [&str; 4] = ["configuration", "VM file", "environment", "flag"];

struct Row {
    field: &'static str,
    /// Where each layer says it, with `@` for the value; empty: it cannot.
    configuration: &'static str,
    vm_file: &'static str,
    environment: &'static str,
    flag: &'static str,
    /// A value for each layer, as that layer writes it.
    values: [&'static str; 4],
    default: &'static str,
    found: fn(&Vm) -> String,
}

const fn row(field: &'static str, default: &'static str, found: fn(&Vm) -> String) -> Row {
    let values = ["one", "two", "three", "four"];
    Row { field, configuration: "", vm_file: "", environment: "", flag: "", values, default, found }
}

fn text(value: Option<&String>) -> String {
    value.cloned().unwrap_or_default()
}

const TABLE: &[Row] = &[
    Row {
        configuration: "networkPlugin: @",
        vm_file: "network: {mode: @}",
        environment: "IGNITE_NETWORK",
        flag: "--network @",
        ..row("network", "", |vm| text(vm.spec.network.mode.as_ref()))
    },
    Row {
        configuration: "vmDefaults: {network: {mode: @}}",
        vm_file: "network: {mode: @}",
        flag: "--network-plugin @",
        ..row("network of vmDefaults", "", |vm| text(vm.spec.network.mode.as_ref()))
    },
    Row {
        configuration: "vmDefaults: {vmm: @}",
        vm_file: "vmm: @",
        environment: "IGNITE_VMM",
        flag: "--vmm @",
        ..row("vmm", "", |vm| text(vm.spec.vmm.as_ref()))
    },
    Row {
        configuration: "vmDefaults: {kernel: {oci: @}}",
        vm_file: "kernel: {oci: @}",
        environment: "IGNITE_KERNEL",
        flag: "--kernel @",
        ..row("kernel", "", |vm| text(vm.spec.kernel.oci.as_ref()))
    },
    Row {
        configuration: "runtime: @",
        environment: "IGNITE_RUNTIME",
        flag: "--runtime @",
        values: ["docker", "", "containerd", "registry"],
        ..row("source of pulls", "registry", |vm| match vm.spec.image.oci.clone() {
            Some(ImageSource::DockerDaemon(_)) => "docker".into(),
            Some(ImageSource::Containerd(_)) => "containerd".into(),
            _ => "registry".into(),
        })
    },
    Row {
        configuration: "idPrefix: @",
        environment: "IGNITE_ID_PREFIX",
        flag: "--id-prefix @",
        ..row("id prefix", "", |vm| text(vm.status.id_prefix.as_ref()))
    },
    Row {
        configuration: "vmDefaults: {cpus: @}",
        vm_file: "cpus: @",
        flag: "--cpus @",
        values: ["2", "3", "", "4"],
        ..row("cpus", "1", |vm| vm.spec.cpus.to_string())
    },
    Row {
        configuration: "vmDefaults: {memory: @}",
        vm_file: "memory: @",
        flag: "--memory @",
        values: ["1GB", "2GB", "", "3GB"],
        ..row("memory", "512MB", |vm| vm.spec.memory.to_string())
    },
    Row {
        configuration: "vmDefaults: {diskSize: @}",
        vm_file: "diskSize: @",
        flag: "--size @",
        values: ["1GB", "2GB", "", "3GB"],
        ..row("disk size", "4GB", |vm| vm.spec.disk_size.to_string())
    },
    Row {
        configuration: "vmDefaults: {kernel: {cmdLine: @}}",
        vm_file: "kernel: {cmdLine: @}",
        flag: "--kernel-args @",
        ..row("kernel arguments", "", |vm| text(vm.spec.kernel.cmd_line.as_ref()))
    },
    Row {
        configuration: "vmDefaults: {ssh: @}",
        vm_file: "ssh: @",
        flag: "--ssh=@",
        values: ["true", "false", "", "true"],
        ..row("ssh", "None", |vm| match vm.spec.ssh {
            Some(Ssh::Generate(generate)) => generate.to_string(),
            _ => "None".into(),
        })
    },
    Row {
        configuration: "vmDefaults: {hostname: @}",
        vm_file: "hostname: @",
        flag: "--hostname @",
        ..row("host name", "", |vm| text(vm.spec.hostname.as_ref()))
    },
    Row {
        configuration: "vmDefaults: {network: {ports: [{hostPort: @, vmPort: 1}]}}",
        vm_file: "network: {ports: [{hostPort: @, vmPort: 1}]}",
        flag: "--ports @:1",
        values: ["81", "82", "", "84"],
        ..row("ports", "", |vm| vm.spec.network.ports.iter().map(|port| port.host_port.to_string()).collect())
    },
    Row {
        configuration: "vmDefaults: {copyFiles: [{hostPath: /@, vmPath: /x}]}",
        vm_file: "copyFiles: [{hostPath: /@, vmPath: /x}]",
        flag: "--copy-files /@:/x",
        ..row("copied files", "", |vm| vm.spec.copy_files.iter().map(|file| file.host_path.replace('/', "")).collect())
    },
    Row {
        configuration: "vmDefaults: {image: {oci: @}}",
        vm_file: "image: {oci: @}",
        flag: "@",
        ..row("image", "no image", |vm| {
            vm.spec
                .image
                .oci
                .as_ref()
                .map_or("no image".into(), |source| source.familiar().trim_end_matches(":latest").to_owned())
        })
    },
];

/// The value that a row's field has when these layers say one.
fn outcome(row: &Row, says: [bool; 4]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let part = |layer: usize, form: &str| says[layer].then(|| form.replace('@', row.values[layer]));
    let head = "apiVersion: ignite.weave.works/v1alpha4\nkind:";
    let configuration = part(0, row.configuration).unwrap_or_default();
    let config_path = dir.path().join("config.yaml");
    std::fs::write(&config_path, format!("{head} Configuration\nspec:\n  {configuration}\n")).unwrap();
    let vm_path = dir.path().join("vm.yaml");
    let vm_file = part(1, row.vm_file).unwrap_or_default();
    std::fs::write(&vm_path, format!("{head} VM\nspec:\n  {vm_file}\n")).unwrap();

    let mut env = vec![("IGNITE_DATA_DIR".to_owned(), "/d".into())];
    if says[2] {
        env.push((row.environment.to_owned(), row.values[2].into()));
    }
    let host = Host { env: env.into_iter().collect(), system_config: config_path, ..Host::default() };
    let settings = settings::resolve(&GlobalFlags::default(), &host).unwrap_or_else(|e| panic!("{}: {e:#}", row.field));

    let is_image = row.field == "image";
    let mut line = format!("ignite create --config {}", vm_path.display());
    if let Some(flag) = part(3, row.flag) {
        line = format!("{line} {flag}");
    }
    if !is_image {
        line = format!("{line} busybox");
    }
    let Some(Command::Create(args)) = Cli::try_parse_from(line.split_whitespace()).expect(&line).command else {
        panic!("{line}");
    };
    let around = Surroundings { env: &|_| None, working_dir: Path::new("/here"), settings: &settings };
    match args.vm.to_vms(&around) {
        Ok(vms) => (row.found)(&vms[0]),
        Err(error) if error.to_string().contains("names an image") => "no image".into(),
        Err(error) => panic!("{line}: {error:#}"),
    }
}

#[test]
fn the_strongest_layer_that_speaks_is_heard() {
    for row in TABLE {
        let can = [row.configuration, row.vm_file, row.environment, row.flag].map(|form| !form.is_empty());
        for subset in 0..16_u32 {
            let says: [bool; 4] = std::array::from_fn(|layer| subset & (1 << layer) != 0);
            if says.iter().zip(can).any(|(says, can)| *says && !can) {
                continue;
            }
            let expected = says.iter().rposition(|says| *says).map_or(row.default, |layer| row.values[layer]);
            let speakers: Vec<_> = LAYERS.iter().zip(says).filter(|(_, says)| *says).map(|(layer, _)| *layer).collect();
            assert_eq!(outcome(row, says), expected, "{}, said by {speakers:?}", row.field);
        }
    }
}
