//! One file per command of `ignited`: parse, call, render.

pub mod completion;
pub mod daemon;
pub mod gitops;
pub mod operator;
pub mod pod;
pub mod status;
pub mod systemd;
pub mod version;
