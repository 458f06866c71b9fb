//! Tar streams as layers have them: ustar, GNU and PAX headers, sparse files, every length bounded.
//!
//! Behaves as Go's `archive/tar`, which wrote most layers and reads them in every container engine: header-only types
//! have no content whatever their size field says, global PAX headers are passed over, the stream may end without its
//! two blocks of zeros.

mod header;
mod pax;
mod reader;
mod sparse;

pub(crate) use reader::{Content, EntryKind, TarEntry, TarError, TarReader};
