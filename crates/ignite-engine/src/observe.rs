//! What is, after every kind of death; what a crash left is healed, once, by whoever looks first.

use crate::engine::{Engine, title};
use crate::error::EngineError;
use ignite_api::event::Action;
use ignite_api::{Phase, Uid, Vm};
use ignite_network::NetworkError;
use ignite_store::{FileLock, StoreError, lock};
use std::path::Path;
use std::time::Duration;

/// Time a VMM whose supervisor has died takes at most to die with it.
const VMM_DEADLINE: Duration = Duration::from_secs(10);

/// `status.reason` of a VM whose supervisor has died.
pub(crate) const LOST: &str = "its supervisor was killed";

/// Has it lost its supervisor?
pub(crate) fn is_lost(vm: &Vm) -> bool {
    vm.status.phase == Phase::Failed && vm.status.reason.as_deref() == Some(LOST)
}

/// All VMs as they are.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    /// Sorted by uid.
    pub vms: Vec<Vm>,
    /// What could not be read or healed, one line each.
    pub warnings: Vec<String>,
}

impl Engine {
    /// All VMs as they are.
    pub async fn list(&self) -> Result<Listing, EngineError> {
        let mut listing = Listing::default();
        // Debris of other users' VMs in a shared directory is not ours to remove; reading goes on.
        if let Err(error) = self.blocking(|engine| engine.sweep()).await {
            listing.warnings.push(error.to_string());
        }
        for vm in self.vms.list()? {
            let vm = match vm {
                Ok(vm) => vm,
                Err(error) => {
                    listing.warnings.push(error.to_string());
                    continue;
                }
            };
            match self.observed(vm).await {
                Ok(vm) => listing.vms.extend(vm),
                Err((vm, error)) => {
                    listing.warnings.push(format!("{}: {error}", title(&vm)));
                    listing.vms.push(*vm);
                }
            }
        }
        Ok(listing)
    }

    /// One VM as it is.
    pub async fn inspect(&self, uid: &Uid) -> Result<Vm, EngineError> {
        self.heal(uid).await?;
        Ok(self.vms.read(uid)?)
    }

    /// The VM as it is; `None` when healing removed it.
    async fn observed(&self, vm: Vm) -> Result<Option<Vm>, (Box<Vm>, EngineError)> {
        let Some(uid) = vm.metadata.uid.clone().filter(|_| vm.status.phase.is_live()) else { return Ok(Some(vm)) };
        match lock::is_held(&self.paths.vm_liveness(&uid)) {
            Ok(true) => return Ok(Some(vm)),
            Ok(false) => {}
            Err(error) => return Err((Box::new(vm), error.into())),
        }
        match self.heal(&uid).await.and_then(|()| Ok(self.vms.read(&uid)?)) {
            Ok(healed) => Ok(Some(healed)),
            Err(EngineError::Store(StoreError::Missing { .. })) => Ok(None),
            Err(error) => Err((Box::new(vm), error)),
        }
    }

    /// Makes a VM's status true: a live phase without a supervisor means that the supervisor was killed. Its network is
    /// detached, its VMM awaited, its run directory removed.
    pub(crate) async fn heal(&self, uid: &Uid) -> Result<(), EngineError> {
        let vm = self.vms.read(uid)?;
        if !vm.status.phase.is_live() || lock::is_held(&self.paths.vm_liveness(uid))? {
            return Ok(());
        }
        let engine = self.clone();
        let locked = uid.clone();
        // The lock is held across the healing, so two commands that look at once do it once.
        let object = self.blocking(move |engine| Ok(engine.vms.lock(&locked)?)).await?;
        let Some(_liveness) = FileLock::try_take(&self.paths.vm_liveness(uid))? else { return Ok(()) };
        let mut vm = self.vms.read(uid)?;
        if !vm.status.phase.is_live() {
            return Ok(());
        }
        tracing::info!("{} lost its supervisor", title(&vm));
        engine.undo_run(&vm, uid).await?;
        if vm.spec.auto_remove {
            drop(object);
            self.vms.remove(uid)?;
            self.tell(Action::Destroy, &vm, |event| event);
            return Ok(());
        }
        vm.status.running = false;
        vm.status.phase = Phase::Failed;
        vm.status.reason = Some(LOST.to_owned());
        vm.status.exit_code = Some(ignite_supervisor::ending::BROKEN_EXIT_CODE);
        vm.status.finish_time = Some(jiff::Timestamp::now());
        vm.status.forget_run();
        self.vms.write(&vm)?;
        let code = ignite_supervisor::ending::BROKEN_EXIT_CODE;
        self.tell(Action::Die, &vm, |event| event.with("exitCode", code).with("reason", LOST));
        Ok(())
    }

    /// Undoes on the host what a dead supervisor had done.
    async fn undo_run(&self, vm: &Vm, uid: &Uid) -> Result<(), EngineError> {
        let run_dir = self.paths.run_vm(uid);
        ignite_supervisor::vmm_record::await_end(&run_dir, VMM_DEADLINE)
            .await
            .map_err(EngineError::file("wait for the VMM of", &run_dir))?;
        for error in self.detach(vm, uid).await {
            tracing::warn!("{}: network: {error}", title(vm));
        }
        self.blocking(move |engine| engine.remove_run_dir(&run_dir)).await
    }

    /// Undoes what is left of a VM's network after an earlier attempt failed; nothing while a supervisor has the VM.
    pub(crate) async fn detach_leftovers(&self, vm: &Vm, uid: &Uid) -> Result<Vec<NetworkError>, EngineError> {
        let locked = uid.clone();
        let _object = self.blocking(move |engine| Ok(engine.vms.lock(&locked)?)).await?;
        let Some(_liveness) = FileLock::try_take(&self.paths.vm_liveness(uid))? else { return Ok(Vec::new()) };
        Ok(self.detach(vm, uid).await)
    }

    /// By every network: which one it was is told by what it recorded.
    async fn detach(&self, vm: &Vm, uid: &Uid) -> Vec<NetworkError> {
        let request = self.attach_request(vm, uid);
        let mut errors = Vec::new();
        for plugin in
            ignite_network::plugins::names().into_iter().filter_map(|name| ignite_network::plugins::find(name).ok())
        {
            errors.extend(plugin.detach(&request).await);
        }
        errors
    }

    /// Removes a run directory, and first what it says its VM had on the host.
    pub(crate) fn remove_run_dir(&self, run_dir: &Path) -> Result<(), EngineError> {
        ignite_supervisor::run_dir::remove(run_dir).map_err(EngineError::file("remove", run_dir))
    }

    /// Removes debris: what interrupted makers and removers left, and run directories of VMs that are gone.
    fn sweep(&self) -> Result<(), EngineError> {
        self.vms.sweep()?;
        for entry in std::fs::read_dir(self.paths.run_vms()).into_iter().flatten().flatten() {
            let Some(uid) = entry.file_name().to_str().and_then(|name| Uid::parse(name).ok()) else { continue };
            if let Err(StoreError::Missing { .. }) = self.vms.read(&uid) {
                self.remove_run_dir(&entry.path())?;
            }
        }
        Ok(())
    }
}
