//! A VM in a Kubernetes Pod, whose containers are played by hand: a namespace with an `eth0`, a user without any right.

use ignite_e2e::images;
use ignite_e2e::invocation::Invocation;
use ignite_e2e::throwaway::Iptables;
use ignite_e2e::{Host, Report, Throwaway};
use rustix::process::Signal;

/// The VMM's user in Pods.
const UID: u32 = 65_532;
/// The node's side of the Pod's network, and the Pod's.
const NODE: &str = "10.64.0.1";
const POD: &str = "10.64.0.2";
const NETNS: &str = "a-pod";

/// What a container runtime does: the network before the first container.
const SANDBOX: &str = "set -e
ip netns add $1
ip link add a-node type veth peer name eth0 netns $1
ip addr add $2/24 dev a-node; ip link set a-node up
ip -n $1 addr add $3/24 dev eth0; ip -n $1 link set eth0 mtu 1400 up; ip -n $1 link set lo up
ip -n $1 route add default via $2";

/// The guest tells what it has, answers on a port, and ends with a code of its own when it is asked to.
const TASK: &str = "cat /etc/app/key; ip -o addr show eth0; ip route; trap 'echo asked to end; exit 7' TERM; echo serving; \
                    while :; do nc -l -p 8080 -e echo pong & wait; done";

/// Proves the Pod's command lines: image and disk first, then the address goes to the guest, which is reached at it; the
/// output is the container's, SIGTERM ends it in its own way, its exit code is kept, and nothing is left.
pub fn the_containers_of_a_pod_give_its_address_to_the_guest_and_keep_its_exit_code() -> Report {
    let throwaway = Throwaway::new(Iptables::Nft)?;
    let host = Host::of_user(UID, &throwaway);
    throwaway.call(["sh", "-c", SANDBOX, "sh", NETNS, NODE, POD]).finish().succeeds();
    let kernel = host.path("kernel.deb");
    host.does(["kernel".as_ref(), "import".as_ref(), kernel.as_os_str()]).succeeds();
    // A key of a Secret as the kubelet mounts it.
    host.file("secret/..data/key", "a secret\n");
    std::os::unix::fs::symlink("..data/key", host.path("secret/key")).expect("link");
    let image = format!("oci:{}", host.path("busybox").display());
    let vm = serde_json::json!({ "apiVersion": "ignite.weave.works/v1alpha4", "kind": "VM", "metadata": { "name": "web" },
        "spec": { "image": { "oci": image }, "memory": "256MB", "network": { "mode": "pod" },
            "command": ["sh", "-c", TASK] } });
    let manifest = format!("--manifest={}", host.file("vm.json", vm.to_string()).display());
    let files = format!("--files={}=/etc/app", host.path("secret").display());
    let owner = format!("--owner={UID}");
    assert!(images::layout(images::busybox()).is_dir());

    let unprivileged = |args: &[&str]| container(&throwaway, &host, true, args);
    unprivileged(&["run", &manifest]).finish().fails().complains("ignited pod prepare");
    unprivileged(&["prepare", &manifest]).finish().succeeds();
    // A sandbox that is made anew prepares again.
    unprivileged(&["prepare", &manifest]).finish().succeeds();
    unprivileged(&["run", &manifest]).finish().fails().complains("ignited pod network");
    unprivileged(&["ready"]).finish().exits(1);
    for _ in 0..2 {
        container(&throwaway, &host, false, &["network", &owner]).finish().succeeds();
    }
    let mut running = unprivileged(&["run", &manifest, &files]).start();
    running.prints_sometime("serving");
    unprivileged(&["ready"]).finish().exits(0);
    unprivileged(&["alive"]).finish().exits(0);
    let answer = throwaway.call(["busybox", "nc", "-w", "20", POD, "8080"]).stdin("").finish();
    answer.succeeds().prints("pong\n");
    running.signal(Signal::TERM);
    let outcome = running.finish();
    outcome.exits(7).says("a secret").says(&format!("inet {POD}/24")).says(&format!("default via {NODE}"));
    outcome.says("asked to end");

    // A container that is started again finds its disk and its network.
    let mut again = unprivileged(&["run", &manifest, &files]).start();
    again.prints_sometime("serving");
    again.signal(Signal::TERM);
    again.finish().exits(7);
    host.does(["rm", "-f", "web"]).succeeds();
    // The run directory is the Pod's own and goes with it; besides what its network says, nothing is in it.
    std::fs::remove_file(host.run_dir().join("pod-network.json")).expect("the record of the Pod's network");
    host.assert_nothing_left();
    Ok(())
}

/// A container of the Pod. The tun device is one that its user may open, as a device plugin's is.
fn container(throwaway: &Throwaway, host: &Host, is_unprivileged: bool, args: &[&str]) -> Invocation {
    let script =
        "mknod -m 666 /tmp/tun-$$ c 10 200 && mount --bind /tmp/tun-$$ /dev/net/tun && rm /tmp/tun-$$ && exec \"$@\"";
    let mut words: Vec<String> = ["sh", "-c", script, "sh"].map(str::to_owned).to_vec();
    if is_unprivileged {
        words.extend(["setpriv".to_owned(), format!("--reuid={UID}"), format!("--regid={UID}")]);
        words.extend(
            ["--clear-groups", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs", "--"].map(str::to_owned),
        );
    }
    words.push(host.path("programs/ignited").display().to_string());
    words.push("pod".to_owned());
    throwaway
        .call_in(NETNS, words)
        .args(args)
        .env("IGNITE_DATA_DIR", host.data_dir())
        .env("IGNITE_RUN_DIR", host.run_dir())
        .env("HOME", host.path("home"))
}
