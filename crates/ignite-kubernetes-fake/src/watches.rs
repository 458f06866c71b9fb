//! Watches: who hears of which change, and how a watch ends.

use crate::route::Asked;
use bytes::Bytes;
use futures_util::{Stream, stream};
use http_body::Frame;
use serde_json::{Value, json};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, sleep_until};

/// How long a watch lasts that does not say.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1800);
/// How often a watch without news is told how far the server is.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);

/// How a test ends watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchEnd {
    /// As when their time is over.
    Closed,
    /// The connection breaks.
    Cut,
    /// The server says that it remembers too little (410 Gone).
    Expired,
}

/// A change of an object: what it was, and what it is. What is gone has its last version.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) version: u64,
    pub(crate) plural: &'static str,
    pub(crate) before: Option<Arc<Value>>,
    pub(crate) after: Option<Arc<Value>>,
}

/// Which objects are meant.
#[derive(Debug, Clone)]
pub(crate) struct Filter {
    pub(crate) plural: &'static str,
    namespace: Option<String>,
    /// Key, and the value it must have; without one it must be there.
    labels: Vec<(String, Option<String>)>,
}

impl Filter {
    /// What a list or watch asks for; `None`: a selector that this server does not know.
    pub(crate) fn of(asked: &Asked) -> Option<Filter> {
        if asked.query.get("fieldSelector").is_some_and(|selector| !selector.is_empty()) {
            return None;
        }
        let selector = asked.query.get("labelSelector").map(String::as_str).unwrap_or_default();
        let mut labels = Vec::new();
        for term in selector.split(',').filter(|term| !term.is_empty()) {
            if term.contains(['!', '(', ' ']) {
                return None;
            }
            labels.push(match term.split_once('=') {
                Some((key, value)) => (key.to_owned(), Some(value.trim_start_matches('=').to_owned())),
                None => (term.to_owned(), None),
            });
        }
        Some(Filter { plural: asked.resource.plural, namespace: asked.namespace.clone(), labels })
    }

    pub(crate) fn takes(&self, object: &Value) -> bool {
        let metadata = &object["metadata"];
        self.namespace.as_ref().is_none_or(|namespace| metadata["namespace"] == **namespace)
            && self.labels.iter().all(|(key, wanted)| match (metadata["labels"].get(key), wanted) {
                (Some(value), Some(wanted)) => value == &**wanted,
                (found, None) => found.is_some(),
                (None, Some(_)) => false,
            })
    }

    /// What a watch of this says of a change.
    pub(crate) fn line(&self, change: &Change) -> Option<Bytes> {
        if change.plural != self.plural {
            return None;
        }
        let taken = |object: &Option<Arc<Value>>| object.clone().filter(|object| self.takes(object));
        let (kind, object) = match (taken(&change.before), taken(&change.after)) {
            (None, None) => return None,
            (None, Some(after)) => ("ADDED", after),
            (Some(_), Some(after)) => ("MODIFIED", after),
            (Some(before), None) => {
                let mut last = before.as_ref().clone();
                last["metadata"]["resourceVersion"] = json!(change.version.to_string());
                ("DELETED", Arc::new(last))
            }
        };
        Some(line(kind, &object))
    }
}

pub(crate) fn line(kind: &str, object: &Value) -> Bytes {
    Bytes::from(format!("{}\n", json!({ "type": kind, "object": object })))
}

/// What a watch is told.
#[derive(Debug)]
pub(crate) enum Told {
    Line(Bytes),
    End(WatchEnd),
}

/// A watch that is open.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) filter: Filter,
    pub(crate) sender: UnboundedSender<Told>,
}

impl Watch {
    /// One with its other end.
    pub(crate) fn open(filter: Filter) -> (Watch, UnboundedReceiver<Told>) {
        let (sender, receiver) = unbounded_channel();
        (Watch { filter, sender }, receiver)
    }
}

struct Open {
    told: UnboundedReceiver<Told>,
    ends: Instant,
    bookmark: Option<Instant>,
    say_version: Box<dyn Fn() -> Option<Bytes> + Send>,
    is_over: bool,
}

/// The body of the answer to a watch; `say_version` says how far the server is, unless it has told less.
pub(crate) fn body(
    asked: &Asked,
    told: UnboundedReceiver<Told>,
    say_version: Box<dyn Fn() -> Option<Bytes> + Send>,
) -> impl Stream<Item = io::Result<Frame<Bytes>>> + Send + use<> {
    let seconds = asked.query.get("timeoutSeconds").and_then(|text| text.parse().ok());
    let wants_bookmarks = asked.flag("allowWatchBookmarks");
    let open = Open {
        told,
        ends: Instant::now() + seconds.map_or(DEFAULT_TIMEOUT, Duration::from_secs),
        bookmark: wants_bookmarks.then(|| Instant::now() + BOOKMARK_EVERY),
        say_version,
        is_over: false,
    };
    stream::unfold(open, |mut open| async move {
        if open.is_over {
            return None;
        }
        loop {
            let bookmark = open.bookmark.unwrap_or(open.ends + BOOKMARK_EVERY);
            tokio::select! {
                biased;
                told = open.told.recv() => return match told? {
                    Told::Line(line) => Some((Ok(Frame::data(line)), open)),
                    Told::End(WatchEnd::Closed) => None,
                    Told::End(WatchEnd::Cut) => {
                        open.is_over = true;
                        Some((Err(io::Error::from(io::ErrorKind::ConnectionReset)), open))
                    }
                    Told::End(WatchEnd::Expired) => {
                        open.is_over = true;
                        Some((Ok(Frame::data(line("ERROR", &expired()))), open))
                    }
                },
                () = sleep_until(open.ends) => return None,
                () = sleep_until(bookmark) => {
                    open.bookmark = Some(Instant::now() + BOOKMARK_EVERY);
                    // News that is on its way is older than a bookmark that was taken after it.
                    if let Some(line) = (open.say_version)().filter(|_| open.told.is_empty()) {
                        return Some((Ok(Frame::data(line)), open));
                    }
                }
            }
        }
    })
}

/// What a server says that remembers too little.
pub(crate) fn expired() -> Value {
    json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "Expired", "code": 410,
        "message": "too old resource version" })
}
