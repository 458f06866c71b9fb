//! What people and scripts see.

pub mod document;
pub mod duration;
pub mod plan;
pub mod progress;
pub mod stats_table;
pub mod status;
pub mod table;
pub mod template_value;
pub mod text;
pub mod unit;
pub mod vm_table;
