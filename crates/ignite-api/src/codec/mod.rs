//! Reading manifests of every known API version, and writing the current one.
//!
//! ```text
//!  bytes -> documents (split at `---`) -> envelope (apiVersion, kind) -> typed object of that version -> current object
//! ```
//!
//! Decoding is strict: an unknown field, a field twice, a wrong type are errors that name line, column and field. Nothing
//! passes through an untyped value, so `version: 1.10` stays the text it is. JSON is read as the YAML it also is. What is
//! read is bounded by [`MAX_INPUT_LEN`], [`MAX_DOCUMENTS`] and [`MAX_DEPTH`], and anchors cannot multiply it.

mod documents;
mod error;
mod manifest;
mod overlay;
mod typed;

pub use documents::{MAX_DOCUMENTS, MAX_INPUT_LEN};
pub use error::{DecodeError, DecodeProblem};
pub use manifest::{ManifestVm, decode_manifest};
pub use overlay::{decode_vm_over, decode_vms_over};
pub use typed::MAX_DEPTH;

use crate::configuration::Configuration;
use crate::v1alpha2::{self, VmV1Alpha2};
use crate::v1alpha3::{self, ConfigurationV1Alpha3, VmV1Alpha3};
use crate::{API_VERSION, ApiObject, Image, Kernel, Vm};
use documents::Document;
use typed::{Envelope, decode_typed};

/// A decoded object of any kind.
#[derive(Debug, Clone, PartialEq)]
pub enum Object {
    /// `kind: VM`.
    Vm(Box<Vm>),
    /// `kind: Image`.
    Image(Box<Image>),
    /// `kind: Kernel`.
    Kernel(Box<Kernel>),
    /// `kind: Configuration`.
    Configuration(Box<Configuration>),
}

impl Object {
    /// `kind` as it is written.
    pub fn kind(&self) -> &'static str {
        match self {
            Object::Vm(_) => Vm::KIND,
            Object::Image(_) => Image::KIND,
            Object::Kernel(_) => Kernel::KIND,
            Object::Configuration(_) => Configuration::KIND,
        }
    }

    /// Name, uid, labels.
    pub fn metadata(&self) -> &crate::ObjectMeta {
        match self {
            Object::Vm(vm) => &vm.metadata,
            Object::Image(image) => &image.metadata,
            Object::Kernel(kernel) => &kernel.metadata,
            Object::Configuration(configuration) => &configuration.metadata,
        }
    }
}

/// Kinds of the current version.
const KINDS: [&str; 4] = [Vm::KIND, Image::KIND, Kernel::KIND, Configuration::KIND];
/// Versions that are read, newest first.
const VERSIONS: [&str; 3] = [API_VERSION, v1alpha3::API_VERSION, v1alpha2::API_VERSION];

/// Decodes every object of a YAML stream or a JSON document; empty documents are skipped.
pub fn decode(input: &[u8]) -> Result<Vec<Object>, DecodeError> {
    documents::split(input)?.iter().map(decode_document).collect()
}

/// Decodes exactly one VM.
pub fn decode_vm(input: &[u8]) -> Result<Vm, DecodeError> {
    match decode_one(input)? {
        (Object::Vm(vm), _) => Ok(*vm),
        (other, document) => Err(unexpected_kind(&document, Vm::KIND, other.kind())),
    }
}

/// Decodes exactly one Configuration.
pub fn decode_configuration(input: &[u8]) -> Result<Configuration, DecodeError> {
    match decode_one(input)? {
        (Object::Configuration(configuration), _) => Ok(*configuration),
        (other, document) => Err(unexpected_kind(&document, Configuration::KIND, other.kind())),
    }
}

fn decode_one(input: &[u8]) -> Result<(Object, Document<'_>), DecodeError> {
    let mut documents = documents::split(input)?.into_iter();
    let document = documents.next().ok_or_else(|| DecodeError::whole(DecodeProblem::NoDocument))?;
    if let Some(second) = documents.next() {
        return Err(DecodeError::at(second.first_line, 1, "", DecodeProblem::SeveralDocuments));
    }
    Ok((decode_document(&document)?, document))
}

fn unexpected_kind(document: &Document<'_>, expected: &'static str, found: &'static str) -> DecodeError {
    DecodeError::at(document.first_line, 1, "kind", DecodeProblem::UnexpectedKind { expected, found })
}

fn decode_document(document: &Document<'_>) -> Result<Object, DecodeError> {
    let envelope = decode_typed::<Envelope>(document)?;
    let (version, kind) = (envelope.version(document)?, envelope.kind(document)?);
    let mut object = match (kind.as_str(), version.as_str()) {
        ("VM", API_VERSION) => Object::Vm(Box::new(decode_typed(document)?)),
        ("VM", v1alpha3::API_VERSION) => Object::Vm(Box::new(decode_typed::<VmV1Alpha3>(document)?.into())),
        ("VM", v1alpha2::API_VERSION) => Object::Vm(Box::new(decode_typed::<VmV1Alpha2>(document)?.into())),
        ("Configuration", API_VERSION) => Object::Configuration(Box::new(decode_typed(document)?)),
        ("Configuration", v1alpha3::API_VERSION) => {
            Object::Configuration(Box::new(decode_typed::<ConfigurationV1Alpha3>(document)?.into()))
        }
        // Images and kernels have had the same fields in every version that is read.
        ("Image", API_VERSION | v1alpha3::API_VERSION | v1alpha2::API_VERSION) => {
            Object::Image(Box::new(decode_typed(document)?))
        }
        ("Kernel", API_VERSION | v1alpha3::API_VERSION | v1alpha2::API_VERSION) => {
            Object::Kernel(Box::new(decode_typed(document)?))
        }
        (_, version) => return Err(envelope.unknown(document, version, &VERSIONS, &KINDS)),
    };
    match &mut object {
        Object::Vm(vm) => API_VERSION.clone_into(&mut vm.api_version),
        Object::Image(image) => API_VERSION.clone_into(&mut image.api_version),
        Object::Kernel(kernel) => API_VERSION.clone_into(&mut kernel.api_version),
        Object::Configuration(configuration) => API_VERSION.clone_into(&mut configuration.api_version),
    }
    Ok(object)
}

/// An object that cannot be written: a defect, since every object has a text form.
#[derive(Debug, thiserror::Error)]
#[error("cannot write a {kind} as {format}")]
pub struct EncodeError {
    /// `kind` of the object.
    pub kind: &'static str,
    /// `JSON` or `YAML`.
    pub format: &'static str,
    /// What the encoder says.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// Writes an object as JSON, indented by two spaces, with a final newline.
pub fn encode_json<T: ApiObject>(object: &T) -> Result<String, EncodeError> {
    let mut text = serde_json::to_string_pretty(object).map_err(|source| EncodeError {
        kind: T::KIND,
        format: "JSON",
        source: Box::new(source),
    })?;
    text.push('\n');
    Ok(text)
}

/// Writes an object as YAML, indented by two spaces, with a final newline.
pub fn encode_yaml<T: ApiObject>(object: &T) -> Result<String, EncodeError> {
    serde_saphyr::to_string(object).map_err(|source| EncodeError {
        kind: T::KIND,
        format: "YAML",
        source: source.to_string().into(),
    })
}
