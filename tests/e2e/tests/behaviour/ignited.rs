//! `ignited`: what is written, in a directory or in Git, is what runs.

#![allow(clippy::print_stdout, reason = "what is measured is told")]

use ignite_e2e::git::{Https, Origin, Sshd, ssh_key};
use ignite_e2e::images::busybox;
use ignite_e2e::wait::{BOOT, QUICK, until};
use ignite_e2e::{Host, Report, Running};
use rustix::process::Signal;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Instant;

/// A VM that does nothing for long, without a network.
fn manifest(name: &str, memory: &str) -> String {
    format!(
        "apiVersion: ignite.weave.works/v1alpha4\nkind: VM\nmetadata:\n  name: {name}\nspec:\n  image: {{oci: \"{}\"}}\n  \
         memory: {memory}\n  diskSize: 64MB\n  network: {{mode: none}}\n  args: [sleep, \"10000\"]\n",
        busybox()
    )
}

/// `ignited status`, as text.
fn status(host: &Host) -> String {
    let outcome = host.ignited(["status"]).within(QUICK).finish();
    format!("{}{}", outcome.text(), outcome.errors())
}

fn wait_for(host: &Host, what: &str, is_so: impl Fn(&str) -> bool) -> String {
    let mut last = String::new();
    // The condition is told with the last answer when it never comes.
    let deadline = Instant::now() + BOOT;
    loop {
        let text = status(host);
        if is_so(&text) {
            return text;
        }
        if text != last {
            last = text;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}; the last status:\n{last}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

fn is_ready(text: &str) -> bool {
    text.contains(": ready;")
}

fn at(commit: &str) -> impl Fn(&str) -> bool + '_ {
    move |text| is_ready(text) && text.contains(&commit[..12])
}

fn starts(host: &Host, name: &str) -> (String, u64, u64) {
    let text = host.does(["inspect", name]).succeeds().text();
    let vm: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let memory = host.ignite(["exec", name, "free", "-m"]).finish().succeeds().text();
    let total = memory.lines().nth(1).and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).expect("free -m");
    let uid = vm["metadata"]["uid"].as_str().expect("a uid").to_owned();
    (uid, vm["status"]["starts"].as_u64().unwrap_or(0), total)
}

/// The daemon ends, and what runs goes on.
fn end(mut daemon: Running) {
    daemon.signal(Signal::TERM);
    daemon.finish().succeeds();
}

