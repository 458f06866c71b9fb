//! Kernels imported from a real package, and from synthetic images of every kind.
#![allow(missing_docs, clippy::print_stderr, reason = "what was skipped and measured is said in the output")]

mod harness;

use std::fs;
use std::path::PathBuf;

use ignite_disk::{FeatureState, KernelInput, import_kernel, write_initramfs};

/// The package named by `IGNITE_TEST_KERNEL_DEB`, such as `linux-image-6.1.0-56-cloud-amd64_6.1.192-2_amd64.deb`.
fn deb() -> Option<PathBuf> {
    let deb = std::env::var_os("IGNITE_TEST_KERNEL_DEB").map(PathBuf::from);
    if deb.is_none() {
        eprintln!("SKIPPED: IGNITE_TEST_KERNEL_DEB does not name a kernel package");
    }
    deb
}

#[test]
fn a_package_becomes_a_kernel_modules_and_an_initramfs() {
    let Some(deb) = deb() else { return };
    let dir = tempfile::tempdir().unwrap();
    let info = import_kernel(KernelInput::Deb(&deb), dir.path()).unwrap();
    eprintln!("{info:?}");
    assert!(deb.to_string_lossy().contains(&info.version), "{}", info.version);
    assert!(fs::read(dir.path().join("vmlinux")).unwrap().starts_with(b"\x7fELF"));
    assert!(info.features.ext4.is_available() && info.features.overlay.is_available());
    let disk = dir.path().join("modules.ext4");
    assert_eq!(disk.metadata().unwrap().len(), info.modules_size);
    harness::assert_sound(&disk);

    let order = fs::read_to_string(dir.path().join("boot-modules/order")).unwrap();
    let position = |name: &str| order.lines().position(|line| line.ends_with(&format!("-{name}.ko")));
    for (first, second) in [
        ("virtio_ring", "virtio"),
        ("virtio", "virtio_mmio"),
        ("virtio_mmio", "virtio_blk"),
        ("failover", "net_failover"),
        ("net_failover", "virtio_net"),
        ("vsock", "vmw_vsock_virtio_transport"),
    ] {
        assert!(position(first) < position(second), "{first} before {second} in\n{order}");
    }
    assert!(position("ext4").is_none() || info.features.ext4 == FeatureState::Module);

    let initramfs = dir.path().join("initramfs");
    write_initramfs(dir.path(), b"#!init", &initramfs).unwrap();
    let first = fs::read(&initramfs).unwrap();
    write_initramfs(dir.path(), b"#!init", &initramfs).unwrap();
    assert!(first == fs::read(&initramfs).unwrap());
}

#[test]
fn modprobe_finds_modules_on_the_disk() {
    let Some(deb) = deb() else { return };
    if !rustix::process::geteuid().is_root() || !harness::has_program("modprobe") {
        eprintln!("SKIPPED: needs root and modprobe");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let info = import_kernel(KernelInput::Deb(&deb), dir.path()).unwrap();
    let mount = dir.path().join("mnt");
    fs::create_dir(&mount).unwrap();
    let script = format!(
        "mount -o loop,ro {disk} {mount} && for name in \"$@\"; do modprobe -d {mount} -S {release} --show-depends $name || exit 1; done",
        disk = dir.path().join("modules.ext4").display(),
        mount = mount.display(),
        release = info.version,
    );
    let names = ["overlay", "wireguard", "br_netfilter", "virtio-net", "ext4", "virtio:d00000001v00001AF4"];
    let args: Vec<&std::ffi::OsStr> =
        ["-m", "sh", "-c", &script, "sh"].into_iter().chain(names).map(|arg| arg.as_ref()).collect();
    let output = harness::run("unshare", &args);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    eprintln!("{text}");
    assert!(text.contains("builtin ext4") && text.contains("wireguard.ko") && text.contains("net_failover.ko"));
}
