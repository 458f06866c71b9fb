//! What a VMM counts, kept in the run directory: whoever makes metrics of it may be another process.

use ignite_vmm::VmmCounters;
use std::io;
use std::path::Path;
use tokio::sync::watch;

/// Name of the file in a run directory.
const FILE: &str = "vmm-counters.json";

/// Keeps the file as the VMM of this boot counts; never returns.
pub async fn keep(run_dir: &Path, counters: Option<watch::Receiver<VmmCounters>>) {
    // Of an earlier boot.
    let _ = std::fs::remove_file(run_dir.join(FILE));
    if let Some(mut counters) = counters {
        while counters.changed().await.is_ok() {
            let counted = *counters.borrow_and_update();
            if let Err(error) = write(run_dir, &counted) {
                // Told once: the next ones would not end otherwise.
                tracing::warn!("what the VMM counts is not told any more: {error}");
                break;
            }
        }
    }
    std::future::pending().await
}

fn write(run_dir: &Path, counted: &VmmCounters) -> io::Result<()> {
    let bytes = serde_json::to_vec(counted).map_err(io::Error::other)?;
    ignite_store::atomic::write_volatile(&run_dir.join(FILE), &bytes).map_err(io::Error::other)
}

/// What the VMM of this run directory has counted, as it last said; `None`: it has said nothing.
pub fn read(run_dir: &Path) -> Option<VmmCounters> {
    serde_json::from_slice(&std::fs::read(run_dir.join(FILE)).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn what_the_vmm_of_this_boot_counts_is_there_for_others() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join(FILE), r#"{"diskReads": 99}"#).expect("of an earlier boot");
        let (sums, counters) = watch::channel(VmmCounters::default());
        let keeping = keep(dir.path(), Some(counters));
        let counting = async {
            while read(dir.path()).is_some() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let counted = VmmCounters { disk_reads: 3, vsock_sent_bytes: 5, ..VmmCounters::default() };
            sums.send_replace(counted);
            while read(dir.path()) != Some(counted) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            // A supervisor that knows fewer of them, or more.
            std::fs::write(dir.path().join(FILE), r#"{"diskWrites": 7, "other": true}"#).expect("write");
            assert_eq!(read(dir.path()), Some(VmmCounters { disk_writes: 7, ..VmmCounters::default() }));
        };
        tokio::select! {
            () = keeping => panic!("it returned"),
            counted = tokio::time::timeout(Duration::from_secs(20), counting) => counted.expect("in time"),
        }
    }
}
