//! Docker's own network, with a real engine on a throw-away host.

use ignite_e2e::engines::Engine;
use ignite_e2e::images::busybox;
use ignite_e2e::throwaway::{HOST_ADDRESS, Iptables, OUTSIDE_ADDRESS, netprobe};
use ignite_e2e::{Host, Report, Throwaway};

const PROBE: &str = "/bin/netprobe";

pub fn a_vm_joins_the_containers_of_a_docker_engine() -> Report {
    let throwaway = Throwaway::new(Iptables::Nft)?;
    let host = Host::on(&throwaway);
    let dir = host.path("docker");
    let host = host.with_env("DOCKER_HOST", format!("unix://{}", dir.join("docker.sock").display()));
    let vm = host.vm("web");
    let refused = vm.run(["-d", "--network-plugin", "docker-bridge", busybox(), "true"]);
    refused.fails().complains("docker.sock").complains("--network cni").complains("--network user");

    let docker = Engine::dockerd_on(&throwaway, &dir)?;
    let probe = netprobe().to_str().expect("a UTF-8 path");
    let layer = host.path("layer.tar");
    let packed = std::process::Command::new("tar").arg("-cf").arg(&layer).args(["-C", "/"]).arg(&probe[1..]).status();
    assert!(packed.is_ok_and(|status| status.success()), "pack the container's image");
    docker.docker(&["import", layer.to_str().expect("a UTF-8 path"), "probe"]);
    let volume = format!("{probe}:{PROBE}");
    let options = ["run", "-d", "--name", "container", "-v", &volume, "probe", PROBE, "serve", "7", "container"];
    docker.docker(&options);
    let told = docker.docker(&["inspect", "-f", "{{.NetworkSettings.IPAddress}}", "container"]);
    let container = told.text().trim().to_owned();

    let _outside = throwaway.serves("outside", "7", "outside");
    host.does(["rm", "-f", vm.name()]);
    let copied = format!("{probe}:{PROBE}");
    let options = ["--network", "docker-bridge", "--copy-files", &copied, "-p", "8080:7"];
    vm.run_in_background(options.into_iter().chain([busybox(), PROBE, "serve", "7", "vm"]));
    let status = vm.inspect()["status"]["network"].clone();
    assert_eq!(status["plugin"], "docker-bridge");
    let address = status["ipAddresses"][0].as_str().expect("an address").to_owned();
    assert!(address.starts_with("172.17.25"), "{address} is not of the end of Docker's subnet");
    host.does(["network", "inspect", "docker-bridge"]).succeeds().says(vm.name()).says("docker0");

    // Each reaches the other, as its own address; outside, Docker masquerades; the published port is let in.
    vm.exec([PROBE, "ask", "tcp", &container, "7"]).succeeds().prints(&format!("container saw {address}\n"));
    let asked = docker.docker(&["exec", "container", PROBE, "ask", "tcp", &address, "7"]);
    asked.prints(&format!("vm saw {container}\n"));
    let answer = vm.exec([PROBE, "ask", "tcp", OUTSIDE_ADDRESS, "7"]);
    answer.succeeds().prints(&format!("outside saw {HOST_ADDRESS}\n"));
    throwaway.call([probe, "ask", "tcp", "127.0.0.1", "8080"]).finish().succeeds().says("vm saw");
    throwaway.call_in("outside", [probe, "ask", "tcp", HOST_ADDRESS, "8080"]).finish().succeeds().says("vm saw");

    // Undone without the engine.
    docker.docker(&["rm", "-f", "container"]);
    drop(docker);
    host.does(["rm", "-f", vm.name()]).succeeds();
    throwaway.assert_nothing_left();
    host.assert_nothing_left();
    Ok(())
}
