//! The network of those who are not root.

use ignite_e2e::throwaway::{HOST_ADDRESS, Iptables, OUTSIDE_ADDRESS, netprobe};
use ignite_e2e::wait::{QUICK, until};
use ignite_e2e::{Host, Report, Throwaway, Vm, processes};
use rustix::process::Signal;

/// Nobody on any host.
const UID: u32 = 61_234;
const PROBE: &str = "/bin/netprobe";

pub fn a_user_without_capabilities_publishes_ports_and_gets_out() -> Report {
    let throwaway = Throwaway::new(Iptables::Nft)?;
    let host = Host::of_user(UID, &throwaway);
    let text = |path: std::path::PathBuf| path.to_str().expect("a UTF-8 path").to_owned();
    let (kernel, image) = (text(host.path("kernel.deb")), format!("oci:{}", text(host.path("busybox"))));
    let probe = host.path("netprobe");
    std::fs::copy(netprobe(), &probe).expect("copy netprobe");
    host.does(["kernel", "import", &kernel]).succeeds();

    let _outside = throwaway.serves("outside", "7", "outside");
    let vm = host.vm("web");
    let copied = format!("{}:{PROBE}", text(probe.clone()));
    let options = ["--copy-files", &copied, "-p", "127.0.0.1:8080:7,5300:7/udp", "--hostname", "web.lan"];
    // No network is named: it is what `auto` gives somebody who is not root.
    vm.run_in_background(options.into_iter().chain([&image, PROBE, "serve", "7", "web"]));
    assert_eq!(vm.inspect()["status"]["network"]["plugin"], "user");
    // The VMM has none either, but in a user namespace of its own, where the numbers mean nothing.
    for (process, fields) in [(vm.supervisor(), &["CapEff:", "CapPrm:", "CapBnd:"][..]), (vm.vmm(), &[])] {
        let process = process.expect("a running process");
        let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid)).expect("a running process");
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).expect("a field of its status");
            line.split_whitespace().nth(1).expect("a value").to_owned()
        };
        assert_eq!(field("Uid:"), UID.to_string(), "{}", process.name);
        for name in fields {
            assert_eq!(field(name), "0".repeat(16), "{name} of {}", process.name);
        }
    }

    let ask = |protocol: &str, address: &str, port: &str| {
        throwaway.call([text(probe.clone()).as_str(), "ask", protocol, address, port]).finish()
    };
    ask("tcp", "127.0.0.1", "8080").succeeds().says("web saw");
    ask("udp", "127.0.0.1", "5300").succeeds().says("web saw");
    let from_outside = [text(netprobe().to_owned()).as_str(), "ask", "udp", HOST_ADDRESS, "5300"].map(str::to_owned);
    throwaway.call_in("outside", from_outside).finish().succeeds().says("web saw");
    for protocol in ["tcp", "udp"] {
        let answer = vm.exec([PROBE, "ask", protocol, OUTSIDE_ADDRESS, "7"]);
        answer.succeeds().prints(&format!("outside saw {HOST_ADDRESS}\n"));
    }
    vm.exec(["hostname"]).prints("web.lan\n");

    let other = host.vm("other");
    let refused = other.run(["-d", "-p", "127.0.0.1:8080:80", &image, "true"]);
    refused.fails().complains("127.0.0.1:8080/tcp is published by VM").complains(vm.name());
    for refused in [["--ip", "10.0.2.9"], ["--network", "cni"]] {
        host.run(["-d"].into_iter().chain(refused).chain([&*image, "true"])).fails().complains("hint: ");
    }

    let id = vm.uid();
    let passt = ignite_e2e::processes::touching(&host.run_dir().join("vm").join(&id));
    assert!(!passt.is_empty());
    for vm in host.vm_ids() {
        host.does(["rm", "-f", &vm]).succeeds();
    }
    host.assert_nothing_left();
    Ok(())
}

