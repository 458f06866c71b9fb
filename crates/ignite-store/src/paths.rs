//! Names of everything on disk; pure.

use ignite_api::Uid;
use std::path::{Path, PathBuf};

/// The two roots, and every path below them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    data: PathBuf,
    run: PathBuf,
}

impl Paths {
    /// Paths below a data and a run directory; both absolute.
    pub fn new(data: impl Into<PathBuf>, run: impl Into<PathBuf>) -> Paths {
        Paths { data: data.into(), run: run.into() }
    }
    /// The data directory.
    pub fn data(&self) -> &Path {
        &self.data
    }
    /// The run directory.
    pub fn run(&self) -> &Path {
        &self.run
    }
    /// Content store of images.
    pub fn oci(&self) -> PathBuf {
        self.data.join("oci")
    }
    /// Directory of base disks.
    pub fn bases(&self) -> PathBuf {
        self.data.join("base")
    }
    /// A base disk.
    pub fn base(&self, key: &str) -> PathBuf {
        self.bases().join(format!("{key}.ext4"))
    }
    /// Facts recorded about a base disk when it was made.
    pub fn base_info(&self, key: &str) -> PathBuf {
        self.bases().join(format!("{key}.json"))
    }
    /// Lock held while a base disk is made.
    pub fn base_lock(&self, key: &str) -> PathBuf {
        self.bases().join(format!(".{key}.lock"))
    }
    /// A VM's directory.
    pub fn vm(&self, uid: &Uid) -> PathBuf {
        self.data.join("vm").join(uid.as_str())
    }
    /// A VM's writable disk.
    pub fn vm_disk(&self, uid: &Uid) -> PathBuf {
        self.vm(uid).join("disk.ext4")
    }
    /// Lock that the supervisor holds while it lives.
    pub fn vm_liveness(&self, uid: &Uid) -> PathBuf {
        self.vm(uid).join("supervisor.lock")
    }
    /// Log of the task's streams.
    pub fn vm_task_log(&self, uid: &Uid) -> PathBuf {
        self.vm(uid).join("task.log")
    }
    /// Log of the serial console.
    pub fn vm_console_log(&self, uid: &Uid) -> PathBuf {
        self.vm(uid).join("console.log")
    }
    /// Log of the supervisor.
    pub fn vm_supervisor_log(&self, uid: &Uid) -> PathBuf {
        self.vm(uid).join("supervisor.log")
    }
    /// Directory of all live VMs' run directories.
    pub fn run_vms(&self) -> PathBuf {
        self.run.join("vm")
    }
    /// Directory in which VMs of a network find one another.
    pub fn run_networks(&self) -> PathBuf {
        self.run.join("network")
    }
    /// A live VM's run directory.
    pub fn run_vm(&self, uid: &Uid) -> PathBuf {
        self.run_vms().join(uid.as_str())
    }
    /// The socket of a live VM's metrics.
    pub fn metrics_socket(&self, uid: &Uid) -> PathBuf {
        self.run_vm(uid).join("prometheus.sock")
    }

    /// Its name beside the VM, where Weave Ignite had it.
    pub fn metrics_link(&self, uid: &Uid) -> PathBuf {
        self.vm(uid).join("prometheus.sock")
    }

    /// The supervisor's control socket.
    pub fn control_socket(&self, uid: &Uid) -> PathBuf {
        self.run_vm(uid).join("control.sock")
    }
    /// What the supervisor was told to run.
    pub fn launch_file(&self, uid: &Uid) -> PathBuf {
        self.run_vm(uid).join("launch.json")
    }
    /// A kernel's directory.
    pub fn kernel(&self, uid: &Uid) -> PathBuf {
        self.data.join("kernel").join(uid.as_str())
    }
}
