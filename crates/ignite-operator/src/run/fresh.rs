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

struct Answers<K: Resource<DynamicType = ()>> {
    /// Each with when it came.
    known: HashMap<ObjectRef<K>, (Instant, Arc<K>)>,
    /// What the watch says is gone, since when, and by which version: an older answer may come after it.
    gone: HashMap<ObjectRef<K>, (Instant, u64)>,
}

impl<K: Resource<DynamicType = ()> + Clone + Debug> Fresh<K>
where
    ObjectRef<K>: Hash + Eq,
{
    pub(crate) fn new(store: Store<K>) -> Self {
        Fresh { store, answers: Mutex::new(Answers { known: HashMap::new(), gone: HashMap::new() }) }
    }

    pub(crate) fn store(&self) -> &Store<K> {
        &self.store
    }

    /// The newest that is known; true: the watch has not told of it yet.
    pub(crate) fn get(&self, key: &ObjectRef<K>) -> Option<(Arc<K>, bool)> {
        let seen = self.store.get(key);
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((at, answer)) = answers.known.get(key).cloned() else { return seen.map(|seen| (seen, false)) };
        let is_newer = seen.as_ref().is_none_or(|seen| version(answer.as_ref()) > version(seen.as_ref()));
        if is_newer && at.elapsed() < AGE {
            return Some((answer, true));
        }
        answers.known.remove(key);
        seen.map(|seen| (seen, false))
    }

    /// What has been answered of objects that the watch has not told of.
    pub(crate) fn unseen(&self, is_wanted: impl Fn(&K) -> bool) -> Vec<Arc<K>> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = answers.known.iter().filter(|(key, (at, _))| at.elapsed() < AGE && self.store.get(key).is_none());
        fresh.map(|(_, (_, answer))| answer.clone()).filter(|answer| is_wanted(answer)).collect()
    }

    /// Remembers an answer.
    pub(crate) fn learn(&self, object: K) {
        let key = ObjectRef::from_obj(&object);
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        // Two that work on one object may be answered in one order and come here in the other.
        let is_newest = answers.known.get(&key).is_none_or(|(_, known)| version(known.as_ref()) <= version(&object));
        let is_gone = answers.gone.get(&key).is_some_and(|(_, gone)| version(&object) <= *gone);
        if is_newest && !is_gone {
            answers.known.insert(key, (Instant::now(), Arc::new(object)));
        }
    }

    /// The watch says that it is gone.
    pub(crate) fn forget(&self, object: &K) {
        let key = ObjectRef::from_obj(object);
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.known.remove(&key);
        answers.gone.retain(|_, (at, _)| at.elapsed() < AGE);
        answers.gone.insert(key, (Instant::now(), version(object)));
    }
}

/// Versions of one kind grow; one that is no number is as old as can be, and the watch's counts.
fn version<K: Resource>(object: &K) -> u64 {
    object.resource_version().and_then(|text| text.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::VirtualMachine;
    use crate::test_objects::vm;
    use kube::runtime::reflector::store::Writer;
    use kube::runtime::{reflector, watcher};
    use serde_json::json;

    fn at(version: u64) -> VirtualMachine {
        vm(json!({ "metadata": { "resourceVersion": version.to_string() } }))
    }

    fn world() -> (Fresh<VirtualMachine>, Writer<VirtualMachine>) {
        let (store, writer) = reflector::store();
        (Fresh::new(store), writer)
    }

    fn known(fresh: &Fresh<VirtualMachine>) -> Option<(u64, bool)> {
        let (found, is_ahead) = fresh.get(&ObjectRef::from_obj(&at(1)))?;
        Some((version(found.as_ref()), is_ahead))
    }

    #[test]
    fn the_newest_counts_whoever_has_told_of_it() {
        let (fresh, mut writer) = world();
        assert_eq!(known(&fresh), None);
        fresh.learn(at(5));
        assert_eq!((known(&fresh), fresh.unseen(|_| true).len()), (Some((5, true)), 1));
        fresh.learn(at(4));
        assert_eq!(known(&fresh), Some((5, true)), "answers may come in another order");
        writer.apply_watcher_event(&watcher::Event::Apply(at(3)));
        assert_eq!((known(&fresh), fresh.unseen(|_| true).len()), (Some((5, true)), 0));
        writer.apply_watcher_event(&watcher::Event::Apply(at(5)));
        assert_eq!(known(&fresh), Some((5, false)));
    }

    #[test]
    fn an_answer_that_comes_after_the_end_is_none() {
        let (fresh, _writer) = world();
        fresh.learn(at(5));
        fresh.forget(&at(7));
        assert_eq!(known(&fresh), None);
        fresh.learn(at(6));
        assert_eq!(known(&fresh), None, "it was answered before the end, and is told of after it");
        fresh.learn(at(8));
        assert_eq!(known(&fresh), Some((8, true)), "another of that name");
    }
}
