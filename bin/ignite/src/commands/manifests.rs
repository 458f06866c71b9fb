//! `-f`: manifests by file, by directory, or on standard input, as `apply`, `diff`, `delete` and `stack` take them.

use crate::report;
use crate::settings::Settings;
use ignite_api::codec::MAX_INPUT_LEN;
use ignite_reconcile::{WantedSet, load, load_text};
use std::io::Read;
use std::path::{Path, PathBuf};

/// What is read from standard input is shown under this name.
const STDIN_NAME: &str = "standard-input";

/// Reads all of them, and tells what cannot be read.
pub fn read(paths: &[PathBuf], settings: &Settings) -> anyhow::Result<WantedSet> {
    let mut set = WantedSet::default();
    for path in paths {
        if path == Path::new("-") {
            let mut text = Vec::new();
            // One byte more than is allowed shows that it is too long.
            std::io::stdin().lock().take(MAX_INPUT_LEN as u64 + 1).read_to_end(&mut text)?;
            set.extend(load_text(STDIN_NAME, &text, &settings.vm_defaults));
        } else {
            set.extend(load(path, &settings.vm_defaults));
        }
    }
    prepare(&mut set, settings);
    set.problems.iter().for_each(|problem| report::print(&anyhow::anyhow!("{problem}")));
    Ok(set)
}

/// Bare image references are pulled from the configured source, and the configured prefix is shown as `run` shows it.
pub fn prepare(set: &mut WantedSet, settings: &Settings) {
    for wanted in &mut set.vms {
        wanted.vm.spec.image.oci = wanted.vm.spec.image.oci.take().map(|source| settings.runtime.apply(source));
        if let Some(prefix) = &settings.id_prefix {
            wanted.vm.status.id_prefix = Some(prefix.clone());
        }
    }
}
