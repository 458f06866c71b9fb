//! The branch that tells what is.

mod harness;

use harness::Origin;
use ignite_git::{Follow, GitError, StatusBranch, StatusFile};

fn file(path: &str, content: &str) -> StatusFile {
    StatusFile { path: path.parse().unwrap(), content: content.as_bytes().to_vec() }
}

#[tokio::test]
async fn it_holds_exactly_the_files_and_nothing_is_pushed_when_they_are_there() {
    let origin = Origin::with(&[("a", "1")]);
    let mut checkout = origin.checkout(origin.source());
    let main = checkout.sync().await.unwrap().tree().commit.clone();
    let branch = StatusBranch::new("status", &checkout.source().follow).unwrap();
    let first = checkout.push_status(&branch, &[file("x", "1"), file("d/y", "2")], "one\n\nmore").await.unwrap();
    assert!(first.is_some());
    assert_eq!(checkout.push_status(&branch, &[file("x", "1"), file("d/y", "2")], "two").await.unwrap(), None);
    assert!(checkout.push_status(&branch, &[file("x", "3")], "three").await.unwrap().is_some());
    assert_eq!(origin.server_git(&["ls-tree", "-r", "--name-only", "status"]), "x");
    assert_eq!(origin.server_git(&["log", "--format=%s %an", "status"]), "three Ignite\none Ignite");
    assert_eq!(origin.server_git(&["rev-parse", "main"]), main.as_str(), "the users' branch is not touched");
}

#[tokio::test]
async fn what_somebody_else_pushed_is_built_upon() {
    let origin = Origin::with(&[("a", "1")]);
    let mut checkout = origin.checkout(origin.source());
    checkout.sync().await.unwrap();
    let branch = StatusBranch::new("status", &checkout.source().follow).unwrap();
    checkout.push_status(&branch, &[file("x", "1")], "one").await.unwrap();
    origin.git(&["fetch", "-q", "origin", "status"]);
    origin.git(&["checkout", "-q", "FETCH_HEAD"]);
    let theirs = origin.commit_with(&[("x", "theirs")], &[], "status");
    let ours = checkout.push_status(&branch, &[file("x", "2")], "two").await.unwrap().unwrap();
    assert_eq!(origin.server_git(&["rev-parse", &format!("{ours}^")]), theirs);
}

#[tokio::test]
async fn the_repositorys_own_branch_is_not_written_to_whoever_follows_what() {
    let origin = Origin::with(&[("a", "1")]);
    let mut checkout = origin.checkout(origin.source());
    let main = checkout.sync().await.unwrap().tree().commit.clone();
    // By its default branch, which it does not name.
    let branch = StatusBranch::new("main", &Follow::DefaultBranch).unwrap();
    let error = checkout.push_status(&branch, &[file("x", "1")], "one").await.unwrap_err();
    assert!(matches!(&error, GitError::StatusBranchTaken { branch } if branch == "main"), "{error}");
    assert!(error.hint().is_some());
    assert_eq!(origin.server_git(&["rev-parse", "main"]), main.as_str());
}

#[tokio::test]
async fn a_server_that_takes_no_push_is_told() {
    let origin = Origin::with(&[("a", "1")]);
    let mut checkout = origin.checkout(origin.source());
    checkout.sync().await.unwrap();
    let hook = origin.path().join("hooks/pre-receive");
    std::fs::create_dir_all(hook.parent().unwrap()).unwrap();
    std::fs::write(&hook, "#!/bin/sh\necho 'the rule says no' >&2\nexit 1\n").unwrap();
    std::fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let branch = StatusBranch::new("status", &checkout.source().follow).unwrap();
    let error = checkout.push_status(&branch, &[file("x", "1")], "one").await.unwrap_err();
    assert!(matches!(&error, GitError::PushRefused { detail, .. } if detail.contains("the rule says no")), "{error}");
}

#[test]
fn the_followed_branch_is_no_status_branch() {
    let follow = Follow::branch("main").unwrap();
    assert!(StatusBranch::new("main", &follow).is_err());
    assert!(StatusBranch::new("-x", &follow).is_err());
    assert!(StatusBranch::new("status", &follow).is_ok());
}
