//! `ignited version`: the same report as `ignite version`, since both are one release.

pub use ignite::commands::version::{Args, run};
