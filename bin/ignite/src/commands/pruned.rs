//! What a prune tells: the names of what was removed, and how much that gave back.

use crate::commands::print_line;
use crate::context::Context;
use crate::render::text::sanitize;
use ignite_api::Size;
use ignite_engine::PruneReport;

/// All that is told of one prune.
pub fn tell(pruned: &PruneReport, context: &Context) -> anyhow::Result<()> {
    list(pruned)?;
    tell_freed(pruned.freed, context);
    Ok(())
}

/// One name a line.
pub fn list(pruned: &PruneReport) -> anyhow::Result<()> {
    for name in &pruned.removed {
        print_line(sanitize(name))?;
    }
    Ok(())
}

/// For people only.
pub fn tell_freed(freed: Size, context: &Context) {
    context.note(&format!("Total reclaimed space: {}", freed.human()));
}
