//! The container images for Kubernetes: the operator's Pods, made by a real container runtime, with nothing from outside.

use ignite_e2e::invocation::Running;
use ignite_e2e::kubelet::{Kubelet, Objects};
use ignite_e2e::throwaway::Iptables;
use ignite_e2e::wait::{QUICK, until};
use ignite_e2e::{Host, Report, Terminal, Throwaway, images};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The node's side of the Pod's network, and the Pod's.
const NODE: &str = "10.65.0.1";
const POD: &str = "10.65.0.2";
const NETNS: &str = "image-pod";
/// A port of the Pod's own loopback, on which a registry plays one that is far away.
const REGISTRY: &str = "127.0.0.1:5000";
/// The VMM's user in Pods.
const UID: u32 = 65_532;

/// What a container runtime does: the network before the first container.
const SANDBOX: &str = "set -e
ip netns add $1
ip link add to-pod type veth peer name eth0 netns $1
ip addr add $2/24 dev to-pod; ip link set to-pod up
ip -n $1 addr add $3/24 dev eth0; ip -n $1 link set eth0 up; ip -n $1 link set lo up
ip -n $1 route add default via $2";

const TASK: &str =
    "trap 'echo asked to end; exit 7' TERM; echo serving; while :; do nc -l -p 8080 -e echo pong & wait; done";

/// Proves that the Pod as the operator makes it, in the node image and within its limits, fetches its guest's image with its
/// pull secret, shares it with the node's next Pod, runs the VM, and that `kubectl exec` is a command of the guest.
pub fn a_pod_of_the_node_image_runs_its_vm_and_kubectl_exec_lands_in_the_guest() -> Report {
    let throwaway = Throwaway::new(Iptables::Nft)?;
    let host = Host::empty();
    let rootfs = host.path("rootfs");
    images::unpack_container_image("node", &rootfs);
    throwaway.call(["sh", "-c", SANDBOX, "sh", NETNS, NODE, POD]).finish().succeeds();
    let registry = registry(&throwaway, &host);
    let config = json!({ "auths": { REGISTRY: { "username": "who", "password": "secret" } } }).to_string();
    let objects: Objects = BTreeMap::from([
        ("registry", BTreeMap::from([(".dockerconfigjson", config.as_str())])),
        ("app", BTreeMap::from([("key", "a secret of the app\n")])),
    ]);
    let spec = json!({ "image": { "oci": format!("{REGISTRY}/busybox:1") }, "memory": "256MB", "allowEmulation": true,
        "command": ["sh", "-c", TASK], "imagePullSecrets": [{ "name": "registry" }],
        "storage": { "volumes": [{ "name": "app", "secret": { "secretName": "app" } }],
            "volumeMounts": [{ "name": "app", "mountPath": "/etc/app" }] } });
    let pod = rendered(&host, &spec);
    let admit = |name: &str, objects: &Objects| {
        Kubelet::admit(&throwaway, pod.clone(), host.path(name), &host.path("node"), &rootfs, NETNS, objects)
    };

    // The node's cache becomes the VMM's user's, and stays so.
    let one = admit("one", &objects);
    let cache = host.path("node/var/lib/ignite-cache");
    for _ in 0..2 {
        one.container("cache").finish().succeeds();
    }
    for part in ["oci", "base"] {
        let owner = std::fs::metadata(cache.join(part)).expect("a part of the cache");
        assert_eq!((owner.uid(), owner.gid(), owner.mode() & 0o7777), (UID, UID, 0o755), "{part}");
    }
    let without = Objects::from([("app", objects["app"].clone())]);
    admit("without", &without).container("prepare").finish().fails().complains("refuses access");
    one.container("prepare").finish().succeeds();
    let fetched = blobs_asked_for(&host);
    assert!(!fetched.is_empty());
    let two = admit("two", &objects);
    two.container("cache").finish().succeeds();
    two.container("prepare").finish().succeeds();
    assert_eq!(blobs_asked_for(&host), fetched, "the node's second Pod fetches no layer");

    one.container("network").finish().succeeds();
    let mut running = one.container("vm").start();
    running.prints_sometime("serving");
    for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
        one.probe("vm", probe).finish().succeeds();
    }
    let answer = throwaway.call(["busybox", "nc", "-w", "20", POD, "8080"]).stdin("").finish();
    answer.succeeds().prints("pong\n");
    let release = std::fs::read_dir(rootfs.join("lib/modules")).expect("modules").flatten().next().expect("a kernel");
    exec_is_the_guests(&one, &release.file_name().to_string_lossy());

    running.signal(Signal::TERM);
    running.finish().exits(7).says("asked to end");
    drop(registry);
    Ok(())
}

