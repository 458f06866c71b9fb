//! Each message of generation 1 as JSON, frozen: a change here is a change of the protocol.

use ignite_agent_protocol::PROTOCOL_VERSION;
use ignite_agent_protocol::message::*;
use serde::{Serialize, de::DeserializeOwned};
use std::fmt::Debug;

/// The JSON of `message` is `golden`, and is read back as the same message.
fn check<M: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, message: &M, lines: &mut Vec<String>) {
    let json = serde_json::to_string(message).unwrap();
    assert_eq!(serde_json::from_str::<M>(&json).unwrap(), *message, "{name}");
    lines.push(format!("{name}: {json}"));
}

fn process() -> Process {
    Process {
        args: vec!["sh".into(), "-c".into(), "exit 7".into()],
        env: [("A".to_owned(), "1".to_owned())].into(),
        user: "redis:daemon".into(),
        working_dir: "/data".into(),
        tty: true,
        stdin: true,
        size: Some(WindowSize { rows: 24, cols: 80 }),
        stop_signal: Some(3),
    }
}

fn configure() -> Configure {
    Configure {
        hostname: "web".into(),
        root: Root::Overlay {
            base: Disk::Serial("base".into()),
            writable: Disk::Index(1),
            direct_dirs: vec!["/var/lib/docker".into()],
        },
        modules: Some(Disk::Serial("modules".into())),
        volumes: vec![VolumeMount {
            name: "data".into(),
            disk: Disk::Serial("volume-0".into()),
            path: "/data".into(),
            read_only: true,
        }],
        interfaces: vec![Interface {
            mac: "52:54:00:00:00:02".into(),
            name: "eth0".into(),
            addresses: vec!["10.61.0.2/16".into(), "fd00::2/64".into()],
            routes: vec![Route { destination: "0.0.0.0/0".into(), gateway: Some("10.61.0.1".into()) }],
            mtu: Some(1400),
        }],
        dns: Some(Dns {
            servers: vec!["10.61.0.1".into()],
            search: vec!["lan".into()],
            options: vec!["ndots:2".into()],
        }),
        hosts: vec![HostsEntry { address: "10.61.0.3".into(), names: vec!["db".into()] }],
        peers: vec![HostsEntry { address: "10.61.0.4".into(), names: vec!["cache".into()] }],
        files: vec![FileToWrite { path: "/etc/motd".into(), mode: 0o644, uid: 1, gid: 2, contents_hex: "6869".into() }],
        ssh_authorized_keys: vec!["ssh-ed25519 AAAA me".into()],
        unix_ns: 1,
        entropy: "00ff".into(),
        role: Role::Task(process()),
    }
}

#[test]
fn messages_of_generation_1_are_frozen() {
    assert_eq!(PROTOCOL_VERSION, 1, "a new generation gets a golden file of its own");
    let mut lines = Vec::new();
    let l = &mut lines;
    check("host configure", &HostMessage::Configure(Box::new(configure())), l);
    check("host shutdown", &HostMessage::Shutdown { action: ShutdownAction::Poweroff, grace_ms: 10_000 }, l);
    check("host shutdown reboot", &HostMessage::Shutdown { action: ShutdownAction::Reboot, grace_ms: 0 }, l);
    check("host ping", &HostMessage::Ping { nonce: u64::MAX }, l);
    check("host goodbye", &HostMessage::Goodbye, l);
    let peers = vec![HostsEntry { address: "10.61.0.4".into(), names: vec!["cache".into()] }];
    check("host set peers", &HostMessage::SetPeers { peers }, l);
    check("host set clock", &HostMessage::SetClock { unix_ns: -1 }, l);
    let hello = GuestMessage::Hello {
        protocol: 1,
        agent_version: "0.11.0".into(),
        kernel_release: "6.1.0".into(),
        uptime_ms: 900,
    };
    check("guest hello", &hello, l);
    check("guest configured", &GuestMessage::Configured { uptime_ms: 950 }, l);
    let failed = GuestMessage::ConfigureFailed { step: "mount".into(), message: "no".into(), exit_code: 125 };
    check("guest configure failed", &failed, l);
    for cause in [ExitingCause::TaskExited, ExitingCause::Poweroff, ExitingCause::Reboot] {
        check("guest exiting", &GuestMessage::Exiting { cause }, l);
    }
    check("guest pong", &GuestMessage::Pong { nonce: 1 }, l);
    check("guest log", &GuestMessage::Log { level: "warn".into(), message: "x".into() }, l);
    check("root private", &Root::Private { disk: Disk::Index(0) }, l);
    let base = Disk::Pmem(0);
    let root = Root::Overlay { base, writable: Disk::Index(0), direct_dirs: Vec::new() };
    check("root on persistent memory", &root, l);
    check("role machine", &Role::Machine { args: vec!["/sbin/init".into()], env: Default::default() }, l);
    check("role idle", &Role::Idle, l);
    check("open exec", &Open::Exec(process()), l);
    check("open exec, least", &Open::Exec(Process { args: vec!["id".into()], ..Process::default() }), l);
    check("open copy out", &Open::CopyOut { path: "/etc".into(), follow: true }, l);
    check("open copy in", &Open::CopyIn { path: "/srv".into(), keep_owner: true }, l);
    check("open connect", &Open::Connect { port: 22 }, l);
    check("open stat", &Open::Stat { path: "/etc".into() }, l);
    let stat = FileStat { mode: 0o120_777, size: 4, link_target: Some("/run".into()) };
    check("opened", &Opened { pid: Some(12), stat: Some(stat), usage: None }, l);
    check("open usage", &Open::Usage, l);
    let usage = GuestUsage {
        cpu_busy_ms: 1,
        cpus: 2,
        memory_total: 3,
        memory_available: 4,
        net_received: 5,
        net_sent: 6,
        disk_read: 7,
        disk_written: 8,
        processes: 9,
    };
    check("opened, usage", &Opened { usage: Some(usage), ..Opened::default() }, l);
    check("opened, least", &Opened::default(), l);
    check("request signal", &StreamRequest::Signal { signal: 15 }, l);
    check("request resize", &StreamRequest::Resize(WindowSize { rows: 50, cols: 132 }), l);
    check("exit exited", &StreamExit::Exited { code: 7 }, l);
    check("exit signaled", &StreamExit::Signaled { signal: 9 }, l);
    check("exit failed", &StreamExit::Failed { code: 127, message: "not found".into() }, l);
    insta::assert_snapshot!("generation_1", lines.join("\n"));
}

#[test]
fn fields_of_a_newer_host_are_ignored_and_missing_ones_defaulted() {
    let open: Open = serde_json::from_str(r#"{"type":"exec","args":["id"],"novelty":{"x":[1]}}"#).unwrap();
    assert_eq!(open, Open::Exec(Process { args: vec!["id".into()], ..Process::default() }));
    let least: Configure =
        serde_json::from_str(r#"{"hostname":"a","root":{"private":{"disk":{"serial":"r"}}},"role":"idle"}"#).unwrap();
    assert_eq!(least.interfaces, []);
}
