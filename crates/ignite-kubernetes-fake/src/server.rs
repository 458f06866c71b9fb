//! The server under `kube::Client`, with what a test says of it and asks it.

use crate::route::{Asked, Resource, Verb, route};
use crate::store::{Failure, Key, Store};
use crate::trouble::Trouble;
use crate::watches::{self, WatchEnd, line};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use kube::Client;
use kube::client::Body;
use kube::client::retry::RetryPolicy;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::time::Instant;
use tower::retry::RetryLayer;
use tower::{BoxError, ServiceBuilder, service_fn};

/// The body of an answer.
pub type Answer = UnsyncBoxBody<Bytes, io::Error>;

/// A request that was made.
#[derive(Debug, Clone)]
pub struct Record {
    /// Whose client it came from.
    pub user: String,
    /// What was asked for.
    pub verb: Verb,
    /// `vms`, `vms/status`.
    pub what: String,
    /// Of which object, where it was one.
    pub name: Option<String>,
    /// When.
    pub at: Instant,
    /// The HTTP status of the answer; absent: none yet, or never.
    pub code: Option<u16>,
}

/// What a test does to requests; nothing where there is `None`.
type Meddler = Box<dyn FnMut(&Asked) -> Option<Trouble> + Send>;

#[derive(Default)]
struct State {
    store: Store,
    records: Vec<Record>,
    meddler: Option<Meddler>,
}

/// An API server in memory; clones are one server.
#[derive(Clone, Default)]
pub struct FakeServer(Arc<Mutex<State>>);

impl fmt::Debug for FakeServer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("FakeServer").field("version", &self.state().store.version()).finish()
    }
}

impl FakeServer {
    /// An empty one.
    pub fn new() -> FakeServer {
        FakeServer::default()
    }

    /// A client, with the retries that `kube` gives every client. The server knows it as `user`.
    pub fn client(&self, user: &str) -> Client {
        let (server, user) = (self.clone(), user.to_owned());
        let answer = move |request: Request<Body>| {
            let (server, user) = (server.clone(), user.clone());
            async move { server.answer(&user, request).await }
        };
        let service =
            ServiceBuilder::new().layer(RetryLayer::new(RetryPolicy::server_retry())).service(service_fn(answer));
        Client::new(service, "default")
    }

