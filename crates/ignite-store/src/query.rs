//! Finding an object by what a person typed: uid, name, or an unambiguous beginning of either.

use crate::error::StoreError;
use crate::object::{Kind, Object, Objects};
use ignite_api::Uid;
use thiserror::Error;

/// Why a query finds no single object.
#[derive(Debug, Error)]
pub enum QueryError {
    /// Nothing matches.
    #[error("can't find {kind}: no ID/name matches for {query:?}")]
    NotFound {
        /// Kind looked for.
        kind: &'static str,
        /// What was asked.
        query: String,
    },
    /// Several objects match.
    #[error("ambiguous {kind} query: {query:?} matched the following IDs/names: {}", .matches.join(", "))]
    Ambiguous {
        /// Kind looked for.
        kind: &'static str,
        /// What was asked.
        query: String,
        /// Names of the matches.
        matches: Vec<String>,
    },
    /// The store could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl<T: Object> Objects<T> {
    /// The uid of the object that `query` names: exact uid, exact name, else a unique prefix of a uid or (not for
    /// images, where `foo:1` must never mean `foo:10`) of a name.
    pub fn find(&self, query: &str) -> Result<Uid, QueryError> {
        if let Ok(uid) = Uid::parse(query)
            && self.dir(&uid).join("metadata.json").exists()
        {
            return Ok(uid);
        }
        if let Some(uid) = self.owner_of_name(query)? {
            return Ok(uid);
        }
        let objects: Vec<T> = self.list()?.into_iter().filter_map(Result::ok).collect();
        let candidates =
            objects.iter().filter_map(|object| Some((object.metadata().uid.clone()?, object.metadata().name.clone())));
        choose(T::KIND, query, candidates)
    }
}

/// The pure choice behind [`Objects::find`].
fn choose(kind: Kind, query: &str, candidates: impl Iterator<Item = (Uid, String)>) -> Result<Uid, QueryError> {
    let mut matches: Vec<(Uid, String)> = Vec::new();
    for (uid, name) in candidates {
        if name == query || uid.as_str() == query {
            return Ok(uid);
        }
        let by_name = kind != Kind::Image && name.starts_with(query);
        if !query.is_empty() && (by_name || uid.as_str().starts_with(query)) {
            matches.push((uid, name));
        }
    }
    match matches.len() {
        0 => Err(QueryError::NotFound { kind: kind.title(), query: query.chars().take(256).collect() }),
        1 => Ok(matches.remove(0).0),
        _ => Err(QueryError::Ambiguous {
            kind: kind.title(),
            query: query.to_owned(),
            matches: matches.into_iter().map(|(_, name)| name).collect(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uid(text: &str) -> Uid {
        Uid::parse(text).expect("a uid")
    }

    #[test]
    fn a_query_means_one_object_or_says_why_not() {
        let objects = || {
            [("aaaa000000000001", "web"), ("aaaa000000000002", "web-2"), ("bbbb000000000003", "db")]
                .into_iter()
                .map(|(u, n)| (uid(u), n.to_owned()))
        };
        for (kind, query, expected) in [
            (Kind::Vm, "web", Some("aaaa000000000001")),
            (Kind::Vm, "web-", Some("aaaa000000000002")),
            (Kind::Vm, "we", None),
            (Kind::Vm, "bb", Some("bbbb000000000003")),
            (Kind::Vm, "aaaa", None),
            (Kind::Vm, "zz", None),
            (Kind::Vm, "", None),
            (Kind::Image, "db", Some("bbbb000000000003")),
            (Kind::Image, "d", None),
            (Kind::Image, "bbbb", Some("bbbb000000000003")),
        ] {
            let found = choose(kind, query, objects()).ok();
            assert_eq!(found, expected.map(uid), "{kind:?} {query:?}");
        }
    }

    #[test]
    fn an_image_tag_never_matches_a_longer_one() {
        let objects = [(uid("aaaa000000000001"), "foo:10".to_owned())];
        assert!(matches!(choose(Kind::Image, "foo:1", objects.into_iter()), Err(QueryError::NotFound { .. })));
    }
}
