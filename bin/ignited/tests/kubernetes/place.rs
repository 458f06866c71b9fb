//! A namespace with VMs in it, and the parts of Kubernetes that are not there: scheduler, kubelet, collector of garbage.

use crate::cluster::{Cluster, SOON, until};
use crate::rest::{API, Answer, Rest};
use serde_json::{Value, json};

/// A namespace of a test, to which the test is what the rest of Kubernetes is.
pub struct Place<'a> {
    /// Its name.
    pub namespace: String,
    rest: &'a Rest,
}

impl<'a> Place<'a> {
    /// A new one.
    pub async fn new(cluster: &'a Cluster, test: &str) -> Place<'a> {
        Place { namespace: cluster.namespace(test).await, rest: cluster.rest() }
    }

    /// One that is there.
    pub fn again(cluster: &'a Cluster, namespace: String) -> Place<'a> {
        Place { namespace, rest: cluster.rest() }
    }

    /// The API's path of a collection or an object in it: `vms/web`, `pods`.
    pub fn path(&self, what: &str) -> String {
        let group = match what.split('/').next() {
            Some("vms" | "vmsets") => API,
            Some("events") => "apis/events.k8s.io/v1",
            Some("leases") => "apis/coordination.k8s.io/v1",
            _ => "api/v1",
        };
        format!("{group}/namespaces/{}/{what}", self.namespace)
    }

    /// An object or a list.
    pub async fn get(&self, what: &str) -> Answer {
        self.rest.get(&self.path(what)).await
    }

    /// Makes a VM that no node runs.
    pub async fn vm(&self, name: &str, spec: Value) -> Value {
        self.rest.create(&self.path("vms"), &vm(name, spec)).await.expect("a VM")
    }

    /// Makes a set of such VMs.
    pub async fn set(&self, name: &str, spec: Value) -> Value {
        let mut whole =
            json!({ "template": { "metadata": { "labels": { "app": name } }, "spec": spec_of(json!({})) } });
        merge(&mut whole, spec);
        let set = json!({ "apiVersion": "ignite.weave.works/v1alpha4", "kind": "VMSet", "metadata": { "name": name },
            "spec": whole });
        self.rest.create(&self.path("vmsets"), &set).await.expect("a set")
    }

    /// Changes an object.
    pub async fn merge(&self, what: &str, patch: Value) -> Value {
        self.rest.merge(&self.path(what), &patch).await.unwrap_or_else(|refused| panic!("{what}: {refused:?}"))
    }

    /// Deletes an object, as a user does.
    pub async fn delete(&self, what: &str) {
        self.rest.delete(&self.path(what)).await.unwrap_or_else(|refused| panic!("{what}: {refused:?}"));
    }

    /// Makes an object of the core API.
    pub async fn create(&self, collection: &str, object: Value) -> Value {
        let made = self.rest.create(&self.path(collection), &object).await;
        made.unwrap_or_else(|refused| panic!("{collection}: {refused:?}"))
    }

    /// Waits until an object is as it should be.
    pub async fn until(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        until(what, SOON, async || self.get(what).await, is_so).await
    }

    /// Waits until an object is gone.
    pub async fn until_gone(&self, what: &str) {
        let look = async || match self.get(what).await {
            Err(refused) if refused.code == 404 => Ok(Value::Null),
            found => found,
        };
        until(&format!("the end of {what}"), SOON, look, Value::is_null).await;
    }

    /// Waits until a list has so many that `is_counted`.
    pub async fn until_count(&self, what: &str, count: usize, is_counted: impl Fn(&Value) -> bool) -> Vec<Value> {
        let all = |list: &Value| list["items"].as_array().cloned().unwrap_or_default();
        let list = self.until(what, |list| all(list).iter().filter(|one| is_counted(one)).count() == count).await;
        all(&list)
    }

    /// The scheduler, and the kubelet of `node`: the Pod of that name runs, and its guest is ready.
    pub async fn runs(&self, pod: &str, node: &str) -> Value {
        let found = self.until(&format!("pods/{pod}"), |pod| pod["metadata"]["deletionTimestamp"].is_null()).await;
        if found["spec"]["nodeName"].is_null() {
            let binding = json!({ "apiVersion": "v1", "kind": "Binding", "metadata": { "name": pod },
                "target": { "apiVersion": "v1", "kind": "Node", "name": node } });
            self.rest.create(&self.path(&format!("pods/{pod}/binding")), &binding).await.expect("a binding");
        }
        let now = found["metadata"]["creationTimestamp"].clone();
        let container = |name: &str, is_init: bool| {
            let state = if is_init {
                json!({ "terminated": { "exitCode": 0, "startedAt": now, "finishedAt": now } })
            } else {
                json!({ "running": { "startedAt": now } })
            };
            json!({ "name": name, "image": "node", "imageID": "", "ready": true, "started": true, "restartCount": 0,
                "state": state })
        };
        let names = |field: &str| -> Vec<String> {
            let all = found["spec"][field].as_array().cloned().unwrap_or_default();
            all.iter().filter_map(|one| one["name"].as_str().map(str::to_owned)).collect()
        };
        let init: Vec<_> = names("initContainers").iter().map(|name| container(name, true)).collect();
        let main: Vec<_> = names("containers").iter().map(|name| container(name, false)).collect();
        let is_true = |kind: &str| json!({ "type": kind, "status": "True", "lastTransitionTime": now });
        let conditions: Vec<_> =
            ["Initialized", "Ready", "ContainersReady", "PodScheduled"].into_iter().map(is_true).collect();
        self.says(
            pod,
            json!({ "phase": "Running", "podIP": "10.1.2.3", "podIPs": [{ "ip": "10.1.2.3" }], "conditions": conditions,
                "initContainerStatuses": init, "containerStatuses": main }),
        )
        .await
    }

    /// The kubelet: the guest has ended with a code.
    pub async fn ends(&self, pod: &str, code: i32) -> Value {
        let found = self.get(&format!("pods/{pod}")).await.expect("a Pod");
        let now = found["metadata"]["creationTimestamp"].clone();
        let mut main = found["status"]["containerStatuses"].clone();
        main[0]["ready"] = json!(false);
        main[0]["state"] = json!({ "terminated": { "exitCode": code, "startedAt": now, "finishedAt": now } });
        let phase = if code == 0 { "Succeeded" } else { "Failed" };
        let conditions = json!([{ "type": "Ready", "status": "False", "lastTransitionTime": now }]);
        self.says(pod, json!({ "phase": phase, "containerStatuses": main, "conditions": conditions })).await
    }

    /// The kubelet tells of a Pod.
    pub async fn says(&self, pod: &str, status: Value) -> Value {
        self.merge(&format!("pods/{pod}/status"), json!({ "status": status })).await
    }

    /// The kubelet has ended a Pod that is deleted: it goes.
    pub async fn let_go(&self, pod: &str) {
        let what = format!("pods/{pod}");
        self.until(&what, |pod| !pod["metadata"]["deletionTimestamp"].is_null()).await;
        self.rest.delete(&self.path(&format!("{what}?gracePeriodSeconds=0"))).await.expect("it goes");
    }

    /// The events about an object, as `type reason`.
    pub async fn events(&self, name: &str) -> Vec<String> {
        let list = self.get("events").await.expect("events");
        let all = list["items"].as_array().cloned().unwrap_or_default();
        let about = all.iter().filter(|event| event["regarding"]["name"] == name);
        let word = |event: &Value, field: &str| event[field].as_str().unwrap_or_default().to_owned();
        about.map(|event| format!("{} {}", word(event, "type"), word(event, "reason"))).collect()
    }
}

/// A VM that no node of a real cluster runs.
pub fn vm(name: &str, spec: Value) -> Value {
    json!({ "apiVersion": "ignite.weave.works/v1alpha4", "kind": "VM",
        "metadata": { "name": name, "labels": { "app": name } }, "spec": spec_of(spec) })
}

fn spec_of(more: Value) -> Value {
    let mut spec = json!({ "image": { "oci": "redis:7" }, "nodeSelector": { "ignite.weave.works/test": "none" } });
    merge(&mut spec, more);
    spec
}

fn merge(target: &mut Value, more: Value) {
    match (target, more) {
        (Value::Object(target), Value::Object(more)) => {
            more.into_iter().for_each(|(key, value)| merge(target.entry(key).or_insert(Value::Null), value));
        }
        (target, more) => *target = more,
    }
}

/// An object's uid.
pub fn uid(object: &Value) -> String {
    object["metadata"]["uid"].as_str().unwrap_or_default().to_owned()
}

/// An object's name.
pub fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap_or_default().to_owned()
}
