//! Objects and their versions, what may be done to them, and what is remembered for watches.

use crate::apply::apply;
use crate::route::{Asked, Resource, Verb};
use crate::watches::{Change, Filter, Told, Watch, line};
use bytes::Bytes;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use tokio::sync::mpsc::UnboundedReceiver;

/// Kind, namespace and name.
pub(crate) type Key = (&'static str, String, String);

/// An answer that is not what was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: u16,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Failure {
        Failure { code, reason, message: message.into() }
    }

    /// As the server sends it.
    pub(crate) fn status(&self) -> Value {
        json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "reason": self.reason, "message": self.message, "code": self.code })
    }
}

/// A page of a list.
pub(crate) struct Page {
    pub(crate) version: u64,
    pub(crate) items: Vec<Arc<Value>>,
    /// Where the next one goes on.
    pub(crate) rest: Option<String>,
}

#[derive(Default)]
pub(crate) struct Store {
    version: u64,
    uids: u64,
    objects: BTreeMap<Key, Arc<Value>>,
    /// What each manager has applied, by object and subresource.
    applied: HashMap<(Key, String, String), Value>,
    history: VecDeque<Change>,
    /// Versions before this one are forgotten.
    compacted: u64,
    watches: Vec<Watch>,
    /// Changes that watches are not told of yet.
    held: Option<Vec<Change>>,
    /// Lists that are being read page by page, as they were when that began.
    pages: HashMap<String, (u64, Vec<Arc<Value>>)>,
}

impl Store {
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    pub(crate) fn is_holding(&self) -> bool {
        self.held.is_some()
    }

    pub(crate) fn objects(&self, plural: &str) -> Vec<Arc<Value>> {
        self.objects.iter().filter(|((kind, ..), _)| *kind == plural).map(|(_, object)| object.clone()).collect()
    }

    pub(crate) fn get(&self, key: &Key) -> Result<Arc<Value>, Failure> {
        let missing = || Failure::new(404, "NotFound", format!("{} \"{}\" not found", key.0, key.2));
        self.objects.get(key).cloned().ok_or_else(missing)
    }

    pub(crate) fn list(&mut self, asked: &Asked) -> Result<Page, Failure> {
        let number = |name: &str| asked.query.get(name).and_then(|text| text.parse::<usize>().ok());
        let limit = number("limit").filter(|limit| *limit > 0).unwrap_or(usize::MAX);
        let (version, mut items) = match asked.query.get("continue").filter(|token| !token.is_empty()) {
            Some(token) => self.pages.remove(token).ok_or_else(|| {
                Failure::new(410, "Expired", "The provided continue parameter is too old to display a consistent list")
            })?,
            None => {
                let filter = Filter::of(asked).ok_or_else(|| Failure::new(400, "BadRequest", "unknown selector"))?;
                let all = self.objects(asked.resource.plural).into_iter();
                (self.version, all.filter(|object| filter.takes(object)).collect())
            }
        };
        let mut rest = None;
        if items.len() > limit {
            let more = items.split_off(limit);
            let token = format!("page-{}-{}", version, more.len());
            self.pages.insert(token.clone(), (version, more));
            rest = Some(token);
        }
        Ok(Page { version, items, rest })
    }

    /// Opens a watch; what has happened since the version that is asked for is in it already.
    pub(crate) fn watch(&mut self, asked: &Asked) -> Result<UnboundedReceiver<Told>, Failure> {
        let filter = Filter::of(asked).ok_or_else(|| Failure::new(400, "BadRequest", "unknown selector"))?;
        let (watch, receiver) = Watch::open(filter);
        let since = asked.query.get("resourceVersion").and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        let untold = self.held.iter().flatten().map(|change| change.version).min().unwrap_or(u64::MAX);
        let mut lines: Vec<Bytes> = Vec::new();
        if since == 0 {
            let all = self.objects(asked.resource.plural).into_iter().filter(|object| watch.filter.takes(object));
            lines.extend(all.map(|object| line("ADDED", &object)));
        } else if since < self.compacted {
            let _ = watch.sender.send(Told::End(crate::watches::WatchEnd::Expired));
            return Ok(receiver);
        } else {
            let missed = self.history.iter().filter(|change| change.version > since && change.version < untold);
            lines.extend(missed.filter_map(|change| watch.filter.line(change)));
        }
        for line in lines {
            let _ = watch.sender.send(Told::Line(line));
        }
        self.watches.push(watch);
        Ok(receiver)
    }

