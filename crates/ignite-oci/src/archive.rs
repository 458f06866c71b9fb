//! Image archives: tars of a layout or of `docker save`, read once from the front to the end.

mod contents;
mod tar_members;

pub(crate) use contents::ArchiveContents;
