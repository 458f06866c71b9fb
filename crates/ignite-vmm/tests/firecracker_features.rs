//! What the real Firecracker makes of a machine's options: persistent memory and CPU templates.

mod real_firecracker;
mod tiny_guest;

use ignite_vmm::firecracker::FirecrackerDriver;
use ignite_vmm::{BootSpec, CpuTemplate, Drive, DriveLimits, Driver, Machine, RunDir, VmmError};
use real_firecracker::{driver, spec};
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::AsyncReadExt;

/// Generous: the hosts these tests run on may be busy.
const DEADLINE: Duration = Duration::from_secs(60);

/// Boots, and ends it when the guest has said its line.
async fn runs(driver: &FirecrackerDriver, dir: &Path, spec: &BootSpec) -> Result<String, VmmError> {
    let mut machine: Box<dyn Machine> = driver.boot(spec, &RunDir(dir.to_owned())).await?;
    let mut console = machine.take_console().unwrap();
    let mut said = Vec::new();
    let line = async {
        while !said.ends_with(b"\n") {
            said.push(console.read_u8().await.unwrap());
        }
    };
    if tokio::time::timeout(DEADLINE, line).await.is_err() {
        let log = std::fs::read_to_string(dir.join("firecracker.log")).unwrap_or_default();
        panic!("no line from the guest, but {:?}; Firecracker says: {log}", String::from_utf8_lossy(&said));
    }
    machine.kill().await.unwrap();
    Ok(String::from_utf8_lossy(&said).into_owned())
}

#[tokio::test]
#[allow(clippy::print_stderr, reason = "what a version cannot is said")]
async fn a_read_only_file_is_persistent_memory_of_any_size_and_beside_disks() {
    let Some(driver) = driver() else { return };
    let dir = TempDir::new().unwrap();
    let drive = |name: &str, len: u64, is_pmem| {
        let path = dir.path().join(name);
        std::fs::File::create(&path).unwrap().set_len(len).unwrap();
        Drive { id: name.into(), path, is_read_only: is_pmem, is_pmem, limits: DriveLimits::default() }
    };
    // Neither is a multiple of 2 MiB, which the guest is shown.
    let drives = vec![drive("base", 5 << 20, true), drive("disk", 1 << 20, false), drive("other", 4096, true)];
    let spec = BootSpec { drives, ..spec(dir.path()) };
    match runs(&driver, dir.path(), &spec).await {
        Ok(said) => assert!(said.contains("do=hang"), "{said}"),
        Err(VmmError::Unfit { why, .. }) => return eprintln!("SKIPPED: {why}"),
        Err(error) => panic!("{error:?}"),
    }
    // Two machines have it at once, as VMs of one image do.
    let other = TempDir::new().unwrap();
    let mut first = driver.boot(&spec_of(&spec, "first", true), &RunDir(dir.path().to_owned())).await.unwrap();
    let mut second = driver.boot(&spec_of(&spec, "second", true), &RunDir(other.path().to_owned())).await.unwrap();
    first.kill().await.unwrap();
    second.kill().await.unwrap();
}

/// The same under another name, with its persistent memory only.
fn spec_of(spec: &BootSpec, name: &str, is_pmem: bool) -> BootSpec {
    let drives = spec.drives.iter().filter(|drive| drive.is_pmem == is_pmem).cloned().collect();
    BootSpec { id: format!("{}-{name}", spec.id), drives, ..spec.clone() }
}

#[tokio::test]
#[allow(clippy::print_stderr, reason = "what a host's processor refuses is said")]
async fn a_cpu_template_is_taken_or_refused_with_firecrackers_words() {
    let Some(driver) = driver() else { return };
    let dir = TempDir::new().unwrap();
    let run = async |template: CpuTemplate| {
        let spec = BootSpec { cpu_template: Some(template), ..spec(dir.path()) };
        runs(&driver, dir.path(), &spec).await
    };
    let file = async |text: &str| {
        let path = dir.path().join("template.json");
        std::fs::write(&path, text).unwrap();
        run(CpuTemplate::File(path)).await
    };
    file("{}").await.unwrap_or_else(|error| panic!("{error:?}"));
    match file(r#"{"no_such_field": []}"#).await {
        Err(VmmError::BootFailed { detail, .. }) => assert!(detail.contains("no_such_field"), "{detail}"),
        other => panic!("{other:?}"),
    }
    for text in ["", "[]", "{"] {
        assert!(
            matches!(file(text).await, Err(VmmError::Open { path, .. }) if path.ends_with("template.json")),
            "{text}"
        );
    }
    let missing = run(CpuTemplate::File(dir.path().join("missing"))).await;
    assert!(matches!(missing, Err(VmmError::Open { path, .. }) if path.ends_with("missing")));
    // Whether this host's processor is one that a template is for, Firecracker knows.
    let (known, other) =
        if cfg!(target_arch = "aarch64") { (vec!["V1N1"], "T2") } else { (vec!["T2", "T2CL", "T2A"], "V1N1") };
    let refused = run(CpuTemplate::Named(other.into())).await;
    assert!(matches!(&refused, Err(VmmError::Unsupported { what, .. }) if what.contains(other)), "{refused:?}");
    for name in known {
        match run(CpuTemplate::Named(name.into())).await {
            Ok(_) => eprintln!("{name}: taken"),
            Err(VmmError::BootFailed { detail, .. }) => {
                eprintln!("{name}: {detail}");
                assert!(detail.contains("CPU template"), "why it refused is lost: {detail}");
            }
            Err(other) => panic!("{name}: {other:?}"),
        }
    }
}