    pub(crate) fn end_watches(&mut self, end: crate::watches::WatchEnd) -> usize {
        let watches = std::mem::take(&mut self.watches);
        watches.iter().filter(|watch| watch.sender.send(Told::End(end)).is_ok()).count()
    }

    /// Forgets what was: who watches from an older version, or reads on in an older list, is told so.
    pub(crate) fn compact(&mut self) {
        self.version += 1;
        self.compacted = self.version;
        self.history.clear();
        self.pages.clear();
    }

    pub(crate) fn hold_watches(&mut self) {
        self.held.get_or_insert_default();
    }

    pub(crate) fn release_watches(&mut self) {
        for change in self.held.take().unwrap_or_default() {
            self.tell(&change);
        }
    }

    fn tell(&mut self, change: &Change) {
        self.watches.retain(|watch| match watch.filter.line(change) {
            Some(line) => watch.sender.send(Told::Line(line)).is_ok(),
            None => !watch.sender.is_closed(),
        });
    }

    /// Puts `after` in an object's place, as a new version.
    fn commit(&mut self, key: &Key, after: Option<Value>) -> Arc<Value> {
        self.version += 1;
        let before = self.objects.remove(key);
        let after = after.map(|mut object| {
            object["metadata"]["resourceVersion"] = json!(self.version.to_string());
            Arc::new(object)
        });
        match &after {
            Some(object) => drop(self.objects.insert(key.clone(), object.clone())),
            None => self.applied.retain(|(of, ..), _| of != key),
        }
        let change = Change { version: self.version, plural: key.0, before: before.clone(), after: after.clone() };
        self.history.push_back(change.clone());
        match &mut self.held {
            Some(held) => held.push(change),
            None => self.tell(&change),
        }
        after.or(before).unwrap_or_default()
    }

    /// Makes an object. Its metadata is the server's to complete.
    pub(crate) fn create(
        &mut self,
        resource: &'static Resource,
        namespace: &str,
        mut object: Value,
    ) -> Result<Arc<Value>, Failure> {
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        if name.is_empty() {
            return Err(Failure::new(
                422,
                "Invalid",
                "metadata.name: Required value: name or generateName is required",
            ));
        }
        let key = (resource.plural, namespace.to_owned(), name.clone());
        if self.objects.contains_key(&key) {
            return Err(Failure::new(409, "AlreadyExists", format!("{} \"{name}\" already exists", resource.plural)));
        }
        if !object["metadata"]["resourceVersion"].is_null() {
            return Err(Failure::new(400, "BadRequest", "resourceVersion should not be set on objects to be created"));
        }
        self.uids += 1;
        object["apiVersion"] = json!(resource.api_version());
        object["kind"] = json!(resource.kind);
        let metadata = &mut object["metadata"];
        metadata["namespace"] = json!(namespace);
        metadata["uid"] = json!(format!("00000000-0000-4000-8000-{:012}", self.uids));
        metadata["creationTimestamp"] = json!(now());
        if resource.is_custom {
            metadata["generation"] = json!(1);
            // It is written by itself alone.
            object.as_object_mut().map(|object| object.remove("status"));
        }
        if resource.kind == "Pod" {
            object["status"] = json!({ "phase": "Pending" });
            object["spec"]["terminationGracePeriodSeconds"]
                .as_i64()
                .map_or_else(|| object["spec"]["terminationGracePeriodSeconds"] = json!(30), |_| ());
        }
        Ok(self.commit(&key, Some(object)))
    }

