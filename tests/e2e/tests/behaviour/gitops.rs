//! `ignited gitops` and its repositories: no VM is started here.

use ignite_e2e::git::Origin;
use ignite_e2e::images::busybox;
use ignite_e2e::wait::{BOOT, QUICK, until};
use ignite_e2e::{Host, Running};
use rustix::process::Signal;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Longest body of a webhook, as GitHub sends it.
const MAX_BODY: usize = 25 << 20;

/// A VM that is made and rests.
fn rests(name: &str) -> String {
    format!(
        "apiVersion: ignite.weave.works/v1alpha4\nkind: VM\nmetadata: {{name: {name}}}\nspec: {{image: {{oci: \"{}\"}}, \
         diskSize: 16MB, network: {{mode: none}}}}\nstatus: {{running: false}}\n",
        busybox()
    )
}

fn url(origin: &Origin) -> String {
    format!("file://{}", origin.path().display())
}

/// Waits until every one of these commits is what is kept.
fn wait_for(host: &Host, commits: &[&str]) {
    until(&format!("the commits {commits:?}"), BOOT, || {
        let status = host.ignited(["status"]).within(QUICK).finish();
        let text = status.text();
        (status.code == 0 && commits.iter().all(|commit| text.contains(&commit[..12]))).then_some(())
    });
}

fn end(mut daemon: Running) {
    daemon.signal(Signal::TERM);
    daemon.finish().succeeds();
}

/// `POST /webhook`; the status code.
fn post(port: u16, header: &str, body: &[u8]) -> u16 {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    let length = body.len();
    let head = format!(
        "POST /webhook HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{header}\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).expect("write the head");
    // Who refuses a body need not read it.
    let _ = stream.write_all(body);
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).expect("an answer");
    String::from_utf8_lossy(&answer)[9..].parse().expect("a status code")
}

/// What GitHub, Gitea and Forgejo send: the HMAC of the body.
fn signature(secret: &str, body: &[u8]) -> String {
    let mut openssl = Command::new("openssl")
        .args(["dgst", "-sha256", "-r", "-hmac", secret])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("run openssl");
    openssl.stdin.take().expect("a pipe").write_all(body).expect("write to openssl");
    let output = openssl.wait_with_output().expect("openssl ends");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    format!("X-Hub-Signature-256: sha256={}", text.split_whitespace().next().expect("a digest"))
}

pub fn a_webhook_with_the_right_secret_has_every_repository_looked_at() {
    let host = Host::new();
    let (one, two) = (Origin::empty(host.path("one")), Origin::empty(host.path("two")));
    let first = one.commit(&[("a.yaml", &rests("one"))]);
    let other = two.commit(&[("a.yaml", &rests("two"))]);
    // Their names are their last parts, which must differ.
    fs::rename(two.path(), host.path("two/second.git")).expect("rename the repository");
    std::os::unix::fs::symlink("second.git", two.path()).expect("link it for its users");
    let second = format!("file://{}", host.path("two/second.git").display());
    let secret = host.file("secret", "a secret\n");
    let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port").port();
    let daemon = host
        .ignited(["gitops", &url(&one), &second, "--branch", "main", "--interval", "24h"])
        .args(["--listen", &format!("127.0.0.1:{port}"), "--webhook-secret-file"])
        .args([secret.as_path()])
        .start();
    wait_for(&host, &[&first, &other]);

    let (first, other) = (one.commit(&[("b.yaml", &rests("one-more"))]), two.commit(&[("b.yaml", &rests("two-more"))]));
    let body = br#"{"ref": "refs/heads/main"}"#;
    assert_eq!(post(port, "X-Other: x", body), 403);
    assert_eq!(post(port, "X-Gitlab-Token: another secret", body), 403);
    assert_eq!(post(port, &signature("another secret", body), body), 403);
    assert_eq!(post(port, &signature("a secret", b"another body"), body), 403);
    assert_eq!(post(port, "X-Gitlab-Token: a secret", &vec![b' '; MAX_BODY + 1]), 413);
    std::thread::sleep(Duration::from_millis(500));
    host.does(["inspect", "one-more"]).fails();
    assert_eq!(post(port, &signature("a secret", body), body), 202);
    wait_for(&host, &[&first, &other]);
    host.does(["inspect", "one-more"]).succeeds();
    host.does(["inspect", "two-more"]).succeeds();

    let first = one.commit(&[("c.yaml", &rests("one-last"))]);
    assert_eq!(post(port, "X-Gitlab-Token: a secret", body), 202);
    wait_for(&host, &[&first]);
    end(daemon);
}

pub fn killed_at_any_moment_it_goes_on_and_leaves_nothing_half_made() {
    let host = Host::new();
    let origin = Origin::empty(host.path("git"));
    origin.commit(&[("a.yaml", &rests("a"))]);
    let start =
        || host.ignited(["gitops", &url(&origin), "--branch", "main", "--name", "shop", "--interval", "100ms"]).start();
    // Large enough for a fetch and a checkout to take a while.
    let ballast = "x\n".repeat(20_000);
    let mut last = String::new();
    for number in 0..24_u64 {
        let files: Vec<(String, String)> =
            (0..20).map(|file| (format!("ballast/{file}.txt"), format!("{number} {file}\n{ballast}"))).collect();
        let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        last = origin.commit(&files);
        let daemon = start();
        std::thread::sleep(Duration::from_millis(20 + number * 37 % 240));
        daemon.kill_now();
    }
    let daemon = start();
    wait_for(&host, &[&last]);
    end(daemon);
    let checkout = host.data_dir().join("ignited/shop");
    let trees: Vec<_> = fs::read_dir(checkout.join("trees")).expect("trees").flatten().map(|e| e.file_name()).collect();
    assert_eq!(trees, [std::ffi::OsString::from(&last)]);
    let mut left = Vec::new();
    half_made(&checkout, &mut left);
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(host.vm_ids().len(), 1, "nothing is made twice");
}

/// Files below a directory that only a killed process leaves.
fn half_made(directory: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(directory).expect("read a directory").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(".new-")
            || name.starts_with("tmp_")
            || name.starts_with("ignite-index")
            || name.ends_with(".lock")
        {
            found.push(entry.path().display().to_string());
        }
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            half_made(&entry.path(), found);
        }
    }
}
