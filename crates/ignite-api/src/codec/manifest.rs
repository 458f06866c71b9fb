//! VMs as whoever keeps them running reads them: what is wanted of each, and whether it is to run.

use super::documents;
use super::error::DecodeError;
use super::overlay::over_document;
use super::typed::decode_typed;
use crate::{Vm, VmSpec};
use serde::Deserialize;

/// A VM of a manifest.
#[derive(Debug, Clone, PartialEq)]
pub struct ManifestVm {
    /// Name, labels and spec. Of its status nothing is wanted but what `is_running_wanted` says.
    pub vm: Vm,
    /// `status.running`, as manifests of Weave Ignite's `ignited` wished it; absent there: it is to run.
    pub is_running_wanted: bool,
    /// Line of the file at which its document begins.
    pub line: u64,
}

/// Decodes any number of VMs of a manifest over the configured defaults; another kind is an error.
pub fn decode_manifest(input: &[u8], base: &VmSpec) -> Result<Vec<ManifestVm>, DecodeError> {
    let read = |document: &documents::Document<'_>| {
        let vm = over_document(super::decode_document(document)?, document, base)?;
        let wish = decode_typed::<RunningWish>(document)?.status.and_then(|status| status.running);
        Ok(ManifestVm { vm, is_running_wanted: wish.unwrap_or(true), line: first_content_line(document) })
    };
    documents::split(input)?.iter().map(read).collect()
}

/// A document begins where something is written, not at its marker.
fn first_content_line(document: &documents::Document<'_>) -> u64 {
    let is_blank = |line: &&str| {
        let line = line.trim_start_matches("---").trim();
        line.is_empty() || line.starts_with('#')
    };
    document.first_line + document.text.lines().take_while(is_blank).count() as u64
}

#[derive(Debug, Deserialize)]
struct RunningWish {
    #[serde(default)]
    status: Option<StatusWish>,
}

#[derive(Debug, Deserialize)]
struct StatusWish {
    #[serde(default)]
    running: Option<bool>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "apiVersion: ignite.weave.works/v1alpha4\nkind: VM\n";

    #[test]
    fn a_vm_runs_unless_its_status_says_false() {
        for (status, expected) in [
            ("", true),
            ("status: {running: true}\n", true),
            ("status: {running: false}\n", false),
            ("status:\n", true),
            ("status: {startTime: '2020-01-01T00:00:00Z'}\n", true),
            ("status: {running: false, startTime: '2020-01-01T00:00:00Z', idPrefix: ignite}\n", false),
        ] {
            let text = format!("{HEAD}metadata: {{name: a}}\nspec: {{image: {{oci: busybox}}}}\n{status}");
            let vms = decode_manifest(text.as_bytes(), &VmSpec::default()).unwrap();
            assert_eq!(vms[0].is_running_wanted, expected, "{status}");
        }
    }

    #[test]
    fn each_document_knows_its_line() {
        let text = format!("# top\n---\n{HEAD}metadata: {{name: a}}\n---\n\n# b\n{HEAD}metadata: {{name: b}}\n");
        let vms = decode_manifest(text.as_bytes(), &VmSpec { cpus: 3, ..VmSpec::default() }).unwrap();
        let found: Vec<_> = vms.iter().map(|m| (m.vm.metadata.name.as_str(), m.line, m.vm.spec.cpus)).collect();
        assert_eq!(found, [("a", 3, 3), ("b", 9, 3)]);
    }
}