pub fn a_user_without_capabilities_has_a_tap_in_a_namespace_of_the_vms_own() -> Report {
    let throwaway = Throwaway::new(Iptables::Nft)?;
    let host = Host::of_user(UID, &throwaway);
    let text = |path: std::path::PathBuf| path.to_str().expect("a UTF-8 path").to_owned();
    let (kernel, image) = (text(host.path("kernel.deb")), format!("oci:{}", text(host.path("busybox"))));
    let probe = text(host.path("netprobe"));
    std::fs::copy(netprobe(), &probe).expect("copy netprobe");
    host.does(["kernel", "import", &kernel]).succeeds();
    let _outside = throwaway.serves("outside", "7", "outside");
    let copied = format!("{probe}:{PROBE}");
    let options = ["--network", "user:tap", "--copy-files", &copied, "-p", "127.0.0.1:8080:7,5300:7/udp"];
    let words = || options.into_iter().chain([image.as_str(), PROBE, "serve", "7", "web"]);
    let serves = |vm: &Vm<'_>| {
        for (protocol, port) in [("tcp", "8080"), ("udp", "5300")] {
            throwaway.call([&probe, "ask", protocol, "127.0.0.1", port]).finish().succeeds().says("web saw");
            let answer = vm.exec([PROBE, "ask", protocol, OUTSIDE_ADDRESS, "7"]);
            answer.succeeds().prints(&format!("outside saw {HOST_ADDRESS}\n"));
        }
    };
    let vm = host.vm("web");
    vm.run_in_background(words());
    assert_eq!(vm.inspect()["status"]["network"]["plugin"], "user");
    serves(&vm);

    // Megabytes both ways, whose segments are cut and summed up on the way.
    let content: Vec<u8> = (0..4_000_000_u32).flat_map(|number| (number >> 3).to_le_bytes()[..2].to_vec()).collect();
    let file = host.file("served/file", content);
    let sum = throwaway.call(["sha1sum", "-"]).stdin(std::fs::read(&file).expect("read a file")).finish().text();
    let serve =
        ["busybox", "httpd", "-f", "-p", "80", "-h", file.parent().and_then(|dir| dir.to_str()).expect("a path")];
    let httpd = throwaway.call_in("outside", serve).start();
    let fetch =
        format!("until wget -q -O /tmp/file http://{OUTSIDE_ADDRESS}/file; do sleep 0.2; done; sha1sum - < /tmp/file");
    vm.sh(&fetch).succeeds().prints(&sum);
    // Its own input never ends: it would hang up.
    let silence = text(host.path("silence"));
    let receive = "mkfifo $1 && exec 3<>$1 && busybox nc -l -p 10 <&3 | sha1sum";
    let receiver = throwaway.call_in("outside", ["sh", "-c", receive, "sh", &silence]).start();
    vm.sh(&format!("until nc {OUTSIDE_ADDRESS} 10 < /tmp/file; do sleep 0.2; done")).succeeds();
    receiver.finish().succeeds().prints(&sum);
    drop(httpd);

    // The supervisor is killed: VMM, passt and the namespace's keeper go with it, and the next start finds nothing in its way.
    let supervisor = vm.supervisor().expect("a supervisor").pid;
    let family: Vec<u32> = processes::descendants(supervisor).into_iter().map(|process| process.pid).collect();
    assert!(family.len() >= 3, "VMM, passt and keeper: {family:?}");
    processes::signal(supervisor, Signal::KILL);
    until("everything of the supervisor to be gone", QUICK, || {
        let left = processes::all().into_iter().filter(|process| family.contains(&process.pid)).count();
        (left == 0).then_some(())
    });
    assert_eq!(vm.phase(), "Failed");
    vm.does("start").succeeds();
    serves(&vm);
    host.does(["rm", "-f", vm.name()]).succeeds();
    host.assert_nothing_left();
    Ok(())
}
