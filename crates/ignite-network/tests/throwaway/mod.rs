//! A host to throw away: its own network, `/run`, `/etc/cni` and leases, gone with the process that had it.

use std::process::Command;

/// Set inside.
const INSIDE: &str = "IGNITE_TEST_INSIDE";
const SETUP: &str = r#"set -e
mount -t tmpfs tmpfs /run
mkdir -p /run/netns /var/lib/cni /etc/cni
mount -t tmpfs tmpfs /var/lib/cni
mount -t tmpfs tmpfs /etc/cni
ip link set lo up
exec "$@"
"#;

/// Whether the caller runs in a throw-away host. Else runs the test of this name there, or says why it cannot.
#[allow(clippy::print_stderr, reason = "a skipped test says why")]
pub fn is_inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    if let Some(reason) = why_not() {
        eprintln!("SKIPPED: {reason}");
        return false;
    }
    let binary = std::env::current_exe().unwrap();
    let status = Command::new("unshare")
        .args(["--net", "--mount", "--propagation", "private", "sh", "-c", SETUP, "sh"])
        .arg(binary)
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .unwrap();
    assert!(status.success(), "{test} failed in its throw-away host");
    false
}

fn why_not() -> Option<&'static str> {
    if !rustix::process::geteuid().is_root() {
        return Some("CNI needs root");
    }
    if !ignite_network::plugins::cni::CniNetwork::new().has_plugins() {
        return Some("the CNI plugins are not installed (apt-get install containernetworking-plugins)");
    }
    let can = Command::new("unshare").args(["--net", "--mount", "ip", "link"]).output();
    if !can.is_ok_and(|output| output.status.success()) {
        return Some("no network namespace can be made here with `unshare` and `ip`");
    }
    None
}

/// What a command prints.
pub fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Everything on this host that belongs to an attachment; empty when nothing is left.
pub fn left_behind() -> Vec<String> {
    let mut left = Vec::new();
    for entry in std::fs::read_dir("/run/netns").unwrap().flatten() {
        left.push(format!("namespace {:?}", entry.file_name()));
    }
    for line in output("ip", &["-o", "link"]).lines().filter(|line| line.contains("veth") || line.contains("vm_")) {
        left.push(format!("link {line}"));
    }
    for network in std::fs::read_dir("/var/lib/cni/networks").into_iter().flatten().flatten() {
        for lease in std::fs::read_dir(network.path()).unwrap().flatten() {
            let name = lease.file_name().into_string().unwrap();
            if name != "lock" && !name.starts_with("last_reserved_ip") {
                left.push(format!("lease {name}"));
            }
        }
    }
    for program in ["iptables-save", "ip6tables-save"] {
        let rules = output(program, &[]);
        for rule in rules.lines().filter(|rule| rule.contains("ignite-") || rule.contains("--to-destination")) {
            left.push(format!("rule {rule}"));
        }
    }
    left
}
