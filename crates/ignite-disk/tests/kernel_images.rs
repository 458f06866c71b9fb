//! Kernel images made by hand, one of each kind and compression.
#![allow(missing_docs, clippy::print_stderr, reason = "what was skipped and measured is said in the output")]

mod harness;

use std::fs;
use std::io::Write;
use std::path::Path;

use harness::layer::{Layer, sources};
use ignite_disk::{DiskError, FeatureState, KernelInfo, KernelInput, import_kernel};
use proptest::prelude::*;

const RELEASE: &str = "6.6.6-test";

/// An ELF file with a PVH note, a version banner, and enough in between to be worth compressing.
fn vmlinux() -> Vec<u8> {
    let mut elf = vec![0u8; 64];
    elf[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    elf[16..20].copy_from_slice(&[2, 0, 62, 0]); // ET_EXEC, EM_X86_64
    elf[20] = 1;
    elf[32] = 64; // e_phoff
    elf[52] = 64; // e_ehsize
    elf[54] = 56; // e_phentsize
    elf[56] = 1; // e_phnum
    let mut segment = vec![0u8; 56];
    segment[0] = 4; // PT_NOTE
    segment[8] = 120; // p_offset
    segment[32] = 24; // p_filesz
    segment[48] = 4; // p_align
    elf.extend(segment);
    for word in [4u32, 8, 18] {
        elf.extend(word.to_le_bytes());
    }
    elf.extend(b"Xen\0\0\0\0\x01\0\0\0\0");
    elf.extend((0..9_000_000u32).map(|n| (n / 1000) as u8));
    elf.extend(b"Linux version %s\0Linux version 6.6.6-test (someone@somewhere) #1 SMP\n\0");
    elf.resize(elf.len() + 1000, 0x90);
    elf
}

/// A bzImage of boot protocol 2.15 around a payload.
fn bz_image(payload: &[u8], with_version: bool) -> Vec<u8> {
    let mut image = vec![0u8; 3 * 512];
    image[0x1f1] = 2;
    image[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image[0x206..0x208].copy_from_slice(&0x020fu16.to_le_bytes());
    if with_version {
        image[0x20e..0x210].copy_from_slice(&0x300u16.to_le_bytes());
        let text = format!("{RELEASE} (someone@somewhere) #1 SMP\0");
        image[0x500..0x500 + text.len()].copy_from_slice(text.as_bytes());
    }
    image[0x248..0x24c].copy_from_slice(&0x100u32.to_le_bytes());
    image[0x24c..0x250].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    image.resize(3 * 512 + 0x100, 0xcc);
    image.extend(payload);
    image.extend([0xcc; 300]);
    image
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Runs a compressor over standard input; `None` where it is not installed.
fn pipe(program: &str, args: &[&str], bytes: &[u8]) -> Option<Vec<u8>> {
    use std::process::{Command, Stdio};
    if !harness::has_program(program) {
        return None;
    }
    let mut child = Command::new(program).args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let bytes = bytes.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&bytes));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    Some(output.stdout)
}

fn lz4_legacy(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![0x02, 0x21, 0x4c, 0x18];
    for block in bytes.chunks(8 << 20) {
        let compressed = lz4_flex::block::compress(block);
        out.extend((compressed.len() as u32).to_le_bytes());
        out.extend(compressed);
    }
    out
}

fn bzip2(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The kernel's build appends the size to all but gzip.
fn sized(mut payload: Vec<u8>, size: usize) -> Vec<u8> {
    payload.extend((size as u32).to_le_bytes());
    payload
}

fn import(image: &[u8], dir: &Path) -> Result<KernelInfo, DiskError> {
    let path = dir.join("image");
    fs::write(&path, image).unwrap();
    let dest = dir.join("kernel");
    fs::create_dir_all(&dest).unwrap();
    import_kernel(KernelInput::File { image: &path, modules: None, config: None }, &dest)
}

#[test]
fn every_compression_is_unpacked_to_the_same_kernel() {
    let kernel = vmlinux();
    let payloads = [
        ("plain elf", Some(kernel.clone())),
        ("gzip", Some(bz_image(&gzip(&kernel), true))),
        ("gzip without a version in its header", Some(bz_image(&gzip(&kernel), false))),
        ("gzipped vmlinux", Some(gzip(&kernel))),
        ("lz4", Some(bz_image(&sized(lz4_legacy(&kernel), kernel.len()), true))),
        ("zstd", Some(bz_image(&sized(zstd::stream::encode_all(&kernel[..], 3).unwrap(), kernel.len()), true))),
        (
            "xz",
            pipe("xz", &["--check=crc32", "--x86", "--lzma2=,dict=32MiB", "-c"], &kernel)
                .map(|payload| bz_image(&sized(payload, kernel.len()), true)),
        ),
        (
            "lzma",
            pipe("xz", &["--format=lzma", "-c"], &kernel).map(|payload| bz_image(&sized(payload, kernel.len()), true)),
        ),
        ("bzip2", Some(bz_image(&sized(bzip2(&kernel), kernel.len()), true))),
        ("lzo", pipe("lzop", &["-9", "-c"], &kernel).map(|payload| bz_image(&sized(payload, kernel.len()), true))),
        ("stored", Some(bz_image(&kernel, true))),
    ];
    for (what, image) in payloads {
        let Some(image) = image else { continue };
        let dir = tempfile::tempdir().unwrap();
        let info = import(&image, dir.path()).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(info.version, RELEASE, "{what}");
        assert_eq!(info.features.pvh, FeatureState::Builtin, "{what}");
        assert_eq!(info.modules_size, 0);
        assert!(fs::read(dir.path().join("kernel/vmlinux")).unwrap() == kernel, "{what} differs");
    }
}

#[test]
fn an_arm64_image_is_taken_as_it_is_or_out_of_its_zboot_wrapper() {
    let mut image = vec![0u8; 100_000];
    image[..2].copy_from_slice(b"MZ");
    image[0x38..0x3c].copy_from_slice(b"ARM\x64");
    image[50_000..50_040].copy_from_slice(b"Linux version 6.6.6-test (x) #1 SMP now\n");
    let payload = gzip(&image);
    let mut zboot = vec![0u8; 512];
    zboot[..8].copy_from_slice(b"MZ\0\0zimg");
    zboot[8..12].copy_from_slice(&512u32.to_le_bytes());
    zboot[12..16].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    zboot.extend(&payload);
    for form in [&image, &zboot, &payload] {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(import(form, dir.path()).unwrap().version, RELEASE);
        assert!(fs::read(dir.path().join("kernel/vmlinux")).unwrap() == image);
    }
}

#[test]
fn what_is_no_kernel_is_refused_with_its_reason() {
    let kernel = vmlinux();
    let mut old = bz_image(&gzip(&kernel), true);
    old[0x206] = 5;
    let mut truncated = bz_image(&gzip(&kernel), true);
    truncated.truncate(20_000);
    for (image, reason) in [
        (&b"hello"[..], "no ELF"),
        (&old, "boot protocol"),
        (&truncated, "unpacking"),
        (&bz_image(b"BZh91AY&SY", true), "unpacking"),
        (&bz_image(b"\x89LZO\0\r\n\x1a\n\x10\x40", true), "unpacking"),
        (&gzip(&gzip(&gzip(&gzip(&gzip(&kernel))))), "packed"),
        (b"\x7fELF\x02\x01\x01 without a version", "version"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let error = import(image, dir.path()).unwrap_err();
        let DiskError::BadKernel { reason: said, .. } = &error else { panic!("{error:?}") };
        assert!(said.contains(reason), "{said}");
        assert_eq!(fs::read_dir(dir.path().join("kernel")).unwrap().count(), 0);
    }
}

#[test]
fn an_oci_kernel_image_may_be_linked_and_merged() {
    let layers = [
        Layer::default()
            .dir("usr")
            .dir("usr/lib")
            .symlink("lib", "usr/lib")
            .file("boot/vmlinux-6.6.6-test", &vmlinux())
            .symlink("boot/vmlinux", "/boot/vmlinux-6.6.6-test")
            .file("boot/config-6.6.6-test", b"CONFIG_EXT4_FS=y\nCONFIG_OVERLAY_FS=m\n")
            .finish(),
        Layer::default()
            .file("lib/modules/6.6.6-test/kernel/fs/overlay.ko", b"not really a module")
            .file("lib/modules/6.6.6-test/kernel/drivers/virtio-rng.ko.gz", &gzip(b"compressed"))
            .file("lib/modules/6.6.6-test/modules.builtin", b"kernel/fs/ext4/ext4.ko\n")
            .symlink("lib/modules/6.6.6-test/build", "/usr/src/linux")
            .finish(),
    ];
    let dir = tempfile::tempdir().unwrap();
    let info = import_kernel(KernelInput::Layers(&sources(&layers)), dir.path()).unwrap();
    assert_eq!((info.features.ext4, info.features.overlay), (FeatureState::Builtin, FeatureState::Module));
    let order = fs::read_to_string(dir.path().join("boot-modules/order")).unwrap();
    assert_eq!(order, "01-overlay.ko\n02-virtio_rng.ko\n");
    assert_eq!(fs::read(dir.path().join("boot-modules/02-virtio_rng.ko")).unwrap(), b"compressed");
    let disk = dir.path().join("modules.ext4");
    harness::assert_sound(&disk);
    let image = fs::File::open(&disk).unwrap();
    let fs_reader = mkext4::reader::Fs::open(&image).unwrap();
    let read = |path: &str| fs_reader.read_file(fs_reader.resolve(path).unwrap()).unwrap();
    assert_eq!(read("/lib/modules/6.6.6-test/kernel/fs/overlay.ko"), b"not really a module");
    assert!(read("/lib/modules/6.6.6-test/modules.dep").starts_with(b"kernel/"));
    assert!(fs_reader.resolve("/boot").is_err() && fs_reader.resolve("/lib/modules/6.6.6-test/build").is_err());

    let other = [layers[0].clone(), Layer::default().dir("lib/modules/5.4.0").finish()];
    let dir = tempfile::tempdir().unwrap();
    let error = import_kernel(KernelInput::Layers(&sources(&other)), dir.path()).unwrap_err();
    assert!(error.to_string().contains("5.4.0") && error.to_string().contains(RELEASE), "{error}");
}

#[test]
fn a_host_kernel_comes_with_its_modules() {
    let dir = tempfile::tempdir().unwrap();
    let (boot, modules) = (dir.path().join("boot"), dir.path().join("modules"));
    fs::create_dir_all(modules.join(RELEASE).join("kernel")).unwrap();
    fs::create_dir(&boot).unwrap();
    fs::write(boot.join("vmlinuz-6.6.6-test"), bz_image(&gzip(&vmlinux()), true)).unwrap();
    fs::write(boot.join("config-6.6.6-test"), "CONFIG_FUSE_FS=m\n").unwrap();
    fs::write(modules.join(RELEASE).join("kernel/fuse.ko"), "fuse").unwrap();
    let import = |name: &str, release| {
        let dest = dir.path().join(name);
        fs::create_dir(&dest).unwrap();
        import_kernel(KernelInput::HostBoot { boot_dir: &boot, modules_root: &modules, release }, &dest)
    };
    let info = import("newest", None).unwrap();
    assert_eq!((info.version.as_str(), info.features.fuse), (RELEASE, FeatureState::Module));
    assert!(info.modules_size > 0);
    harness::assert_sound(&dir.path().join("newest/modules.ext4"));
    assert!(matches!(import("absent", Some("1.2.3")), Err(DiskError::NoKernel { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn damaged_images_are_refused_without_panic(at in 0usize..2048, bytes in prop::collection::vec(any::<u8>(), 1..40)) {
        let mut image = bz_image(&gzip(&b"\x7fELF".repeat(500)), true);
        let at = at.min(image.len() - bytes.len());
        image[at..at + bytes.len()].copy_from_slice(&bytes);
        let dir = tempfile::tempdir().unwrap();
        let _ = import(&image, dir.path());
    }
}