/// `kubectl exec` by every way that a name can be written.
fn exec_is_the_guests(pod: &Kubelet<'_>, release: &str) {
    let exec = |command: &[&str]| pod.exec("vm", command).finish();
    exec(&["uname", "-r"]).succeeds().prints(&format!("{release}\n"));
    exec(&["/bin/sh", "-c", "echo $0: $(cat /etc/app/key); exit 42"]).exits(42).prints("sh: a secret of the app\n");
    exec(&["guest", "/bin/busybox", "echo", "--help"]).succeeds().prints("--help\n");
    exec(&["/usr/bin/env"]).succeeds().does_not_say("IGNITE_DATA_DIR");
    exec(&["bash"]).exits(127);
    // A name that is no link is looked for in the container, and there is nothing.
    exec(&["no-such-name"]).fails().complains("not found");
    exec(&["guest", "no-such-name"]).exits(127);
    // What `kubectl cp` does, both ways.
    let sent = pod.exec("vm", &["sh", "-c", "cat > /tmp/in && wc -c < /tmp/in"]).stdin(vec![b'x'; 300_000]).finish();
    sent.succeeds().prints("300000\n");
    let archive = exec(&["tar", "cf", "-", "-C", "/etc/app", "key"]).succeeds().stdout.clone();
    assert!(archive.windows(19).any(|window| window == b"a secret of the app"), "{} bytes", archive.len());
    let mut terminal = Terminal::open(pod.exec_on_terminal("vm", &["sh"]));
    terminal.types("tty; stty size; echo $TERM\n").shows("/dev/pts/").shows("xterm");
    terminal.types("exit 3\n");
    terminal.finish().exits(3);
}

/// Proves that the operator's image runs as its Deployment has it: a user without rights, nothing to write to, its limits.
pub fn the_operators_image_holds_all_it_needs() -> Report {
    let throwaway = Throwaway::new(Iptables::Nft)?;
    let host = Host::empty();
    let rootfs = host.path("rootfs");
    images::unpack_container_image("operator", &rootfs);
    throwaway.call(["ip", "netns", "add", NETNS]).finish().succeeds();
    let read = |file: &str| {
        std::fs::read_to_string(images::repository().join("deploy/kubernetes").join(file)).expect("a manifest")
    };
    let deployment: Value = serde_saphyr::from_str(&read("operator/deployment.yaml")).expect("a Deployment");
    let mut pod = deployment["spec"]["template"].clone();
    pod["metadata"]["name"] = json!("operator");
    pod["spec"]["containers"][0]["args"] = json!(["operator", "crds"]);
    let operator = Kubelet::admit(&throwaway, pod, host.path("pod"), host.root(), &rootfs, NETNS, &Objects::new());
    operator.container("operator").finish().succeeds().prints(&read("crds/crds.yaml"));
    Ok(())
}

fn rendered(host: &Host, spec: &Value) -> Value {
    let vm = json!({ "apiVersion": "ignite.weave.works/v1alpha4", "kind": "VM", "metadata": { "name": "web" }, "spec": spec });
    let file = host.file("vm.json", vm.to_string());
    let said = host.ignited(["operator", "render", "--node-image=node", "-f", file.to_str().expect("a path")]).finish();
    serde_saphyr::from_str(&said.succeeds().text()).expect("a Pod")
}

/// A registry that asks for credentials, with busybox in it.
fn registry(throwaway: &Throwaway, host: &Host) -> Running {
    let htpasswd = throwaway.call(["htpasswd", "-Bbn", "who", "secret"]).finish().succeeds().text();
    let passwords = host.file("registry/htpasswd", htpasswd);
    let config = format!(
        "version: 0.1\nlog: {{level: info, accesslog: {{disabled: false}}}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
         http: {{addr: '{REGISTRY}'}}\nauth: {{htpasswd: {{realm: test, path: {}}}}}\n",
        host.path("registry/blobs").display(),
        passwords.display()
    );
    let config = host.file("registry/config.yml", config);
    let log = "exec docker-registry serve $1 >$2 2>&1";
    let call = ["sh", "-c", log, "sh", config.to_str().expect("a path")];
    let running = throwaway.call_in(NETNS, call).args([log_of(host)]).start();
    let push = || {
        let source = format!("oci:{}:latest", images::layout(images::busybox()).display());
        let target = format!("docker://{REGISTRY}/busybox:1");
        let words = ["skopeo", "copy", "-q", "--dest-tls-verify=false", "--dest-creds=who:secret", &source, &target];
        let pushed = throwaway.call_in(NETNS, words).within(QUICK).finish();
        (pushed.code == 0).then_some(())
    };
    until("the registry to take an image", QUICK, push);
    running
}

fn log_of(host: &Host) -> PathBuf {
    host.path("registry/log")
}

/// Requests for blobs that were answered, from the registry's log.
fn blobs_asked_for(host: &Host) -> Vec<String> {
    let log: &Path = &log_of(host);
    let log = std::fs::read_to_string(log).expect("a log");
    let requests = log.lines().filter_map(|line| line.split('"').find(|part| part.starts_with("GET ")));
    requests.filter(|request| request.contains("/blobs/")).map(str::to_owned).collect()
}
