//! The requests that change the cluster: each with a deadline, its object named when it fails.

use super::MANAGER;
use super::metrics::Metrics;
use crate::error::OperatorError;
use crate::objects::{VirtualMachine, VirtualMachineSet};
use crate::plan::{Action, FINALIZER, Notice};
use crate::set_plan::SetAction;
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use kube::api::{Api as Resources, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::NamespaceResourceScope;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

/// Longest wait for the answer to one request.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

const READ: &str = "read";

/// The API server, as the loop changes it.
pub(crate) struct Api {
    client: Client,
    recorder: Recorder,
    metrics: Metrics,
}

/// What an action has made of an object.
pub(crate) enum Done {
    Vm(Box<VirtualMachine>),
    Pod(Box<Pod>),
    /// It is gone, or was before.
    Gone,
}

impl Api {
    pub(crate) fn new(client: Client, reporter: Reporter, metrics: Metrics) -> Self {
        Api { recorder: Recorder::new(client.clone(), reporter), client, metrics }
    }

    /// Does one thing of a plan.
    pub(crate) async fn act(&self, vm: &VirtualMachine, action: &Action) -> Result<Done, OperatorError> {
        let name = vm.name_any();
        let (vms, pods) = (self.of::<VirtualMachine>(vm), self.of::<Pod>(vm));
        match action {
            Action::AddFinalizer => {
                let mut finalizers = vm.metadata.finalizers.clone().unwrap_or_default();
                finalizers.push(FINALIZER.to_owned());
                self.write_finalizers(vm, finalizers).await
            }
            Action::RemoveFinalizer => {
                let mut finalizers = vm.metadata.finalizers.clone().unwrap_or_default();
                finalizers.retain(|one| one != FINALIZER);
                self.write_finalizers(vm, finalizers).await
            }
            Action::Create(pod) => {
                let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
                Ok(Done::Pod(Box::new(self.answer("create", "Pod", vm, pods.create(&params, pod)).await?)))
            }
            Action::Delete { uid, by_force } => {
                let params = DeleteParams {
                    grace_period_seconds: by_force.then_some(0),
                    preconditions: Some(Preconditions { uid: Some(uid.clone()), resource_version: None }),
                    ..DeleteParams::default()
                };
                match self.answer("delete", "Pod", vm, pods.delete(&name, &params)).await {
                    Ok(deleted) => Ok(deleted.left().map_or(Done::Gone, |pod| Done::Pod(Box::new(pod)))),
                    Err(error) if error.status() == Some(404) => Ok(Done::Gone),
                    Err(error) => Err(error),
                }
            }
            Action::Relabel(change) => {
                let (params, patch) = (merge(), Patch::Merge(&change.0));
                Ok(Done::Pod(Box::new(self.answer("label", "Pod", vm, pods.patch(&name, &params, &patch)).await?)))
            }
            Action::RemoveVm => {
                let uid = Preconditions { uid: vm.uid(), resource_version: None };
                let params = DeleteParams { preconditions: Some(uid), ..DeleteParams::default() };
                match self.answer("delete", "VM", vm, vms.delete(&name, &params)).await {
                    Ok(_) => Ok(Done::Gone),
                    Err(error) if error.status() == Some(404) => Ok(Done::Gone),
                    Err(error) => Err(error),
                }
            }
        }
    }

    /// Does one thing of a set's plan; the VM that came of it.
    pub(crate) async fn act_on_set(
        &self,
        set: &VirtualMachineSet,
        action: &SetAction,
    ) -> Result<Option<VirtualMachine>, OperatorError> {
        let vms = self.of::<VirtualMachine>(set);
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        match action {
            SetAction::Create(vm) => match self.answer("create", "VM", vm.as_ref(), vms.create(&params, vm)).await {
                // One that the watch has not told of yet, or another's, of which it will.
                Err(error) if error.is_there_already() => Ok(None),
                made => made.map(Some),
            },
            SetAction::Replace(vm) => {
                let replaced = vms.replace(vm.metadata.name.as_deref().unwrap_or_default(), &params, vm);
                self.answer("replace", "VM", vm.as_ref(), replaced).await.map(Some)
            }
            SetAction::Delete { name, uid } => {
                let only = Preconditions { uid: Some(uid.clone()), resource_version: None };
                let params = DeleteParams { preconditions: Some(only), ..DeleteParams::default() };
                match self.answer("delete", "VM of VMSet", set, vms.delete(name, &params)).await {
                    Err(error) if error.status() == Some(404) => Ok(None),
                    deleted => Ok(deleted?.left()),
                }
            }
        }
    }

    /// The Pod that has a VM's name, asked of the server.
    pub(crate) async fn pod(&self, vm: &VirtualMachine) -> Result<Option<Pod>, OperatorError> {
        let pods = self.of::<Pod>(vm);
        self.answer(READ, "Pod", vm, pods.get_opt(&vm.name_any())).await
    }

    /// Writes the whole status, as ours (server-side apply).
    pub(crate) async fn write_status<K>(&self, object: &K, status: &impl Serialize) -> Result<K, OperatorError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        let kind = K::kind(&());
        let patch = json!({ "apiVersion": K::api_version(&()), "kind": kind, "status": status });
        let params = PatchParams::apply(MANAGER).force();
        let (objects, name) = (self.of::<K>(object), object.name_any());
        self.answer("write the status of", &kind, object, objects.patch_status(&name, &params, &Patch::Apply(&patch)))
            .await
    }

    /// Tells people. What cannot be told is no reason to do less.
    pub(crate) async fn tell(&self, object: &impl Resource<DynamicType = ()>, notices: &[Notice]) {
        let reference: ObjectReference = object.object_ref(&());
        for notice in notices {
            let event = Event {
                type_: if notice.is_warning { EventType::Warning } else { EventType::Normal },
                reason: notice.reason.to_owned(),
                note: Some(notice.message.clone()).filter(|note| !note.is_empty()),
                action: notice.reason.to_owned(),
                secondary: None,
            };
            let told = tokio::time::timeout(DEADLINE, self.recorder.publish(&event, &reference)).await;
            if let Ok(Err(error)) = told {
                tracing::debug!("event {} of {}: {error}", notice.reason, object.name_any());
            }
        }
    }

    async fn write_finalizers(&self, vm: &VirtualMachine, finalizers: Vec<String>) -> Result<Done, OperatorError> {
        // Lists are replaced whole: only the one that was read.
        let patch: Value =
            json!({ "metadata": { "finalizers": finalizers, "resourceVersion": vm.metadata.resource_version } });
        let patch = Patch::Merge(&patch);
        let vms = self.of::<VirtualMachine>(vm);
        match self.answer("write the finalizers of", "VM", vm, vms.patch(&vm.name_any(), &merge(), &patch)).await {
            Ok(vm) => Ok(Done::Vm(Box::new(vm))),
            Err(error) if error.status() == Some(404) => Ok(Done::Gone),
            Err(error) => Err(error),
        }
    }

    fn of<K>(&self, beside: &impl Resource) -> Resources<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Resources::namespaced(self.client.clone(), &beside.namespace().unwrap_or_default())
    }

    async fn answer<T>(
        &self,
        action: &'static str,
        kind: &str,
        object: &impl Resource,
        request: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, OperatorError> {
        let object = format!("{kind} {}/{}", object.namespace().unwrap_or_default(), object.name_any());
        let answer = match tokio::time::timeout(DEADLINE, request).await {
            Err(_) => Err(OperatorError::NoAnswer { action, object, waited: DEADLINE }),
            Ok(answer) => answer.map_err(|source| OperatorError::Api { action, object, source: Box::new(source) }),
        };
        if action != READ {
            self.metrics.wrote(action, answer.is_ok());
        }
        answer
    }
}

fn merge() -> PatchParams {
    PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() }
}
