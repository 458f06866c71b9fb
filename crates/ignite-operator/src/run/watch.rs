//! The watches of the cluster: they keep the stores, and say which VM or set to look at.

use super::fresh::Fresh;
use crate::objects::{VirtualMachine, VirtualMachineSet};
use crate::pod::MANAGED_BY;
use futures_util::{Stream, StreamExt, stream};
use ignite_api::error_chain::chain_of;
use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use std::convert::Infallible;
use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Objects of a page of a list; the server's memory, and ours, is bounded by it.
const PAGE: u32 = 500;

/// What is to be looked at; the queue's consumer joins what is asked twice.
pub(crate) type Queue<K> = UnboundedReceiver<ObjectRef<K>>;

/// What is known of the cluster.
pub(crate) struct Known {
    pub(crate) vms: Fresh<VirtualMachine>,
    pub(crate) pods: Fresh<Pod>,
    pub(crate) sets: Store<VirtualMachineSet>,
}

/// The three watches, in one namespace or in all; the future ends only when its consumer is gone.
pub(crate) fn start(
    client: &Client,
    namespace: Option<&str>,
) -> (Arc<Known>, Queue<VirtualMachine>, Queue<VirtualMachineSet>, impl Future<Output = ()> + Send + use<>) {
    let (vms, vm_writer) = reflector::store();
    let (pods, pod_writer) = reflector::store();
    let (sets, set_writer) = reflector::store();
    let known = Arc::new(Known { vms: Fresh::new(vms), pods: Fresh::new(pods), sets });
    let (to_vms, vm_queue) = unbounded_channel();
    let (to_sets, set_queue) = unbounded_channel();
    let ours = watcher::Config::default().labels(&format!("{}={}", MANAGED_BY.0, MANAGED_BY.1)).page_size(PAGE);
    let all = watcher::Config::default().page_size(PAGE);

    // What has come and gone while nobody watched is in no event: after a list, everything is looked at, from memory.
    let listed = {
        let (known, to_vms, to_sets) = (known.clone(), to_vms.clone(), to_sets.clone());
        move || {
            known.vms.store().state().iter().for_each(|vm| drop(to_vms.send(ObjectRef::from_obj(vm.as_ref()))));
            known.sets.state().iter().for_each(|set| drop(to_sets.send(ObjectRef::from_obj(set.as_ref()))));
        }
    };

    let vm_events = watched::<VirtualMachine>(client, namespace, all.clone()).reflect(vm_writer);
    let vm_events = {
        let (known, to_vms, to_sets) = (known.clone(), to_vms.clone(), to_sets.clone());
        each(vm_events, listed.clone(), move |vm, is_gone| {
            let key = ObjectRef::from_obj(vm);
            if is_gone {
                known.vms.forget(vm);
            }
            send_owner(&to_sets, vm);
            // Whoever depends on it has a look.
            for other in dependents(&known, vm) {
                let _ = to_vms.send(other);
            }
            let _ = to_vms.send(key);
        })
    };
    let pod_events = watched::<Pod>(client, namespace, ours).reflect(pod_writer);
    let pod_events = {
        let (known, to_vms) = (known.clone(), to_vms);
        each(pod_events, listed.clone(), move |pod, is_gone| {
            if is_gone {
                known.pods.forget(pod);
            }
            send_owner(&to_vms, pod);
        })
    };
    let set_events = watched::<VirtualMachineSet>(client, namespace, all).reflect(set_writer);
    let set_events = each(set_events, listed, move |set, _| {
        let _ = to_sets.send(ObjectRef::from_obj(set));
    });
    let watching = async move {
        tokio::join!(vm_events, pod_events, set_events);
    };
    (known, vm_queue, set_queue, watching)
}

fn watched<K>(
    client: &Client,
    namespace: Option<&str>,
    config: watcher::Config,
) -> impl Stream<Item = Result<Event<K>, watcher::Error>> + Send + use<K>
where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + 'static,
{
    let api: Api<K> = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    // Who wrote which field is the larger half of an object, and nothing to us.
    begun(watch(api, config)).default_backoff().modify(|object: &mut K| object.managed_fields_mut().clear())
}

/// Says that a list begins when it has begun. A watcher says so before it asks, which would count as a success each time, and
/// lists that fail would be tried for ever at the first pace.
fn begun<K: Send>(
    events: impl Stream<Item = Result<Event<K>, watcher::Error>> + Send,
) -> impl Stream<Item = Result<Event<K>, watcher::Error>> + Send {
    let mut begins = false;
    events.flat_map(move |event| {
        let all = match event {
            Ok(Event::Init) => {
                begins = true;
                [None, None]
            }
            Ok(event) => [std::mem::take(&mut begins).then_some(Ok(Event::Init)), Some(Ok(event))],
            Err(error) => {
                begins = false;
                [None, Some(Err(error))]
            }
        };
        stream::iter(all.into_iter().flatten())
    })
}

/// Tells of every object that has changed; true: it is gone. And of every new list, when the store has it.
async fn each<K: Resource<DynamicType = ()>>(
    events: impl Stream<Item = Result<Event<K>, watcher::Error>>,
    listed: impl Fn(),
    tell: impl Fn(&K, bool),
) {
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Apply(object)) => tell(&object, false),
            Ok(Event::Delete(object)) => tell(&object, true),
            Ok(Event::InitDone) => listed(),
            Ok(Event::Init | Event::InitApply(_)) => {}
            // It is started anew by itself, ever more slowly.
            Err(error) => tracing::warn!("watch of {}: {}", K::plural(&()), chain_of(&error)),
        }
    }
}

/// Asks for a look at what controls `object`.
fn send_owner<K: Resource<DynamicType = ()>>(queue: &UnboundedSender<ObjectRef<K>>, object: &impl Resource) {
    let owners = object.meta().owner_references.iter().flatten();
    for owner in owners.filter(|owner| owner.controller == Some(true)) {
        if owner.kind == K::kind(&()) && owner.api_version == K::api_version(&()) {
            let key = ObjectRef::new(&owner.name).within(object.meta().namespace.as_deref().unwrap_or_default());
            let _ = queue.send(key);
        }
    }
}

fn dependents(known: &Known, vm: &VirtualMachine) -> Vec<ObjectRef<VirtualMachine>> {
    let name = vm.name_any();
    let depends = |other: &VirtualMachine| {
        let all = other.spec.get("dependsOn").and_then(|all| all.as_array());
        other.metadata.namespace == vm.metadata.namespace && all.into_iter().flatten().any(|one| one["name"] == *name)
    };
    known.vms.store().state_filter(depends).iter().map(|other| ObjectRef::from_obj(other.as_ref())).collect()
}

/// A queue as a stream that cannot fail.
pub(crate) fn stream<K: Resource + 'static>(
    mut queue: Queue<K>,
) -> impl Stream<Item = Result<ObjectRef<K>, Infallible>> + Send
where
    ObjectRef<K>: Send,
{
    futures_util::stream::poll_fn(move |context| queue.poll_recv(context)).map(Ok)
}
