//! Manifests as users of Weave Ignite have them: each version runs, and is inspected back; bad ones point at the line.

use ignite_e2e::Host;
use ignite_e2e::images::busybox;
use serde_json::json;

/// What the guest says of itself: the copied file, its CPUs, its memory in MB to within what a kernel keeps.
const REPORT: &str = "cat /etc/copied; nproc; cat /root/.ssh/authorized_keys | wc -l; cat /proc/cmdline";

struct Manifest {
    version: &'static str,
    /// `@image@`, `@kernel@`, `@file@`, `@key@` and `@port@` are filled in.
    text: &'static str,
    keys: u32,
    ssh: serde_json::Value,
}

fn manifests() -> [Manifest; 3] {
    [
        Manifest {
            version: "v1alpha2",
            text: r#"apiVersion: ignite.weave.works/v1alpha2
kind: VM
metadata: {name: v1alpha2, uid: 2222222222222222, created: 2019-08-01T00:00:00Z, labels: {tier: web}}
spec:
  image: {oci: "@image@"}
  kernel: {oci: "@kernel@", cmdLine: "console=ttyS0 reboot=k panic=1 pci=off ip=dhcp"}
  cpus: 2
  memory: 300MB
  diskSize: 1GB
  network: {ports: [{hostPort: @port@, vmPort: 80, bindAddress: 127.0.0.1, protocol: tcp}]}
  copyFiles: [{hostPath: "@file@", vmPath: /etc/copied}]
  ssh: "@key@.pub"
status:
  running: true
  runtime: {id: 4a8c2f6b}
  startTime: 2020-01-01T10:00:00Z
  ipAddresses: [172.17.0.2]
  image: {id: "oci://docker.io/weaveworks/ignite-ubuntu@sha256:aa", size: 219MB}
"#,
            keys: 1,
            ssh: json!("@key@.pub"),
        },
        Manifest {
            version: "v1alpha3",
            text: r#"{"apiVersion": "ignite.weave.works/v1alpha3", "kind": "VM",
 "metadata": {"name": "v1alpha3", "uid": "3333333333333333", "labels": {"tier": "web"}},
 "spec": {"image": {"oci": "@image@"}, "sandbox": {"oci": "weaveworks/ignite:v0.8.0"},
  "kernel": {"oci": "@kernel@", "cmdLine": "console=ttyS0 reboot=k panic=1 pci=off ip=dhcp"},
  "cpus": 2, "memory": "300MB", "diskSize": "1GB", "ssh": "true", "storage": {},
  "network": {"ports": [{"hostPort": @port@, "vmPort": 80, "bindAddress": "127.0.0.1"}]},
  "copyFiles": [{"hostPath": "@file@", "vmPath": "/etc/copied"}]},
 "status": {"running": true, "runtime": {"id": "ignite-3333333333333333", "name": "docker"}, "idPrefix": "old",
  "network": {"plugin": "docker-bridge", "ipAddresses": ["172.17.0.2"]}}}
"#,
            keys: 1,
            ssh: json!(true),
        },
        Manifest {
            version: "v1alpha4",
            text: r#"# With what people write between the lines.
apiVersion: ignite.weave.works/v1alpha4
kind: VM
metadata:
  name: v1alpha4
  uid: "4444444444444444"
  labels:
    tier: web
  annotations:
    ignite.weave.works/interface/eth1: tc-redirect
    ignite.weave.works/sandbox-env/FIRECRACKER_GO_SDK_INIT_TIMEOUT_SECONDS: "10"
spec:
  image:
    oci: "@image@"
  kernel:
    oci: "@kernel@"
    cmdLine: console=ttyS0 reboot=k panic=1 pci=off ip=dhcp
  sandbox:
    oci: weaveworks/ignite:v0.10.0
  cpus: 2
  memory: 300MB
  diskSize: 1GB
  network:
    ports:
    - hostPort: @port@
      vmPort: 80
      bindAddress: 127.0.0.1
      protocol: tcp
  storage: {}
  copyFiles:
  - hostPath: "@file@"
    vmPath: /etc/copied
  ssh: true
status:
  running: true
"#,
            keys: 1,
            ssh: json!(true),
        },
    ]
}

