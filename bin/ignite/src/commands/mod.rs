//! One file per command: parse, one verb of the engine, render.

pub mod apply;
pub mod attach;
pub mod completion;
pub mod cp;
pub mod create;
pub mod delete;
pub mod diff;
pub mod doctor;
pub mod events;
pub mod exec;
pub mod generate;
pub mod health_flags;
pub mod image;
pub mod inspect;
pub mod kernel;
pub mod kill;
mod limit_flags;
pub mod login;
pub mod logout;
pub mod logs;
pub mod manual;
pub mod network;
pub mod pause;
pub mod proxy;
pub mod ps;
pub mod rename;
pub mod restart;
pub mod restore;
pub mod rm;
pub mod run;
pub mod schema;
pub mod ssh;
pub mod stack;
pub mod start;
pub mod stats;
pub mod stop;
pub mod system;
pub mod unpause;
pub mod update;
pub mod version;
pub mod vm;
pub mod wait;

mod leftovers;
pub mod machine_flags;
pub mod manifest;
pub mod manifests;
mod many;
mod network_flags;
mod object_inspect;
mod object_list;
mod pruned;
pub mod pull_source;
mod selection;
pub mod vm_flags;
mod volume_flags;

use std::io::Write;

/// Writes data to standard output.
pub fn print(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Writes one line of data to standard output.
fn print_line(text: impl std::fmt::Display) -> std::io::Result<()> {
    print(&format!("{text}\n"))
}
