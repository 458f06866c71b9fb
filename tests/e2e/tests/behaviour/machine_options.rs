//! What a VM's memory is made of, and what it sees of the processor.

use ignite_e2e::images::busybox;
use ignite_e2e::{Host, Report};

/// No host that runs tests has set this much aside.
const TOO_MUCH: &str = "1TB";

pub fn what_cannot_be_given_is_refused_with_what_to_type_and_a_vm_goes_on_without_it() -> Report {
    let host = Host::new();
    let vm = host.vm("wishes");
    let wishes = ["--vmm", "qemu", "--hugepages", "--memory", TOO_MUCH, "--cpu-template", "T2"];
    vm.create(wishes.into_iter().chain([busybox(), "sleep", "1000"])).succeeds();
    let spec = vm.inspect()["spec"].clone();
    assert_eq!((&spec["hugePages"], &spec["cpuTemplate"]), (&"2M".into(), &"T2".into()), "{spec}");
    vm.does("start")
        .fails()
        .complains("qemu: it has no CPU templates")
        .complains("hint: CPU templates are Firecracker's");
    host.does(["update", "--cpu-template", "none", vm.name()]).succeeds();
    vm.does("start")
        .fails()
        .complains("this host has ")
        .complains("hint: make room for them, as root: sysctl vm.nr_hugepages=");
    host.does(["update", "--memory", "257MB", vm.name()]).fails().complains("must be a multiple of 2 MB");
    host.does(["update", "--hugepages=none", "--memory", "256MB", vm.name()]).succeeds();
    vm.does("start").succeeds();
    host.does(["update", "--hugepages", vm.name()])
        .succeeds()
        .complains("the new huge pages will be there from its next start on");
    vm.exec(["true"]).succeeds();
    host.does(["rm", "-f", vm.name()]).succeeds();
    host.assert_nothing_left();
    Ok(())
}
