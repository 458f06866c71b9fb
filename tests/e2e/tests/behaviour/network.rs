//! CNI networks with real boots, on a throw-away host.

use ignite_e2e::images::busybox;
use ignite_e2e::throwaway::{HOST_ADDRESS, Iptables, OUTSIDE_ADDRESS, netprobe, plugin};
use ignite_e2e::wait::{QUICK, until};
use ignite_e2e::{Host, Report, Throwaway, Vm};
use serde_json::{Value, json};

/// What every VM and container serves.
const PORT: &str = "7";
/// The bridge of our own network.
const GATEWAY: &str = "10.61.0.1";
/// In a guest, where [`copied`] puts it.
const PROBE: &str = "/bin/netprobe";

pub fn vms_and_a_container_of_one_bridge_reach_each_other_and_the_world() -> Report {
    one_bridge(Iptables::Nft)
}

pub fn the_same_with_the_iptables_of_old() -> Report {
    one_bridge(Iptables::Legacy)
}

fn one_bridge(iptables: Iptables) -> Report {
    let throwaway = Throwaway::new(iptables)?;
    let host = Host::on(&throwaway);
    let _outside = throwaway.serves("outside", PORT, "outside");
    let (web, db) = (host.vm("web"), host.vm("db"));
    serve(&web, &["-p", "8080:7,5300:7/udp"]);
    serve(&db, &["--network-alias", "store", "--ip", "10.61.9.9"]);
    let container = Container::start(&throwaway, &host);
    let addresses = [address(&web), address(&db), container.address.clone()];
    assert_eq!(addresses[1], "10.61.9.9", "it is the one that was asked for");

    // All pairs.
    for peer in &addresses {
        for vm in [&web, &db] {
            vm.exec(["ping", "-c1", "-W9", peer]).succeeds();
            for protocol in ["tcp", "udp"] {
                vm.exec([PROBE, "ask", protocol, peer, PORT]).succeeds().says(&address(vm));
            }
        }
        container.does(&["busybox", "ping", "-c1", "-W9", peer]);
        for protocol in ["tcp", "udp"] {
            container.does(&[&probe(), "ask", protocol, peer, PORT]);
        }
    }
    // By name, from the one that was there first too.
    web.exec(["ping", "-c1", "-W9", db.name()]).succeeds().says("10.61.9.9");
    web.exec(["ping", "-c1", "-W9", "store"]).succeeds().says("10.61.9.9");
    db.exec(["ping", "-c1", "-W9", web.name()]).succeeds().says(&addresses[0]);

    // Outside, through masquerade.
    for protocol in ["tcp", "udp"] {
        let answer = web.exec([PROBE, "ask", protocol, OUTSIDE_ADDRESS, PORT]);
        answer.succeeds().prints(&format!("outside saw {HOST_ADDRESS}\n"));
    }
    web.exec(["ping", "-c1", "-W9", OUTSIDE_ADDRESS]).succeeds();

    // Published ports: from the host's loopback, from another host, from the VM itself and from its neighbour.
    for (protocol, port) in [("tcp", "8080"), ("udp", "5300")] {
        for target in ["127.0.0.1", HOST_ADDRESS, GATEWAY] {
            throwaway.call([&probe(), "ask", protocol, target, port]).finish().succeeds().says("web-");
        }
        let outside = throwaway.call_in("outside", [&probe(), "ask", protocol, HOST_ADDRESS, port]).finish();
        outside.succeeds().says(&format!("saw {OUTSIDE_ADDRESS}"));
        for target in [GATEWAY, HOST_ADDRESS] {
            for vm in [&web, &db] {
                vm.exec([PROBE, "ask", protocol, target, port]).succeeds().says("web-");
            }
        }
    }
    // Taken, and by whom.
    let other = host.vm("other");
    let refused = other.run(["-d", "--network", "cni", "-p", "8080:80", busybox(), "true"]);
    refused.fails().complains("0.0.0.0:8080/tcp is published by VM").complains(web.name());

    // What is there is shown, and what somebody breaks is found.
    host.does(["network", "ls"]).succeeds().says("cni:ignite-cni-bridge").says("bridge,portmap,firewall");
    let shown = host.does(["network", "inspect", "ignite-cni-bridge", "--check"]);
    let shown = shown.succeeds().json();
    assert_eq!((shown["vms"].as_array().map(Vec::len), &shown["problems"]), (Some(2), &json!([])), "{shown}");
    let netns = format!("ignite-{}", web.uid());
    throwaway.call(["ip", "-n", &netns, "addr", "flush", "dev", "eth0"]).finish().succeeds();
    let broken = host.does(["network", "inspect", "cni:ignite-cni-bridge", "--check"]);
    let broken = broken.exits(1).json();
    let problem = broken["problems"][0].as_str().expect("a problem");
    assert!(problem.starts_with(web.name()) && problem.contains("bridge CHECK failed"), "{problem}");
    host.does(["network", "inspect", "nosuch"]).fails().complains("cni:ignite-cni-bridge");

    // Who goes is forgotten; who comes back has the same address and name.
    db.does("stop").succeeds();
    until("the name to be gone", QUICK, || (!knows(&web, db.name())).then_some(()));
    db.does("start").succeeds();
    until("the name to be back", QUICK, || knows(&web, db.name()).then_some(()));
    web.exec([PROBE, "ask", "tcp", "10.61.9.9", PORT]).succeeds();

    container.end();
    for vm in [&web, &db, &other] {
        host.ignite(["rm", "-f", vm.name()]).finish();
    }
    throwaway.assert_nothing_left();
    host.does(["network", "prune"]).succeeds().prints("ignite0\n");
    host.does(["network", "prune"]).succeeds().prints("");
    throwaway.call(["ip", "link", "show", "ignite0"]).finish().fails();
    host.assert_nothing_left();
    Ok(())
}

