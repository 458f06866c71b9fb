//! What users do in an hour, and what must come of it whatever happens to requests meanwhile.

use crate::scene::{Outcome, Scene};
use serde_json::json;
use std::time::Duration;
use tokio::time::sleep;

/// Longest wait for the end: a few of the longest pauses between two attempts.
const IN_THE_END: Duration = Duration::from_secs(1800);
/// Between two deeds of the users.
const STEP: Duration = Duration::from_secs(8);

/// VMs of the story, beside those of its set.
pub const VMS: usize = 6;

/// Does it all while `operator` runs, and returns what is there in the end.
pub async fn tell(scene: &Scene) -> Outcome {
    for number in 0..VMS {
        scene.make_vm(&format!("vm-{number}"), json!({}));
    }
    scene.make_set("web", 2);
    sleep(STEP).await;
    change(scene);
    sleep(STEP).await;
    scene.server.edit("vmsets", "web", |set| set["spec"]["template"]["spec"]["image"]["oci"] = json!("nginx:2"));
    sleep(STEP).await;
    finish(scene).await
}

/// A new image, a new label, a deletion, a Pod that somebody deletes, one whose node forgets it, a VM of a set that a user deletes, and a larger set.
pub fn change(scene: &Scene) {
    let server = &scene.server;
    server.edit("vms", "vm-0", |vm| vm["spec"]["image"]["oci"] = json!("redis:8"));
    server.edit("vms", "vm-1", |vm| vm["metadata"]["labels"]["app"] = json!("renamed"));
    server.delete("vms", "vm-2");
    if server.object("pods", "vm-3").is_some() {
        server.delete("pods", "vm-3");
    }
    server.remove("pods", "vm-4");
    if server.object("vms", "web-1").is_some() {
        server.delete("vms", "web-1");
    }
    server.edit("vmsets", "web", |set| set["spec"]["replicas"] = json!(3));
}

/// Waits for the end, and for the silence after it.
pub async fn finish(scene: &Scene) -> Outcome {
    scene.settle(IN_THE_END).await;
    assert_eq!(scene.server.objects("vms").len(), VMS - 1 + 3, "no object is lost, and none is too many");
    // What is still said after everything runs, such as a set's last count.
    sleep(Duration::from_secs(60)).await;
    scene.settle(IN_THE_END).await;
    scene.outcome()
}

/// The same story, told with no trouble at all.
pub async fn untroubled() -> Outcome {
    let mut scene = Scene::new();
    scene.start_operator();
    let outcome = tell(&scene).await;
    scene.stop_operator().await;
    outcome
}
