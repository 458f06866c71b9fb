//! What a request asks for: its method, path and query, taken apart.

use http::{Method, Request};
use std::collections::BTreeMap;

/// A kind of object that the server has.
#[derive(Debug, PartialEq, Eq)]
pub struct Resource {
    /// Empty for the core group.
    pub group: &'static str,
    /// The served version.
    pub version: &'static str,
    /// As in paths.
    pub plural: &'static str,
    /// As in objects.
    pub kind: &'static str,
    /// Custom resources count their `generation`, and an update of them must say which version it changes.
    pub is_custom: bool,
}

const fn resource(
    group: &'static str,
    version: &'static str,
    plural: &'static str,
    kind: &'static str,
    is_custom: bool,
) -> Resource {
    Resource { group, version, plural, kind, is_custom }
}

/// All there are.
pub static RESOURCES: [Resource; 5] = [
    resource("", "v1", "pods", "Pod", false),
    resource("events.k8s.io", "v1", "events", "Event", false),
    resource("coordination.k8s.io", "v1", "leases", "Lease", false),
    resource("ignite.weave.works", "v1alpha4", "vms", "VM", true),
    resource("ignite.weave.works", "v1alpha4", "vmsets", "VMSet", true),
];

impl Resource {
    /// `v1`, `ignite.weave.works/v1alpha4`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }

    /// The one with this plural.
    pub fn of(plural: &str) -> Option<&'static Resource> {
        RESOURCES.iter().find(|one| one.plural == plural)
    }
}

/// What is done to objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// One object.
    Get,
    /// Many.
    List,
    /// Changes, as they come.
    Watch,
    /// POST.
    Create,
    /// PUT.
    Update,
    /// PATCH.
    Patch,
    /// DELETE.
    Delete,
}

impl Verb {
    /// Whether it may change something.
    pub fn writes(self) -> bool {
        match self {
            Verb::Get | Verb::List | Verb::Watch => false,
            Verb::Create | Verb::Update | Verb::Patch | Verb::Delete => true,
        }
    }
}

/// A request, taken apart.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Whose client it came from.
    pub user: String,
    /// What is to be done.
    pub verb: Verb,
    /// To which kind of object.
    pub resource: &'static Resource,
    /// `status` or `binding`; absent: the object itself.
    pub subresource: Option<String>,
    /// Absent: all namespaces.
    pub namespace: Option<String>,
    /// Absent for collections.
    pub name: Option<String>,
    pub(crate) query: BTreeMap<String, String>,
    /// `application/merge-patch+json` and the like.
    pub(crate) content_type: String,
    pub(crate) wants_metadata_only: bool,
}

impl Asked {
    /// `vms`, `vms/status`.
    pub fn what(&self) -> String {
        match &self.subresource {
            Some(subresource) => format!("{}/{subresource}", self.resource.plural),
            None => self.resource.plural.to_owned(),
        }
    }

    pub(crate) fn flag(&self, name: &str) -> bool {
        self.query.get(name).is_some_and(|value| value == "true" || value == "1")
    }
}

/// Takes a request apart; `None`: the server has no such thing.
pub(crate) fn route<B>(user: &str, request: &Request<B>) -> Option<Asked> {
    let path: Vec<&str> = request.uri().path().trim_matches('/').split('/').collect();
    let (group, version, rest) = match path.as_slice() {
        ["api", version, rest @ ..] => ("", *version, rest),
        ["apis", group, version, rest @ ..] => (*group, *version, rest),
        _ => return None,
    };
    let (namespace, rest) = match rest {
        ["namespaces", namespace, rest @ ..] => (Some((*namespace).to_owned()), rest),
        rest => (None, rest),
    };
    let (plural, name, subresource) = match rest {
        [plural] => (*plural, None, None),
        [plural, name] => (*plural, Some((*name).to_owned()), None),
        [plural, name, subresource] => (*plural, Some((*name).to_owned()), Some((*subresource).to_owned())),
        _ => return None,
    };
    let resource = RESOURCES.iter().find(|one| (one.group, one.version, one.plural) == (group, version, plural))?;
    let query: BTreeMap<String, String> =
        form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes()).into_owned().collect();
    let is_watch = query.get("watch").is_some_and(|value| value == "true" || value == "1");
    let verb = match (request.method(), &name) {
        (&Method::GET, None) if is_watch => Verb::Watch,
        (&Method::GET, None) => Verb::List,
        (&Method::GET, Some(_)) => Verb::Get,
        (&Method::POST, _) => Verb::Create,
        (&Method::PUT, Some(_)) => Verb::Update,
        (&Method::PATCH, Some(_)) => Verb::Patch,
        (&Method::DELETE, Some(_)) => Verb::Delete,
        _ => return None,
    };
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    Some(Asked {
        user: user.to_owned(),
        verb,
        resource,
        subresource,
        namespace,
        name,
        query,
        content_type: header("content-type").to_owned(),
        wants_metadata_only: header("accept").contains("as=PartialObjectMetadata"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(method: Method, uri: &str) -> Option<(Verb, String, Option<String>, Option<String>)> {
        let asked = route("me", &Request::builder().method(method).uri(uri).body(()).unwrap())?;
        Some((asked.verb, asked.what(), asked.namespace, asked.name))
    }

    #[test]
    fn paths_are_taken_apart() {
        let vms = "/apis/ignite.weave.works/v1alpha4";
        let some = |text: &str| Some(text.to_owned());
        for (method, uri, expected) in [
            (Method::GET, "/api/v1/pods?watch=true".to_owned(), (Verb::Watch, "pods", None, None)),
            (Method::GET, "/api/v1/pods?limit=5".to_owned(), (Verb::List, "pods", None, None)),
            (Method::GET, format!("{vms}/namespaces/shop/vms/web"), (Verb::Get, "vms", some("shop"), some("web"))),
            (
                Method::PATCH,
                format!("{vms}/namespaces/shop/vms/web/status"),
                (Verb::Patch, "vms/status", some("shop"), some("web")),
            ),
            (Method::POST, format!("{vms}/namespaces/shop/vmsets"), (Verb::Create, "vmsets", some("shop"), None)),
        ] {
            let expected = (expected.0, expected.1.to_owned(), expected.2, expected.3);
            assert_eq!(of(method, &uri), Some(expected), "{uri}");
        }
        assert_eq!(of(Method::GET, "/api/v1/secrets"), None);
        assert_eq!(of(Method::DELETE, "/api/v1/pods"), None);
        assert_eq!(of(Method::GET, "/version"), None);
    }
}
