//! `events`: a life is told from its beginning to its end, as it happens and afterwards.

use ignite_e2e::Host;
use ignite_e2e::images::busybox;
use ignite_e2e::wait::BOOT;

pub fn a_life_is_told_from_create_to_destroy() {
    let host = Host::new();
    let vm = host.vm("told");
    let until = seconds_since_1970_in(300);
    let live = host
        .ignite(["events", "--since", "1h", "--format", "json", "--until", &until, "-f", &format!("vm={}", vm.name())])
        .within(BOOT)
        .start();
    vm.run_in_background([busybox(), "sh", "-c", "exit 4"]);
    vm.does("wait").prints("4\n");
    vm.does("rm").succeeds();
    let told = host.ignite(["events", "--since", "1h", "--until", "0s", "--format", "json"]).finish();
    let actions: Vec<String> = told.succeeds().text().lines().map(action).collect();
    assert_eq!(actions, ["create", "start", "die 4", "destroy"]);
    // Who listened has heard the same, and leaves when told.
    ignite_e2e::processes::signal(live.pid(), rustix::process::Signal::INT);
    let heard: Vec<String> = live.finish().exits(130).text().lines().map(action).collect();
    assert_eq!(heard, actions);
}

pub fn action(line: &str) -> String {
    let event: serde_json::Value = serde_json::from_str(line).expect("a JSON object a line");
    let code = event["attributes"]["exitCode"].as_str().map(|code| format!(" {code}")).unwrap_or_default();
    format!("{}{code}", event["action"].as_str().expect("an action"))
}

fn seconds_since_1970_in(seconds: u64) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    (now.as_secs() + seconds).to_string()
}
