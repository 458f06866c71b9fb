//! Watches that break, and a server that is away for a while.

use crate::Report;
use crate::cluster::Cluster;
use crate::operator_process::{ALONE, Operator};
use crate::place::{Place, uid};
use rustix::process::Signal;
use serde_json::json;
use std::time::Duration;

const NOT_OURS: &str = "a cluster that is somebody's is not stopped";

/// Proves that what happens while nobody can tell is found: the server has forgotten it (410) when it is asked again.
pub async fn what_the_server_has_forgotten_is_found_by_a_new_list(cluster: &Cluster) -> Report {
    // Its end is no other test's business. A cluster that is somebody's is not stopped.
    let Some(mut own) = cluster.another().await else { return Err(NOT_OURS.into()) };
    let namespace;
    let (operator, first) = {
        let place = Place::new(&own, "forgotten").await;
        namespace = place.namespace.clone();
        let operator = Operator::start(&own, &namespace, ALONE).await;
        for name in ["kept", "gone", "lost"] {
            place.vm(name, json!({})).await;
            place.until(&format!("pods/{name}"), |_| true).await;
        }
        place.runs("kept", "n1").await;
        place.until("vms/kept", |vm| vm["status"]["phase"] == "Running").await;
        let first = uid(&place.get("pods/lost").await.unwrap());
        // It hears nothing of this.
        operator.signal(Signal::STOP);
        place.delete("pods/lost").await;
        place.delete("vms/gone").await;
        place.vm("new", json!({})).await;
        place.merge("vms/kept", json!({ "metadata": { "labels": { "tier": "front" } } })).await;
        (operator, first)
    };
    let server = own.server().expect("it is ours");
    server.stop();
    server.start_again().await;
    operator.signal(Signal::CONT);
    let place = Place::again(&own, namespace);
    place.until("pods/new", |_| true).await;
    place.until("pods/lost", |pod| uid(pod) != first).await;
    place.until_gone("vms/gone").await;
    place.until("pods/kept", |pod| pod["metadata"]["labels"]["tier"] == "front").await;
    let log = operator.log();
    assert!(log.contains("too old resource version") || log.contains("410"), "no watch was too late: {log}");
    Ok(())
}

/// Proves that an operator outlives a server that is away, and that one with a Lease does nothing while it may be another's.
pub async fn a_server_that_is_away_ends_only_who_holds_the_lease(cluster: &Cluster) -> Report {
    let Some(mut own) = cluster.another().await else { return Err(NOT_OURS.into()) };
    let (place, leases) = (Place::new(&own, "away").await, Place::new(&own, "away-lease").await);
    let lone = Operator::start(&own, &place.namespace, ALONE).await;
    let mut leader = Operator::start(&own, &leases.namespace, &["--identity=leader"]).await;
    for place in [&place, &leases] {
        place.vm("first", json!({})).await;
        place.until("pods/first", |_| true).await;
    }
    let namespace = place.namespace;
    own.server().expect("it is ours").stop();
    let status = leader.ended(Duration::from_secs(20)).await;
    assert_eq!(status.code(), Some(1), "{}", leader.log());
    assert!(leader.log().contains("is lost"), "{}", leader.log());
    own.server().expect("it is ours").start_again().await;
    let place = Place::again(&own, namespace);
    place.vm("web", json!({})).await;
    place.until("pods/web", |_| true).await;
    drop(lone);
    Ok(())
}
