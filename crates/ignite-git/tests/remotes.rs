//! The transports with their credentials: a real sshd, and git's http backend behind TLS.

mod harness;

use harness::https::Https;
use harness::{Origin, listing, over_ssh, source, ssh_key};
use ignite_git::{Credentials, GitError, Source, StatusBranch, StatusFile};
use std::fs;
use std::time::Duration;

#[tokio::test]
async fn ssh_takes_the_given_key_and_believes_the_given_hosts_only() {
    let origin = Origin::with(&[("a", "1")]);
    let Some(sshd) = over_ssh(&origin) else { return };
    let with = |identity, known_hosts| Source {
        credentials: Credentials {
            identity_file: Some(identity),
            known_hosts: Some(known_hosts),
            ..Credentials::default()
        },
        ..source(&sshd.url(&origin.path()))
    };
    let mut checkout = origin.checkout(with(sshd.identity(), sshd.known_hosts()));
    assert_eq!(listing(&checkout.sync().await.unwrap().tree().directory)[0].1, "1");
    drop(checkout);

    let stranger = origin.scratch("stranger");
    ssh_key(&stranger);
    let error = origin.checkout(with(stranger, sshd.known_hosts())).sync().await.unwrap_err();
    assert!(matches!(error, GitError::Denied { .. }), "{error}");

    let error = origin.checkout(with(sshd.identity(), sshd.wrong_known_hosts())).sync().await.unwrap_err();
    assert!(matches!(error, GitError::HostKey { .. }), "{error}");

    let nobody = origin.scratch("empty_known_hosts");
    fs::write(&nobody, "").unwrap();
    let error = origin.checkout(with(sshd.identity(), nobody)).sync().await.unwrap_err();
    assert!(error.hint().unwrap().contains(&format!("ssh-keyscan -p {} 127.0.0.1", sshd.port)), "{error}");
}

#[tokio::test]
async fn status_is_pushed_over_ssh() {
    let origin = Origin::with(&[("a", "1")]);
    let Some(sshd) = over_ssh(&origin) else { return };
    let credentials = Credentials {
        identity_file: Some(sshd.identity()),
        known_hosts: Some(sshd.known_hosts()),
        ..Credentials::default()
    };
    let mut checkout = origin.checkout(Source { credentials, ..source(&sshd.url(&origin.path())) });
    checkout.sync().await.unwrap();
    let branch = StatusBranch::new("status/here", &checkout.source().follow).unwrap();
    let file = StatusFile { path: "vm/one.json".parse().unwrap(), content: b"{}".to_vec() };
    assert!(checkout.push_status(&branch, &[file], "observed").await.unwrap().is_some());
    assert_eq!(origin.server_git(&["show", "status/here:vm/one.json"]), "{}");
}

#[tokio::test]
async fn https_takes_the_password_from_its_file() {
    let origin = Origin::with(&[("a", "1")]);
    let server = Https::start(&origin);
    let with = |password: &str, ca: bool| {
        let file = origin.scratch("password");
        fs::write(&file, format!("{password}\n")).unwrap();
        Source {
            credentials: Credentials {
                username: Some("me".to_owned()),
                password_file: Some(file),
                ca_certificate: ca.then(|| server.ca()),
                ..Credentials::default()
            },
            ..source(&server.url())
        }
    };
    let mut checkout = origin.checkout(with("secret", true));
    assert_eq!(listing(&checkout.sync().await.unwrap().tree().directory)[0].1, "1");
    let branch = StatusBranch::new("status", &checkout.source().follow).unwrap();
    let file = StatusFile { path: "s".parse().unwrap(), content: b"up".to_vec() };
    assert!(checkout.push_status(&branch, &[file], "observed").await.unwrap().is_some());
    assert_eq!(origin.server_git(&["show", "status:s"]), "up");
    drop(checkout);

    let error = origin.checkout(with("wrong", true)).sync().await.unwrap_err();
    assert!(matches!(error, GitError::Denied { .. }), "{error}");
    assert!(!error.to_string().contains("wrong"), "{error}");
    // A certificate of nobody that is known.
    let error = origin.checkout(with("secret", false)).sync().await.unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told_and_passes() {
    let origin = Origin::empty();
    let port = harness::free_port();
    let error = origin.checkout(source(&format!("https://127.0.0.1:{port}/x"))).sync().await.unwrap_err();
    assert!(matches!(error, GitError::Unreachable { .. }) && error.is_transient(), "{error}");
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up_at_the_deadline() {
    let origin = Origin::empty();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let source = Source { deadline: Duration::from_secs(2), ..source(&format!("https://127.0.0.1:{port}/x")) };
    let error = origin.checkout(source).sync().await.unwrap_err();
    assert!(matches!(error, GitError::Deadline { what: "ls-remote", seconds: 2 }), "{error}");
}
