//! Builds `bin/ignite-init` as a static program, whatever the outer build is: debug, release, check, clippy, install.
//!
//! The nested cargo has a target directory of its own, so that it never waits for the lock of the one that waits for it,
//! and shares it between the outer profiles, so that the guest is built once. Nothing of the outer build's flags or
//! compiler wrappers reaches it.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "how a build script talks to cargo")]

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Variables with which an outer cargo, or its user, would change how the guest is compiled.
const OUTER: [&str; 11] = [
    "CARGO_BUILD_RUSTC_WRAPPER",
    "CARGO_BUILD_RUSTC_WORKSPACE_WRAPPER",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_BUILD_TARGET_DIR",
    "CARGO_TARGET_DIR",
    "CARGO_ENCODED_RUSTFLAGS",
    "RUSTFLAGS",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTDOCFLAGS",
];

fn main() {
    let manifest_dir = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let workspace = manifest_dir.ancestors().nth(2).expect("this crate lies two directories below the workspace");
    for input in [
        "bin/ignite-init/src",
        "bin/ignite-init/Cargo.toml",
        "crates/ignite-agent-protocol/src",
        "crates/ignite-agent-protocol/Cargo.toml",
        "Cargo.toml",
        "Cargo.lock",
        "crates/ignite-guest/build.rs",
    ] {
        println!("cargo:rerun-if-changed={}", workspace.join(input).display());
    }
    let out_dir = PathBuf::from(variable("OUT_DIR"));
    let built = build(workspace, &target_dir(&out_dir));
    let embedded = out_dir.join("ignite-init");
    std::fs::copy(&built, &embedded).unwrap_or_else(|e| fail(&format!("copy {}: {e}", built.display())));
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|e| fail(&format!("{name}: {e}")))
}

/// `<target>/ignite-guest`, beside the outer profile's directory (`<target>/<profile>/build/<this crate>/out`).
fn target_dir(out_dir: &Path) -> PathBuf {
    let outer = out_dir.ancestors().nth(4).unwrap_or(out_dir);
    outer.join("ignite-guest")
}

fn build(workspace: &Path, target_dir: &Path) -> PathBuf {
    let target = variable("TARGET");
    let mut cargo = Command::new(variable("CARGO"));
    cargo.current_dir(workspace);
    for name in OUTER {
        cargo.env_remove(name);
    }
    let overrides = |name: &str| {
        name.starts_with("CARGO_PROFILE_") || (name.starts_with("CARGO_TARGET_") && name.ends_with("_RUSTFLAGS"))
    };
    for (name, _) in env::vars().filter(|(name, _)| overrides(name)) {
        cargo.env_remove(name);
    }
    // Static and at a fixed address: no relocations to do at every boot, and a tenth smaller.
    let flags = ["-Ctarget-feature=+crt-static", "-Crelocation-model=static"];
    cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    cargo.args(["build", "--package", "ignite-init", "--bin", "ignite-init", "--profile", "guest", "--quiet"]);
    // With an explicit target the flags reach the guest only, not build scripts and procedural macros.
    cargo.args(["--target", &target, "--target-dir"]).arg(target_dir);
    if workspace.join("Cargo.lock").exists() {
        cargo.arg("--locked");
    }
    let output = cargo.output().unwrap_or_else(|e| fail(&format!("run cargo: {e}")));
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let hint = if said.contains("cannot find -lc") || said.contains("unable to find library -lc") {
            "\nhint: the guest program is linked statically; install the static C library \
             (Debian, Ubuntu: libc6-dev; Fedora: glibc-static)"
        } else {
            ""
        };
        fail(&format!("cannot build the guest program: {}\n{said}{hint}", output.status));
    }
    target_dir.join(target).join("guest").join("ignite-init")
}

fn fail(message: &str) -> ! {
    eprintln!("error: {message}");
    std::process::exit(1)
}
