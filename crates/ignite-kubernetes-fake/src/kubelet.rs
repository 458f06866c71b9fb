//! A node that runs every Pod, by any API server: it takes those that have no node, says that they run, and ends those that are
//! deleted. No guest is anywhere.

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Resource, ResourceExt};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::task::JoinHandle;

/// Pods that are worked on at a time.
const AT_A_TIME: usize = 16;

/// A running kubelet, and its scheduler; dropped, it is gone, and its node with it.
#[derive(Debug)]
pub struct Kubelet(JoinHandle<()>);

impl Kubelet {
    /// One whose node is `node`; each of its Pods takes `pause` to start and to end.
    pub fn start(client: Client, node: &str, pause: Duration) -> Kubelet {
        let node = node.to_owned();
        Kubelet(tokio::spawn(async move {
            let events = watcher(Api::<Pod>::all(client.clone()), watcher::Config::default()).default_backoff();
            let pods = events.applied_objects().filter_map(|pod| std::future::ready(pod.ok()));
            pods.for_each_concurrent(AT_A_TIME, |pod| serve(&client, &node, pause, pod)).await;
        }))
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What a Pod says whose guest is up.
pub fn running(pod: &Pod) -> Value {
    let started = pod.creation_timestamp().map(|time| time.0.to_string());
    json!({
        "phase": "Running", "podIP": "10.1.2.3", "podIPs": [{ "ip": "10.1.2.3" }],
        "conditions": [
            { "type": "PodScheduled", "status": "True" }, { "type": "Initialized", "status": "True" },
            { "type": "ContainersReady", "status": "True" }, { "type": "Ready", "status": "True" },
        ],
        "containerStatuses": [{
            "name": "vm", "image": "node", "imageID": "", "ready": true, "started": true, "restartCount": 0,
            "state": { "running": { "startedAt": started } },
        }],
    })
}

/// What fails is seen again in the next event: a Pod that waits is no loss to a test, which waits for it.
async fn serve(client: &Client, node: &str, pause: Duration, pod: Pod) {
    let pods: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    let (name, on) = (pod.name_any(), pod.spec.as_ref().and_then(|spec| spec.node_name.clone()));
    if on.as_deref().is_some_and(|on| on != node) {
        return;
    }
    if pod.meta().deletion_timestamp.is_some() {
        tokio::time::sleep(pause).await;
        let only = Preconditions { uid: pod.uid(), resource_version: None };
        let at_once =
            DeleteParams { grace_period_seconds: Some(0), preconditions: Some(only), ..DeleteParams::default() };
        let _ = pods.delete(&name, &at_once).await;
        return;
    }
    if on.is_none() {
        let binding = json!({ "apiVersion": "v1", "kind": "Binding", "metadata": { "name": name },
            "target": { "apiVersion": "v1", "kind": "Node", "name": node } });
        let path = format!("/api/v1/namespaces/{}/pods/{name}/binding", pod.namespace().unwrap_or_default());
        let request =
            http::Request::post(path).header("content-type", "application/json").body(binding.to_string().into_bytes());
        let Ok(request) = request else { return };
        let _ = client.request::<Value>(request).await;
    }
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending");
    if phase == "Pending" {
        tokio::time::sleep(pause).await;
        let status = json!({ "metadata": { "uid": pod.uid() }, "status": running(&pod) });
        let _ = pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(&status)).await;
    }
}
