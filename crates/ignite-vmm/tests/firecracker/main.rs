//! The real Firecracker and its jailer with the tiny guest: what its API, its files and its ends are in fact.

mod api;
mod ends;
mod jailer;
mod metrics;
#[path = "../real_firecracker/mod.rs"]
mod real_firecracker;
mod snapshot;
#[path = "../tiny_guest/mod.rs"]
mod tiny_guest;

use ignite_vmm::{BootSpec, Console, Driver, Machine, RunDir};
use std::path::Path;
use std::time::Duration;
use tokio::io::AsyncReadExt;

/// Generous: the hosts these tests run on may be busy.
const DEADLINE: Duration = Duration::from_secs(60);

/// A machine that does what is asked of it, by the driver and in its jail.
async fn boot(driver: &dyn Driver, dir: &Path, order: &str) -> Box<dyn Machine> {
    boot_as(driver, dir, &BootSpec { cmdline: format!("do={order}"), ..real_firecracker::spec(dir) }).await
}

async fn boot_as(driver: &dyn Driver, dir: &Path, spec: &BootSpec) -> Box<dyn Machine> {
    driver.boot(spec, &RunDir(dir.to_owned())).await.unwrap_or_else(|error| panic!("{error:?}"))
}

/// What a console says up to and including `end`.
async fn console_until(console: &mut Console, end: &str) -> String {
    let mut said = Vec::new();
    let reading = async {
        while !said.ends_with(end.as_bytes()) {
            said.push(console.read_u8().await.unwrap());
        }
    };
    tokio::time::timeout(DEADLINE, reading).await.unwrap_or_else(|_| panic!("no {end:?}"));
    String::from_utf8(said).unwrap()
}
