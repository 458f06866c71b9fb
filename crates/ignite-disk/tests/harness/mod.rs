//! What the tests of disks share: the programs that judge them.
#![allow(dead_code, missing_docs, clippy::print_stderr, reason = "what was skipped and measured is said in the output")]

pub mod layer;
pub mod listing;
pub mod oci;

use std::path::Path;
use std::process::{Command, Output};

/// Whether `program` can be run; says loudly that a test is skipped when not.
pub fn has_program(program: &str) -> bool {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()))
        || Path::new("/usr/sbin").join(program).is_file()
        || Path::new("/sbin").join(program).is_file();
    if !found {
        eprintln!("SKIPPED: {program} is not installed");
    }
    found
}

pub fn run(program: &str, args: &[&std::ffi::OsStr]) -> Output {
    Command::new(program).args(args).output().unwrap_or_else(|error| panic!("{program}: {error}"))
}

/// Fails unless `e2fsck -fn` finds nothing at all to say against the image.
pub fn assert_sound(image: &Path) {
    if !has_program("e2fsck") {
        return;
    }
    let output = run("e2fsck", &["-fn".as_ref(), image.as_ref()]);
    assert!(
        output.status.success(),
        "e2fsck: {}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
