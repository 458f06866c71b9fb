//! What is wanted: the VMs of a set, and which of its files could not be read.

use crate::error::LoadProblem;
use crate::fleet::FleetError;
use crate::ownership::{MANIFEST_ANNOTATION, OWNER_ANNOTATION, Owner, STACK_LABEL};
use ignite_api::Vm;
use std::collections::{BTreeMap, BTreeSet};

/// Where a wanted VM is written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// File, relative to the set's root.
    pub file: String,
    /// Line at which its document begins.
    pub line: u64,
}

/// A VM that is wanted.
#[derive(Debug, Clone, PartialEq)]
pub struct WantedVm {
    /// Name, labels, annotations and spec; its status is not looked at.
    pub vm: Vm,
    /// It is to run; otherwise it is to be there and stopped.
    pub is_running_wanted: bool,
    /// Where it is written.
    pub origin: Origin,
}

impl WantedVm {
    /// Its name; never empty in a set.
    pub fn name(&self) -> &str {
        &self.vm.metadata.name
    }

    /// The VM as it is created and compared: with the marks of its set.
    pub(crate) fn marked(&self, owner: &Owner, stack: Option<&str>) -> Vm {
        let mut vm = self.vm.clone();
        let annotations = &mut vm.metadata.annotations;
        annotations.insert(OWNER_ANNOTATION.to_owned(), owner.as_str().to_owned());
        annotations.insert(MANIFEST_ANNOTATION.to_owned(), self.origin.file.clone());
        if let Some(stack) = stack {
            vm.metadata.labels.entry(STACK_LABEL.to_owned()).or_insert_with(|| stack.to_owned());
        }
        // Of its status only this is for whoever creates it to say.
        let id_prefix = vm.status.id_prefix.take();
        vm.status = ignite_api::VmStatus { id_prefix, ..ignite_api::VmStatus::default() };
        vm
    }
}

/// All that is wanted of one set.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WantedSet {
    /// Its VMs, in the order of files and documents; no two with the same name or uid.
    pub vms: Vec<WantedVm>,
    /// What could not be read.
    pub problems: Vec<LoadProblem>,
    /// Files with a problem: what came from them before is kept as it is.
    pub broken_files: BTreeSet<String>,
    /// VMs that cannot have a secret they take, and why; they are kept as they are.
    pub without_secret: BTreeMap<String, FleetError>,
    /// The whole set could not be read: nothing is removed.
    pub is_incomplete: bool,
}

impl WantedSet {
    /// Adds another set; a VM that both have is a problem of the other.
    pub fn extend(&mut self, other: WantedSet) {
        let taken: BTreeSet<String> = self.vms.iter().map(|wanted| wanted.name().to_owned()).collect();
        for wanted in other.vms {
            if taken.contains(wanted.name()) {
                let message = format!("metadata.name: {} is there twice", wanted.name());
                let Origin { file, line } = wanted.origin;
                self.problems.push(LoadProblem { file: file.clone(), line: Some(line), message });
                self.broken_files.insert(file);
            } else {
                self.vms.push(wanted);
            }
        }
        self.problems.extend(other.problems);
        self.broken_files.extend(other.broken_files);
        self.is_incomplete |= other.is_incomplete;
    }

    /// The VM of this name.
    pub fn find(&self, name: &str) -> Option<&WantedVm> {
        self.vms.iter().find(|wanted| wanted.name() == name)
    }
}
