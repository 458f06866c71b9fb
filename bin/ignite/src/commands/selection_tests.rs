//! What filters match, and how what is wrong with them is told.

use super::*;
use crate::render::template_value;
use ignite_api::vm::{NetworkStatus, Ssh};
use ignite_api::{ObjectMeta, Phase, Uid, Vm, VmSpec};
use jiff::Timestamp;

fn vm() -> Vm {
    let metadata = ObjectMeta {
        name: "my-vm".into(),
        uid: Some(Uid::parse("599615df99804ae8").expect("a uid")),
        created: Some("2026-01-02T03:00:00Z".parse().expect("a time")),
        labels: [("tier".to_owned(), "web".to_owned()), ("a.b/c".to_owned(), "d=e".to_owned())].into(),
        ..ObjectMeta::default()
    };
    let mut vm = Vm::new(metadata, VmSpec { cpus: 2, ssh: Some(Ssh::Generate(true)), ..VmSpec::default() });
    vm.spec.image.oci = Some("weaveworks/ignite-ubuntu".parse().expect("a reference"));
    for spec in ["8080:80", "53:53/udp"] {
        vm.spec.network.ports.extend(ignite_api::ports::parse_ports(spec).expect("a port"));
    }
    vm.status.phase = Phase::Running;
    vm.status.running = true;
    vm.status.network = Some(NetworkStatus { plugin: "cni".into(), ip_addresses: vec!["10.61.0.2".into()] });
    vm
}

fn value(vm: &Vm) -> Value {
    template_value::vm(vm, "2026-01-02T03:05:00Z".parse::<Timestamp>().expect("a time"))
}

fn is_kept(filters: &[&str]) -> anyhow::Result<bool> {
    let filters: Vec<String> = filters.iter().map(|&filter| filter.to_owned()).collect();
    Ok(!Filter::parse("VM", &filters)?.keep(vec![vm()], value)?.is_empty())
}

#[test]
fn terms_compare_as_weave_ignite_does() {
    for (filter, expected) in [
        ("{{.ObjectMeta.Name}}=my-vm", true),
        ("{{.ObjectMeta.Name}}==my-vm", true),
        ("{{.ObjectMeta.Name}}=my", false),
        ("{{.ObjectMeta.Name}}!=my-vm2,{{.Spec.CPUs}}!=3,{{.Spec.Image.OCI}}=~weaveworks/ignite-ubuntu", true),
        ("{{.Spec.CPUs}}=2,{{.Spec.CPUs}}=3", false),
        ("{{.Status.Running}}=true", true),
        ("{{.ObjectMeta.Labels}}=~tier:web", true),
        ("{{.Labels.tier}}=web", true),
        ("{{.Spec.Memory}}=512.0 MB", true),
        ("{{.Spec.SSH}}!~true", false),
        ("{{.Status.Network.IPAddresses}}=10.61.0.2", true),
        ("{{index .Labels \"a.b/c\"}}=d=e", true),
        ("name=my-vm", true),
        ("name=~my", true),
        ("name=my", false),
        ("id=5996", true),
        ("id!=5996", false),
        ("status=running", true),
        ("status=exited", false),
        ("status!=exited, name=my-vm", true),
        ("label=tier", true),
        ("label=nope", false),
        ("label!=nope", true),
        ("label=tier=web", true),
        ("label=a.b/c=d=e", true),
        ("label=tier=db", false),
    ] {
        assert_eq!(is_kept(&[filter]).unwrap_or_else(|error| panic!("{filter}: {error:#}")), expected, "{filter}");
    }
    assert!(!is_kept(&["name=my-vm", "label=nope"]).expect("filters"), "all must match");
}

#[test]
fn what_is_no_filter_is_refused() {
    for (filter, expected) in [
        ("", "failed to extract keys-values from filter list []"),
        ("my-vm", "failed to extract keys-values from filter list [my-vm]"),
        ("{{.Name}}", "failed to extract"),
        ("{{.Name}}=", "failed to extract"),
        ("{{.Name}}<3", "failed to extract"),
        ("{{.Name=3", "failed to extract"),
        ("name=a,", "failed to extract"),
        ("ancestor=a", "failed to extract"),
        ("status=dead", "there is no status \"dead\""),
        ("{{nope}}=a", "function \"nope\" not defined"),
        ("{{.Nme}}=a", "failed to apply filtering on VM, the filter might be incorrect: template, line 1, column 3"),
    ] {
        let error = is_kept(&[filter]).expect_err(filter);
        assert!(format!("{error:#}").contains(expected), "{filter}: {error:#}");
    }
}

#[test]
fn templates_see_what_weave_ignite_showed() {
    let mut stopped = vm();
    stopped.status = ignite_api::VmStatus { exit_code: Some(7), phase: Phase::Stopped, ..Default::default() };
    stopped.spec.ssh = None;
    let line = |vm: &Vm, text: &str| {
        Template::parse(text)
            .and_then(|template| template.render(&value(vm)))
            .unwrap_or_else(|error| panic!("{text}: {error}"))
    };
    for (template, running, ended) in [
        ("{{.ObjectMeta.UID}} {{.Name}} {{.Kind}}", "599615df99804ae8 my-vm VM", "599615df99804ae8 my-vm VM"),
        ("{{.Spec.CPUs}} {{.Spec.Memory}} {{.Spec.DiskSize}}", "2 512.0 MB 4.0 GB", "2 512.0 MB 4.0 GB"),
        ("{{.Spec.SSH}}", "{true }", "<nil>"),
        ("{{.Status.Network.IPAddresses}}", "10.61.0.2", ""),
        ("{{.Status.Network.Plugin}}|{{.Status.Runtime.ID}}", "cni|", "|"),
        (
            "{{.Spec.Network.Ports}}",
            "0.0.0.0:8080->80/tcp, 0.0.0.0:53->53/udp",
            "0.0.0.0:8080->80/tcp, 0.0.0.0:53->53/udp",
        ),
        ("{{.Created}} {{json .Created}}", "5m \"2026-01-02T03:00:00Z\"", "5m \"2026-01-02T03:00:00Z\""),
        ("{{.Status.Phase}} {{.Status.ExitCode}} {{.Status.StartTime}}", "Running <nil> <nil>", "Stopped 7 <nil>"),
        ("{{.Spec.Init}} {{.Spec.RootDisk}} {{.Spec.TTY}}", "auto overlay false", "auto overlay false"),
    ] {
        assert_eq!(line(&vm(), template), running, "{template}");
        assert_eq!(line(&stopped, template), ended, "{template}");
    }
    assert_eq!(line(&vm(), "{{json .}}"), serde_json::to_string(&vm()).expect("JSON"));
}

#[test]
fn a_terminal_gets_nothing_that_moves_its_cursor() {
    assert_eq!(harmless("a\tb\u{1b}[2J\nc"), "a\tb\\u{1b}[2J\nc");
}

#[test]
fn templates_of_docker_that_are_not_plain() {
    let parse = |text: &str| Form { template: Some(text.to_owned()) }.parse();
    assert!(parse("json").expect("a template").is_some());
    for text in ["", "table {{.Name}}", "{{.Name"] {
        assert!(parse(text).is_err(), "{text}");
    }
}
