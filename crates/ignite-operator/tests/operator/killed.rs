//! An operator that dies in the middle of what it does: the next one goes on from what is in the cluster.

use crate::scene::{OPERATOR, Outcome, Scene, assert_same};
use crate::story::{VMS, change, finish, untroubled};
use ignite_kubernetes_fake::{Trouble, Verb};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

/// Longer than any test.
const NEVER: Duration = Duration::from_secs(1 << 30);

/// Tells a story in which the operator dies at its `nth` write, and another is started; `None`: there were not so many.
async fn dies_at(nth: usize, trouble: Trouble) -> Option<Outcome> {
    let mut scene = Scene::new();
    let (reached, mut writes) = (Arc::new(Notify::new()), 0);
    let tell = reached.clone();
    scene.meddle(move |asked| {
        writes += usize::from(asked.verb.writes());
        (asked.verb.writes() && writes >= nth).then(|| {
            tell.notify_one();
            trouble.clone()
        })
    });
    scene.start_operator();
    for number in 0..VMS {
        scene.make_vm(&format!("vm-{number}"), json!({}));
    }
    scene.make_set("web", 2);
    let died = async {
        if timeout(Duration::from_secs(8), reached.notified()).await.is_err() {
            change(&scene);
            scene
                .server
                .edit("vmsets", "web", |set| set["spec"]["template"]["spec"]["image"]["oci"] = json!("nginx:2"));
            return timeout(Duration::from_secs(60), reached.notified()).await.is_ok().then_some(true);
        }
        Some(false)
    };
    let is_changed = died.await?;
    scene.kill_operator().await;
    scene.server.leave_alone();
    sleep(Duration::from_secs(2)).await;
    scene.start_operator();
    if !is_changed {
        sleep(Duration::from_secs(8)).await;
        change(&scene);
        scene.server.edit("vmsets", "web", |set| set["spec"]["template"]["spec"]["image"]["oci"] = json!("nginx:2"));
    }
    let outcome = finish(&scene).await;
    scene.stop_operator().await;
    Some(outcome)
}

/// Proves for every single write of a story that the operator may die before it, and after it.
#[tokio::test(start_paused = true)]
async fn an_operator_may_die_at_any_of_its_writes() {
    let expected = untroubled().await;
    // One that is not done is much like the one before it, done.
    for (trouble, step) in [(Trouble::Late(NEVER), 1), (Trouble::Silent, 7)] {
        let mut nth = 1;
        while let Some(outcome) = dies_at(nth, trouble.clone()).await {
            assert_same(&outcome, &expected, &format!("{trouble:?} at write {nth}"));
            nth += step;
        }
        assert!(nth > 60, "the story has more writes than {nth}");
    }
}

/// Proves that an operator which is told to end finishes what it has begun, and begins nothing.
#[tokio::test(start_paused = true)]
async fn an_operator_that_is_told_to_end_finishes_what_it_has_begun() {
    let mut scene = Scene::new();
    scene.meddle(|asked| asked.verb.writes().then_some(Trouble::Late(Duration::from_secs(3))));
    scene.start_operator();
    for number in 0..40 {
        scene.make_vm(&format!("vm-{number}"), json!({}));
    }
    sleep(Duration::from_secs(1)).await;
    let begun = scene.writes();
    assert!((1..=16).contains(&begun), "{begun} writes at a time");
    scene.stop_operator().await;
    // Of what was begun, the Pod and the status are still to come; of the rest, nothing.
    let touched = scene.server.objects("vms").iter().filter(|vm| !vm["metadata"]["finalizers"].is_null()).count();
    assert_eq!(touched, begun, "{:?}", scene.server.counts(OPERATOR));
    assert!(
        scene
            .server
            .requests()
            .iter()
            .all(|record| record.user != OPERATOR || record.verb == Verb::Watch || record.code.is_some())
    );
    let after = scene.server.count(OPERATOR, |_| true);
    sleep(Duration::from_secs(600)).await;
    assert_eq!(scene.server.count(OPERATOR, |_| true), after, "an operator that has ended asks for nothing");
}
