//! The queue of one kind of object: each looked at by one task at a time, what fails again at a slowing pace.

use super::Options;
use super::metrics::Metrics;
use super::pace::Pace;
use crate::error::OperatorError;
use futures_util::{Stream, StreamExt};
use ignite_api::error_chain::chain_of;
use kube::runtime::controller::{self, applier};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Resource, ResourceExt};
use std::convert::Infallible;
use std::fmt::Debug;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Who looks at objects of a kind.
pub(crate) trait Looks: Send + Sync + 'static {
    type Object: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static;
    /// What happens within this time is looked at once.
    const GATHERS: Duration;

    /// Brings one to where it should be; when to look again though nothing happens.
    fn look(&self, object: Arc<Self::Object>) -> impl Future<Output = Result<Option<Duration>, OperatorError>> + Send;
}

struct Work<L: Looks> {
    looks: L,
    pace: Pace<ObjectRef<L::Object>>,
    metrics: Metrics,
}

/// Works until the queue ends and what was begun is done.
pub(crate) async fn look_after<L: Looks>(
    looks: L,
    store: Store<L::Object>,
    options: &Options,
    queue: impl Stream<Item = Result<ObjectRef<L::Object>, Infallible>> + Send,
) where
    ObjectRef<L::Object>: Hash + Eq + Send,
{
    let work = Arc::new(Work { looks, pace: Pace::default(), metrics: options.metrics.clone() });
    let config = controller::Config::default().concurrency(options.concurrency).debounce(L::GATHERS);
    let reconcile = |object, work: Arc<Work<L>>| Box::pin(timed(object, work));
    applier(reconcile, after_error, work, store, queue, config).for_each(|_| std::future::ready(())).await;
}

async fn timed<L: Looks>(object: Arc<L::Object>, work: Arc<Work<L>>) -> Result<controller::Action, OperatorError> {
    let started = Instant::now();
    let key = ObjectRef::from_obj(object.as_ref());
    let result = work.looks.look(object).await;
    work.metrics.looked(kind::<L>(), started.elapsed(), result.is_ok());
    let again = result?;
    work.pace.went_well(&key);
    Ok(again.map_or_else(controller::Action::await_change, controller::Action::requeue))
}

fn after_error<L: Looks>(object: Arc<L::Object>, error: &OperatorError, work: Arc<Work<L>>) -> controller::Action {
    let pause = work.pace.failed(ObjectRef::from_obj(object.as_ref()));
    let name = format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any());
    tracing::warn!("{} {name}: {}; again in {:.1} s", kind::<L>(), chain_of(error), pause.as_secs_f64());
    controller::Action::requeue(pause)
}

/// The resource's name in the plural, which is static.
fn kind<L: Looks>() -> &'static str {
    match L::Object::plural(&()) {
        std::borrow::Cow::Borrowed(name) => name,
        std::borrow::Cow::Owned(_) => "objects",
    }
}
