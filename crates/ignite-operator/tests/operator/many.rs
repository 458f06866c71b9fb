//! A thousand VMs: what they cost the API server until they run, and afterwards.

use crate::scene::{OPERATOR, Scene};
use ignite_kubernetes_fake::{Verb, WatchEnd};
use serde_json::json;
use std::time::Duration;
use tokio::time::sleep;

const VMS: usize = 1000;
/// The finalizer, the Pod, and a status for each of its states: made, on a node, running. And what is told: made, running.
const WRITES_PER_VM: usize = 8;

#[tokio::test(start_paused = true)]
async fn a_thousand_vms_cost_a_few_writes_each_and_then_none() {
    let mut scene = Scene::new();
    for number in 0..VMS {
        scene.make_vm(&format!("vm-{number:04}"), json!({}));
    }
    scene.start_operator();
    scene.settle(Duration::from_secs(600)).await;
    sleep(Duration::from_secs(30)).await;
    assert!(scene.writes() <= VMS * WRITES_PER_VM, "{:?}", scene.server.counts(OPERATOR));
    assert_eq!(scene.server.count(OPERATOR, |record| record.verb == Verb::Create && record.what == "pods"), VMS);

    let version = scene.server.version();
    scene.server.forget_requests();
    sleep(Duration::from_secs(3600)).await;
    let counts = scene.server.counts(OPERATOR);
    assert_eq!(
        (scene.writes(), scene.server.version()),
        (0, version),
        "in an hour in which nothing happens: {counts:?}"
    );
    // Three watches end every five minutes and are opened again.
    assert!(scene.server.count(OPERATOR, |_| true) <= 3 * 14, "{counts:?}");

    // Not even when everything has to be listed again, or by a new operator.
    scene.server.forget_requests();
    scene.server.compact();
    scene.server.end_watches(WatchEnd::Expired);
    sleep(Duration::from_secs(120)).await;
    scene.stop_operator().await;
    scene.start_operator();
    sleep(Duration::from_secs(120)).await;
    assert_eq!(scene.writes(), 0, "{:?}", scene.server.counts(OPERATOR));
    scene.stop_operator().await;
}
