//! `reconfigure`: another spec and other labels for a VM that exists; what runs goes on as it is.

use crate::engine::{Engine, title};
use crate::error::EngineError;
use ignite_api::run_spec::{Role, decide_role};
use ignite_api::{Uid, Vm, validation};
use std::collections::BTreeMap;

/// Labels and annotations below this are ours: what is not wanted any more goes.
const OURS: &str = "ignite.weave.works/";

impl Engine {
    /// Writes what is wanted of a VM. Its spec counts from its next start on; labels and annotations are added to what it
    /// has. What its disks were made from cannot be changed: that takes a new VM.
    pub async fn reconfigure(&self, uid: &Uid, wanted: Vm) -> Result<Vm, EngineError> {
        let uid = uid.clone();
        self.blocking(move |engine| engine.rewrite(&uid, wanted)).await
    }

    fn rewrite(&self, uid: &Uid, wanted: Vm) -> Result<Vm, EngineError> {
        validation::validate_vm(&wanted).map_err(|errors| EngineError::Invalid(errors.to_string()))?;
        let _lock = self.vms.lock(uid)?;
        let mut vm = self.vms.read(uid)?;
        let (old, new) = (&vm.spec, &wanted.spec);
        let is_built = old.image == new.image
            && old.kernel.oci == new.kernel.oci
            && old.disk_size == new.disk_size
            && old.root_disk == new.root_disk;
        if !is_built {
            let name = title(&vm);
            return Err(EngineError::Invalid(format!(
                "the disks of {name} were made otherwise: it has to be made anew"
            )));
        }
        let image = self.image_of(uid)?;
        let role = decide_role(&wanted.spec, &image.status.config, image.status.has_init)
            .map_err(|source| EngineError::NothingToRun { image: image.metadata.name.clone(), source })?;
        if !vm.status.phase.is_live() {
            vm.status.role = Some(match role {
                Role::Task { .. } => "task".to_owned(),
                Role::Machine { .. } => "machine".to_owned(),
            });
        }
        vm.spec = wanted.spec;
        merge(&mut vm.metadata.labels, wanted.metadata.labels);
        merge(&mut vm.metadata.annotations, wanted.metadata.annotations);
        self.vms.write(&vm)?;
        Ok(vm)
    }
}

fn merge(stored: &mut BTreeMap<String, String>, wanted: BTreeMap<String, String>) {
    stored.retain(|key, _| !key.starts_with(OURS) || wanted.contains_key(key));
    stored.extend(wanted);
}
