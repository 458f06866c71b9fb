//! Following a repository: what changes, what fails, and what stays.

mod harness;

use harness::{Origin, listing};
use ignite_git::{Checkout, Follow, GitError, History, Source, Synced};
use std::fs;

fn updated(synced: Synced) -> (ignite_git::Tree, History) {
    match synced {
        Synced::Updated { tree, history } => (tree, history),
        Synced::Unchanged(tree) => panic!("nothing new: {tree:?}"),
    }
}

fn files(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, content)| ((*name).to_owned(), (*content).to_owned())).collect()
}

#[tokio::test]
async fn a_branch_is_followed_commit_by_commit() {
    let origin = Origin::with(&[("vm.yaml", "one"), ("deep/er/x", "x")]);
    let mut checkout = origin.checkout(origin.source());
    assert_eq!(checkout.current(), None);
    let (first, history) = updated(checkout.sync().await.unwrap());
    assert_eq!((history, first.subject.as_str()), (History::First, "a change"));
    assert_eq!(listing(&first.directory), files(&[("deep/er/x", "x"), ("vm.yaml", "one")]));
    assert!(matches!(checkout.sync().await.unwrap(), Synced::Unchanged(tree) if tree == first));

    let id = origin.commit(&[("vm.yaml", "two")]);
    let (second, history) = updated(checkout.sync().await.unwrap());
    assert_eq!((second.commit.as_str(), history), (id.as_str(), History::FastForward));
    assert_eq!(listing(&second.directory)[1].1, "two");
    assert!(!first.directory.exists(), "the tree before is removed");
}

#[tokio::test]
async fn the_last_good_tree_is_there_after_a_restart_without_the_remote() {
    let origin = Origin::with(&[("vm.yaml", "one")]);
    let mut checkout = origin.checkout(origin.source());
    let (tree, _) = updated(checkout.sync().await.unwrap());
    drop(checkout);
    fs::rename(origin.path(), origin.scratch("away")).unwrap();
    let mut checkout = origin.checkout(origin.source());
    assert_eq!(checkout.current(), Some(&tree));
    assert!(matches!(checkout.sync().await.unwrap_err(), GitError::Denied { .. }));
    assert_eq!(listing(&checkout.current().unwrap().directory), files(&[("vm.yaml", "one")]));
    // And it goes on when the remote is back.
    fs::rename(origin.scratch("away"), origin.path()).unwrap();
    origin.commit(&[("vm.yaml", "two")]);
    assert_eq!(updated(checkout.sync().await.unwrap()).1, History::FastForward);
}

#[tokio::test]
async fn a_force_push_is_followed_and_told() {
    let origin = Origin::with(&[("a", "1")]);
    let base = origin.git(&["rev-parse", "HEAD"]);
    origin.commit(&[("a", "2")]);
    let mut checkout = origin.checkout(origin.source());
    checkout.sync().await.unwrap();
    origin.git(&["reset", "-q", "--hard", &base]);
    origin.commit(&[("a", "3")]);
    let (tree, history) = updated(checkout.sync().await.unwrap());
    assert_eq!((history, listing(&tree.directory)), (History::Rewritten, files(&[("a", "3")])));
}

#[tokio::test]
async fn a_deleted_branch_names_what_is_there_and_leaves_the_last_good_tree() {
    let origin = Origin::with(&[("a", "1")]);
    let mut checkout = origin.checkout(origin.source());
    checkout.sync().await.unwrap();
    origin.git(&["push", "-q", "origin", "HEAD:refs/heads/other"]);
    origin.server_git(&["update-ref", "-d", "refs/heads/main"]);
    let error = checkout.sync().await.unwrap_err();
    assert!(error.to_string().ends_with("has no branch main; there are: other"), "{error}");
    assert!(checkout.current().is_some());
}

