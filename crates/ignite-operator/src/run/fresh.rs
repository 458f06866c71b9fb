//! What the API server has answered, until the watch tells of it: so that nothing is done twice meanwhile.

use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Resource, ResourceExt};
use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// A watch that is later than this is broken, and started anew.
pub(crate) const AGE: Duration = Duration::from_secs(10);

/// A store, and answers that are newer than what is in it.
pub(crate) struct Fresh<K: Resource<DynamicType = ()> + Clone + 'static> {
    store: Store<K>,
    answers: Mutex<Answers<K>>,
}

/// Each with when it came.
type Answers<K> = HashMap<ObjectRef<K>, (Instant, Arc<K>)>;

impl<K: Resource<DynamicType = ()> + Clone + Debug> Fresh<K>
where
    ObjectRef<K>: Hash + Eq,
{
    pub(crate) fn new(store: Store<K>) -> Self {
        Fresh { store, answers: Mutex::default() }
    }

    pub(crate) fn store(&self) -> &Store<K> {
        &self.store
    }

    /// The newest that is known; true: the watch has not told of it yet.
    pub(crate) fn get(&self, key: &ObjectRef<K>) -> Option<(Arc<K>, bool)> {
        let seen = self.store.get(key);
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((at, answer)) = answers.get(key).cloned() else { return seen.map(|seen| (seen, false)) };
        let is_newer = seen.as_ref().is_none_or(|seen| version(answer.as_ref()) > version(seen.as_ref()));
        if is_newer && at.elapsed() < AGE {
            return Some((answer, true));
        }
        answers.remove(key);
        seen.map(|seen| (seen, false))
    }

    /// What has been answered of objects that the watch has not told of.
    pub(crate) fn unseen(&self, is_wanted: impl Fn(&K) -> bool) -> Vec<Arc<K>> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = answers.iter().filter(|(key, (at, _))| at.elapsed() < AGE && self.store.get(key).is_none());
        fresh.map(|(_, (_, answer))| answer.clone()).filter(|answer| is_wanted(answer)).collect()
    }

    /// Remembers an answer.
    pub(crate) fn learn(&self, object: K) {
        let key = ObjectRef::from_obj(&object);
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).insert(key, (Instant::now(), Arc::new(object)));
    }

    /// The watch says that it is gone.
    pub(crate) fn forget(&self, key: &ObjectRef<K>) {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

/// Versions of one kind grow; one that is no number is as old as can be, and the watch's counts.
fn version<K: Resource>(object: &K) -> u64 {
    object.resource_version().and_then(|text| text.parse().ok()).unwrap_or(0)
}
