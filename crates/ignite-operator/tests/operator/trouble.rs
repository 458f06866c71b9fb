//! Requests that fail: nothing is lost, nothing spins, and the end is the one without them.

use crate::scene::{OPERATOR, Scene, assert_same, condition};
use crate::story::{tell, untroubled};
use ignite_kubernetes_fake::{Asked, Trouble, Verb};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long a storm lasts.
const STORM: Duration = Duration::from_secs(120);
/// VMs and sets of the story, at most.
const OBJECTS: usize = 10;

/// Tells the story while `meddler` has its way, and compares the end. Returns the requests of the operator.
async fn ends_well(meddler: impl FnMut(&Asked) -> Option<Trouble> + Send + 'static) -> usize {
    let mut scene = Scene::new();
    scene.meddle(meddler);
    scene.start_operator();
    let outcome = tell(&scene).await;
    let requests = scene.server.count(OPERATOR, |_| true);
    scene.stop_operator().await;
    assert_same(&outcome, &untroubled().await, "with trouble");
    requests
}

/// For as long as a storm, `trouble` for what `is_hit`.
fn storm(
    trouble: Trouble,
    is_hit: impl Fn(&Asked) -> bool + Send + 'static,
) -> impl FnMut(&Asked) -> Option<Trouble> + Send + 'static {
    let started = Instant::now();
    move |asked| (started.elapsed() < STORM && is_hit(asked)).then(|| trouble.clone())
}

/// True for so many of a hundred, the same ones in every run.
fn chance(percent: u64) -> impl FnMut() -> bool + Send {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % 100 < percent
    }
}

