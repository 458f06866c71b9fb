//! The embedded program boots on a base in persistent memory, and reads it in place. Needs what `boot.rs` needs.

#![allow(clippy::print_stderr, reason = "what was skipped and what was measured is said in the output")]

mod guest;

use guest::{Base, Disks, Guest, Kernel, configuration};
use ignite_agent_protocol::message::{Disk, GuestMessage, HostMessage, Role, Root, ShutdownAction};

#[tokio::test]
async fn a_base_in_persistent_memory_is_read_in_place_and_never_written() {
    let Some(kernel) = Kernel::from_environment("persistent memory") else { return };
    let disks = Disks::make(&kernel, &[("srv/base", "of the base", 0o644)]);
    let before = std::fs::read(disks.path("base")).unwrap();
    let mut guest = Guest::boot_with(&kernel, &disks, Base::Pmem).await;
    let mut configure = configuration(Role::Idle);
    let Root::Overlay { base, .. } = &mut configure.root else { panic!("no overlay") };
    *base = Disk::Pmem(0);
    let configured = guest.configure(configure).await;
    assert!(matches!(configured, GuestMessage::Configured { .. }), "{configured:?}; {}", guest.console_text());
    for (script, expected) in [
        ("cat /srv/base; stat -f -c %t /", "of the base794c7630\n"),
        ("echo changed > /srv/base; sync; cat /srv/base", "changed\n"),
        ("cat /sys/block/pmem0/queue/dax", "1\n"),
        ("grep dax /proc/fs/ext4/pmem0/options; head -n 1 /proc/fs/ext4/pmem0/options", "dax=always\nro\n"),
        ("ls /sys/block | grep -c vd", "2\n"),
    ] {
        let outcome = guest.sh(script).await;
        assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), (expected, ""), "{script}");
    }
    guest.connection.send(&HostMessage::Shutdown { action: ShutdownAction::Poweroff, grace_ms: 1000 }).unwrap();
    guest.wait_for_end().await;
    assert!(before == std::fs::read(disks.path("base")).unwrap(), "the base was written to");
}
