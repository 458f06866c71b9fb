//! One file per command of `ignited`: parse, call, render.

pub mod completion;
pub mod version;
