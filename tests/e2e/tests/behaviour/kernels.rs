//! Kernels from everywhere: a package, files of every compression, an OCI image; all boot.

use ignite_e2e::images::{busybox, kernel_package};
use ignite_e2e::invocation::Invocation;
use ignite_e2e::wait::QUICK;
use ignite_e2e::{Host, Report};
use std::fs;
use std::path::{Path, PathBuf};

pub fn a_kernel_of_every_wrapping_boots() -> Report {
    let host = Host::new();
    let unpacked = host.path("deb");
    let deb = [kernel_package().display().to_string(), unpacked.display().to_string()];
    Invocation::new("dpkg-deb").args(["--extract", &deb[0], &deb[1]]).within(QUICK).finish().succeeds();
    let modules = only_entry(&unpacked.join("lib/modules"));
    let release = modules.file_name().expect("a release").to_string_lossy().into_owned();
    let vmlinuz = unpacked.join(format!("boot/vmlinuz-{release}"));
    let kernel_uid = host.does(["kernel", "ls", "-q"]).succeeds().line();
    let vmlinux = host.data_dir().join("kernel").join(kernel_uid).join("kernel/vmlinux");

    let boots = |name: &str| {
        let run = host.run(["--rm", "--kernel", name, busybox(), "uname", "-r"]);
        run.succeeds().prints(&format!("{release}\n"));
    };
    // The package's own, which every host of these tests has.
    host.run(["--rm", busybox(), "uname", "-r"]).succeeds().prints(&format!("{release}\n"));

    let modules = modules.display().to_string();
    for (name, program, arguments) in [
        ("gzip", "gzip", &["-1", "-c"][..]),
        ("xz", "xz", &["--check=crc32", "--x86", "--lzma2=preset=0", "-c"]),
        ("lz4", "lz4", &["-l", "-1", "-c"]),
        ("zstd", "zstd", &["-1", "-c"]),
    ] {
        let payload = Invocation::new(program).args(arguments).args([&vmlinux]).within(QUICK).finish();
        let image = host.file(name, bz_image(&fs::read(&vmlinuz).expect("read a kernel"), &payload.succeeds().stdout));
        // As in /boot, behind a symbolic link.
        let link = host.path(&format!("vmlinuz-{name}"));
        std::os::unix::fs::symlink(&image, &link).expect("make a link");
        let link = link.display().to_string();
        host.does(["kernel", "import", "--name", name, "--modules", &modules, &link]).succeeds();
        boots(name);
    }

    let layout = host.path("kernel-image").display().to_string();
    let umoci = |args: &[&str]| {
        Invocation::new("umoci").args(args).within(QUICK).finish().succeeds();
    };
    let image = format!("{layout}:v1");
    umoci(&["init", "--layout", &layout]);
    umoci(&["new", "--image", &image]);
    umoci(&["insert", "--image", &image, &vmlinux.display().to_string(), "/boot/vmlinux-there"]);
    umoci(&["insert", "--image", &image, &modules, &format!("/lib/modules/{release}")]);
    std::os::unix::fs::symlink("vmlinux-there", host.path("vmlinux")).expect("make a link");
    umoci(&["insert", "--image", &image, &host.path("vmlinux").display().to_string(), "/boot/vmlinux"]);
    host.does(["kernel", "import", "--name", "oci", &format!("oci:{image}")]).succeeds();
    boots("oci");

    // What no VM uses goes, but for the default.
    host.does(["kernel", "prune"]).succeeds().says("gzip").says("oci").does_not_say(&release);
    host.does(["kernel", "ls", "-q"]).succeeds();
    Ok(())
}