pub fn what_is_pushed_runs_over_ssh_and_over_https() -> Report {
    let host = Host::new();
    let origin = Origin::empty(host.path("git"));
    let sshd = Sshd::start(&origin)?;
    let first = origin.commit(&[("vms/web.yaml", &manifest("web", "128MB")), ("README.md", "not a manifest\n")]);
    let ssh_url = sshd.url(&origin.path());
    let (identity, hosts) = (sshd.identity(), sshd.known_hosts());
    let daemon = host
        .ignited(["gitops", &ssh_url, "--branch", "main", "--path", "vms", "--name", "shop", "--interval", "300ms"])
        .args(["--status-branch", "ignited-status", "--identity-file"])
        .args([identity.as_path()])
        .args(["--hosts-file"])
        .args([hosts.as_path()])
        .start();
    wait_for(&host, "the first commit", at(&first));
    let (uid, _, _) = starts(&host, "web");

    // Measured: a push of one more VM, until `ignited` says that it runs.
    let pushed = Instant::now();
    let second = origin.commit(&[("vms/more.yaml", &manifest("more", "128MB"))]);
    wait_for(&host, "the second commit", at(&second));
    println!("measured: commit to running over ssh: {:.2} s", pushed.elapsed().as_secs_f64());
    host.ignite(["exec", "more", "true"]).finish().succeeds();
    host.does(["stack", "ls", "-q"]).succeeds().prints("shop\n");

    // What `diff` says of a change is what is done: the memory is another, the disk the same.
    host.ignite(["exec", "web", "sh", "-c", "echo kept > /mark && sync"]).finish().succeeds();
    let changed = manifest("web", "192MB");
    let file = host.file("changed/web.yaml", &changed);
    let plan = host.ignite(["diff", "--set", "shop", "-f"]).args([file.as_path()]).finish();
    plan.exits(1).says("memory").says("restarted, its disk stays");
    host.ignite(["diff", "-f"]).args([file.as_path()]).finish().exits(1).says("kept by ignited/shop");
    let third = origin.commit(&[("vms/web.yaml", &changed)]);
    let status = wait_for(&host, "the change", at(&third));
    assert!(status.contains("web"), "{status}");
    let (uid_after, starts_after, total) = starts(&host, "web");
    assert_eq!((uid_after, starts_after), (uid.clone(), 2), "restarted, not recreated");
    assert!(total > 140, "{total} MB");
    host.ignite(["exec", "web", "cat", "/mark"]).finish().succeeds().prints("kept\n");

    // Another size of the disk takes a new VM.
    let fourth = origin.commit(&[("vms/web.yaml", &changed.replace("64MB", "96MB"))]);
    wait_for(&host, "the new disk", at(&fourth));
    let (uid_new, _, _) = starts(&host, "web");
    assert_ne!(uid_new, uid, "recreated");

    // A broken file keeps what runs, and says where it is broken.
    let broken = changed.replace("64MB", "96MB").replace("  memory:", "  memroy:");
    origin.commit(&[("vms/web.yaml", &broken), ("vms/third.yaml", &manifest("third", "128MB"))]);
    wait_for(&host, "the error", |text| {
        text.contains("web.yaml:7: line 7, column 3")
            && text.contains("did you mean `memory`?")
            && text.lines().any(|line| line.contains("third") && line.contains("Ready"))
            && text.lines().any(|line| line.contains("web ") && line.contains("Held"))
    });
    assert_eq!(starts(&host, "web").0, uid_new, "it runs as before");
    let sixth = origin.revert();
    wait_for(&host, "the revert", at(&sixth));
    assert_eq!(starts(&host, "web").0, uid_new);
    host.does(["inspect", "third"]).fails();

    // Gone from Git, gone from the host.
    let seventh = origin.remove("vms/more.yaml");
    wait_for(&host, "the removal", at(&seventh));
    host.does(["inspect", "more"]).fails();
    until("the status in its branch", QUICK, || {
        let refs = origin.server_git(&["for-each-ref", "--format=%(refname)"]);
        let text = refs.contains("ignited-status").then(|| origin.server_git(&["show", "ignited-status:status.json"]));
        text.filter(|text| text.contains(&seventh) && text.contains("\"isReady\": true"))
    });
    end(daemon);
    assert_eq!(starts(&host, "web").0, uid_new, "VMs outlive the daemon");

    // The same set over https, by whoever comes next: nothing is done twice.
    let https = Https::start(&origin);
    let password = host.file("password", "secret\n");
    let daemon = host
        .ignited(["gitops", &https.url(), "--branch", "main", "--path", "vms", "--name", "shop", "--interval", "300ms"])
        .args(["--https-username", "me", "--https-password-file"])
        .args([password.as_path()])
        .args(["--https-ca-file"])
        .args([https.ca().as_path()])
        .start();
    wait_for(&host, "the take-over", at(&seventh));
    assert_eq!(starts(&host, "web").0, uid_new);
    let pushed = Instant::now();
    let eighth = origin.commit(&[("vms/late.yaml", &manifest("late", "128MB"))]);
    wait_for(&host, "a commit over https", at(&eighth));
    println!("measured: commit to running over https: {:.2} s", pushed.elapsed().as_secs_f64());
    host.ignite(["exec", "late", "true"]).finish().succeeds();
    end(daemon);
    Ok(())
}

pub fn only_signed_commits_are_taken() -> Report {
    let host = Host::new();
    let origin = Origin::empty(host.path("git"));
    let (key, stranger) = (origin.scratch("signer"), origin.scratch("stranger"));
    ssh_key(&key);
    ssh_key(&stranger);
    origin.git(&["config", "gpg.format", "ssh"]);
    let rest = |name: &str| format!("{}status: {{running: false}}\n", manifest(name, "128MB"));
    let signed_by = |key: &std::path::Path, files: &[(&str, &str)]| {
        origin.git(&["config", "user.signingkey", key.to_str().expect("UTF-8")]);
        origin.commit_with(files, &["-S"])
    };
    let good = signed_by(&key, &[("a.yaml", &rest("signed"))]);
    let url = format!("file://{}", origin.path().display());
    let daemon = host
        .ignited(["gitops", &url, "--branch", "main", "--name", "safe", "--interval", "300ms", "--verify-signatures"])
        .args([key.with_extension("pub").as_path()])
        .start();
    wait_for(&host, "the signed commit", at(&good));

    let refused = |what: &str| {
        let text = wait_for(&host, what, |text| text.contains("error: ") && text.contains(&good[..12]));
        assert!(!text.contains("intruder"), "{text}");
        host.does(["inspect", "intruder"]).fails();
        host.does(["inspect", "signed"]).succeeds();
    };
    origin.commit(&[("b.yaml", &rest("intruder"))]);
    refused("the refusal of an unsigned commit");
    signed_by(&stranger, &[("c.yaml", "# a stranger\n")]);
    refused("the refusal of a stranger's commit");
    // A history without signatures, pushed by force.
    origin.git(&["checkout", "-q", "--orphan", "other"]);
    origin.commit(&[("a.yaml", &rest("intruder"))]);
    refused("the refusal of a rewritten history");
    origin.git(&["rm", "-rqf", "."]);
    let healed = signed_by(&key, &[("a.yaml", &rest("signed"))]);
    let text = wait_for(&host, "a signed commit again", at(&healed));
    assert!(text.contains("history was rewritten"), "{text}");
    end(daemon);
    Ok(())
}

