//! `rename`: another name for a VM.

use crate::engine::Engine;
use crate::error::EngineError;
use ignite_api::event::Action;
use ignite_api::{Uid, Vm, validation};

impl Engine {
    /// Gives a VM another name. One that runs keeps its host name, and its name in networks, until its next start.
    pub async fn rename(&self, uid: &Uid, name: &str) -> Result<Vm, EngineError> {
        let (uid, name) = (uid.clone(), name.to_owned());
        self.blocking(move |engine| {
            let _lock = engine.vms.lock(&uid)?;
            let mut vm = engine.vms.read(&uid)?;
            let old_name = std::mem::replace(&mut vm.metadata.name, name);
            validation::validate_vm(&vm).map_err(|errors| EngineError::Invalid(errors.to_string()))?;
            engine.vms.rename(&vm, &old_name)?;
            engine.tell(Action::Rename, &vm, |event| event.with("oldName", old_name));
            Ok(vm)
        })
        .await
    }
}
