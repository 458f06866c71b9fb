//! A run directory's end: what its VM had on the host goes before the record of it does.

use std::io;
use std::path::Path;

/// Removes the control groups that a run directory records, with whatever still runs in them, and then the directory.
/// To be called by who holds the VM's liveness lock, or knows that there is no VM. Nothing to remove is no error.
pub fn remove(run_dir: &Path) -> io::Result<()> {
    ignite_vmm::jail::remove_leftovers(run_dir)?;
    ignite_store::atomic::remove_tree(run_dir).map_err(io::Error::other)
}
