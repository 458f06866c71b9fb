//! Reading one document into one typed structure, with errors that name the field.

use super::documents::Document;
use super::error::{DecodeError, DecodeProblem, nearest, printable};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_saphyr::{Error, Spanned};

/// Deepest nesting of a manifest.
pub const MAX_DEPTH: usize = 24;
const MAX_NODES: usize = 50_000;
const MAX_ALIASES: usize = 256;

/// The two fields that say what a document is; the rest is not looked at.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Envelope {
    api_version: Option<Spanned<String>>,
    kind: Option<Spanned<String>>,
}

impl Envelope {
    pub(super) fn version(&self, document: &Document<'_>) -> Result<String, DecodeError> {
        required(&self.api_version, "apiVersion", document)
    }

    pub(super) fn kind(&self, document: &Document<'_>) -> Result<String, DecodeError> {
        required(&self.kind, "kind", document)
    }

    /// Says whether version or kind is what is not known.
    pub(super) fn unknown(
        &self,
        document: &Document<'_>,
        version: &str,
        versions: &[&'static str],
        kinds: &[&'static str],
    ) -> DecodeError {
        let is_version = !versions.contains(&version);
        let (path, field, known) =
            if is_version { ("apiVersion", &self.api_version, versions) } else { ("kind", &self.kind, kinds) };
        let value = field.as_ref().map_or("", |spanned| spanned.value.as_str());
        // A kind that is known, but not in this version, is not worth proposing.
        let known: Vec<_> = known.iter().copied().filter(|candidate| *candidate != value).collect();
        let problem = DecodeProblem::UnknownValue {
            value: printable(value),
            nearest: if is_version { None } else { nearest(value, &known) },
            known,
        };
        let location = field.as_ref().map(|spanned| spanned.referenced);
        let (line, column) = location.map_or((1, 1), |location| (location.line(), location.column()));
        DecodeError::at(document.first_line + line.max(1) - 1, column, path, problem)
    }
}

fn required(
    field: &Option<Spanned<String>>,
    name: &'static str,
    document: &Document<'_>,
) -> Result<String, DecodeError> {
    let value = field.as_ref().map(|spanned| spanned.value.clone());
    value.ok_or_else(|| DecodeError::at(document.first_line, 1, "", DecodeProblem::MissingField { field: name }))
}

/// Reads the document as a `T`.
pub(super) fn decode_typed<T: DeserializeOwned>(document: &Document<'_>) -> Result<T, DecodeError> {
    let mut path = String::new();
    let outcome = serde_saphyr::with_deserializer_from_str_with_options(document.text, options(), |deserializer| {
        let mut track = serde_path_to_error::Track::new();
        T::deserialize(serde_path_to_error::Deserializer::new(deserializer, &mut track))
            .inspect_err(|_| path = track.path().to_string())
    });
    outcome.map_err(|error| describe(document, &path, &error))
}

fn options() -> serde_saphyr::Options {
    let mut budget = serde_saphyr::Budget::default();
    budget.max_depth = MAX_DEPTH;
    budget.flow_nesting_limit = MAX_DEPTH;
    budget.max_nodes = MAX_NODES;
    budget.max_events = 4 * MAX_NODES;
    budget.max_aliases = MAX_ALIASES;
    budget.max_anchors = MAX_ALIASES;
    budget.max_merge_keys = MAX_ALIASES;
    budget.max_recorded_anchor_bytes = super::MAX_INPUT_LEN;
    let mut options = serde_saphyr::Options::default();
    options.budget = Some(budget);
    options.alias_limits.max_total_replayed_events = MAX_NODES;
    options.alias_limits.max_replay_stack_depth = MAX_DEPTH;
    options.with_snippet = false;
    options
}

fn describe(document: &Document<'_>, path: &str, error: &Error) -> DecodeError {
    let error = error.without_snippet();
    let location = error.location();
    let (line, column) = location.map_or((1, 0), |location| (location.line().max(1), location.column()));
    // `.` is the whole document, `?` a key that could not be read.
    let path = path.trim_end_matches(['?', '.']);
    DecodeError::at(document.first_line + line - 1, column, path, problem_of(error))
}

fn problem_of(error: &Error) -> DecodeProblem {
    let invalid = |message: String| DecodeProblem::InvalidValue { message: printable(&message) };
    match error {
        Error::AliasError { error, .. } => problem_of(error.without_snippet()),
        Error::SerdeUnknownField { field, expected, .. } => DecodeProblem::UnknownField {
            field: printable(field),
            nearest: nearest(field, expected),
            known: expected.clone(),
        },
        Error::SerdeUnknownVariant { variant, expected, .. } => DecodeProblem::UnknownValue {
            value: printable(variant),
            nearest: nearest(variant, expected),
            known: expected.clone(),
        },
        Error::SerdeMissingField { field, .. } => DecodeProblem::MissingField { field },
        Error::DuplicateMappingKey { key, .. } => {
            DecodeProblem::DuplicateField { field: printable(key.as_deref().unwrap_or("?")) }
        }
        Error::SerdeInvalidType { unexpected, expected, .. }
        | Error::SerdeInvalidValue { unexpected, expected, .. } => {
            invalid(format!("{expected} is expected, not {unexpected}"))
        }
        Error::NullIntoString { .. } => invalid("a text is expected, not nothing".to_owned()),
        Error::Unexpected { expected: "sequence start", .. } => invalid("a list is expected".to_owned()),
        Error::Unexpected { expected: "mapping start", .. } => {
            invalid("fields (`name: value`) are expected".to_owned())
        }
        Error::Unexpected { expected: "string scalar", .. } => invalid("a text is expected".to_owned()),
        Error::InvalidScalar { ty, .. } => invalid(match *ty {
            "u8" => "a whole number from 0 to 255 is expected".to_owned(),
            "u16" => "a whole number from 0 to 65535 is expected".to_owned(),
            "u32" | "u64" => "a whole number, 0 or more, is expected".to_owned(),
            "bool" => "true or false is expected".to_owned(),
            ty => format!("a {ty} is expected"),
        }),
        Error::Budget { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. }
        | Error::AliasReplayCounterOverflow { .. } => DecodeProblem::TooComplex,
        Error::Message { msg, .. } | Error::HookError { msg, .. } => invalid(msg.clone()),
        other => DecodeProblem::Syntax { message: printable(&without_place(&other.to_string())) },
    }
}

/// The parser ends its texts with the place, which counts from the document's start instead of the file's.
fn without_place(message: &str) -> String {
    message.split(" at line ").next().unwrap_or(message).to_owned()
}