/// Also proves that nothing is booted, and that the configuration decides and not the modules alone.
pub fn a_kernel_that_is_too_bare_is_refused_before_boot() -> Report {
    let host = Host::new();
    let uid = host.does(["kernel", "ls", "-q"]).succeeds().line();
    let kernel = host.data_dir().join("kernel").join(uid).join("kernel");
    let vmlinux = kernel.join("vmlinux").display().to_string();
    let config = fs::read_to_string(kernel.join("config")).expect("a configuration");
    let import = |name: &str, options: &[(&str, &str)]| {
        // A bare kernel has what is built in only: these its package has as modules.
        let modules = ["OVERLAY_FS", "VIRTIO_BLK", "VIRTIO_MMIO", "VIRTIO_CONSOLE", "VIRTIO_VSOCKETS"];
        let whole = modules.iter().fold(config.clone(), |text, option| {
            text.replace(&format!("CONFIG_{option}=m\n"), &format!("CONFIG_{option}=y\n"))
        });
        let bare = options.iter().fold(whole, |text, (from, to)| text.replace(from, to));
        let file = host.file(&format!("config-of-{name}"), bare).display().to_string();
        host.does(["kernel", "import", "--name", name, "--config", &file, &vmlinux])
    };
    import("no-overlay", &[("CONFIG_OVERLAY_FS=y", "# CONFIG_OVERLAY_FS is not set")])
        .succeeds()
        .complains("kernel no-overlay")
        .complains("has no overlayfs");
    import("no-acpi", &[("CONFIG_ACPI=y", "# CONFIG_ACPI is not set")]).succeeds().complains("has no ACPI");
    host.does(["kernel", "inspect", "no-overlay"]).succeeds().says("\"overlay\": \"absent\"");
    host.does(["kernel", "inspect", "no-overlay"]).succeeds().says("\"virtioBlk\": \"builtin\"");

    let refused = host.run(["--rm", "--kernel", "no-overlay", busybox(), "true"]);
    refused.gives_a_hint().complains("the kernel no-overlay has no overlayfs").complains("--root-disk private");
    let refused = host.run(["--rm", "--vmm", "qemu", "--kernel", "no-acpi", busybox(), "true"]);
    refused.gives_a_hint().complains("the kernel no-acpi has no ACPI").complains("ignite kernel ls");
    host.does(["ps", "-a", "-q"]).succeeds().prints("");
    // The other root disk is no reason to refuse it.
    host.does(["create", "--root-disk", "private", "--kernel", "no-overlay", busybox(), "true"]).succeeds();
    Ok(())
}

/// A bzImage like `original` around another payload (Documentation/arch/x86/boot.rst: `payload_offset`, `payload_length`).
fn bz_image(original: &[u8], payload: &[u8]) -> Vec<u8> {
    let setup_sectors = usize::from(original[0x1f1]);
    let offset = u32::from_le_bytes(original[0x248..0x24c].try_into().expect("four bytes")) as usize;
    let mut image = original[..(setup_sectors + 1) * 512 + offset].to_vec();
    image[0x24c..0x250].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    image.extend_from_slice(payload);
    image
}

fn only_entry(dir: &Path) -> PathBuf {
    let mut entries = fs::read_dir(dir).expect("list a directory").flatten();
    entries.next().expect("an entry").path()
}

pub fn an_initrd_of_ones_own_comes_before_ours() -> Report {
    let host = Host::new();
    let deb = kernel_package().display().to_string();
    let bad = host.file("bad", b"no archive at all").display().to_string();
    let refused = host.does(["kernel", "import", "--name", "bad", "--initrd", &bad, &deb]);
    refused.fails().complains("neither a cpio archive").complains(&bad);
    // A table for Linux to find, and an init that would end every boot.
    let members = [("kernel/firmware/acpi/ours.aml", acpi_table()), ("init", b"#!/nowhere\n".to_vec())];
    let mut archive: Vec<u8> = members.iter().flat_map(|(name, content)| cpio_member(name, content)).collect();
    archive.extend(cpio_member("TRAILER!!!", b""));
    let initrd = host.file("initrd", archive).display().to_string();
    let packed = Invocation::new("zstd").args(["-q", "-1", "-c", &initrd]).within(QUICK).finish();
    let packed = host.file("initrd.zst", packed.succeeds().stdout.clone()).display().to_string();
    host.does(["kernel", "import", "--name", "with-initrd", "--initrd", &packed, &deb]).succeeds();
    let kernel = host.does(["kernel", "inspect", "with-initrd"]).json();
    assert!(kernel["status"]["initrdSize"].is_string(), "{kernel}");
    let found = "grep -l TESTINIT /sys/firmware/acpi/tables/SSDT*";
    let run = host.run(["--rm", "--kernel", "with-initrd", busybox(), "sh", "-c", found]);
    run.succeeds().says("/sys/firmware/acpi/tables/SSDT");
    host.assert_nothing_left();
    Ok(())
}

/// An SSDT without content (ACPI 6.4, 5.2.6 "System Description Table Header").
fn acpi_table() -> Vec<u8> {
    let mut table = b"SSDT\x24\0\0\0\x02\0IGNITETESTINIT\x01\0\0\0TEST\x01\0\0\0".to_vec();
    table[9] = table.iter().fold(0u8, |sum, byte| sum.wrapping_sub(*byte));
    table
}

/// A file as cpio's newc has it.
fn cpio_member(name: &str, content: &[u8]) -> Vec<u8> {
    let mut bytes = b"070701".to_vec();
    let (size, name_len) = (content.len(), name.len() + 1);
    for field in [1, 0o100_755, 0, 0, 1, 0, size, 0, 0, 0, 0, name_len, 0] {
        bytes.extend(format!("{field:08x}").bytes());
    }
    bytes.extend(name.bytes().chain([0]));
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes.extend(content);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}
