//! What the programs for people share: settings, errors with hints, signals, rendering, and the commands of `ignite`.
//!
//! `ignite` and `ignited` are thin `main`s over this: they parse, call a verb of the engine, and render. Nothing here is
//! promised to other programs.

pub mod candidates;
pub mod cli;
pub mod commands;
pub mod context;
mod detach_keys;
mod env_file;
pub mod program;
mod pull_settings;
pub mod render;
pub mod report;
mod session;
pub mod settings;
pub mod signals;
pub mod terminal;
pub mod weave_order;