pub fn a_directory_is_kept_by_whoever_comes_next() {
    let host = Host::new();
    let path = host.file("manifests/a.yaml", manifest("kept", "128MB"));
    let before = fs::read(&path).expect("read it");
    let start = || host.ignited(["daemon", "--manifests"]).args([host.path("manifests").as_path()]).start();
    let daemon = start();
    wait_for(&host, "the VM", is_ready);
    let (uid, starts_before, _) = starts(&host, "kept");
    host.ignited(["daemon", "--manifests"])
        .args([host.path("manifests").as_path()])
        .finish()
        .fails()
        .complains("another ignited keeps the set manifests");

    daemon.kill_now();
    let daemon = start();
    wait_for(&host, "the take-over", is_ready);
    assert_eq!(
        (starts(&host, "kept").0, starts(&host, "kept").1),
        (uid.clone(), starts_before),
        "nothing is done twice"
    );

    // A VM of somebody else is never touched, and what dies comes back.
    host.run(["-d", "--name", "mine", "--network", "none", busybox(), "sleep", "1000"]).succeeds();
    host.file("manifests/b.yaml", manifest("mine", "128MB"));
    wait_for(&host, "the refusal", |text| text.contains("made by hand") && text.contains("hint: mine: remove it"));
    host.ignite(["kill", "kept"]).finish().succeeds();
    until("the VM's return", BOOT, || {
        let text = host.does(["inspect", "kept"]).text();
        let vm: serde_json::Value = serde_json::from_str(&text).ok()?;
        (vm["status"]["phase"] == "Running" && vm["status"]["starts"] == starts_before + 1).then_some(())
    });
    fs::remove_file(host.path("manifests/b.yaml")).expect("remove it");
    fs::remove_file(&path).expect("remove it");
    until("the removal", BOOT, || host.does(["inspect", "kept"]).code.ne(&0).then_some(()));
    host.does(["inspect", "mine"]).succeeds();
    end(daemon);
    fs::write(&path, before).expect("write it");
    host.ignite(["rm", "-f", "mine"]).finish().succeeds();
}

pub fn a_manifest_of_weave_ignite_means_what_it_meant() {
    let host = Host::new();
    // As its documentation has it: an older version, a uid, and the wish in the status.
    let text = |running: bool| {
        format!(
            "apiVersion: ignite.weave.works/v1alpha2\nkind: VM\nmetadata:\n  name: my-vm\n  uid: 599615df99804ae8\nspec:\n  \
             image:\n    oci: \"{}\"\n  cpus: 1\n  diskSize: 64MB\n  memory: 128MB\nstatus:\n  running: {running}\n",
            busybox()
        )
    };
    let path = host.file("manifests/vm.yml", text(true));
    let config = "apiVersion: ignite.weave.works/v1alpha4\nkind: Configuration\nspec: {networkPlugin: user, \
                  vmDefaults: {args: [sleep, \"10000\"]}}\n";
    let config = host.file("config.yaml", config);
    let daemon = host
        .ignited([
            "--log-level",
            "info",
            "--runtime",
            "registry",
            "--network-plugin",
            "none",
            "daemon",
            "--id-prefix",
            "lab",
        ])
        .args([Path::new("--ignite-config"), &config, Path::new("--manifests"), &host.path("manifests")])
        .start();
    wait_for(&host, "the VM", is_ready);
    assert_eq!(starts(&host, "my-vm").0, "599615df99804ae8");
    let query = "{{.Status.IDPrefix}} {{.Status.Network.Plugin}}";
    host.does(["inspect", "vm", "my-vm", "-t", query]).succeeds().prints("lab none\n");
    let socket = host.data_dir().join("daemon.sock");
    let mut socket = UnixStream::connect(socket).expect("metrics are where Weave Ignite's were");
    socket.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").expect("ask");
    let mut metrics = String::new();
    socket.read_to_string(&mut metrics).expect("an answer");
    assert!(metrics.contains("ignited_steps_total{"), "{metrics}");
    fs::write(&path, text(false)).expect("write it");
    wait_for(&host, "the stop", |text| is_ready(text) && text.contains("Stopped"));
    let vm = host.existing_vm("my-vm".to_owned());
    host.assert_no_process_of(&vm);
    assert_eq!(fs::read_to_string(&path).expect("read it"), text(false), "manifests are never written");
    end(daemon);
}