/// Two networks that somebody else has configured: one with IPv6, an MTU and limits of its traffic, given as a single VM's
/// wish; one by static addresses, with DNS, as a single configuration of an old version.
pub fn a_vm_is_in_two_networks_of_the_administrators_own() -> Report {
    let throwaway = Throwaway::new(Iptables::Nft)?;
    throwaway.configure(
        "10-dual.conflist",
        r#"{"cniVersion":"1.0.0","name":"dual","plugins":[
            {"type":"bridge","bridge":"dual0","isDefaultGateway":true,"ipMasq":true,"hairpinMode":true,"mtu":1400,
             "ipam":{"type":"host-local","ranges":[[{"subnet":"10.62.0.0/24"}],[{"subnet":"fd62::/64"}]]}},
            {"type":"portmap","capabilities":{"portMappings":true}},
            {"type":"bandwidth","capabilities":{"bandwidth":true}},
            {"type":"firewall"}]}"#,
    );
    throwaway.configure(
        "20-fixed.conf",
        r#"{"cniVersion":"0.3.1","name":"fixed","type":"bridge","bridge":"fixed0","isGateway":true,
            "ipam":{"type":"static","addresses":[{"address":"10.63.0.7/24","gateway":"10.63.0.1"}]},
            "dns":{"nameservers":["10.63.0.53"],"search":["fixed.example"]}}"#,
    );
    let host = Host::on(&throwaway);
    let vm = host.vm("dual");
    let manifest = host.file(
        "vm.yaml",
        format!(
            "apiVersion: ignite.weave.works/v1alpha4\nkind: VM\nmetadata:\n  name: {}\n  \
             annotations: {{ignite.weave.works/interface/eth0: dhcp-bridge}}\nspec:\n  network:\n    \
             mode: cni:dual,fixed\n    ips: [10.62.0.77, 'fd62::77']\n    bandwidth: {{ingressRate: 80000000, \
             ingressBurst: 80000000, egressRate: 80000000, egressBurst: 80000000}}\n",
            vm.name()
        ),
    );
    let manifest = manifest.to_str().expect("a UTF-8 path");
    let copied = copied();
    let options = ["--config", manifest, "--copy-files", &copied, "-p", "[fd51::1]:8081:7", "-p", "8080:7"];
    let more = ["--dns-search", "mine.example", "--add-host", "gate:host-gateway"];
    let command = [busybox(), PROBE, "serve", PORT, "dual"];
    host.ignite(["run", "-d"]).args(options).args(more).args(command).finish().succeeds();

    let _outside = throwaway.serves("outside", PORT, "outside");
    vm.sh("ip -o addr show eth0").succeeds().says("10.62.0.77/24").says("fd62::77/64");
    vm.sh("ip -o addr show eth1").succeeds().says("10.63.0.7/24");
    // A guest that insists on asking is answered, with what it has already.
    let asked = vm.exec(["udhcpc", "-n", "-q", "-f", "-i", "eth0", "-s", "/bin/true"]);
    asked.succeeds();
    let said = format!("{}{}", asked.text(), asked.errors());
    assert!(said.contains("lease of 10.62.0.77 obtained from 10.62.0.1"), "{said}");
    vm.exec(["cat", "/sys/class/net/eth0/mtu"]).prints("1400\n");
    vm.exec(["cat", "/etc/resolv.conf"]).prints("nameserver 10.63.0.53\nsearch mine.example\n");
    vm.exec(["ping", "-c1", "-W9", "gate"]).succeeds().says("10.62.0.1");
    vm.exec(["ping", "-c1", "-W9", "10.63.0.1"]).succeeds();
    vm.exec(["ping6", "-c1", "-W9", "fd62::1"]).succeeds();
    vm.exec([PROBE, "ask", "tcp", OUTSIDE_ADDRESS, PORT]).succeeds().says(HOST_ADDRESS);
    vm.exec([PROBE, "ask", "tcp", "fd51::2", PORT]).succeeds().says("fd51::1");
    for (address, port) in [("fd51::1", "8081"), ("fd51::1", "8080"), (HOST_ADDRESS, "8080")] {
        let outside = throwaway.call_in("outside", [&probe(), "ask", "tcp", address, port]).finish();
        outside.succeeds().says("dual saw");
    }
    throwaway.call(["tc", "qdisc"]).finish().succeeds().says("tbf").says("rate 80Mbit");
    host.does(["rm", "-f", vm.name()]).succeeds();
    throwaway.assert_nothing_left();
    host.assert_nothing_left();
    Ok(())
}

