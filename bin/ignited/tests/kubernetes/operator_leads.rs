//! Several operators, of which one works; and operators that end half-way.

use crate::cluster::{Cluster, SOON, condition};
use crate::operator_process::{ALONE, Operator};
use crate::place::{Place, name, uid};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

const LEASE: &str = "leases/ignite-operator";

fn holder(lease: &Value) -> &str {
    lease["spec"]["holderIdentity"].as_str().unwrap_or_default()
}

/// Proves that the second waits, takes over at once from one that ends, and from one that is killed when its time is over.
pub async fn of_two_operators_one_works_and_the_other_takes_over(cluster: &Cluster) {
    let place = Place::new(cluster, "lease").await;
    let mut first = Operator::start(cluster, &place.namespace, &["--identity=first"]).await;
    place.until(LEASE, |lease| holder(lease) == "first").await;
    let mut second = Operator::start(cluster, &place.namespace, &["--identity=second"]).await;
    for (operator, leads) in [(&mut first, "1"), (&mut second, "0")] {
        let (_, text) = operator.get("/metrics").await.expect("metrics");
        assert!(text.contains(&format!("\nignite_operator_leader {leads}\n")), "{text}");
    }
    place.vm("a", json!({})).await;
    place.until("pods/a", |_| true).await;

    let begun = Instant::now();
    first.signal(Signal::TERM);
    let status = first.ended(SOON).await;
    assert_eq!(status.code(), Some(0), "{}", first.log());
    let lease = place.until(LEASE, |lease| holder(lease) == "second").await;
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert_eq!(lease["spec"]["leaseTransitions"], 1);
    place.vm("b", json!({})).await;
    place.until("pods/b", |_| true).await;

    let third = Operator::start(cluster, &place.namespace, &["--identity=third"]).await;
    // It has seen whose it is.
    let started = Instant::now();
    while !third.log().contains("second holds the lease") {
        assert!(started.elapsed() < SOON, "{}", third.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let begun = Instant::now();
    second.kill();
    place.vm("c", json!({})).await;
    tokio::time::sleep(Duration::from_secs(8)).await;
    assert_eq!(holder(&place.get(LEASE).await.unwrap()), "second", "it may be alive for so long");
    assert_eq!(place.get("pods/c").await.expect_err("nobody works").code, 404);
    place.until(LEASE, |lease| holder(lease) == "third").await;
    assert!(begun.elapsed() < Duration::from_secs(25), "{:?}", begun.elapsed());
    place.until("pods/c", |_| true).await;
}

/// Proves that who has lost the Lease does nothing more and says so by its exit.
pub async fn who_loses_the_lease_ends(cluster: &Cluster) {
    let place = Place::new(cluster, "lost").await;
    let mut operator = Operator::start(cluster, &place.namespace, &["--identity=old"]).await;
    place.until(LEASE, |lease| holder(lease) == "old").await;
    place.merge(LEASE, json!({ "spec": { "holderIdentity": "new" } })).await;
    let status = operator.ended(Duration::from_secs(15)).await;
    assert_eq!(status.code(), Some(1), "{}", operator.log());
    assert!(operator.log().contains("is lost"), "{}", operator.log());
    assert_eq!(holder(&place.get(LEASE).await.unwrap()), "new", "it is not given back by who does not hold it");
}

/// Proves that what is half done is found and finished, whenever the operator is killed.
pub async fn an_operator_killed_half_way_leaves_nothing_behind(cluster: &Cluster) {
    const VMS: usize = 16;
    let place = Place::new(cluster, "killed").await;
    place.set("pool", json!({ "replicas": VMS })).await;
    let moments = [0_u64, 30, 60, 100, 150, 220, 300, 400];
    for millis in moments {
        let operator = Operator::start(cluster, &place.namespace, ALONE).await;
        tokio::time::sleep(Duration::from_millis(millis)).await;
        operator.kill();
    }
    let operator = Operator::start(cluster, &place.namespace, ALONE).await;
    let vms = place.until_count("vms", VMS, |vm| condition(vm, "Accepted") == "True").await;
    let pods = place.until_count("pods", VMS, |_| true).await;
    assert_eq!(vms.len(), VMS);
    let owners: BTreeSet<_> = pods.iter().map(|pod| pod["metadata"]["ownerReferences"][0]["uid"].to_string()).collect();
    assert_eq!(owners, vms.iter().map(|vm| json!(uid(vm)).to_string()).collect());
    for pod in &pods {
        place.runs(&name(pod), "n1").await;
    }
    place.until("vmsets/pool", |set| set["status"]["readyReplicas"] == VMS).await;
    operator.kill();

    // The way back, in the same steps.
    place.merge("vmsets/pool", json!({ "spec": { "replicas": 0 } })).await;
    for millis in moments {
        let operator = Operator::start(cluster, &place.namespace, ALONE).await;
        tokio::time::sleep(Duration::from_millis(millis)).await;
        operator.kill();
    }
    let _operator = Operator::start(cluster, &place.namespace, ALONE).await;
    for pod in &pods {
        place.let_go(&name(pod)).await;
    }
    place.until_count("vms", 0, |_| true).await;
    place.until_count("pods", 0, |_| true).await;
    place.until("vmsets/pool", |set| set["status"]["replicas"] == 0).await;
}

/// Proves that the server's rules keep two operators from harm that should not both work.
pub async fn two_operators_without_a_lease_make_nothing_twice(cluster: &Cluster) {
    const VMS: usize = 12;
    let place = Place::new(cluster, "both").await;
    let _first = Operator::start(cluster, &place.namespace, ALONE).await;
    let _second = Operator::start(cluster, &place.namespace, ALONE).await;
    place.set("pool", json!({ "replicas": VMS, "updateStrategy": { "maxUnavailable": "100%" } })).await;
    let pods = place.until_count("pods", VMS, |_| true).await;
    for pod in &pods {
        place.runs(&name(pod), "n1").await;
    }
    place.until("vmsets/pool", |set| set["status"]["readyReplicas"] == VMS).await;
    place.merge("vmsets/pool", json!({ "spec": { "template": { "spec": { "cpus": 2 } } } })).await;
    for pod in &pods {
        place.let_go(&name(pod)).await;
        let old = uid(pod);
        place.until(&format!("pods/{}", name(pod)), |pod| uid(pod) != old).await;
        place.runs(&name(pod), "n2").await;
    }
    place
        .until("vmsets/pool", |set| {
            (&set["status"]["readyReplicas"], &set["status"]["updatedReplicas"]) == (&json!(VMS), &json!(VMS))
        })
        .await;
    place.until_count("vms", VMS, |vm| vm["status"]["nodeName"] == "n2").await;
}
