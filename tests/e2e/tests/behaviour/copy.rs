//! `cp`: files into the VM that the `exec` tests share, and out of it.

use crate::behaviour::exec::with_vm;
use ignite_e2e::{Host, Vm};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

fn cp(vm: &Vm<'_>, source: &str, destination: &str) -> ignite_e2e::Outcome {
    let named = |end: &str| end.replace("VM:", &format!("{}:", vm.name()));
    Host::shared().does(["cp".to_owned(), named(source), named(destination)])
}

/// A directory of one test, on the host.
fn directory(name: &str) -> PathBuf {
    let path = Host::shared().path(name);
    fs::create_dir(&path).unwrap();
    path
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

pub fn a_large_file_is_the_same_both_ways() {
    with_vm(|vm| {
        let dir = directory("cp-large");
        // Bytes in which a lost or doubled chunk shows.
        let bytes: Vec<u8> = (0..30_000_000_u64).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect();
        fs::write(dir.join("sent"), &bytes).unwrap();
        cp(vm, text(&dir.join("sent")), "VM:/tmp/cp-large").succeeds().prints("");
        cp(vm, "VM:/tmp/cp-large", text(&dir.join("back"))).succeeds();
        assert!(fs::read(dir.join("back")).unwrap() == bytes, "the file came back other than it was sent");
    });
}

pub fn a_tree_keeps_its_modes_and_links_both_ways() {
    with_vm(|vm| {
        let dir = directory("cp-tree");
        let tree = dir.join("tree");
        fs::create_dir_all(tree.join("sub")).unwrap();
        fs::write(tree.join("sub/a"), "content").unwrap();
        fs::set_permissions(tree.join("sub/a"), fs::Permissions::from_mode(0o640)).unwrap();
        fs::set_permissions(tree.join("sub"), fs::Permissions::from_mode(0o750)).unwrap();
        symlink("sub/a", tree.join("link")).unwrap();
        fs::hard_link(tree.join("sub/a"), tree.join("hard")).unwrap();
        // A missing target is made; an existing one is gone into, but for `/.`.
        cp(vm, text(&tree), "VM:/tmp/cp-tree").succeeds();
        cp(vm, text(&tree), "VM:/tmp/cp-tree").succeeds();
        cp(vm, &format!("{}/.", text(&tree)), "VM:/tmp/cp-tree").succeeds();
        vm.sh("cd /tmp/cp-tree && ls && stat -c '%a %h' sub sub/a && readlink link && cat tree/link")
            .prints("hard\nlink\nsub\ntree\n750 2\n640 2\nsub/a\ncontent");
        cp(vm, "VM:/tmp/cp-tree/tree", text(&dir.join("back"))).succeeds();
        let mode = |path: &str| fs::metadata(dir.join(path)).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode("back/sub"), mode("back/sub/a")), (0o750, 0o640));
        assert_eq!(fs::read_link(dir.join("back/link")).unwrap(), Path::new("sub/a"));
        assert_eq!(fs::read_to_string(dir.join("back/hard")).unwrap(), "content");
    });
}

pub fn a_tar_stream_goes_both_ways() {
    with_vm(|vm| {
        vm.sh("mkdir -p /tmp/cp-tar/in && echo content > /tmp/cp-tar/file").succeeds();
        let archive = cp(vm, "VM:/tmp/cp-tar/file", "-").succeeds().stdout.clone();
        let to = format!("{}:/tmp/cp-tar/in", vm.name());
        Host::shared().ignite(["cp", "-", &to]).stdin(archive.clone()).finish().succeeds();
        vm.sh("cat /tmp/cp-tar/in/file").prints("content\n");
        // Cut within the file: what was there stays.
        vm.sh("echo old > /tmp/cp-tar/in/file").succeeds();
        Host::shared().ignite(["cp", "-", &to]).stdin(&archive[..515]).finish().fails();
        vm.sh("cat /tmp/cp-tar/in/file; ls -A /tmp/cp-tar/in").prints("old\nfile\n");
    });
}

pub fn what_cannot_be_copied_is_explained_and_leaves_nothing() {
    with_vm(|vm| {
        let dir = directory("cp-refused");
        let file = dir.join("file");
        fs::write(&file, "content").unwrap();
        cp(vm, "a", "b").fails().complains("no VM reference found in source or destination").gives_a_hint();
        cp(vm, "VM:/a", "VM:/b").fails().complains("only one of source or destination can have VM name/ID");
        cp(vm, text(&file), "VM:/no-such/file").fails().complains("the directory /no-such does not exist");
        cp(vm, text(&dir), "VM:/etc/passwd").fails().complains("cannot overwrite non-directory /etc/passwd");
        cp(vm, "VM:/etc", text(&file)).fails().complains("cannot overwrite non-directory");
        cp(vm, "VM:/no-such", text(&dir)).fails().complains("/no-such");
        cp(vm, "VM:/dev/null", text(&dir)).fails().complains("null: is a device");
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
        assert_eq!(fs::read(&file).unwrap(), b"content");
    });
}