fn probe() -> String {
    netprobe().to_str().expect("the build directory has a UTF-8 name").to_owned()
}

/// `--copy-files` for [`netprobe`].
fn copied() -> String {
    format!("{}:{PROBE}", probe())
}

/// Starts a VM that serves under its name.
fn serve(vm: &Vm<'_>, options: &[&str]) {
    let copied = copied();
    let mut words = vec!["--network", "cni", "--copy-files", &copied];
    words.extend(options);
    words.extend([busybox(), PROBE, "serve", PORT, vm.name()]);
    vm.run_in_background(words);
}

fn address(vm: &Vm<'_>) -> String {
    vm.inspect()["status"]["network"]["ipAddresses"][0].as_str().expect("an address").to_owned()
}

fn knows(vm: &Vm<'_>, name: &str) -> bool {
    vm.exec(["cat", "/etc/hosts"]).text().split_whitespace().any(|word| word == name)
}

/// A namespace that a container runtime would have made: attached to the VMs' network by the plugins themselves.
struct Container<'a> {
    throwaway: &'a Throwaway,
    configuration: Value,
    address: String,
    _server: ignite_e2e::Running,
}

impl<'a> Container<'a> {
    fn start(throwaway: &'a Throwaway, host: &Host) -> Self {
        let file = host.data_dir().join("cni/net.d/10-ignite.conflist");
        let list: Value = serde_json::from_slice(&std::fs::read(file).expect("our network is written")).expect("JSON");
        let mut configuration = list["plugins"][0].clone();
        configuration["name"] = list["name"].clone();
        configuration["cniVersion"] = list["cniVersion"].clone();
        throwaway.call(["ip", "netns", "add", "plain"]).finish().succeeds();
        throwaway.call(["ip", "-n", "plain", "link", "set", "lo", "up"]).finish().succeeds();
        let result = cni(throwaway, "ADD", &configuration);
        let address = result["ips"][0]["address"].as_str().expect("an address");
        let address = address.split('/').next().expect("a prefix").to_owned();
        let server = throwaway.serves("plain", PORT, "container");
        Container { throwaway, configuration, address, _server: server }
    }

    #[track_caller]
    fn does(&self, words: &[&str]) {
        self.throwaway.call_in("plain", words).finish().succeeds();
    }

    fn end(self) {
        cni(self.throwaway, "DEL", &self.configuration);
        self.throwaway.call(["ip", "netns", "delete", "plain"]).finish().succeeds();
    }
}

fn cni(throwaway: &Throwaway, command: &str, configuration: &Value) -> Value {
    let program = plugin("bridge").expect("the plugins are installed");
    let outcome = throwaway
        .call([&program])
        .env("CNI_COMMAND", command)
        .env("CNI_CONTAINERID", "plain")
        .env("CNI_NETNS", "/run/netns/plain")
        .env("CNI_IFNAME", "eth0")
        .env("CNI_PATH", program.parent().expect("in a directory"))
        .stdin(configuration.to_string())
        .finish();
    outcome.succeeds();
    if outcome.text().trim().is_empty() { json!({}) } else { outcome.json() }
}
