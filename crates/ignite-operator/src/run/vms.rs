//! One VM at a time: plan, act, write down what has come of it.

use super::Options;
use super::api::{Api, Done};
use super::fresh::AGE;
use super::watch::Known;
use super::work::{Looks, look_after};
use crate::error::OperatorError;
use crate::objects::VirtualMachine;
use crate::plan::{Action, Notice, Plan, PlanOptions, Seen, one_line, plan};
use crate::status::VmStatus;
use futures_util::Stream;
use ignite_api::error_chain::chain_of;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::reflector::ObjectRef;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

struct Vms {
    known: Arc<Known>,
    api: Arc<Api>,
    plan: PlanOptions,
}

/// Works until the queue ends and what was begun is done.
pub(crate) async fn run(
    known: Arc<Known>,
    api: Arc<Api>,
    options: &Options,
    queue: impl Stream<Item = Result<ObjectRef<VirtualMachine>, Infallible>> + Send,
) {
    let store = known.vms.store().clone();
    look_after(Vms { known, api, plan: options.plan.clone() }, store, options, queue).await;
}

impl Looks for Vms {
    type Object = VirtualMachine;
    const GATHERS: Duration = Duration::ZERO;

    async fn look(&self, vm: Arc<VirtualMachine>) -> Result<Option<Duration>, OperatorError> {
        // Before all Pods are known, every VM would seem to have none.
        if self.known.pods.store().wait_until_ready().await.is_err() {
            return Err(OperatorError::WatchLost);
        }
        let key = ObjectRef::from_obj(vm.as_ref());
        let vm = self.known.vms.get(&key).map_or(vm, |(vm, _)| vm);
        let found = self.known.pods.get(&key_of_pod(&vm));
        let (mut pod, is_ahead) = found.map_or((None, false), |(pod, is_ahead)| (Some(pod), is_ahead));
        let mut now_plan = self.plan(&vm, pod.as_deref());
        let mut done = self.act(&vm, &now_plan).await;
        if done.as_ref().is_err_and(OperatorError::is_there_already) {
            // Another's, which the watch does not tell of, or one that it has not told of yet.
            pod = self.api.pod(&vm).await?.map(Arc::new);
            now_plan = self.plan(&vm, pod.as_deref());
            done = self.act(&vm, &now_plan).await;
        }
        if let Err(error) = &done {
            admit(&mut now_plan, &vm, error);
        }
        let Plan { status, notices, again, .. } = now_plan;
        let is_leaving = vm.metadata.deletion_timestamp.is_some();
        if vm.status.as_ref() != Some(&status) && !is_over(&done, is_leaving) {
            match self.api.write_status(vm.as_ref(), &status).await {
                Ok(vm) => self.known.vms.learn(vm),
                // It went meanwhile.
                Err(error) if error.status() == Some(404) => {}
                Err(error) => return Err(done.err().unwrap_or(error)),
            }
        }
        self.api.tell(vm.as_ref(), &notices).await;
        done?;
        Ok(again.into_iter().chain(is_ahead.then_some(AGE)).min())
    }
}

impl Vms {
    fn plan(&self, vm: &VirtualMachine, pod: Option<&Pod>) -> Plan {
        let namespace = vm.metadata.namespace.as_deref().unwrap_or_default();
        let find = |name: &str| Some(self.known.vms.get(&ObjectRef::new(name).within(namespace))?.0);
        plan(Seen { vm, pod, now: Timestamp::now() }, find, &self.plan)
    }

    /// Does what the plan says, up to the first failure; true: the VM itself is gone.
    async fn act(&self, vm: &VirtualMachine, plan: &Plan) -> Result<bool, OperatorError> {
        for action in &plan.actions {
            match self.api.act(vm, action).await? {
                Done::Vm(vm) => self.known.vms.learn(*vm),
                Done::Pod(pod) => self.known.pods.learn(*pod),
                Done::Gone => return Ok(matches!(action, Action::RemoveFinalizer | Action::RemoveVm)),
            }
            if *action == Action::RemoveFinalizer {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn key_of_pod(vm: &VirtualMachine) -> ObjectRef<Pod> {
    let (name, namespace) = (&vm.metadata.name, &vm.metadata.namespace);
    ObjectRef::new(name.as_deref().unwrap_or_default()).within(namespace.as_deref().unwrap_or_default())
}

/// A VM that is gone has no status any more.
fn is_over(done: &Result<bool, OperatorError>, is_leaving: bool) -> bool {
    is_leaving && matches!(done, Ok(true))
}

/// Takes back what was to be told and counted of what could not be done. Puts into the status, and tells once, what the server
/// would not let us do: a quota, a webhook, a name.
fn admit(plan: &mut Plan, vm: &VirtualMachine, error: &OperatorError) {
    let failed_pods = vm.status.as_ref().map_or(0, |status| status.failed_pods);
    plan.status.failed_pods = plan.status.failed_pods.min(failed_pods);
    plan.notices.retain(|notice| !notice.is_of_action());
    if !error.is_refusal() {
        return;
    }
    let before = vm.status.clone().unwrap_or_default();
    let why = one_line(&chain_of(error));
    let status = std::mem::take(&mut plan.status);
    if before.reason.as_deref() != Some(&why) {
        plan.notices.push(Notice { is_warning: true, reason: "Refused", message: why.clone() });
    }
    plan.status = VmStatus { reason: Some(why), ..status };
}