    /// Puts `wanted` in place of an object, or of its status, as PUT and PATCH do.
    pub(crate) fn replace(&mut self, asked: &Asked, key: &Key, wanted: Value) -> Result<Arc<Value>, Failure> {
        let live = self.get(key)?;
        let resource = asked.resource;
        let conflict = |what: &str| Failure::new(409, "Conflict", format!("{} \"{}\": {what}", key.0, key.2));
        let (was, is) = (&live["metadata"], &wanted["metadata"]);
        if !is["uid"].is_null() && is["uid"] != was["uid"] {
            let changed = Failure::new(422, "Invalid", "metadata.uid: Invalid value: field is immutable");
            let other = conflict("the UID in the precondition is not the object's");
            return Err(if resource.is_custom { changed } else { other });
        }
        match is["resourceVersion"].as_str() {
            Some(version) if !version.is_empty() && was["resourceVersion"] != version => {
                return Err(conflict("the object has been modified; please apply your changes to the latest version"));
            }
            None | Some("") if asked.verb == Verb::Update && resource.kind != "Pod" => {
                let message = "metadata.resourceVersion: Invalid value: 0x0: must be specified for an update";
                return Err(Failure::new(422, "Invalid", message));
            }
            _ => {}
        }
        let is_leaving = !was["deletionTimestamp"].is_null();
        let mut next = live.as_ref().clone();
        match asked.subresource.as_deref() {
            Some(_) => next["status"] = wanted["status"].clone(),
            None => {
                next = wanted;
                for field in [
                    "uid",
                    "namespace",
                    "name",
                    "creationTimestamp",
                    "generation",
                    "deletionTimestamp",
                    "deletionGracePeriodSeconds",
                    "resourceVersion",
                ] {
                    next["metadata"][field] = was[field].clone();
                }
                // Both statuses are written by themselves alone.
                next["status"] = live["status"].clone();
                let known = was["finalizers"].as_array().cloned().unwrap_or_default();
                let added =
                    next["metadata"]["finalizers"].as_array().into_iter().flatten().any(|one| !known.contains(one));
                if is_leaving && added {
                    let message =
                        "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted";
                    return Err(Failure::new(422, "Invalid", message));
                }
            }
        }
        without_nulls(&mut next);
        if is_leaving && !has_finalizers(&next) && next["metadata"]["deletionGracePeriodSeconds"] == 0 {
            self.commit(key, None);
            return Ok(Arc::new(next));
        }
        // What changes nothing is no new version.
        if next == *live {
            return Ok(live);
        }
        if resource.is_custom && next["spec"] != live["spec"] {
            next["metadata"]["generation"] = json!(was["generation"].as_i64().unwrap_or(0) + 1);
        }
        Ok(self.commit(key, Some(next)))
    }

    /// Merges or applies a patch into an object, or into its status.
    pub(crate) fn patch(&mut self, asked: &Asked, key: &Key, patch: &Value) -> Result<Arc<Value>, Failure> {
        let live = self.get(key)?;
        let mut wanted = live.as_ref().clone();
        match asked.content_type.as_str() {
            "application/merge-patch+json" => {
                // The version is a precondition only if the patch names one.
                wanted["metadata"].as_object_mut().map(|metadata| metadata.remove("resourceVersion"));
                json_patch::merge(&mut wanted, patch);
                self.replace(asked, key, wanted)
            }
            "application/apply-patch+yaml" => {
                let (resource, named) = (asked.resource, |name: &str| patch[name].as_str().unwrap_or_default());
                let manager = asked.query.get("fieldManager").cloned().unwrap_or_default();
                if manager.is_empty() || named("apiVersion") != resource.api_version() || named("kind") != resource.kind
                {
                    return Err(Failure::new(
                        400,
                        "BadRequest",
                        "apply: fieldManager, apiVersion and kind are required",
                    ));
                }
                if asked.subresource.as_deref() != Some("status") {
                    return Err(Failure::new(400, "BadRequest", "this server applies statuses only"));
                }
                let slot = (key.clone(), asked.what(), manager);
                let before = self.applied.get(&slot).cloned().unwrap_or_default();
                wanted["metadata"] = patch["metadata"].clone();
                wanted["status"] = apply(&live["status"], &before, &patch["status"]);
                let done = self.replace(asked, key, wanted)?;
                self.applied.insert(slot, patch["status"].clone());
                Ok(done)
            }
            other => Err(Failure::new(415, "UnsupportedMediaType", format!("patches are not of type {other:?} here"))),
        }
    }

