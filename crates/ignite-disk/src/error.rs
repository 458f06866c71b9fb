//! What can go wrong while disks and boot files are made, one variant per failed operation.

use std::io;
use std::path::PathBuf;

/// An operation of this crate that failed; nothing is left at the destination.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// A layer's stream could not be opened.
    #[error("opening layer {layer}")]
    OpenLayer {
        /// The layer's name.
        layer: String,
        /// What the source said.
        #[source]
        source: io::Error,
    },
    /// A layer's stream broke off or failed its own verification.
    #[error("reading layer {layer} after entry {entry:?}")]
    ReadLayer {
        /// The layer's name.
        layer: String,
        /// The last entry seen, or an empty string.
        entry: String,
        /// What the source said.
        #[source]
        source: io::Error,
    },
    /// A layer holds something that is refused: malformed, escaping the root, or over a limit.
    #[error("layer {layer}: entry {entry:?}: {reason}")]
    BadLayer {
        /// The layer's name.
        layer: String,
        /// The entry it happened at, printable.
        entry: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A disk of this size cannot be made.
    #[error("making a disk of {size} bytes: {reason}")]
    DiskSize {
        /// The size asked for, or the size needed.
        size: u64,
        /// The limit that was met.
        reason: String,
    },
    /// A file could not be read.
    #[error("reading {path:?}")]
    ReadFile {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A file could not be written.
    #[error("writing {path:?}")]
    WriteFile {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A kernel package, image or modules tree is not what it should be.
    #[error("kernel from {path:?}: {reason}")]
    BadKernel {
        /// The package, file, directory or image.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// An initrd is not what Linux reads.
    #[error("initrd {path:?}: {reason}")]
    BadInitrd {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// No kernel was found where one was looked for.
    #[error("no kernel in {path:?}: {reason}")]
    NoKernel {
        /// Where it was looked for.
        path: PathBuf,
        /// What was looked for.
        reason: String,
    },
}