#[tokio::test]
async fn an_empty_repository_is_told_and_followed_once_it_has_a_commit() {
    let origin = Origin::empty();
    let mut checkout = origin.checkout(origin.source());
    assert!(matches!(checkout.sync().await.unwrap_err(), GitError::EmptyRepository { .. }));
    origin.commit(&[("a", "1")]);
    assert_eq!(updated(checkout.sync().await.unwrap()).1, History::First);
}

#[tokio::test]
async fn the_default_branch_a_tag_and_a_commit_are_followed() {
    let origin = Origin::with(&[("a", "1")]);
    let first = origin.git(&["rev-parse", "HEAD"]);
    origin.git(&["tag", "-a", "-m", "annotated", "v1"]);
    origin.git(&["push", "-q", "origin", "v1"]);
    origin.commit(&[("a", "2")]);
    let table = [
        (Follow::DefaultBranch, "2"),
        (Follow::tag("v1").unwrap(), "1"),
        (Follow::Commit(first.parse().unwrap()), "1"),
    ];
    for (number, (follow, content)) in table.into_iter().enumerate() {
        let source = Source { follow: follow.clone(), ..origin.source() };
        let mut checkout = Checkout::open(&origin.scratch(&format!("checkout-{number}")), source).unwrap();
        let (tree, _) = updated(checkout.sync().await.unwrap());
        assert_eq!(listing(&tree.directory), files(&[("a", content)]), "{follow}");
        assert!(matches!(checkout.sync().await.unwrap(), Synced::Unchanged(_)), "{follow}");
    }
}

#[tokio::test]
async fn a_moved_tag_is_followed() {
    let origin = Origin::with(&[("a", "1")]);
    origin.git(&["push", "-q", "origin", "HEAD:refs/tags/stable"]);
    let mut checkout = origin.checkout(Source { follow: Follow::tag("stable").unwrap(), ..origin.source() });
    checkout.sync().await.unwrap();
    origin.commit(&[("a", "2")]);
    origin.git(&["push", "-q", "--force", "origin", "HEAD:refs/tags/stable"]);
    assert_eq!(listing(&updated(checkout.sync().await.unwrap()).0.directory), files(&[("a", "2")]));
}

#[tokio::test]
async fn only_the_wanted_directory_is_written() {
    let origin = Origin::with(&[("clusters/one/vm.yaml", "1"), ("secret", "x")]);
    let with_path = |path: &str| Source { path: path.parse().unwrap(), ..origin.source() };
    let mut checkout = origin.checkout(with_path("clusters/one"));
    let (tree, _) = updated(checkout.sync().await.unwrap());
    assert_eq!(listing(&tree.directory), files(&[("vm.yaml", "1")]));
    drop(checkout);
    // Another path is another source: what was good for the first is not for it.
    for missing in ["clusters/two", "secret"] {
        let mut checkout = origin.checkout(with_path(missing));
        assert_eq!(checkout.current(), None);
        let error = checkout.sync().await.unwrap_err();
        assert!(matches!(error, GitError::PathMissing { .. }), "{error}");
    }
}

#[tokio::test]
async fn links_hooks_filters_and_submodules_of_a_remote_have_no_effect() {
    let origin = Origin::empty();
    origin.link("link", "/etc/passwd");
    let touched = origin.scratch("touched");
    let command = format!("touch {}", touched.display());
    origin.commit(&[
        (".gitattributes", "* filter=evil\n"),
        (".gitmodules", "[submodule \"s\"]\n\tpath = s\n\turl = ../../evil\n"),
        ("a", "1"),
    ]);
    let mut source = origin.source();
    // What a user's configuration would define does not count either.
    let home = origin.scratch("home");
    fs::create_dir_all(&home).unwrap();
    fs::write(
        home.join(".gitconfig"),
        format!("[filter \"evil\"]\n\tsmudge = {command}\n[core]\n\tfsmonitor = {command}\n"),
    )
    .unwrap();
    source.environment.push(("HOME".into(), home.into()));
    let mut checkout = origin.checkout(source);
    let (tree, _) = updated(checkout.sync().await.unwrap());
    let found = listing(&tree.directory);
    assert!(found.contains(&("link".to_owned(), "/etc/passwd".to_owned())), "{found:?}");
    assert!(!touched.exists());
}