    /// Puts a Pod on a node.
    pub(crate) fn bind(&mut self, key: &Key, binding: &Value) -> Result<Value, Failure> {
        let live = self.get(key)?;
        if !live["spec"]["nodeName"].is_null() {
            return Err(Failure::new(409, "Conflict", format!("pod {} is already assigned to a node", key.2)));
        }
        let mut next = live.as_ref().clone();
        next["spec"]["nodeName"] = binding["target"]["name"].clone();
        self.commit(key, Some(next));
        Ok(json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201 }))
    }

    /// Deletes an object, or says in it that it is to go: its finalizers and, of a Pod, its node have a say.
    pub(crate) fn delete(&mut self, asked: &Asked, key: &Key, options: &Value) -> Result<Arc<Value>, Failure> {
        let live = self.get(key)?;
        for (field, wanted) in options["preconditions"].as_object().into_iter().flatten() {
            if live["metadata"][field] != *wanted {
                let message = format!("the {field} in the precondition ({wanted}) is not the object's");
                return Err(Failure::new(409, "Conflict", message));
            }
        }
        let grace = self.grace(asked, &live, options);
        let was_leaving = !live["metadata"]["deletionTimestamp"].is_null();
        let is_pod = asked.resource.kind == "Pod";
        if grace == 0 && !has_finalizers(&live) {
            self.commit(key, None);
            let details = json!({ "name": key.2, "kind": key.0, "uid": live["metadata"]["uid"] });
            let success = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details });
            return Ok(if is_pod { live } else { Arc::new(success) });
        }
        let shorter = live["metadata"]["deletionGracePeriodSeconds"].as_i64().is_some_and(|before| grace < before);
        if was_leaving && !shorter {
            return Ok(live);
        }
        let mut next = live.as_ref().clone();
        let metadata = &mut next["metadata"];
        metadata["deletionTimestamp"] = json!(at(Timestamp::now() + SignedDuration::from_secs(grace)));
        metadata["deletionGracePeriodSeconds"] = json!(grace);
        if asked.resource.is_custom {
            metadata["generation"] = json!(metadata["generation"].as_i64().unwrap_or(0) + 1);
        }
        Ok(self.commit(key, Some(next)))
    }

    /// Seconds that a node has to end a Pod; nothing else is waited for.
    fn grace(&self, asked: &Asked, live: &Value, options: &Value) -> i64 {
        let has_ended = matches!(live["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
        if asked.resource.kind != "Pod" || live["spec"]["nodeName"].is_null() || has_ended {
            return 0;
        }
        let wanted = asked.query.get("gracePeriodSeconds").and_then(|text| text.parse().ok());
        let wanted = wanted.or(options["gracePeriodSeconds"].as_i64());
        wanted.or(live["spec"]["terminationGracePeriodSeconds"].as_i64()).unwrap_or(30)
    }

    /// Changes an object whatever the rules say.
    pub(crate) fn edit(&mut self, key: &Key, change: impl FnOnce(&mut Value)) -> bool {
        let Ok(live) = self.get(key) else { return false };
        let mut next = live.as_ref().clone();
        change(&mut next);
        if next["spec"] != live["spec"] && !next["metadata"]["generation"].is_null() {
            next["metadata"]["generation"] = json!(live["metadata"]["generation"].as_i64().unwrap_or(0) + 1);
        }
        self.commit(key, Some(next));
        true
    }

    /// Removes an object whatever the rules say.
    pub(crate) fn remove(&mut self, key: &Key) -> bool {
        let is_there = self.objects.contains_key(key);
        if is_there {
            self.commit(key, None);
        }
        is_there
    }
}

fn has_finalizers(object: &Value) -> bool {
    object["metadata"]["finalizers"].as_array().is_some_and(|all| !all.is_empty())
}

fn without_nulls(object: &mut Value) {
    for part in ["metadata", "status"] {
        if let Some(fields) = object[part].as_object_mut() {
            fields.retain(|_, value| !value.is_null());
        }
    }
    if let Some(object) = object.as_object_mut() {
        object.retain(|_, value| !value.is_null());
    }
}

fn now() -> String {
    at(Timestamp::now())
}

/// Kubernetes counts whole seconds.
fn at(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second()).unwrap_or(time).to_string()
}
