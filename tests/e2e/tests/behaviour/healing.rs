//! `ignited` and health: who is unhealthy is started again, and who depends on the healthy waits.

use ignite_e2e::Host;
use ignite_e2e::images::busybox;
use ignite_e2e::wait::{BOOT, QUICK, until};
use rustix::process::Signal;
use serde_json::Value;

/// `app` is healthy some seconds after each of its starts; `web` depends on that.
fn pair() -> String {
    let web = vm("web", "dependsOn: [{name: app, condition: healthy}]\n  args: [sleep, \"10000\"]");
    let app = vm(
        "app",
        "restartPolicy: always\n  \
         healthCheck: {test: [CMD, test, -e, /ok], interval: 300ms, retries: 2, startPeriod: 60s, startInterval: 300ms}\n  \
         args: [sh, -c, \"rm -f /ok; sleep 2; touch /ok; exec sleep 10000\"]",
    );
    format!("{web}---\n{app}")
}

/// A small VM and what else its specification says.
fn vm(name: &str, rest: &str) -> String {
    let busybox = busybox();
    format!(
        r#"apiVersion: ignite.weave.works/v1alpha4
kind: VM
metadata: {{name: {name}}}
spec:
  image: {{oci: "{busybox}"}}
  memory: 128MB
  diskSize: 64MB
  network: {{mode: none}}
  {rest}
"#
    )
}

fn found(host: &Host, name: &str) -> Option<Value> {
    serde_json::from_str(&host.does(["inspect", name]).text()).ok()
}

fn is_healthy(vm: &Value) -> bool {
    vm["status"]["health"]["state"] == "healthy"
}

pub fn a_dependent_waits_for_health_and_who_loses_it_is_started_again() {
    let host = Host::new();
    let file = host.file("manifests/pair.yaml", pair());
    let mut daemon = host.ignited(["daemon", "--manifests"]).args([file.parent().expect("a directory")]).start();
    let mut has_waited = false;
    until("web to run", BOOT, || {
        let status = host.ignited(["status"]).within(QUICK).finish().text();
        has_waited |= status.lines().any(|line| line.contains("web") && line.contains("for app"));
        found(&host, "web").filter(|vm| vm["status"]["phase"] == "Running")
    });
    assert!(has_waited, "the status told what web waits for");
    // What happened is in the log of events: first the health, then the start of who depends on it.
    let events = host.does(["events", "--since", "1h", "--until", "0s", "--format", "json"]).succeeds().text();
    let place = |name: &str, what: &str| {
        let is_it = |line: &str| line.contains(&format!("\"{name}\"")) && line.contains(what);
        events.lines().position(is_it).unwrap_or_else(|| panic!("no {what} of {name} in\n{events}"))
    };
    assert!(place("app", "\"healthy\"") < place("web", "\"start\""), "{events}");

    let before = found(&host, "app").expect("app");
    let other = found(&host, "web").expect("web");
    assert!(is_healthy(&before), "{before}");
    host.ignite(["exec", "app", "rm", "/ok"]).finish().succeeds();
    let after = until("app to be healed", BOOT, || {
        let is_new = |vm: &Value| vm["status"]["startTime"] != before["status"]["startTime"];
        found(&host, "app").filter(|vm| is_new(vm) && is_healthy(vm))
    });
    assert_eq!(after["metadata"]["uid"], before["metadata"]["uid"], "its disk stays");
    assert_eq!(after["status"]["starts"], 2, "{after}");
    let web = found(&host, "web").expect("web");
    assert_eq!(web["status"]["startTime"], other["status"]["startTime"], "the others go on");
    until("all to be ready", BOOT, || host.ignited(["status"]).within(QUICK).finish().code.eq(&0).then_some(()));

    daemon.signal(Signal::TERM);
    daemon.finish().succeeds();
    host.ignite(["rm", "-f", "web", "app"]).finish().succeeds();
}
