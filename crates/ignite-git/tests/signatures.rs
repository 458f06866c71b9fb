//! Only what a trusted key has signed is taken.

#![allow(clippy::print_stdout, reason = "a skipped test says why")]

mod harness;

use harness::{Origin, listing, run, ssh_key, trusted};
use ignite_git::{GitError, Source, Synced};
use std::path::PathBuf;
use std::process::Command;

/// Options of git that sign with this ssh key.
fn sign_by_ssh(origin: &Origin, key: &str) -> PathBuf {
    let key = origin.scratch(key);
    ssh_key(&key);
    origin.git(&["config", "gpg.format", "ssh"]);
    key
}

fn signed_commit(origin: &Origin, key: &std::path::Path, content: &str) -> String {
    origin.git(&["config", "user.signingKey", key.to_str().unwrap()]);
    origin.commit_with(&[("a", content)], &["-S"], "main")
}

#[tokio::test]
async fn a_commit_signed_by_a_given_ssh_key_is_taken_and_others_are_not() {
    let origin = Origin::with(&[("a", "0")]);
    let key = sign_by_ssh(&origin, "key");
    let stranger = origin.scratch("stranger");
    ssh_key(&stranger);
    let good = signed_commit(&origin, &key, "good");
    let source = || Source { trusted_keys: trusted(&[key.with_extension("pub")]), ..origin.source() };
    let mut checkout = origin.checkout(source());
    checkout.sync().await.unwrap();
    let is_still_good = |checkout: &ignite_git::Checkout| {
        let tree = checkout.current().unwrap();
        tree.commit.as_str() == good && listing(&tree.directory)[0].1 == "good"
    };
    assert!(is_still_good(&checkout));

    // Unsigned on top.
    origin.commit_with(&[("a", "unsigned")], &["--no-gpg-sign"], "main");
    let error = checkout.sync().await.unwrap_err();
    assert!(matches!(error, GitError::Unverified { .. }), "{error}");
    assert!(is_still_good(&checkout));

    // Signed by someone else.
    signed_commit(&origin, &stranger, "stranger");
    let error = checkout.sync().await.unwrap_err();
    assert!(matches!(error, GitError::Unverified { .. }), "{error}");
    assert!(is_still_good(&checkout));

    // A force push to unsigned history changes nothing and is told.
    origin.git(&["checkout", "-q", "--orphan", "rewritten"]);
    origin.commit_with(&[("a", "rewritten")], &["--no-gpg-sign"], "main");
    let error = checkout.sync().await.unwrap_err();
    assert!(error.to_string().contains("not signed by a trusted key"), "{error}");
    assert!(is_still_good(&checkout));

    // A good one heals.
    signed_commit(&origin, &key, "healed");
    let Synced::Updated { tree, .. } = checkout.sync().await.unwrap() else { panic!("not updated") };
    assert_eq!(listing(&tree.directory)[0].1, "healed");
}

#[tokio::test]
async fn a_tree_that_was_taken_without_keys_does_not_count_once_keys_are_given() {
    let origin = Origin::with(&[("a", "unsigned")]);
    let mut checkout = origin.checkout(origin.source());
    checkout.sync().await.unwrap();
    drop(checkout);
    let key = origin.scratch("key");
    ssh_key(&key);
    let mut checkout =
        origin.checkout(Source { trusted_keys: trusted(&[key.with_extension("pub")]), ..origin.source() });
    assert_eq!(checkout.current(), None);
    assert!(matches!(checkout.sync().await.unwrap_err(), GitError::Unverified { .. }));
}

#[tokio::test]
async fn openpgp_keys_are_taken_too() {
    if Command::new("gpg").arg("--version").output().is_err() {
        println!("skipped: gpg is missing");
        return;
    }
    let origin = Origin::with(&[("a", "0")]);
    // gpg's agent listens on a socket here, whose path must be short.
    let home = tempfile::Builder::new().prefix("gpg").tempdir_in("/tmp").unwrap();
    let gpg = |arguments: &[&str]| {
        run(Command::new("gpg").env("GNUPGHOME", home.path()).args(["--batch", "-q"]).args(arguments))
    };
    let generate = ["--passphrase", "", "--quick-generate-key"];
    gpg(&[&generate[..], &["User <user@example.org>", "ed25519", "sign", "never"]].concat());
    gpg(&[&generate[..], &["Stranger <stranger@example.org>", "ed25519", "sign", "never"]].concat());
    let public = origin.scratch("public.asc");
    std::fs::write(&public, gpg(&["--armor", "--export", "user@example.org"]).stdout).unwrap();
    let wrapper = origin.scratch("gpg-of-user");
    std::fs::write(&wrapper, format!("#!/bin/sh\nGNUPGHOME={} exec gpg \"$@\"\n", home.path().display())).unwrap();
    std::fs::set_permissions(&wrapper, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    origin.git(&["config", "gpg.program", wrapper.to_str().unwrap()]);
    origin.git(&["config", "user.signingKey", "user@example.org"]);
    origin.commit_with(&[("a", "good")], &["-S"], "main");
    let mut checkout = origin.checkout(Source { trusted_keys: trusted(&[public]), ..origin.source() });
    assert_eq!(listing(&checkout.sync().await.unwrap().tree().directory)[0].1, "good");
    origin.git(&["config", "user.signingKey", "stranger@example.org"]);
    origin.commit_with(&[("a", "stranger")], &["-S"], "main");
    let error = checkout.sync().await.unwrap_err();
    assert!(matches!(error, GitError::Unverified { .. }), "{error}");
    run(Command::new("gpgconf").env("GNUPGHOME", home.path()).args(["--kill", "all"]));
}
