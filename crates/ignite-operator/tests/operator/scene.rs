//! A cluster in memory with a kubelet, an operator that can be stopped and killed, and what has become of it all.

use ignite_kubernetes_fake::kubelet::Kubelet;
use ignite_kubernetes_fake::{Asked, FakeServer, Record, Trouble};
use ignite_operator::plan::PlanOptions;
use ignite_operator::pod::MANIFEST_ANNOTATION;
use ignite_operator::pod_options::PodOptions;
use ignite_operator::run::metrics::Metrics;
use ignite_operator::run::{Options, run};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

/// As whom the operator is known to the server.
pub const OPERATOR: &str = "operator";
/// How long a node takes to start a Pod, and to end it.
const NODE_PAUSE: Duration = Duration::from_millis(500);
/// How soon Kubernetes starts an operator again that has ended.
const RESTART: Duration = Duration::from_secs(10);

/// Objects by kind and name, without what differs from run to run.
pub type Outcome = BTreeMap<String, Value>;

/// The cluster, the node, and the operator while it runs.
pub struct Scene {
    pub server: FakeServer,
    _kubelet: Kubelet,
    operator: Option<Operator>,
}

struct Operator {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Scene {
    /// A cluster without operator.
    pub fn new() -> Scene {
        let server = FakeServer::new();
        let kubelet = Kubelet::start(server.client("kubelet"), "n1", NODE_PAUSE);
        Scene { server, _kubelet: kubelet, operator: None }
    }

    /// Starts the operator; it is started again when it ends with an error.
    pub fn start_operator(&mut self) {
        let (stop, stopped) = oneshot::channel();
        let client = self.server.client(OPERATOR);
        let task = tokio::spawn(async move {
            let mut stopped = stopped;
            loop {
                let shutdown = async { drop((&mut stopped).await) };
                match run(client.clone(), options(), shutdown).await {
                    Ok(()) => return,
                    Err(_) => sleep(RESTART).await,
                }
            }
        });
        self.operator = Some(Operator { stop, task });
    }

    /// Ends it as a signal does, and waits for it.
    pub async fn stop_operator(&mut self) {
        let Operator { stop, task } = self.operator.take().expect("it runs");
        stop.send(()).expect("it runs");
        task.await.expect("it does not panic");
    }

    /// Ends it between two instructions.
    pub async fn kill_operator(&mut self) {
        let Operator { task, .. } = self.operator.take().expect("it runs");
        task.abort();
        assert!(task.await.is_err_and(|error| error.is_cancelled()), "it did not panic before");
    }

    /// What happens to the operator's requests.
    pub fn meddle(&self, mut meddler: impl FnMut(&Asked) -> Option<Trouble> + Send + 'static) {
        self.server.meddle(move |asked| if asked.user == OPERATOR { meddler(asked) } else { None });
    }

    /// Makes a VM.
    pub fn make_vm(&self, name: &str, spec: Value) {
        let mut vm = json!({ "metadata": { "name": name, "labels": { "app": name } },
            "spec": { "image": { "oci": "redis:7" }, "cpus": 1, "memory": "512MB" } });
        for (key, value) in spec.as_object().into_iter().flatten() {
            vm["spec"][key] = value.clone();
        }
        self.server.create("vms", vm);
    }

    /// Makes a set.
    pub fn make_set(&self, name: &str, replicas: u32) {
        self.server.create("vmsets", json!({ "metadata": { "name": name },
            "spec": { "replicas": replicas, "template": { "spec": { "image": { "oci": "nginx:1" }, "cpus": 1, "memory": "256MB" } } } }));
    }

    /// Waits until every VM runs what its `spec` says, and returns how long that took.
    pub async fn settle(&self, within: Duration) -> Duration {
        let started = Instant::now();
        while let Some(what) = self.unsettled() {
            assert!(
                started.elapsed() < within,
                "not settled within {within:?}: {what}\n{:?}",
                self.server.counts(OPERATOR)
            );
            sleep(Duration::from_millis(100)).await;
        }
        started.elapsed()
    }

