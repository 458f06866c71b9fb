//! Which kernel a VM boots, and where one is found when there is none.

use crate::engine::Engine;
use crate::error::EngineError;
use crate::kernel_needs::{self, Needs};
use crate::kernels::{ImportKernel, KernelSourceArg};
use crate::progress::{Progress, ProgressEvent};
use ignite_api::{Kernel, Uid, VmSpec};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

impl Engine {
    /// The kernel that a spec names; else the default one; else this host's own, imported now.
    pub(crate) async fn kernel_for(&self, spec: &VmSpec, progress: Arc<dyn Progress>) -> Result<Kernel, EngineError> {
        let kernel = match &spec.kernel.oci {
            Some(query) => match self.kernels.find(query) {
                Ok(uid) => self.kernels.read(&uid)?,
                Err(missing) => self.import_named_kernel(query, missing.into(), progress).await?,
            },
            None => match self.default_kernel()? {
                Some(kernel) => kernel,
                None => self.import_host_kernel(progress).await?,
            },
        };
        self.check_kernel(spec, &kernel)?;
        Ok(kernel)
    }

    /// A kernel that is not imported may be the reference of a kernel image.
    async fn import_named_kernel(
        &self,
        query: &str,
        missing: EngineError,
        progress: Arc<dyn Progress>,
    ) -> Result<Kernel, EngineError> {
        let is_reference = query.contains('/') || query.contains(':');
        let Some(source) = query.parse().ok().filter(|_| is_reference) else { return Err(missing) };
        let request = ImportKernel {
            source: KernelSourceArg::Image(source),
            name: None,
            modules: None,
            config: None,
            initrd: None,
            make_default: false,
        };
        self.import_kernel(request, progress).await
    }

    async fn import_host_kernel(&self, progress: Arc<dyn Progress>) -> Result<Kernel, EngineError> {
        let boot = &self.settings.boot_dir;
        let has_kernel = std::fs::read_dir(boot).into_iter().flatten().flatten().any(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            let release = name.strip_prefix("vmlinuz-").or_else(|| name.strip_prefix("vmlinux-"));
            release.is_some_and(|release| self.settings.modules_dir.join(release).is_dir())
        });
        if !has_kernel {
            return Err(EngineError::NoKernel);
        }
        progress.event(ProgressEvent::Note("no kernel is imported: taking this host's own".to_owned()));
        let source = KernelSourceArg::HostBoot { release: None };
        self.import_kernel(
            ImportKernel { source, name: None, modules: None, config: None, initrd: None, make_default: true },
            progress,
        )
        .await
    }

    /// Refuses a kernel that cannot boot this VM, before anything is made.
    fn check_kernel(&self, spec: &VmSpec, kernel: &Kernel) -> Result<(), EngineError> {
        let Some(uid) = &kernel.metadata.uid else { return Ok(()) };
        self.check_kernel_for(spec, uid, &kernel.metadata.name, spec.vmm.as_deref())
    }

    /// Refuses a kernel that cannot boot this VM under the VMM that was chosen, if one was.
    pub(crate) fn check_kernel_for(
        &self,
        spec: &VmSpec,
        uid: &Uid,
        name: &str,
        vmm: Option<&str>,
    ) -> Result<(), EngineError> {
        let needs = Needs { root_disk: spec.root_disk, vmm, is_x86: kernel_needs::IS_X86 };
        match kernel_needs::lacks(&self.kernel_info(uid)?.features, needs).first() {
            None => Ok(()),
            Some(lack) => {
                let (kernel, hint) = (name.to_owned(), lack.hint.to_owned());
                Err(EngineError::KernelLacks { kernel, feature: lack.feature, hint })
            }
        }
    }
}

/// Fetches a Debian package file into `dir`; of a package that only depends on a kernel's, that kernel's.
pub(crate) fn download_deb(package: &str, dir: &Path) -> Result<PathBuf, EngineError> {
    let failed = |detail: String| EngineError::Package { package: package.to_owned(), detail };
    let is_name = |name: &str| {
        !name.is_empty()
            && !name.starts_with('-')
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
    };
    if !is_name(package) {
        return Err(failed("this is not a package's name".to_owned()));
    }
    let shown = run(Command::new("apt-cache").args(["show", "--no-all-versions", package])).map_err(failed)?;
    let real = real_kernel_package(&shown).filter(|name| is_name(name)).unwrap_or_else(|| package.to_owned());
    // As root, apt downloads as another user, who may not write here; that is no error.
    let mut download = Command::new("apt-get");
    download.args(["download", "-q", "-o", "DPkg::Lock::Timeout=300", "-o", "APT::Sandbox::User=root", &real]);
    run(download.current_dir(dir)).map_err(failed)?;
    let entries = std::fs::read_dir(dir).map_err(EngineError::file("list", dir))?;
    let deb = entries.flatten().map(|entry| entry.path()).find(|path| path.extension().is_some_and(|e| e == "deb"));
    deb.ok_or_else(|| failed(format!("apt-get download {real} left no file")))
}

/// The kernel package on which a meta package depends, from what `apt-cache show` prints.
fn real_kernel_package(shown: &str) -> Option<String> {
    let depends = shown.lines().find_map(|line| line.strip_prefix("Depends: "))?;
    let names = depends.split(',').filter_map(|entry| entry.split_whitespace().next());
    names.filter(|name| name.starts_with("linux-image-")).map(str::to_owned).next()
}

fn run(command: &mut Command) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it failed silently");
    Err(last.chars().filter(|c| !c.is_control()).take(500).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meta_package_leads_to_its_kernel() {
        for (shown, expected) in [
            (
                "Package: linux-image-cloud-amd64\nDepends: linux-image-6.1.0-9-cloud-amd64 (= 6.1.27-1)\n",
                Some("linux-image-6.1.0-9-cloud-amd64"),
            ),
            ("Package: linux-image-6.1.0-9-cloud-amd64\nDepends: kmod, linux-base (>= 4.3~)\n", None),
            ("Package: x\n", None),
        ] {
            assert_eq!(real_kernel_package(shown).as_deref(), expected);
        }
    }

    #[test]
    fn only_a_package_name_reaches_apt() {
        let dir = tempfile::tempdir().expect("a directory");
        for name in ["", "-o", "a b", "x;y", "../x"] {
            let error = download_deb(name, dir.path()).expect_err("refused").to_string();
            assert!(error.contains("not a package's name"), "{error}");
        }
    }
}
