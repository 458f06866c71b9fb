//! What flags make of a VM.

use super::*;
use crate::cli::{Cli, Command, GlobalFlags};
use crate::settings;
use clap::Parser;
use std::path::Path;

fn flags(line: &str) -> VmFlags {
    match Cli::try_parse_from(line.split_whitespace()).unwrap_or_else(|error| panic!("{line}: {error}")).command {
        Some(Command::Create(args)) => args.vm,
        other => panic!("{line}: {other:?}"),
    }
}

fn to_vm(line: &str, defaults: &VmSpec) -> anyhow::Result<Vm> {
    let host = settings::Host {
        env: [("IGNITE_DATA_DIR".to_owned(), "/d".into())].into(),
        working_dir: "/here".into(),
        ..settings::Host::default()
    };
    let mut settings = settings::resolve(&GlobalFlags::default(), &host)?;
    settings.vm_defaults = defaults.clone();
    let env = |name: &str| (name == "HOME").then(|| "/root".to_owned());
    let around = Surroundings { env: &env, working_dir: Path::new("/here"), settings: &settings };
    flags(line).to_vms(&around).map(|mut vms| vms.remove(0))
}

fn spec(line: &str) -> VmSpec {
    to_vm(line, &VmSpec::default()).unwrap_or_else(|error| panic!("{line}: {error:#}")).spec
}

#[test]
fn an_image_alone_has_the_defaults() {
    let expected = VmSpec { image: OciSource { oci: Some("redis:latest".parse().unwrap()) }, ..VmSpec::default() };
    assert_eq!(spec("ignite create redis"), expected);
}

#[test]
fn every_flag_has_its_field() {
    let spec = spec(
        "ignite create -it --rm -e A=1 -e HOME -e UNSET -w /w -u 1:2 --entrypoint e --hostname h --cpus 2 -m 1GB -s 8GB --root-disk \
         private -k linux --kernel-args quiet --init image --network none -p 8080:80 --stop-timeout 3 --vmm qemu redis a -b",
    );
    let env: Vec<String> = spec.env.iter().map(|variable| format!("{}={}", variable.name, variable.value)).collect();
    assert_eq!(env, ["A=1", "HOME=/root"]);
    assert_eq!(spec.command, Some(vec!["e".to_owned()]));
    assert_eq!(spec.args, Some(vec!["a".to_owned(), "-b".to_owned()]));
    assert!(spec.tty && spec.stdin && spec.auto_remove);
    assert_eq!(
        (spec.working_dir.as_deref(), spec.user.as_deref(), spec.hostname.as_deref()),
        (Some("/w"), Some("1:2"), Some("h"))
    );
    assert_eq!((spec.cpus, spec.memory, spec.disk_size), (2, Size::gib(1), Size::gib(8)));
    assert_eq!((spec.root_disk, spec.init), (RootDisk::Private, InitMode::Image));
    assert_eq!((spec.kernel.oci.as_deref(), spec.kernel.cmd_line.as_deref()), (Some("linux"), Some("quiet")));
    assert_eq!((spec.network.mode.as_deref(), spec.vmm.as_deref()), (Some("none"), Some("qemu")));
    assert_eq!(spec.network.ports[0].to_string(), "0.0.0.0:8080->80/tcp");
    assert_eq!(spec.stop_timeout_seconds, Some(3));
}

#[test]
fn names_and_labels_are_metadata() {
    let vm = to_vm("ignite create --name n -l a=b -l c= redis", &VmSpec::default()).unwrap();
    assert_eq!(vm.metadata.name, "n");
    assert_eq!(vm.metadata.labels, [("a".into(), "b".into()), ("c".into(), String::new())].into());
}

#[test]
fn flags_are_above_the_configured_defaults() {
    let mut defaults = VmSpec { cpus: 4, memory: Size::gib(2), vmm: Some("qemu".into()), ..VmSpec::default() };
    defaults.network.mode = Some("none".into());
    let vm = to_vm("ignite create --cpus 1 --network auto --vmm auto redis", &defaults).unwrap();
    assert_eq!((vm.spec.cpus, vm.spec.memory), (1, Size::gib(2)));
    assert_eq!((vm.spec.network.mode, vm.spec.vmm), (None, None));
}

#[test]
fn a_manifest_is_between_flags_and_defaults() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("vm.yaml");
    std::fs::write(
        &path,
        "apiVersion: ignite.weave.works/v1alpha4\nkind: VM\nmetadata: {name: m}\nspec:\n  image: {oci: redis}\n  cpus: 3\n  memory: 1GB\n",
    )
    .unwrap();
    let defaults = VmSpec { cpus: 2, disk_size: Size::gib(9), ..VmSpec::default() };
    let vm = to_vm(&format!("ignite create --memory 3GB --config {}", path.display()), &defaults).unwrap();
    assert_eq!(vm.metadata.name, "m");
    assert_eq!((vm.spec.cpus, vm.spec.memory, vm.spec.disk_size), (3, Size::gib(3), Size::gib(9)));
    assert_eq!(vm.spec.image.oci, Some("redis".parse().unwrap()));
}

#[test]
fn relative_paths_of_images_are_made_absolute() {
    assert_eq!(spec("ignite create oci:layout:v1").image.oci, Some("oci:/here/layout:v1".parse().unwrap()));
}

#[test]
fn flags_of_an_environment_override_its_files() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("env");
    std::fs::write(&path, "A=file\nB=file\n").unwrap();
    let spec = spec(&format!("ignite create -e A=flag --env-file {} redis", path.display()));
    // Later wins where a name comes twice.
    let env: Vec<String> = spec.env.iter().map(|variable| format!("{}={}", variable.name, variable.value)).collect();
    assert_eq!(env, ["A=file", "B=file", "A=flag"]);
}

#[test]
fn what_cannot_be_meant_is_a_usage_error() {
    for (line, message) in [
        ("ignite create UPPER", "invalid image reference"),
        ("ignite create -p 80 redis", "invalid port"),
        ("ignite create -p 80:1 -p 80:2 redis", "same host port"),
        ("ignite create -l x redis", "supported syntax: --label <key>=<value>"),
        ("ignite create -l =v redis", "name empty"),
        ("ignite create -e =v redis", "invalid environment variable"),
    ] {
        let error = to_vm(line, &VmSpec::default()).expect_err(line);
        assert!(error.is::<UsageError>(), "{line}");
        assert!(error.to_string().contains(message), "{line}: {error}");
    }
}
