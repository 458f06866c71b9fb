//! Machines: the image's own init beside the agent. What is needed is said in `boot.rs`.

#![allow(clippy::print_stderr, reason = "what was skipped and what was measured is said in the output")]

mod guest;

use guest::{Disks, Guest, Kernel, configuration, read_all, sh};
use ignite_agent_protocol::message::{ExitingCause, GuestMessage, HostMessage, Role, ShutdownAction};

#[tokio::test]
async fn a_machine_runs_its_own_init_beside_the_agent() {
    let Some(kernel) = Kernel::from_environment("machine") else { return };
    let inittab = "::sysinit:/bin/mount -t tmpfs none /run\n::once:/bin/sh -c 'env >/run/env'\n::shutdown:/bin/sh -c 'echo down >/root/down'\n";
    let disks = Disks::make(&kernel, &[("etc/inittab", inittab, 0o644)]);
    let role = || Role::Machine { args: vec!["/sbin/init".into()], env: [("container".into(), "no".into())].into() };
    let mut guest = Guest::boot(&kernel, &disks).await;
    let configured = guest.configure(configuration(role())).await;
    assert!(matches!(configured, GuestMessage::Configured { .. }), "{configured:?}");
    let outcome = guest.sh("readlink /proc/1/exe; tr '\\0' . </proc/$PPID/cmdline; echo; cat /proc/$PPID/oom_score_adj; cat /proc/self/oom_score_adj; while ! [ -s /run/env ]; do sleep 1; done; grep -c container /run/env").await;
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    assert_eq!(lines[0], "/bin/busybox", "{outcome:?}");
    assert_eq!(lines[1..], ["@ignite-agent.", "-1000", "0", "0"], "{outcome:?}");
    guest.connection.send(&HostMessage::Shutdown { action: ShutdownAction::Poweroff, grace_ms: 60_000 }).unwrap();
    assert_eq!(guest.next_event().await, Some(GuestMessage::Exiting { cause: ExitingCause::Poweroff }));
    guest.wait_for_end().await;

    let mut guest = Guest::boot(&kernel, &disks).await;
    let task = guest.connection.task_stream().unwrap();
    guest.configure(configuration(Role::Task(sh("cat /root/down")))).await;
    assert_eq!(read_all(task).await.stdout, "down\n", "init ran its own shutdown");
}

#[tokio::test]
async fn systemd_runs_beside_the_agent_and_stops_cleanly() {
    let Some(kernel) = Kernel::from_environment("systemd") else { return };
    let Some(base) = std::env::var_os("IGNITE_TEST_SYSTEMD_BASE") else {
        eprintln!("skipped systemd: IGNITE_TEST_SYSTEMD_BASE, an ext4 image of a Debian with systemd, is not set");
        return;
    };
    let disks = Disks::on_base(&kernel, base.as_ref());
    let machine = || configuration(Role::Machine { args: vec!["/sbin/init".into()], env: Default::default() });
    let mut guest = Guest::boot(&kernel, &disks).await;
    guest.configure(machine()).await;
    let state =
        guest.sh("while [ ! -S /run/systemd/private ]; do sleep 1; done; systemctl is-system-running --wait").await;
    eprintln!("systemd after {:.1?}: {state:?}", guest.started.elapsed());
    let outcome = guest
        .sh("systemctl --failed --no-legend; systemd-detect-virt -c; tr '\\0' . </proc/$PPID/cmdline; hostname")
        .await;
    assert_eq!(outcome.stdout, "none\n@ignite-agent.vm\n", "{outcome:?}");
    guest.sh("mkdir -p /var/log/journal; journalctl --flush").await;
    guest.connection.send(&HostMessage::Shutdown { action: ShutdownAction::Poweroff, grace_ms: 120_000 }).unwrap();
    assert_eq!(guest.next_event().await, Some(GuestMessage::Exiting { cause: ExitingCause::Poweroff }));
    guest.wait_for_end().await;

    let mut guest = Guest::boot(&kernel, &disks).await;
    let task = guest.connection.task_stream().unwrap();
    guest.configure(configuration(Role::Task(sh("journalctl -o cat | tail -n 8")))).await;
    let journal = read_all(task).await;
    assert!(journal.stdout.contains("Journal stopped"), "{journal:?}");
}
