//! One set at a time: plan, act, write down what has come of it.

use super::Options;
use super::api::Api;
use super::fresh::AGE;
use super::watch::Known;
use super::work::{Looks, look_after};
use crate::error::OperatorError;
use crate::objects::{VirtualMachine, VirtualMachineSet};
use crate::plan::{Notice, one_line};
use crate::set_plan::{SET_LABEL, SetAction, SetPlan, is_of, label_of, plan};
use futures_util::{Stream, StreamExt};
use ignite_api::error_chain::chain_of;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::reflector::ObjectRef;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

/// Requests of one set that are under way at a time.
const AT_A_TIME: usize = 8;
/// How often a set is looked at whose VMs are not all as they should be.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

struct Sets {
    known: Arc<Known>,
    api: Arc<Api>,
}

/// Works until the queue ends and what was begun is done.
pub(crate) async fn run(
    known: Arc<Known>,
    api: Arc<Api>,
    options: &Options,
    queue: impl Stream<Item = Result<ObjectRef<VirtualMachineSet>, Infallible>> + Send,
) {
    let store = known.sets.clone();
    look_after(Sets { known, api }, store, options, queue).await;
}

impl Looks for Sets {
    type Object = VirtualMachineSet;
    /// Each of its VMs has news for it.
    const GATHERS: Duration = Duration::from_millis(100);

    async fn look(&self, set: Arc<VirtualMachineSet>) -> Result<Option<Duration>, OperatorError> {
        if self.known.vms.store().wait_until_ready().await.is_err() {
            return Err(OperatorError::WatchLost);
        }
        if set.metadata.deletion_timestamp.is_some() {
            // Its VMs go with it: Kubernetes collects what it owns.
            return Ok(None);
        }
        let (vms, is_ahead) = self.vms_of(&set);
        let SetPlan { actions, mut status, mut notices } = plan(&set, &vms, Timestamp::now());
        let acts: Vec<_> = actions.iter().map(|action| self.act(&set, action)).collect();
        let done: Vec<_> = futures_util::stream::iter(acts).buffer_unordered(AT_A_TIME).collect().await;
        let failure = done.into_iter().find_map(Result::err);
        let is_complete = status.conditions.iter().all(|one| one.kind != "Progressing" || one.status == "False");
        if let Some(error) = &failure {
            notices.clear();
            admit(&mut status.conditions, &mut notices, &set, error);
        }
        if set.status.as_ref() != Some(&status) {
            match self.api.write_status(set.as_ref(), &status).await {
                Err(error) if error.status() != Some(404) => return Err(failure.unwrap_or(error)),
                Ok(_) | Err(_) => {}
            }
        }
        self.api.tell(set.as_ref(), &notices).await;
        match failure {
            Some(error) => Err(error),
            // Nobody tells when a name is free again that was another's.
            None if !is_complete => Ok(Some(if is_ahead { AGE } else { LOOK_AGAIN })),
            None => Ok(is_ahead.then_some(AGE)),
        }
    }
}

impl Sets {
    /// Those of its label, of whatever owner, and whoever has one of its names; true: the watch has not told of all yet.
    fn vms_of(&self, set: &VirtualMachineSet) -> (Vec<Arc<VirtualMachine>>, bool) {
        let label = label_of(set);
        let prefix = format!("{}-", set.metadata.name.as_deref().unwrap_or_default());
        let is_near = |vm: &VirtualMachine| {
            vm.metadata.namespace == set.metadata.namespace
                && (vm.metadata.labels.as_ref().and_then(|labels| labels.get(SET_LABEL)) == Some(&label)
                    || vm.metadata.name.as_deref().is_some_and(|name| name.starts_with(&prefix))
                    || is_of(set, vm))
        };
        let seen = self.known.vms.store().state_filter(is_near);
        let newest =
            |vm: Arc<VirtualMachine>| self.known.vms.get(&ObjectRef::from_obj(vm.as_ref())).unwrap_or((vm, false));
        let mut all: Vec<_> = seen.into_iter().map(newest).collect();
        // What we have made and the watch has not told of yet.
        all.extend(self.known.vms.unseen(is_near).into_iter().map(|vm| (vm, true)));
        let is_ahead = all.iter().any(|(_, is_ahead)| *is_ahead);
        (all.into_iter().map(|(vm, _)| vm).collect(), is_ahead)
    }

    async fn act(&self, set: &VirtualMachineSet, action: &SetAction) -> Result<(), OperatorError> {
        if let Some(vm) = self.api.act_on_set(set, action).await? {
            self.known.vms.learn(vm);
        }
        Ok(())
    }
}

/// Says in the status what the server would not let us do.
fn admit(
    conditions: &mut [crate::status::Condition],
    notices: &mut Vec<Notice>,
    set: &VirtualMachineSet,
    error: &OperatorError,
) {
    if !error.is_refusal() {
        return;
    }
    let why = one_line(&chain_of(error));
    let before = set.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let is_known = before.iter().any(|one| one.kind == "Progressing" && one.message == why);
    for condition in conditions.iter_mut().filter(|one| one.kind == "Progressing") {
        condition.message.clone_from(&why);
    }
    if !is_known {
        notices.push(Notice { is_warning: true, reason: "Refused", message: why });
    }
}
