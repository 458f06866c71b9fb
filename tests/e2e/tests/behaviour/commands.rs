//! The command line itself: help, errors and hints. Nothing here boots.

use ignite_e2e::images::busybox;
use ignite_e2e::invocation::Invocation;
use ignite_e2e::wait::QUICK;
use ignite_e2e::{Host, Report};
use std::path::Path;

pub fn wrong_input_is_explained_with_a_hint() {
    let host = Host::new();
    let wrong: &[&[&str]] = &[
        &["create", "--memory", "many", busybox()],
        &["create", "--cpus", "0", busybox()],
        &["create", "--cpus", "33", busybox()],
        &["create", "--size=-1GB", busybox()],
        &["create", "--name", "Not A Name", busybox()],
        &["create", "-e", "=value", busybox()],
        &["create", "--env-file", "/no/such/file", busybox()],
        &["create", "-l", "=value", busybox()],
        &["create", "-p", "99999:80", busybox()],
        &["create", "--network", "telepathy", busybox()],
        &["create", "--kernel", "no-such-kernel", busybox()],
        &["create", "not a reference"],
        &["create", "oci:/no/such/layout"],
        &["create", "oci-archive:/no/such/file.tar"],
        &["start", "no-such-vm"],
        &["stop", "no-such-vm"],
        &["rm", "no-such-vm"],
        &["inspect", "vm", "no-such-vm"],
        &["inspect", "image", "no-such-image"],
        &["image", "rm", "no-such-image"],
        &["kernel", "rm", "no-such-kernel"],
    ];
    for arguments in wrong {
        let outcome = host.does(arguments.iter());
        outcome.fails().prints("");
        let errors = outcome.errors();
        assert!(errors.starts_with("error:"), "an error of {outcome}");
        // What is wrong is quoted, or what to type is said: most errors do both.
        let wrong_value =
            arguments.iter().rfind(|argument| **argument != busybox()).expect("an argument that is wrong");
        let wrong_value = wrong_value.rsplit('=').next().expect("a value");
        let is_explained = errors.contains(wrong_value) || errors.contains("hint:");
        assert!(is_explained, "what is wrong of {outcome}");
        assert!(!errors.contains("panicked"), "no panic in {outcome}");
    }
    assert!(host.vm_ids().is_empty());
    host.assert_nothing_left();
}

pub fn usage_errors_of_run_exit_with_125() {
    let host = Host::new();
    host.run(["--no-such-flag", busybox()]).exits(125).complains("--no-such-flag");
    host.run(["--memory", "many", busybox()]).exits(125).complains("many");
    // What follows the image is the command's, not ours.
    host.does(["create", "--name", "flags", busybox(), "ls", "--color", "-la"]).succeeds();
    let object = host.does(["inspect", "vm", "flags"]).succeeds().json();
    assert_eq!(object["spec"]["args"], serde_json::json!(["ls", "--color", "-la"]));
    host.does(["rm", "flags"]).succeeds();
}

pub fn help_and_version_are_on_standard_output() {
    let host = Host::empty();
    host.does(["--help"]).succeeds().says("run").says("ps").says("Usage");
    host.does::<&str>([]).says("Usage");
    for command in ["run", "create", "exec", "ps", "stop", "image", "kernel", "logs", "wait"] {
        host.does([command, "--help"]).succeeds().says("Usage");
    }
    host.does(["version"]).succeeds().says(env!("CARGO_PKG_VERSION"));
    host.does(["version", "-o", "json"]).succeeds().json();
    host.does(["no-such-command"]).fails().complains("no-such-command");
}

pub fn doctor_says_what_this_host_can_do() {
    let outcome = Host::new().does(["doctor"]);
    outcome.says("qemu");
    assert!(outcome.code == 0 || outcome.code == 1, "doctor judges: {outcome}");
    for row in ["VMM", "Firecracker", "QEMU", "isolation"] {
        outcome.says(row);
    }
}

pub fn a_hostile_archive_is_refused_and_leaves_nothing() {
    let host = Host::new();
    for (name, bytes) in [
        ("empty.tar", Vec::new()),
        ("zeros.tar", vec![0; 4096]),
        ("noise.tar", (0..100_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()),
        ("zip.tar", b"PK\x03\x04nothing of ours".to_vec()),
    ] {
        let path = host.file(name, bytes);
        for kind in ["oci-archive", "docker-archive"] {
            host.does(["image", "import", &format!("{kind}:{}", path.display())]).fails().complains("error:");
        }
        let content = std::fs::read(&path).expect("read a file");
        host.ignite(["image", "import", "-"]).stdin(content).finish().fails().complains("error:");
    }
    host.assert_nothing_left();
}

pub fn units_are_what_systemd_understands() -> Report {
    let host = Host::empty();
    if !Path::new("/usr/bin/systemd-analyze").exists() {
        return Err("systemd-analyze is missing (package systemd)".to_owned());
    }
    let daemon = ["systemd", "daemon", "--manifests", "/srv/my files/100%$x"];
    let gitops = ["systemd", "--user", "gitops", "https://example.org/shop.git"];
    let restore = ["--data-dir", "/srv/my $data", "generate", "systemd"];
    let units = [host.ignited(daemon), host.ignited(gitops), host.ignite(restore)];
    for (number, unit) in units.into_iter().enumerate() {
        let unit = unit.finish().succeeds().text();
        let name = format!("ignite-unit-{number}.service");
        // What else is on this host is told as well, and none of our business.
        let says = |text: &str| {
            let path = host.file(&name, text);
            let verify = Invocation::new("systemd-analyze").args(["--man=no", "verify"]).args([path]).within(QUICK);
            let errors = verify.finish().errors();
            errors.lines().filter(|line| line.contains(&name)).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(says(&unit), Vec::<String>::new(), "{unit}");
        let broken = unit.replace("KillMode=process", "KillMode=perhaps");
        assert!(says(&broken).iter().any(|line| line.contains("perhaps")), "what is wrong is seen");
    }
    host.assert_nothing_left();
    Ok(())
}
