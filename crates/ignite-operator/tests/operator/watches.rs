//! Watches that end, break, lag or have to begin anew: nothing is missed and nothing is done twice.

use crate::scene::{OPERATOR, Scene, assert_same};
use crate::story::{VMS, change, finish, tell, untroubled};
use ignite_kubernetes_fake::{FakeServer, Trouble, Verb, WatchEnd};
use serde_json::json;
use std::time::Duration;
use tokio::time::sleep;

/// Tells the story while `interrupt` is called so often.
async fn ends_well(every: Duration, interrupt: impl Fn(&FakeServer) + Send + 'static) {
    let mut scene = Scene::new();
    scene.start_operator();
    let server = scene.server.clone();
    let interrupts = tokio::spawn(async move {
        loop {
            sleep(every).await;
            interrupt(&server);
        }
    });
    let outcome = tell(&scene).await;
    interrupts.abort();
    scene.stop_operator().await;
    assert_same(&outcome, &untroubled().await, "with broken watches");
}

#[tokio::test(start_paused = true)]
async fn watches_that_end_go_on_where_they_were() {
    for end in [WatchEnd::Closed, WatchEnd::Cut] {
        ends_well(Duration::from_millis(1700), move |server| {
            server.end_watches(end);
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn watches_whose_past_is_forgotten_begin_with_a_list() {
    ends_well(Duration::from_millis(2300), |server| {
        server.compact();
        server.end_watches(WatchEnd::Expired);
    })
    .await;
    // The watch that is opened again is the one that is told.
    ends_well(Duration::from_millis(2300), |server| {
        server.end_watches(WatchEnd::Cut);
        server.compact();
    })
    .await;
}

/// Proves that what happened while nobody watched, and is in no event ever, is seen in the list.
#[tokio::test(start_paused = true)]
async fn what_happened_between_two_watches_is_not_missed() {
    let mut scene = Scene::new();
    scene.start_operator();
    for number in 0..VMS {
        scene.make_vm(&format!("vm-{number}"), json!({}));
    }
    scene.make_set("web", 2);
    scene.settle(Duration::from_secs(60)).await;
    scene.meddle(|asked| (asked.verb == Verb::Watch).then_some(Trouble::Unreachable));
    scene.server.end_watches(WatchEnd::Cut);
    sleep(Duration::from_secs(5)).await;
    change(&scene);
    scene.server.edit("vmsets", "web", |set| set["spec"]["template"]["spec"]["image"]["oci"] = json!("nginx:2"));
    scene.server.compact();
    sleep(Duration::from_secs(60)).await;
    scene.server.leave_alone();
    let outcome = finish(&scene).await;
    scene.stop_operator().await;
    assert_same(&outcome, &untroubled().await, "with broken watches");
}

/// Proves that a watch which tells nothing of what we did ourselves is no reason to do it again.
#[tokio::test(start_paused = true)]
async fn a_watch_that_lags_is_no_reason_to_do_things_twice() {
    let mut scene = Scene::new();
    scene.start_operator();
    scene.settle(Duration::from_secs(60)).await;
    for number in 0..VMS {
        scene.make_vm(&format!("vm-{number}"), json!({}));
    }
    scene.make_set("web", 2);
    for _ in 0..40 {
        scene.server.hold_watches();
        sleep(Duration::from_millis(900)).await;
        scene.server.release_watches();
        sleep(Duration::from_millis(100)).await;
    }
    scene.settle(Duration::from_secs(300)).await;
    let creations =
        |what: &str| scene.server.count(OPERATOR, |record| record.verb == Verb::Create && record.what == what);
    assert_eq!((creations("pods"), creations("vms")), (VMS + 2, 2), "{:?}", scene.server.counts(OPERATOR));
    scene.stop_operator().await;
}

/// Proves that an hour without any watch costs a bounded number of requests.
#[tokio::test(start_paused = true)]
async fn watches_that_never_work_are_opened_ever_more_slowly() {
    for trouble in [Trouble::refused(500), Trouble::refused(410), Trouble::refused(403), Trouble::Unreachable] {
        for verb in [Verb::Watch, Verb::List] {
            let mut scene = Scene::new();
            scene.start_operator();
            scene.make_vm("web", json!({}));
            scene.settle(Duration::from_secs(60)).await;
            scene.server.forget_requests();
            let hit = trouble.clone();
            scene.meddle(move |asked| (asked.verb == verb).then(|| hit.clone()));
            scene.server.compact();
            scene.server.end_watches(WatchEnd::Expired);
            sleep(Duration::from_secs(3600)).await;
            let requests = scene.server.count(OPERATOR, |_| true);
            // Three watches, each every 30 s in the end, with a list where it begins anew.
            assert!(requests <= 3 * 2 * 180, "{trouble:?} {verb:?}: {requests}: {:?}", scene.server.counts(OPERATOR));
            assert_eq!(scene.writes(), 0, "{trouble:?} {verb:?}: {:?}", scene.server.counts(OPERATOR));
            scene.server.leave_alone();
            scene.server.edit("vms", "web", |vm| vm["spec"]["cpus"] = json!(2));
            scene.settle(Duration::from_secs(120)).await;
            scene.stop_operator().await;
        }
    }
}