#[tokio::test]
async fn a_repository_that_is_too_large_is_refused() {
    let origin = Origin::with(&[("a", "1")]);
    let mut checkout = origin.checkout(origin.source());
    checkout.sync().await.unwrap();
    let large = "x".repeat(64 << 20);
    origin.commit(&[("1", &large), ("2", &large), ("3", &large), ("4", &large), ("5", "x")]);
    let error = checkout.sync().await.unwrap_err();
    assert!(error.to_string().ends_with("holds more than 256 MiB"), "{error}");
    assert_eq!(listing(&checkout.current().unwrap().directory), files(&[("a", "1")]));
}

#[tokio::test]
async fn what_a_killed_process_left_is_healed() {
    let origin = Origin::with(&[("a", "1")]);
    let mut checkout = origin.checkout(origin.source());
    checkout.sync().await.unwrap();
    drop(checkout);
    let directory = origin.scratch("checkout");
    let repository = directory.join("repository.git");
    for left in
        ["shallow.lock", "refs/ignite/fetched.lock", "objects/pack/tmp_pack_x", "ignite-index", "packed-refs.lock"]
    {
        fs::write(repository.join(left), "half").unwrap();
    }
    fs::create_dir(directory.join("trees/.new-half")).unwrap();
    fs::write(directory.join(".new-record"), "half").unwrap();
    origin.commit(&[("a", "2")]);
    let mut checkout = origin.checkout(origin.source());
    updated(checkout.sync().await.unwrap());
    let left: Vec<_> = fs::read_dir(directory.join("trees")).unwrap().collect();
    assert_eq!(left.len(), 1);
    assert!(!directory.join(".new-record").exists());
    assert!(!repository.join("objects/pack/tmp_pack_x").exists());
}

#[tokio::test]
async fn a_damaged_repository_is_made_anew() {
    let origin = Origin::with(&[("a", "1")]);
    let mut checkout = origin.checkout(origin.source());
    checkout.sync().await.unwrap();
    fs::write(origin.scratch("checkout/repository.git/HEAD"), "damaged").unwrap();
    origin.commit(&[("a", "2")]);
    let (tree, _) = updated(checkout.sync().await.unwrap());
    assert_eq!(listing(&tree.directory), files(&[("a", "2")]));
}

#[tokio::test]
async fn sha256_repositories_are_followed() {
    let origin = Origin::with_format("sha256");
    let id = origin.commit(&[("a", "1")]);
    let mut checkout = origin.checkout(origin.source());
    assert_eq!(updated(checkout.sync().await.unwrap()).0.commit.as_str(), id);
}

#[tokio::test]
async fn two_do_not_work_in_one_directory() {
    let origin = Origin::with(&[("a", "1")]);
    let _first = origin.checkout(origin.source());
    let error = Checkout::open(&origin.scratch("checkout"), origin.source()).unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("in use"), "{error}");
}

#[tokio::test]
async fn history_stays_shallow() {
    let origin = Origin::with(&[("a", "0")]);
    for number in 1..=60 {
        origin.git(&["commit", "-q", "--allow-empty", "-m", &number.to_string()]);
    }
    origin.commit(&[("a", "1")]);
    // A path is copied whole by git; only a protocol makes it shallow.
    let url = format!("file://{}", origin.path().display());
    let mut checkout = origin.checkout(harness::source(&url));
    checkout.sync().await.unwrap();
    let count =
        harness::git(&origin.scratch("checkout/repository.git"), &["rev-list", "--count", "refs/ignite/fetched"]);
    assert_eq!(count, "50");
}
