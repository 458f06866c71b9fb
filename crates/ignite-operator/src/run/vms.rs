//! One VM at a time: plan, act, write down what has come of it.

use super::api::{Api, Done};
use super::fresh::AGE;
use super::pace::Pace;
use super::watch::Known;
use super::{Options, chain};
use crate::error::OperatorError;
use crate::objects::VirtualMachine;
use crate::plan::{Action, Notice, Plan, PlanOptions, one_line, plan};
use crate::status::VmStatus;
use futures_util::{Stream, StreamExt};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::controller::{self, applier};
use kube::runtime::reflector::ObjectRef;
use std::convert::Infallible;
use std::sync::Arc;

struct Context {
    known: Arc<Known>,
    api: Arc<Api>,
    plan: PlanOptions,
    pace: Pace<ObjectRef<VirtualMachine>>,
}

/// Works until the queue ends and what was begun is done.
pub(crate) async fn look_after(
    known: Arc<Known>,
    api: Arc<Api>,
    options: &Options,
    queue: impl Stream<Item = Result<ObjectRef<VirtualMachine>, Infallible>> + Send,
) {
    let store = known.vms.store().clone();
    let context = Arc::new(Context { known, api, plan: options.plan.clone(), pace: Pace::default() });
    let config = controller::Config::default().concurrency(options.concurrency);
    let reconcile = |vm: Arc<VirtualMachine>, context: Arc<Context>| Box::pin(reconcile(vm, context));
    applier(reconcile, after_error, context, store, queue, config).for_each(|_| std::future::ready(())).await;
}

fn after_error(vm: Arc<VirtualMachine>, error: &OperatorError, context: Arc<Context>) -> controller::Action {
    let pause = context.pace.failed(ObjectRef::from_obj(vm.as_ref()));
    tracing::warn!("{}; again in {:.1} s", chain(error), pause.as_secs_f64());
    controller::Action::requeue(pause)
}

async fn reconcile(vm: Arc<VirtualMachine>, context: Arc<Context>) -> Result<controller::Action, OperatorError> {
    // Before all Pods are known, every VM would seem to have none.
    if context.known.pods.store().wait_until_ready().await.is_err() {
        return Err(OperatorError::WatchLost);
    }
    let key = ObjectRef::from_obj(vm.as_ref());
    let vm = context.known.vms.get(&key).map_or(vm, |(vm, _)| vm);
    let found = context.known.pods.get(&key_of_pod(&vm));
    let (mut pod, is_ahead) = found.map_or((None, false), |(pod, is_ahead)| (Some(pod), is_ahead));
    let mut now_plan = plan(&vm, pod.as_deref(), Timestamp::now(), &context.plan);
    let mut done = context.act(&vm, &now_plan).await;
    if done.as_ref().is_err_and(is_there_already) {
        // Another's, which the watch does not tell of, or one that it has not told of yet.
        pod = context.api.pod(&vm).await?.map(Arc::new);
        now_plan = plan(&vm, pod.as_deref(), Timestamp::now(), &context.plan);
        done = context.act(&vm, &now_plan).await;
    }
    if let Err(error) = &done {
        admit(&mut now_plan, &vm, error);
    }
    let Plan { status, notices, again, .. } = now_plan;
    let is_leaving = vm.metadata.deletion_timestamp.is_some();
    if vm.status.as_ref() != Some(&status) && !is_over(&done, is_leaving) {
        match context.api.write_status(vm.as_ref(), &status).await {
            Ok(vm) => context.known.vms.learn(vm),
            // It went meanwhile.
            Err(error) if error.status() == Some(404) => {}
            Err(error) => return Err(done.err().unwrap_or(error)),
        }
    }
    context.api.tell(vm.as_ref(), &notices).await;
    done?;
    context.pace.went_well(&key);
    let again = again.into_iter().chain(is_ahead.then_some(AGE)).min();
    Ok(again.map_or_else(controller::Action::await_change, controller::Action::requeue))
}

impl Context {
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

fn is_there_already(error: &OperatorError) -> bool {
    matches!(error, OperatorError::Api { action: "create", .. }) && error.status() == Some(409)
}

/// A VM that is gone has no status any more.
fn is_over(done: &Result<bool, OperatorError>, is_leaving: bool) -> bool {
    is_leaving && matches!(done, Ok(true))
}

/// Puts into the status, and tells once, what the server would not let us do: a quota, a webhook, a name.
fn admit(plan: &mut Plan, vm: &VirtualMachine, error: &OperatorError) {
    if !matches!(error.status(), Some(400 | 403 | 422)) {
        return;
    }
    let before = vm.status.clone().unwrap_or_default();
    let why = one_line(&chain(error));
    let status = std::mem::take(&mut plan.status);
    plan.notices.clear();
    if before.reason.as_deref() != Some(&why) {
        plan.notices.push(Notice { is_warning: true, reason: "Refused", message: why.clone() });
    }
    plan.status = VmStatus { reason: Some(why), failed_pods: before.failed_pods, ..status };
}
