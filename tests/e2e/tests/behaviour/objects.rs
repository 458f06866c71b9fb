//! Objects: VMs, images and kernels as they are listed, inspected and removed. Few of these boot anything.

use ignite_e2e::Host;
use ignite_e2e::images::{busybox, debian, kernel_package, layout, redis};
use ignite_e2e::invocation::Invocation;

pub fn a_created_vm_is_listed_inspected_and_removed() {
    let host = Host::new();
    let created = host.does([
        "create",
        "--name",
        "web",
        "--label",
        "tier=front",
        "--cpus",
        "2",
        "--memory",
        "256MB",
        busybox(),
        "sh",
    ]);
    let id = created.succeeds().line();
    assert!(id.len() == 16 && id.bytes().all(|c| c.is_ascii_hexdigit()), "an id of {created}");

    let listed = host.does(["ps", "-a"]);
    for part in ["VM ID", "IMAGE", "KERNEL", "SIZE", "CPUS", "MEMORY", "CREATED", "STATUS", "IPS", "PORTS", "NAME"] {
        listed.says(part);
    }
    listed.says(&id).says("web").says("Created").says("256");
    assert_eq!(host.vm_ids(), [id.as_str()]);

    let object = host.does(["inspect", "vm", "web"]).succeeds().json();
    assert_eq!(object["apiVersion"], "ignite.weave.works/v1alpha4");
    assert_eq!(object["metadata"]["uid"], id.as_str());
    assert_eq!(object["metadata"]["labels"]["tier"], "front");
    assert_eq!(object["spec"]["cpus"], 2);
    assert_eq!(object["status"]["phase"], "Created");

    // A unique beginning of an id or a name is enough, as in Weave Ignite.
    host.does(["inspect", "vm", &id[..6]]).succeeds();
    host.does(["rm", "we"]).succeeds();
    host.does(["inspect", "vm", "web"]).gives_a_hint();
    host.assert_nothing_left();
}

pub fn a_name_is_given_once() {
    let host = Host::new();
    host.does(["create", "--name", "web", busybox()]).succeeds();
    host.does(["create", "--name", "web", busybox()]).gives_a_hint().complains("web");
    host.run(["--name", "web", busybox(), "true"]).exits(125).complains("web");
    assert_eq!(host.vm_ids().len(), 1);
    host.does(["rm", "web"]).succeeds();
    host.assert_nothing_left();
}

pub fn ps_lists_what_runs_unless_asked_for_all() {
    let host = Host::new();
    host.does(["create", "--name", "never-started", busybox()]).succeeds();
    host.does(["ps"]).succeeds().does_not_say("never-started");
    host.does(["ps", "-q"]).succeeds().prints("");
    host.does(["ps", "--all"]).succeeds().says("never-started");
    host.does(["exec", "never-started", "true"]).gives_a_hint();
    host.does(["attach", "never-started"]).gives_a_hint();
    host.does(["rm", "never-started"]).succeeds();
    host.assert_nothing_left();
}

pub fn an_image_in_use_is_not_removed() {
    let host = Host::new();
    host.does(["create", "--name", "user", busybox()]).succeeds();
    let image = host.does(["image", "ls", "-q"]).succeeds().line();
    host.does(["image", "rm", &image]).gives_a_hint().complains("user");
    host.does(["rm", "user"]).succeeds();
    host.does(["image", "rm", &image]).succeeds();
    host.does(["image", "ls", "-q"]).succeeds().prints("");
    host.assert_nothing_left();
}

pub fn prune_removes_what_no_vm_uses() {
    let host = Host::new();
    host.does(["image", "import", redis()]).succeeds();
    host.does(["create", "--name", "user", busybox()]).succeeds();
    let disk_before = host.used_bytes();
    host.does(["image", "prune"]).succeeds();
    host.does(["image", "ls"]).succeeds().says("busybox").does_not_say("redis");
    assert!(host.used_bytes() + (20 << 20) < disk_before, "prune gives the disk back");
    host.run(["--rm", busybox(), "true"]).succeeds();
    host.does(["rm", "user"]).succeeds();
    host.assert_nothing_left();
}

pub fn a_kernel_in_use_is_not_removed() {
    let host = Host::new();
    let kernel = host.does(["kernel", "ls", "-q"]).succeeds().line();
    host.does(["kernel", "ls"]).succeeds().says("VERSION").says("6.1");
    host.does(["create", "--name", "user", busybox()]).succeeds();
    host.does(["kernel", "rm", &kernel]).gives_a_hint().complains("user");
    host.does(["rm", "user"]).succeeds();
    host.does(["kernel", "rm", &kernel]).succeeds();
    host.does(["kernel", "ls", "-q"]).succeeds().prints("");
    host.assert_nothing_left();
}

pub fn images_come_from_archives_and_standard_input() {
    let host = Host::new();
    let copy = |kind: &str, name: &str| {
        let path = host.path(name);
        let destination = format!("{kind}:{}:test/{name}:v1", path.display());
        let source = format!("{}:latest", busybox());
        Invocation::new("skopeo").args(["copy", "--quiet", &source, &destination]).finish().succeeds();
        path
    };
    let oci = copy("oci-archive", "oci.tar");
    let docker = copy("docker-archive", "docker.tar");
    host.does(["image", "import", &format!("oci-archive:{}", oci.display())]).succeeds();
    host.does(["image", "import", &format!("docker-archive:{}", docker.display())]).succeeds();
    let archive = std::fs::read(&docker).expect("read an archive");
    host.ignite(["image", "import", "-"]).stdin(archive).finish().succeeds();
    host.does(["image", "ls"]).succeeds().says("oci.tar").says("docker.tar");

    // A layer cut short.
    let cut = std::fs::read(&oci).expect("read an archive");
    let cut = host.file("cut.tar", &cut[..cut.len() / 2]);
    host.does(["image", "import", &format!("oci-archive:{}", cut.display())]).fails();
    host.assert_nothing_left();
}

pub fn a_host_without_a_kernel_is_told_what_to_type() {
    let host = Host::empty();
    host.run(["--rm", busybox(), "true"]).exits(125).complains("hint:").complains("kernel import");
    assert!(host.vm_ids().is_empty(), "a VM that could not be created is not kept");
    host.does(["kernel", "import", "/no/such/package.deb"])
        .fails()
        .complains("/no/such/package.deb")
        .complains("No such file");
    host.ignite(["kernel", "import"]).args([kernel_package()]).finish().succeeds();
    host.ignite(["kernel", "import"]).args([kernel_package()]).finish().succeeds();
    let kernels = host.does(["kernel", "ls", "-q"]).succeeds().text();
    assert_eq!(kernels.lines().count(), 1, "the same kernel twice is one kernel");
    assert!(layout(debian()).is_dir());
}
