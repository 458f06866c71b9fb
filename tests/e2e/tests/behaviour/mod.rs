//! What the programs do, one file per part of it.

pub mod change;
pub mod commands;
pub mod copy;
pub mod crash;
pub mod events;
pub mod exec;
pub mod health;
pub mod ignited;
pub mod kernels;
pub mod layers;
pub mod machine;
pub mod manifests;
pub mod network;
pub mod network_docker;
pub mod network_soak;
pub mod network_user;
pub mod objects;
pub mod prompt;
pub mod registry;
pub mod restart;
pub mod sources;
pub mod ssh;
pub mod stack;
pub mod tasks;
pub mod volumes;
pub mod weave;
