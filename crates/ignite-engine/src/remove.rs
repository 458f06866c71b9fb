//! `rm`: a VM, its disks and its logs.

use crate::engine::{Engine, title};
use crate::error::EngineError;
use ignite_api::Uid;
use ignite_api::event::Action;
use ignite_store::StoreError;

impl Engine {
    /// Removes a VM. One that runs is in the way unless forced, and is then killed first.
    pub async fn remove(&self, uid: &Uid, force: bool) -> Result<(), EngineError> {
        let vm = match self.inspect(uid).await {
            // Healing has removed it, as `--rm` had asked.
            Err(EngineError::Store(StoreError::Missing { .. })) => return Ok(()),
            other => other?,
        };
        if vm.status.phase.is_live() {
            if !force {
                return Err(EngineError::IsRunning(title(&vm)));
            }
            match self.kill(uid, None).await {
                // It ended by itself meanwhile.
                Ok(_) | Err(EngineError::Denied { .. } | EngineError::Store(StoreError::Missing { .. })) => {}
                Err(error) => return Err(error),
            }
        }
        match self.detach_leftovers(&vm, uid).await {
            Ok(errors) => {
                for error in errors {
                    if !force {
                        return Err(EngineError::Detach { name: title(&vm), source: Box::new(error) });
                    }
                    tracing::warn!("{}: network: {error}", title(&vm));
                }
            }
            // Its supervisor has removed it, as `--rm` had asked.
            Err(EngineError::Store(StoreError::Missing { .. })) => {}
            Err(error) => return Err(error),
        }
        let uid = uid.clone();
        self.blocking(move |engine| {
            let result = engine.vms.lock(&uid).and_then(|_lock| engine.vms.remove(&uid));
            match result {
                Ok(()) => {
                    engine.tell(Action::Destroy, &vm, |event| event);
                    engine.remove_run_dir(&engine.paths.run_vm(&uid))
                }
                Err(StoreError::Missing { .. }) => engine.remove_run_dir(&engine.paths.run_vm(&uid)),
                Err(error) => Err(error.into()),
            }
        })
        .await
    }
}