    /// Answers a request; an error is a connection that breaks.
    pub async fn answer<B>(&self, user: &str, request: Request<B>) -> Result<Response<Answer>, BoxError>
    where
        B: http_body::Body + Send,
        B::Error: Into<BoxError>,
        B::Data: Send,
    {
        let (head, body) = request.into_parts();
        let Some(asked) = route(user, &Request::from_parts(head, ())) else {
            return Ok(failed(&Failure::new(404, "NotFound", "the server could not find the requested resource")));
        };
        let body = body.collect().await.map_err(Into::into)?.to_bytes();
        let body: Value = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body)? };
        let (trouble, record) = {
            let mut state = self.state();
            state.records.push(Record {
                user: asked.user.clone(),
                verb: asked.verb,
                what: asked.what(),
                name: asked.name.clone().or_else(|| body["metadata"]["name"].as_str().map(str::to_owned)),
                at: Instant::now(),
                code: None,
            });
            (state.meddler.as_mut().and_then(|meddler| meddler(&asked)), state.records.len() - 1)
        };
        let answer = match trouble {
            None => self.done(&asked, body),
            Some(Trouble::Late(by)) => {
                let answer = self.done(&asked, body);
                tokio::time::sleep(by).await;
                answer
            }
            Some(Trouble::DoneButRefused { code }) => {
                drop(self.done(&asked, body));
                failed(&refusal(code))
            }
            Some(Trouble::Refused { code, retry_after }) => {
                let mut answer = failed(&refusal(code));
                if let Some(seconds) = retry_after {
                    answer.headers_mut().insert("retry-after", seconds.into());
                }
                answer
            }
            Some(Trouble::Silent) => std::future::pending().await,
            Some(Trouble::Unreachable) => return Err(Box::new(io::Error::from(io::ErrorKind::ConnectionReset))),
        };
        if let Some(record) = self.state().records.get_mut(record) {
            record.code = Some(answer.status().as_u16());
        }
        Ok(answer)
    }

    fn done(&self, asked: &Asked, body: Value) -> Response<Answer> {
        let mut state = self.state();
        let store = &mut state.store;
        let key: Option<Key> =
            asked.name.clone().map(|name| (asked.resource.plural, asked.namespace.clone().unwrap_or_default(), name));
        let of = |object: Arc<Value>| {
            if asked.wants_metadata_only {
                json_of(StatusCode::OK, &metadata_of(&object))
            } else {
                json_of(StatusCode::OK, &object)
            }
        };
        let result = match (asked.verb, key) {
            (Verb::List, _) => store.list(asked).map(|page| {
                let items: Vec<Value> = page
                    .items
                    .iter()
                    .map(|item| if asked.wants_metadata_only { metadata_of(item) } else { item.as_ref().clone() })
                    .collect();
                let kind = if asked.wants_metadata_only {
                    "PartialObjectMetadataList".to_owned()
                } else {
                    format!("{}List", asked.resource.kind)
                };
                let version =
                    if asked.wants_metadata_only { "meta.k8s.io/v1".to_owned() } else { asked.resource.api_version() };
                let mut metadata = json!({ "resourceVersion": page.version.to_string() });
                if let Some(rest) = page.rest {
                    metadata["continue"] = json!(rest);
                }
                json_of(
                    StatusCode::OK,
                    &json!({ "kind": kind, "apiVersion": version, "metadata": metadata, "items": items }),
                )
            }),
            (Verb::Watch, _) => store.watch(asked).map(|told| {
                let (server, resource) = (Arc::downgrade(&self.0), asked.resource);
                let bookmark = move || {
                    let state = server.upgrade()?;
                    let state = state.lock().unwrap_or_else(PoisonError::into_inner);
                    (!state.store.is_holding()).then(|| bookmark(resource, state.store.version()))
                };
                let body = StreamBody::new(watches::body(asked, told, Box::new(bookmark)));
                answered(StatusCode::OK, body.boxed_unsync())
            }),
            (Verb::Create, Some(key)) if asked.subresource.as_deref() == Some("binding") => {
                store.bind(&key, &body).map(|success| json_of(StatusCode::CREATED, &success))
            }
            (Verb::Create, _) => {
                let namespace = asked.namespace.clone().unwrap_or_default();
                store.create(asked.resource, &namespace, body).map(|object| json_of(StatusCode::CREATED, &object))
            }
            (Verb::Get, Some(key)) => store.get(&key).map(of),
            (Verb::Update, Some(key)) => store.replace(asked, &key, body).map(of),
            (Verb::Patch, Some(key)) => store.patch(asked, &key, &body).map(of),
            (Verb::Delete, Some(key)) => store.delete(asked, &key, &body).map(of),
            (Verb::Get | Verb::Update | Verb::Patch | Verb::Delete, None) => Err(Failure::new(
                405,
                "MethodNotAllowed",
                "the server does not allow this method on the requested resource",
            )),
        };
        result.unwrap_or_else(|failure| failed(&failure))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a test does to the server, at once and uncounted.
impl FakeServer {
    /// From now on `meddler` says what happens to each request.
    pub fn meddle(&self, meddler: impl FnMut(&Asked) -> Option<Trouble> + Send + 'static) {
        self.state().meddler = Some(Box::new(meddler));
    }

    /// Requests are answered as they should be.
    pub fn leave_alone(&self) {
        self.state().meddler = None;
    }

    /// Ends all watches that are open; how many there were.
    pub fn end_watches(&self, end: WatchEnd) -> usize {
        self.state().store.end_watches(end)
    }

    /// Watches say nothing of what happens, until [`FakeServer::release_watches`].
    pub fn hold_watches(&self) {
        self.state().store.hold_watches();
    }

    /// Watches tell what they have held back.
    pub fn release_watches(&self) {
        self.state().store.release_watches();
    }

    /// Forgets everything before now, as etcd does every few minutes.
    pub fn compact(&self) {
        self.state().store.compact();
    }

    /// Makes an object. Panics where that cannot be.
    pub fn create(&self, plural: &str, object: Value) -> Arc<Value> {
        let resource = Resource::of(plural).unwrap_or_else(|| panic!("no resource {plural}"));
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or("default").to_owned();
        let made = self.state().store.create(resource, &namespace, object);
        made.unwrap_or_else(|failure| panic!("{plural}: {}", failure.message))
    }

    /// Changes an object of namespace `default`, whatever the rules say. Panics where there is none.
    pub fn edit(&self, plural: &str, name: &str, change: impl FnOnce(&mut Value)) {
        assert!(self.state().store.edit(&key(plural, name), change), "no {plural} {name}");
    }

    /// Deletes an object of namespace `default` as a user does, without waiting for its end.
    pub fn delete(&self, plural: &str, name: &str) {
        let key = key(plural, name);
        let path = |resource: &Resource| match resource.group {
            "" => format!("/api/{}/namespaces/default/{plural}/{name}", resource.version),
            group => format!("/apis/{group}/{}/namespaces/default/{plural}/{name}", resource.version),
        };
        let uri = Resource::of(plural).map(path).unwrap_or_default();
        let request = Request::delete(uri).body(()).unwrap_or_default();
        let asked = route("administrator", &request).unwrap_or_else(|| panic!("no resource {plural}"));
        let deleted = self.state().store.delete(&asked, &key, &Value::Null);
        deleted.unwrap_or_else(|failure| panic!("{plural} {name}: {}", failure.message));
    }

    /// Removes an object of namespace `default`, whatever the rules say; whether there was one.
    pub fn remove(&self, plural: &str, name: &str) -> bool {
        self.state().store.remove(&key(plural, name))
    }

    /// All objects of a kind, by namespace and name.
    pub fn objects(&self, plural: &str) -> Vec<Arc<Value>> {
        self.state().store.objects(plural)
    }

    /// An object of namespace `default`.
    pub fn object(&self, plural: &str, name: &str) -> Option<Arc<Value>> {
        self.state().store.get(&key(plural, name)).ok()
    }

    /// The version of the last change.
    pub fn version(&self) -> u64 {
        self.state().store.version()
    }

    /// What was asked for so far, or since [`FakeServer::forget_requests`].
    pub fn requests(&self) -> Vec<Record> {
        self.state().records.clone()
    }

    /// Requests of a user that are wanted.
    pub fn count(&self, user: &str, is_wanted: impl Fn(&Record) -> bool) -> usize {
        self.state().records.iter().filter(|record| record.user == user && is_wanted(record)).count()
    }

    /// How often a user asked for what: `Patch vms/status` → 3.
    pub fn counts(&self, user: &str) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for record in self.state().records.iter().filter(|record| record.user == user) {
            *counts.entry(format!("{:?} {}", record.verb, record.what)).or_default() += 1;
        }
        counts
    }

    /// Counts from zero.
    pub fn forget_requests(&self) {
        self.state().records.clear();
    }
}