    /// What is not yet as it should be, if anything is.
    pub fn unsettled(&self) -> Option<String> {
        for set in self.server.objects("vmsets") {
            let (name, wanted) = (text(&set["metadata"]["name"]), set["spec"]["replicas"].clone());
            let status = &set["status"];
            if status["observedGeneration"] != set["metadata"]["generation"]
                || [&status["replicas"], &status["readyReplicas"], &status["updatedReplicas"]]
                    .iter()
                    .any(|count| **count != wanted)
            {
                return Some(format!("set {name}: {status}"));
            }
        }
        let by_name = |plural: &str| -> BTreeMap<String, Arc<Value>> {
            let objects = self.server.objects(plural).into_iter();
            objects.map(|object| (text(&object["metadata"]["name"]).to_owned(), object)).collect()
        };
        let (vms, pods) = (by_name("vms"), by_name("pods"));
        for (name, vm) in &vms {
            let status = &vm["status"];
            let Some(pod) = pods.get(name) else {
                return Some(format!("VM {name} has no Pod: {status}"));
            };
            let is_so = vm["metadata"]["deletionTimestamp"].is_null()
                && pod["metadata"]["deletionTimestamp"].is_null()
                && pod["metadata"]["ownerReferences"][0]["uid"] == vm["metadata"]["uid"]
                && pod["metadata"]["labels"]["app"] == vm["metadata"]["labels"]["app"]
                && status["observedGeneration"] == vm["metadata"]["generation"]
                && status["phase"] == "Running"
                && condition(vm, "Ready") == "True";
            if !is_so {
                return Some(format!("VM {name}: {} {status}; Pod: {}", vm["metadata"], pod["status"]["phase"]));
            }
        }
        pods.keys().find(|name| !vms.contains_key(*name)).map(|name| format!("Pod {name} has no VM"))
    }

    /// All that is there by kind and name, without what differs from run to run: uids, versions, times.
    pub fn outcome(&self) -> Outcome {
        let mut outcome = Outcome::new();
        for plural in ["vms", "vmsets", "pods"] {
            for object in self.server.objects(plural) {
                let mut kept = object.as_ref().clone();
                let (metadata, status) = (&object["metadata"], &mut kept["status"]);
                let mut annotations = metadata["annotations"].clone();
                if plural == "pods" {
                    // It is its node's; and what a run was started from stays, whatever labels the VM gets.
                    *status = Value::Null;
                    annotations.as_object_mut().map(|annotations| annotations.remove(MANIFEST_ANNOTATION));
                }
                for field in ["startTime", "observedGeneration"] {
                    status.as_object_mut().map(|status| status.remove(field));
                }
                for condition in status["conditions"].as_array_mut().into_iter().flatten() {
                    for field in ["lastTransitionTime", "observedGeneration"] {
                        condition.as_object_mut().map(|condition| condition.remove(field));
                    }
                }
                kept["metadata"] = json!({ "labels": metadata["labels"], "annotations": annotations,
                    "finalizers": metadata["finalizers"], "deletionTimestamp": metadata["deletionTimestamp"] });
                outcome.insert(format!("{plural} {}", text(&metadata["name"])), kept);
            }
        }
        outcome
    }

    /// Requests of the operator that change something.
    pub fn writes(&self) -> usize {
        self.server.count(OPERATOR, |record| record.verb.writes())
    }

    /// Most requests of the operator within any such time.
    pub fn busiest(&self, window: Duration) -> usize {
        let times: Vec<Instant> = self
            .server
            .requests()
            .iter()
            .filter(|record| record.user == OPERATOR)
            .map(|record: &Record| record.at)
            .collect();
        let within =
            |(at, start): (usize, &Instant)| times[at..].iter().take_while(|time| **time - *start < window).count();
        times.iter().enumerate().map(within).max().unwrap_or(0)
    }
}

fn options() -> Options {
    Options {
        namespace: None,
        plan: PlanOptions { pods: PodOptions::of_image("node:1"), force_delete_after: None },
        concurrency: 16,
        instance: Some("test".to_owned()),
        metrics: Metrics::default(),
    }
}

/// The status of a condition; empty where there is none.
pub fn condition<'a>(object: &'a Value, kind: &str) -> &'a str {
    let mut all = object["status"]["conditions"].as_array().into_iter().flatten();
    all.find(|condition| condition["type"] == kind).map(|condition| text(&condition["status"])).unwrap_or_default()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Fails with the first object that is not as it is expected.
pub fn assert_same(outcome: &Outcome, expected: &Outcome, what: &str) {
    for (name, wanted) in expected {
        let found = outcome.get(name).unwrap_or_else(|| panic!("{what}: no {name}"));
        assert_eq!(found, wanted, "{what}: {name}");
    }
    let more = outcome.keys().find(|name| !expected.contains_key(*name));
    assert_eq!(more, None, "{what}: is too many");
}
