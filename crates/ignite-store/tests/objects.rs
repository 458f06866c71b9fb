//! Objects appear whole, vanish whole, and keep their names apart, whoever dies in between.

use ignite_api::{API_VERSION, ObjectMeta, Uid, Vm};
use ignite_store::{FileLock, Objects, QueryError, StoreError, lock};
use std::path::Path;
use std::time::Duration;

fn uid(n: u64) -> Uid {
    Uid::from_bytes(n.to_be_bytes())
}

fn vm(n: u64, name: &str) -> Vm {
    Vm {
        api_version: API_VERSION.into(),
        kind: "VM".into(),
        metadata: ObjectMeta { name: name.into(), uid: Some(uid(n)), ..Default::default() },
        spec: Default::default(),
        status: Default::default(),
    }
}

fn store(dir: &Path, vm: &Vm) -> Result<(), StoreError> {
    let vms: Objects<Vm> = Objects::new(dir);
    let draft = vms.draft(vm.metadata.uid.as_ref().expect("a uid"))?;
    vms.publish(draft, vm).map_err(|(_, error)| error)
}

#[test]
fn an_object_is_invisible_until_it_is_published() {
    let dir = tempfile::tempdir().expect("a directory");
    let vms: Objects<Vm> = Objects::new(dir.path());
    let draft = vms.draft(&uid(1)).expect("draft");
    std::fs::write(draft.dir().join("disk.ext4"), b"disk").expect("write");
    assert!(vms.list().expect("list").is_empty());
    assert!(matches!(vms.find("web"), Err(QueryError::NotFound { .. })));
    vms.publish(draft, &vm(1, "web")).map_err(|(_, e)| e).expect("publish");
    assert_eq!(vms.find("web").expect("found"), uid(1));
    assert!(vms.dir(&uid(1)).join("disk.ext4").exists());
}

#[test]
fn a_dropped_draft_leaves_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let vms: Objects<Vm> = Objects::new(dir.path());
    drop(vms.draft(&uid(1)).expect("draft"));
    assert_eq!(std::fs::read_dir(dir.path().join("vm")).expect("list").count(), 0);
}

#[test]
fn a_name_belongs_to_one_object_and_is_free_after_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let vms: Objects<Vm> = Objects::new(dir.path());
    store(dir.path(), &vm(1, "web")).expect("first");
    let error = store(dir.path(), &vm(2, "web")).expect_err("taken");
    assert!(matches!(&error, StoreError::NameTaken { uid: owner, .. } if *owner == uid(1).to_string()), "{error}");
    assert_eq!(vms.uids().expect("uids"), [uid(1)]);
    vms.remove(&uid(1)).expect("remove");
    store(dir.path(), &vm(2, "web")).expect("free again");
}

#[test]
fn names_with_slashes_and_dots_are_kept_apart() {
    let dir = tempfile::tempdir().expect("a directory");
    let names = ["a/b:1", "a%2Fb:1", "..", ".", "a.b"];
    for (n, name) in names.iter().enumerate() {
        store(dir.path(), &vm(n as u64, name)).expect("store");
    }
    let vms: Objects<Vm> = Objects::new(dir.path());
    for (n, name) in names.iter().enumerate() {
        assert_eq!(vms.owner_of_name(name).expect("look up"), Some(uid(n as u64)), "{name}");
    }
}

#[test]
fn a_link_that_a_killed_process_left_takes_no_name() {
    let dir = tempfile::tempdir().expect("a directory");
    store(dir.path(), &vm(1, "web")).expect("store");
    std::fs::remove_dir_all(dir.path().join("vm").join(uid(1).as_str())).expect("the object is lost");
    store(dir.path(), &vm(2, "web")).expect("the name is free");
}

#[test]
fn an_object_that_lost_its_link_is_still_found() {
    let dir = tempfile::tempdir().expect("a directory");
    store(dir.path(), &vm(1, "web")).expect("store");
    std::fs::remove_file(dir.path().join("vm/.names/web")).expect("the link is lost");
    assert_eq!(Objects::<Vm>::new(dir.path()).find("web").expect("found"), uid(1));
}

#[test]
fn a_rename_moves_the_name() {
    let dir = tempfile::tempdir().expect("a directory");
    let vms: Objects<Vm> = Objects::new(dir.path());
    store(dir.path(), &vm(1, "old")).expect("store");
    store(dir.path(), &vm(2, "other")).expect("store");
    vms.rename(&vm(1, "new"), "old").expect("rename");
    assert_eq!(vms.owner_of_name("new").expect("look up"), Some(uid(1)));
    assert_eq!(vms.owner_of_name("old").expect("look up"), None);
    assert!(matches!(vms.rename(&vm(1, "other"), "new"), Err(StoreError::NameTaken { .. })));
}

#[test]
fn debris_is_swept_and_what_is_being_made_is_kept() {
    let dir = tempfile::tempdir().expect("a directory");
    let vms: Objects<Vm> = Objects::new(dir.path());
    let alive = vms.draft(&uid(1)).expect("draft");
    let dead = dir.path().join("vm").join(format!(".new-{}", uid(2)));
    std::fs::create_dir_all(&dead).expect("debris");
    std::fs::write(dead.join("lock"), b"").expect("a lock that nobody holds");
    let gone = dir.path().join("vm").join(format!(".gone-{}", uid(3)));
    std::fs::create_dir_all(gone.join("deep")).expect("debris");
    vms.sweep().expect("sweep");
    assert!(alive.dir().exists() && !dead.exists() && !gone.exists());
}

#[test]
fn a_damaged_object_is_an_error_in_its_place_and_hides_no_other() {
    let dir = tempfile::tempdir().expect("a directory");
    store(dir.path(), &vm(1, "a")).expect("store");
    store(dir.path(), &vm(2, "b")).expect("store");
    std::fs::write(dir.path().join("vm").join(uid(1).as_str()).join("metadata.json"), b"{").expect("damage");
    let list = Objects::<Vm>::new(dir.path()).list().expect("list");
    assert!(matches!(&list[..], [Err(StoreError::Damaged { .. }), Ok(_)]));
}

#[test]
fn a_lock_has_one_holder_and_ends_with_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("lock");
    assert!(!lock::is_held(&path).expect("no file, no holder"));
    let held = FileLock::try_take(&path).expect("take").expect("free");
    assert!(FileLock::try_take(&path).expect("try").is_none());
    assert!(lock::is_held(&path).expect("look"));
    let waited = FileLock::take(&path, Duration::from_millis(50));
    assert!(matches!(waited, Err(StoreError::Locked { .. })));
    drop(held);
    // The waiter that gave up may still be getting, and at once dropping, the lock.
    FileLock::take(&path, Duration::from_secs(5)).expect("free again");
}

#[test]
fn an_update_needs_the_object_and_survives_readers() {
    let dir = tempfile::tempdir().expect("a directory");
    let vms: Objects<Vm> = Objects::new(dir.path());
    assert!(matches!(vms.write(&vm(1, "a")), Err(StoreError::Missing { .. })));
    store(dir.path(), &vm(1, "a")).expect("store");
    let reader = std::thread::spawn({
        let vms = vms.clone();
        move || (0..200).all(|_| vms.read(&uid(1)).is_ok())
    });
    for n in 0..50 {
        let mut vm = vm(1, "a");
        vm.status.starts = n;
        vms.write(&vm).expect("write");
    }
    assert!(reader.join().expect("reader"), "a reader saw half an object");
}
