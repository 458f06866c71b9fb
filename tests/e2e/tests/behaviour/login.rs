//! Logging in to registries and out of them.

use ignite_e2e::host::program;
use ignite_e2e::images::busybox;
use ignite_e2e::invocation::Invocation;
use ignite_e2e::registry::Registry;
use ignite_e2e::token_server::{TokenServer, certified};
use ignite_e2e::{Host, Report, Terminal};
use std::fs;
use std::os::unix::fs::PermissionsExt;

pub fn a_password_is_tried_kept_for_pulls_and_forgotten() -> Report {
    let host = Host::empty();
    let registry = Registry::start(&host.path("registry"), Some(("alice", "open sesame")))?;
    registry.push(busybox(), "private/busybox:v1");
    let (reference, address) = (registry.reference("private/busybox:v1"), format!("127.0.0.1:{}", registry.port()));
    let config = host.path("home/.docker/config.json");
    host.does(["image", "import", &reference]).complains(&format!("ignite login {address}"));

    let login = |password: &str| host.ignite(["login", "-u", "alice", "--password-stdin", &address]).stdin(password);
    login("wrong\n").finish().fails().complains("refuses this user and password").gives_a_hint();
    assert!(!config.exists(), "what was refused is not kept");
    login("open sesame\n").finish().succeeds().prints("").complains(&config.display().to_string());
    let mode = fs::metadata(&config).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    host.does(["image", "import", &reference]).succeeds();
    host.does(["logout", &address]).succeeds().complains("removed the credentials");
    host.does(["logout", &address]).succeeds().complains("not logged in");
    host.does(["image", "import", "--pull", "always", &reference]).fails().complains("refuses access");

    // At a terminal it asks, and does not show the password.
    let mut terminal = Terminal::open(host.ignite(["login", &address]));
    terminal.shows("Username: ").types("alice\r").shows("Password: ").types("open sesame\r").shows("logged in to");
    terminal.finish().succeeds().does_not_say("sesame");
    host.does(["image", "import", "--pull", "always", &reference]).succeeds();
    // Whoever thinks better of it has a terminal that shows again what is typed.
    let script = "trap : INT; $0 login -u bob $1; echo ended with $?; stty -a | grep -o ' echo ' && echo end";
    let shell = Invocation::new("sh").args(["-c", script]).args([program("ignite")]).args([&address]);
    let shell = shell.env("IGNITE_DATA_DIR", host.data_dir()).env("HOME", host.path("home"));
    let mut shell = Terminal::open(shell);
    shell.shows("Password: ").types("\x03").shows("ended with 130").shows(" echo ").shows("end");
    shell.finish().succeeds();

    // A helper keeps what the file would show: it is told over its standard input, and asked by pulls.
    let helper = host.file(
        "bin/docker-credential-keep",
        "#!/bin/sh\ncase $1 in\nstore) cat > $KEPT ;;\nerase) rm $KEPT ;;\nget) cat $KEPT ;;\nesac\n",
    );
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).expect("make it a program");
    fs::write(&config, format!(r#"{{"credHelpers": {{"{address}": "keep"}}}}"#)).expect("write a configuration");
    let path = format!("{}:{}", host.path("bin").display(), std::env::var("PATH").unwrap_or_default());
    let helped = |words: &[&str]| host.ignite(words).env("PATH", &path).env("KEPT", host.path("kept"));
    let words = ["login", "-u", "alice", "--password-stdin", &address];
    helped(&words).stdin("open sesame").finish().succeeds().complains("docker-credential-keep");
    let kept = fs::read_to_string(&config).expect("read it");
    assert!(kept.contains("keep") && !kept.contains("YWxpY2U6"), "{kept}");
    helped(&["image", "import", "--pull", "always", &reference]).finish().succeeds();
    helped(&["logout", &address]).finish().succeeds().complains("docker-credential-keep");
    assert!(!host.path("kept").exists());
    host.ignite(["login", &address]).stdin("").finish().exits(2).complains("--password-stdin");
    drop(registry);
    host.assert_nothing_left();
    Ok(())
}

pub fn a_registry_with_a_token_server_is_logged_in_to() -> Report {
    let host = Host::empty();
    let open = Registry::start(&host.path("registry"), None)?;
    open.push(busybox(), "team/busybox:v1");
    let tokens = TokenServer::start(&host.path("tokens"), "alice", "open sesame");
    let (authority, certificate, key) = certified(&host.path("tokens"));
    let tls = format!("tls: {{certificate: {}, key: {}}}", certificate.display(), key.display());
    let registry = Registry::start_over(&host.path("registry"), &tls, &tokens.registry_auth())?;
    drop(open);
    let address = format!("127.0.0.1:{}", registry.port());
    let login = |password: &str| {
        let words = ["login", "--username", "alice", "--password-stdin", &address];
        host.ignite(words).stdin(password).finish()
    };
    login("open sesame").fails().complains("certificate").gives_a_hint();
    host.file(
        &format!("home/.config/containers/certs.d/{address}/ca.crt"),
        fs::read(&authority).expect("read a certificate"),
    );
    login("wrong").fails().complains("refuses this user and password");
    login("open sesame").succeeds();
    host.does(["image", "import", &registry.reference("team/busybox:v1")]).succeeds();
    drop(registry);
    host.assert_nothing_left();
    Ok(())
}