/// Most requests of the story with a storm in it: those without, and for every object the attempts of a storm's length
/// (after 1, 2, 4, … s: seven) at `each` requests.
async fn bound(each: usize) -> usize {
    let mut scene = Scene::new();
    scene.start_operator();
    tell(&scene).await;
    scene.server.count(OPERATOR, |_| true) + OBJECTS * 7 * each
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_conflicts_ends_as_if_there_had_been_none() {
    let requests = ends_well(storm(Trouble::refused(409), |asked| asked.verb.writes())).await;
    let most = bound(4).await;
    assert!(requests <= most, "{requests} requests, at most {most}");
}

#[tokio::test(start_paused = true)]
async fn conflicts_that_come_and_go_end_as_if_there_had_been_none() {
    let mut is_hit = chance(40);
    ends_well(move |asked| (asked.verb.writes() && is_hit()).then(|| Trouble::refused(409))).await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_fails_at_everything_for_a_while_is_asked_ever_more_slowly() {
    let requests = ends_well(storm(Trouble::refused(500), |_| true)).await;
    let most = bound(4).await;
    assert!(requests <= most, "{requests} requests, at most {most}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_fails_now_and_then_is_asked_until_it_does_not() {
    let mut is_hit = chance(30);
    ends_well(move |_| is_hit().then(|| Trouble::refused(500))).await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_too_busy_is_given_the_time_that_it_asks_for() {
    let asks = Trouble::Refused { code: 429, retry_after: Some(5) };
    let requests = ends_well(storm(asks, |asked| asked.verb.writes())).await;
    // Within one attempt's 30 s the client asks again every 5 s.
    let most = bound(4 * 7).await;
    assert!(requests <= most, "{requests} requests, at most {most}");
}

#[tokio::test(start_paused = true)]
async fn what_was_done_and_not_answered_is_not_done_twice() {
    for code in [500, 504] {
        let mut is_hit = chance(50);
        ends_well(move |asked| (asked.verb.writes() && is_hit()).then_some(Trouble::DoneButRefused { code })).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_cannot_be_reached_for_a_while_is_no_loss() {
    let requests = ends_well(storm(Trouble::Unreachable, |_| true)).await;
    let most = bound(4).await;
    assert!(requests <= most, "{requests} requests, at most {most}");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_never_answered_holds_up_nothing_for_long() {
    let mut is_hit = chance(10);
    ends_well(move |asked| (asked.verb.writes() && is_hit()).then_some(Trouble::Silent)).await;
}

#[tokio::test(start_paused = true)]
async fn slow_answers_and_slow_lists_end_as_quick_ones() {
    ends_well(|asked| {
        Some(Trouble::Late(if asked.verb == Verb::List { Duration::from_secs(20) } else { Duration::from_millis(700) }))
    })
    .await;
}

/// Proves for each kind of write that an hour of refusals costs a bounded number of requests, at most a few at a time.
#[tokio::test(start_paused = true)]
async fn what_never_works_is_tried_ever_more_slowly() {
    const VMS: usize = 5;
    for (verb, what) in
        [(Verb::Patch, "vms"), (Verb::Create, "pods"), (Verb::Patch, "vms/status"), (Verb::Create, "events")]
    {
        for code in [400, 403, 409, 422, 500] {
            let mut scene = Scene::new();
            scene.meddle(move |asked| (asked.verb == verb && asked.what() == what).then(|| Trouble::refused(code)));
            scene.start_operator();
            for number in 0..VMS {
                scene.make_vm(&format!("vm-{number}"), json!({}));
            }
            sleep(Duration::from_secs(3600)).await;
            let tried = scene.server.count(OPERATOR, |record| record.verb == verb && record.what == what);
            // After 1, 2, 4, … 256 s and then every 300 s, of which chance takes a quarter: 9 + 15 times at most, twice in
            // a look that asks again.
            assert!(tried <= VMS * 48, "{verb:?} {what} {code}: tried {tried} times in an hour");
            let all = scene.server.count(OPERATOR, |_| true);
            assert!(
                all <= VMS * 150 + 60,
                "{verb:?} {what} {code}: {all} requests in an hour: {:?}",
                scene.server.counts(OPERATOR)
            );
            if what != "events" {
                assert!(tried >= VMS * 12, "{verb:?} {what} {code}: given up after {tried} attempts");
            }
            let most = scene.busiest(Duration::from_secs(1));
            assert!(most <= VMS * 20, "{verb:?} {what} {code}: {most} requests within a second");
        }
    }
}

/// Proves that names which are somebody else's are left alone, said, and taken when they are free.
#[tokio::test(start_paused = true)]
async fn a_name_that_is_taken_is_waited_for() {
    let mut scene = Scene::new();
    scene.make_vm("web-1", json!({}));
    scene.server.create("pods", json!({ "metadata": { "name": "db" }, "spec": { "containers": [] } }));
    scene.start_operator();
    scene.make_set("web", 3);
    scene.make_vm("db", json!({}));
    sleep(Duration::from_secs(600)).await;
    let (set, vm) = (scene.server.object("vmsets", "web").unwrap(), scene.server.object("vms", "db").unwrap());
    assert_eq!((condition(&set, "Accepted"), &set["status"]["replicas"]), ("False", &json!(2)), "{}", set["status"]);
    assert_eq!((condition(&vm, "Scheduled"), &vm["status"]["phase"]), ("False", &json!("Pending")), "{}", vm["status"]);
    let requests = scene.server.count(OPERATOR, |record| record.verb != Verb::Watch);
    // The Pod's name is asked for in the beginning and every 30 s, as a Pod of somebody else is in no watch of ours.
    assert!(requests <= 120, "{requests}: {:?}", scene.server.counts(OPERATOR));
    assert!(scene.server.object("pods", "db").unwrap()["metadata"]["ownerReferences"].is_null());

    scene.server.delete("vms", "web-1");
    scene.server.delete("pods", "db");
    scene.settle(Duration::from_secs(90)).await;
    assert_eq!(scene.server.objects("vms").len(), 4);
    scene.stop_operator().await;
}

/// Proves that a Pod which could not be made is not told to have been.
#[tokio::test(start_paused = true)]
async fn only_what_was_done_is_told() {
    let mut scene = Scene::new();
    scene.meddle(|asked| (asked.verb == Verb::Create && asked.what() == "pods").then(|| Trouble::refused(500)));
    scene.start_operator();
    scene.make_vm("web", json!({}));
    sleep(Duration::from_secs(600)).await;
    let told: Vec<Value> = scene.server.objects("events").iter().map(|event| event["reason"].clone()).collect();
    assert!(!told.contains(&json!("Created")), "{told:?}");
    scene.server.leave_alone();
    scene.settle(Duration::from_secs(600)).await;
    let told: Vec<Value> = scene.server.objects("events").iter().map(|event| event["reason"].clone()).collect();
    assert!(told.contains(&json!("Created")), "{told:?}");
    scene.stop_operator().await;
}
