//! Images and the kernel that the tests run, made once by `scripts/` and cached.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// A small image without an init: tasks.
pub fn busybox() -> &'static str {
    static SOURCE: OnceLock<String> = OnceLock::new();
    SOURCE.get_or_init(|| source("busybox"))
}

/// Debian with systemd: a machine.
pub fn debian() -> &'static str {
    static SOURCE: OnceLock<String> = OnceLock::new();
    SOURCE.get_or_init(|| source("debian-systemd"))
}

/// redis-server as entrypoint, with a user, a working directory and two layers.
pub fn redis() -> &'static str {
    static SOURCE: OnceLock<String> = OnceLock::new();
    SOURCE.get_or_init(|| source("redis"))
}

/// nginx as entrypoint.
pub fn nginx() -> &'static str {
    static SOURCE: OnceLock<String> = OnceLock::new();
    SOURCE.get_or_init(|| source("nginx"))
}

/// Python, for applications that bring their own text.
pub fn python() -> &'static str {
    static SOURCE: OnceLock<String> = OnceLock::new();
    SOURCE.get_or_init(|| source("python"))
}

/// Layers that are hard to get right below `/corpus`, and `/list-tree`, which lists what became of them.
pub fn hard_layers() -> &'static str {
    static SOURCE: OnceLock<String> = OnceLock::new();
    SOURCE.get_or_init(|| source("hard-layers"))
}

/// A distribution's kernel package.
pub fn kernel_package() -> &'static Path {
    static PACKAGE: OnceLock<PathBuf> = OnceLock::new();
    PACKAGE.get_or_init(|| PathBuf::from(script(&["fetch-kernel"])))
}

/// A container image for Kubernetes, `node` or `operator`, of the programs under test, unpacked into `dest`.
pub fn unpack_container_image(kind: &str, dest: &Path) {
    let programs = crate::host::program("ignited");
    let layout = dest.with_extension("layout");
    let text = |path: &Path| path.to_str().expect("a path").to_owned();
    let programs = text(programs.parent().expect("a directory"));
    script(&["make-container-image", kind, "--programs", &programs, &text(&layout)]);
    let mut unpack = Command::new("umoci");
    unpack.args(["--log=warn", "raw", "unpack", "--image", &format!("{}:latest", text(&layout))]).arg(dest);
    assert!(unpack.status().is_ok_and(|status| status.success()), "unpack {}", layout.display());
    std::fs::remove_dir_all(layout).expect("a directory");
}

/// The directory of an image made by [`busybox`] and its like: the source without its transport.
pub fn layout(source: &str) -> &Path {
    Path::new(source.strip_prefix("oci:").expect("test images are OCI layouts"))
}

fn source(name: &str) -> String {
    format!("oci:{}", script(&["make-image", name]))
}

fn script(command: &[&str]) -> String {
    let scripts = repository().join("scripts");
    let output = Command::new(scripts.join(command[0])).args(&command[1..]).output().expect("run a script of scripts/");
    assert!(
        output.status.success(),
        "scripts/{} failed: {}",
        command.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("scripts print paths").trim().to_string()
}

/// Root of the source tree.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().and_then(Path::parent).expect("tests/e2e is two levels down")
}
