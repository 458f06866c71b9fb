//! Who keeps a VM: an annotation on it, so that it survives every kind of death and nothing else has to be kept.

use ignite_api::Vm;
use std::fmt;

/// Names the set that keeps a VM.
pub const OWNER_ANNOTATION: &str = "ignite.weave.works/owner";
/// Names the file of the set from which a VM comes, relative to the set's root.
pub const MANIFEST_ANNOTATION: &str = "ignite.weave.works/manifest";
/// Tells which files with values a VM was started with, and when each was written: never what is in them.
pub const SECRETS_ANNOTATION: &str = "ignite.weave.works/secrets";
/// Names the stack to which a VM belongs; a label, so that `ps --filter` finds it.
pub const STACK_LABEL: &str = "ignite.weave.works/stack";

/// The set that keeps a VM, as `apply`, `stack/shop` or `ignited/manifests`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner(String);

impl Owner {
    /// VMs made by `ignite apply`, whatever files they came from.
    pub fn apply() -> Owner {
        Owner("apply".to_owned())
    }

    /// VMs of a stack brought up by `ignite stack up`.
    pub fn stack(name: &str) -> Owner {
        Owner(format!("stack/{name}"))
    }

    /// VMs of a set that `ignited` keeps.
    pub fn ignited(set: &str) -> Owner {
        Owner(format!("ignited/{set}"))
    }

    /// The owner of this text.
    pub fn parse(text: &str) -> Owner {
        Owner(text.to_owned())
    }

    /// The annotation's value.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who keeps the VM; nobody: it was made by hand.
pub fn owner_of(vm: &Vm) -> Option<Owner> {
    vm.metadata.annotations.get(OWNER_ANNOTATION).map(|text| Owner(text.clone()))
}