fn key(plural: &str, name: &str) -> Key {
    let plural = Resource::of(plural).map_or("", |resource| resource.plural);
    (plural, "default".to_owned(), name.to_owned())
}

fn metadata_of(object: &Value) -> Value {
    json!({ "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"] })
}

fn bookmark(resource: &Resource, version: u64) -> Bytes {
    let metadata = json!({ "resourceVersion": version.to_string(), "creationTimestamp": null });
    line(
        "BOOKMARK",
        &json!({ "kind": resource.kind, "apiVersion": resource.api_version(), "metadata": metadata, "spec": {} }),
    )
}

fn refusal(code: u16) -> Failure {
    let reason = match code {
        403 => "Forbidden",
        404 => "NotFound",
        409 => "Conflict",
        410 => "Expired",
        422 => "Invalid",
        429 => "TooManyRequests",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "InternalError",
    };
    Failure::new(code, reason, format!("the test wants {code}"))
}

fn failed(failure: &Failure) -> Response<Answer> {
    json_of(StatusCode::from_u16(failure.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), &failure.status())
}

fn json_of(code: StatusCode, object: &Value) -> Response<Answer> {
    let body = Full::new(Bytes::from(object.to_string())).map_err(|never| match never {});
    answered(code, body.boxed_unsync())
}

fn answered(code: StatusCode, body: Answer) -> Response<Answer> {
    let mut answer = Response::new(body);
    *answer.status_mut() = code;
    answer.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
    answer
}