pub fn manifests_of_every_version_run_and_are_inspected_back() {
    let host = Host::new();
    let kernel = host.does(["kernel", "ls", "-o", "name"]).succeeds().line();
    let file = host.file("copied", "copied\n");
    let key = host.path("key");
    host.file("key.pub", "ssh-ed25519 AAAA me\n");
    for manifest in manifests() {
        let port =
            std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port();
        let fill = |text: &str| {
            text.replace("@image@", busybox())
                .replace("@kernel@", &kernel)
                .replace("@file@", file.to_str().expect("UTF-8"))
                .replace("@key@", key.to_str().expect("UTF-8"))
                .replace("@port@", &port.to_string())
        };
        let path = host.file("vm.manifest", fill(manifest.text));
        let path = path.to_str().expect("UTF-8");
        // The command is ours: a manifest of Weave Ignite had none, and its images had an init.
        let told = host.run(["--config", path, busybox(), "sh", "-c", REPORT]).succeeds().text();
        let lines: Vec<&str> = told.lines().collect();
        assert_eq!(lines[..3], ["copied", "2", &manifest.keys.to_string()], "{}: {told}", manifest.version);
        assert!(lines[3].contains("console=ttyS0 reboot=k panic=1 pci=off ip=dhcp"), "{told}");

        let object = host.does(["inspect", "vm", manifest.version]).succeeds().json();
        assert_eq!(object["apiVersion"], "ignite.weave.works/v1alpha4");
        assert_eq!(object["metadata"]["uid"], manifest.version[7..].repeat(16));
        assert_eq!(object["metadata"]["labels"], json!({"tier": "web"}));
        let spec = &object["spec"];
        assert_eq!((&spec["cpus"], &spec["memory"], &spec["diskSize"]), (&json!(2), &json!("300MB"), &json!("1GB")));
        assert_eq!(spec["image"]["oci"], busybox());
        let cmd_line = "console=ttyS0 reboot=k panic=1 pci=off ip=dhcp";
        assert_eq!(spec["kernel"], json!({"oci": kernel, "cmdLine": cmd_line}));
        let expected = json!([{"bindAddress": "127.0.0.1", "hostPort": port, "vmPort": 80, "protocol": "tcp"}]);
        assert_eq!(spec["network"]["ports"], expected);
        assert_eq!(spec["copyFiles"], json!([{"hostPath": file, "vmPath": "/etc/copied"}]));
        let ssh = manifest.ssh.as_str().map_or(manifest.ssh.clone(), |path| json!(fill(path)));
        assert_eq!(spec["ssh"], ssh, "{}", manifest.version);

        // What inspect writes is a manifest again.
        let yaml = host.does(["inspect", "vm", manifest.version, "-o", "yaml"]).succeeds().text();
        host.ignite(["rm", "--config", "-"]).stdin(yaml.clone()).finish().succeeds();
        host.ignite(["create", "--config", "-"]).stdin(yaml.clone()).finish().succeeds();
        let again = host.does(["inspect", "vm", manifest.version]).succeeds().json();
        assert_eq!(again["spec"], object["spec"], "{}", manifest.version);
        host.ignite(["rm", "--config", "-"]).stdin(yaml).finish().succeeds();
    }
    host.assert_nothing_left();
}

pub fn a_bad_manifest_is_refused_with_its_line_by_every_command() {
    let host = Host::new();
    let head = "apiVersion: ignite.weave.works/v1alpha4\nkind: VM\nmetadata: {name: bad}\nspec:\n";
    let image = format!("  image: {{oci: \"{}\"}}\n", busybox());
    for (spec, told) in [
        ("  memroy: 1GB\n", "line 6, column 3: spec.memroy: unknown field `memroy`; did you mean `memory`?"),
        ("  cpus: 1\n  cpus: 2\n", "line 7, column 3"),
        ("  cpus: many\n", "line 6, column 9"),
        ("  memory: 1.5GB\n", "line 6, column 11"),
        ("  network: {ports: [{hostPort: 80, vmPort: 80, protocol: sctp}]}\n", "line 6, column"),
        ("\tcpus: 1\n", "line 6, column"),
        ("  cpus: 1\n---\napiVersion: ignite.weave.works/v1alpha4\nkind: vm\n", "line 9, column 7"),
    ] {
        let path = host.file("bad.yaml", format!("{head}{image}{spec}"));
        let path = path.to_str().expect("UTF-8");
        for command in [["create", "--config", path], ["run", "--config", path], ["rm", "--config", path]] {
            let outcome = host.does(command);
            outcome.fails().prints("").complains(told).complains("bad.yaml");
        }
    }
    // Decoded, and not valid: every field that is wrong, at once.
    let path = host.file("invalid.yaml", format!("{head}{image}  cpus: 99\n  memory: 1MB\n"));
    let outcome = host.does(["create", "--config", path.to_str().expect("UTF-8")]);
    outcome.fails().complains("spec.cpus").complains("spec.memory");
    assert!(host.vm_ids().is_empty());
    host.assert_nothing_left();
}
