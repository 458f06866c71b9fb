//! Space on disk: who uses how much, and what can be freed.

use crate::engine::Engine;
use crate::error::EngineError;
use crate::images::{PruneReport, allocated_bytes};
use ignite_api::{Size, Uid};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// One kind of thing on disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SpaceUsage {
    /// How many there are.
    pub total: usize,
    /// How many of them VMs use.
    pub active: usize,
    /// Bytes they occupy; what several share is counted once.
    pub size: Size,
    /// Bytes that a prune would free.
    pub reclaimable: Size,
}

/// All that Ignite keeps on disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SystemUsage {
    /// Blobs of images.
    pub images: SpaceUsage,
    /// Base disks made of them.
    pub base_disks: SpaceUsage,
    /// Kernels.
    pub kernels: SpaceUsage,
    /// Disks and logs of VMs.
    pub vms: SpaceUsage,
}

impl Engine {
    /// Who uses how much.
    pub async fn system_usage(&self) -> Result<SystemUsage, EngineError> {
        self.blocking(|engine| {
            Ok(SystemUsage {
                images: engine.image_usage()?,
                base_disks: engine.base_usage()?,
                kernels: engine.kernel_usage()?,
                vms: engine.vm_usage()?,
            })
        })
        .await
    }

    /// Removes every kernel that no VM uses and that is not the default.
    pub async fn prune_kernels(&self) -> Result<PruneReport, EngineError> {
        self.blocking(|engine| {
            let mut report = PruneReport::default();
            let mut freed = 0;
            for kernel in engine.list_kernels()? {
                let Some(uid) = kernel.metadata.uid.filter(|_| !kernel.status.default) else { continue };
                let _lock = engine.kernels.lock(&uid)?;
                // Under the lock: whoever makes a VM of it holds it, too.
                if !engine.users(|vm| kernel_of(vm) == Some(&uid))?.is_empty() {
                    continue;
                }
                freed += tree_bytes(&engine.paths.kernel(&uid));
                engine.kernels.remove(&uid)?;
                report.removed.push(kernel.metadata.name);
            }
            report.freed = Size::bytes(freed);
            Ok(report)
        })
        .await
    }

    /// Removes what no image, kernel or VM refers to; the objects themselves stay. Returns the bytes freed.
    pub async fn sweep_space(&self) -> Result<Size, EngineError> {
        self.blocking(|engine| engine.free_unreferenced().map(Size::bytes)).await
    }

    fn image_usage(&self) -> Result<SpaceUsage, EngineError> {
        let failed = |source| EngineError::Image { image: "the content store".to_owned(), source };
        let store = self.content_store().map_err(failed)?;
        let used = self.used_images()?;
        let images = self.list_images()?;
        let mut needed = BTreeMap::new();
        let mut active = 0;
        for image in &images {
            if image.metadata.uid.as_ref().is_some_and(|uid| used.contains(uid)) {
                active += 1;
                // A damaged image has no list of blobs; `image verify` tells of it.
                needed.extend(store.blobs_of(&image.status.manifest_digest).unwrap_or_default());
            }
        }
        let size = store.total_bytes().map_err(failed)?;
        let kept: u64 = needed.into_values().sum();
        Ok(usage(images.len(), active, size, size.saturating_sub(kept)))
    }

    fn base_usage(&self) -> Result<SpaceUsage, EngineError> {
        let mut used: BTreeSet<String> = BTreeSet::new();
        for uid in self.vms.uids()? {
            used.extend(self.base_key_of(&uid));
        }
        let (mut total, mut active, mut size, mut kept) = (0, 0, 0, 0);
        for entry in std::fs::read_dir(self.paths.bases()).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.extension().is_none_or(|end| end != "ext4") {
                continue;
            }
            let bytes = allocated_bytes(&path);
            total += 1;
            size += bytes;
            if path.file_stem().is_some_and(|key| used.contains(&*key.to_string_lossy())) {
                active += 1;
                kept += bytes;
            }
        }
        Ok(usage(total, active, size, size - kept))
    }

    fn kernel_usage(&self) -> Result<SpaceUsage, EngineError> {
        let vms = self.users(|_| true)?;
        let used: BTreeSet<&Uid> = vms.iter().filter_map(kernel_of).collect();
        let (mut active, mut size, mut free) = (0, 0, 0);
        let kernels = self.list_kernels()?;
        for kernel in &kernels {
            let Some(uid) = &kernel.metadata.uid else { continue };
            let bytes = tree_bytes(&self.paths.kernel(uid));
            size += bytes;
            if used.contains(uid) {
                active += 1;
            } else if !kernel.status.default {
                free += bytes;
            }
        }
        Ok(usage(kernels.len(), active, size, free))
    }

    fn vm_usage(&self) -> Result<SpaceUsage, EngineError> {
        let vms = self.users(|_| true)?;
        let active = vms.iter().filter(|vm| vm.status.phase == ignite_api::Phase::Running).count();
        let bytes =
            vms.iter().filter_map(|vm| vm.metadata.uid.as_ref()).map(|uid| tree_bytes(&self.paths.vm(uid))).sum();
        // A VM's disk is a user's data: no prune frees it.
        Ok(usage(vms.len(), active, bytes, 0))
    }

    /// Images that VMs are made from.
    fn used_images(&self) -> Result<BTreeSet<Uid>, EngineError> {
        Ok(self.users(|_| true)?.into_iter().filter_map(|vm| vm.status.image?.uid).collect())
    }
}

fn kernel_of(vm: &ignite_api::Vm) -> Option<&Uid> {
    vm.status.kernel.as_ref()?.uid.as_ref()
}

fn usage(total: usize, active: usize, size: u64, reclaimable: u64) -> SpaceUsage {
    SpaceUsage { total, active, size: Size::bytes(size), reclaimable: Size::bytes(reclaimable) }
}

/// Bytes that a directory's files occupy.
fn tree_bytes(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => tree_bytes(&entry.path()),
        Ok(kind) if kind.is_file() => allocated_bytes(&entry.path()),
        _ => 0,
    });
    sizes.sum()
}
