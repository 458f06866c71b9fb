//! Messages: the JSON payloads of control and stream frames.
//!
//! Unknown fields are ignored and missing optional ones defaulted, so that a field can be added within one
//! [`crate::PROTOCOL_VERSION`]. Paths are guest paths, always absolute.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Control message, host to guest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum HostMessage {
    /// Become this VM; sent once after `Hello`.
    Configure(Box<Configure>),
    /// End in an orderly way: a task gets SIGTERM, a machine's init is told to power off.
    Shutdown {
        /// What to do once everything has stopped.
        action: ShutdownAction,
        /// Time the task has before SIGKILL, in milliseconds.
        grace_ms: u64,
    },
    /// Answered by `Pong` with the same number.
    Ping {
        /// Any number.
        nonce: u64,
    },
    /// Answer to `Exiting` and `ConfigureFailed`, sent by [`crate::client`] itself: everything before it has arrived. The guest waits for it,
    /// briefly, before it stops the machine, because output still in flight is lost with the machine.
    Goodbye,
    /// Set the guest's clock (after a pause or a restore).
    SetClock {
        /// Nanoseconds since the Unix epoch.
        unix_ns: i64,
    },
    /// The names of the guest's networks have changed: replaces what `Configure` gave as `peers`.
    SetPeers {
        /// Who is there now.
        peers: Vec<HostsEntry>,
    },
}

/// How a guest ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ShutdownAction {
    /// Power the machine off.
    Poweroff,
    /// Restart it; the supervisor decides whether a new VMM process follows.
    Reboot,
}

/// Control message, guest to host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum GuestMessage {
    /// First message on the channel.
    Hello {
        /// The guest's [`crate::PROTOCOL_VERSION`].
        protocol: u32,
        /// Version of `ignite-init`.
        agent_version: String,
        /// `uname -r`.
        kernel_release: String,
        /// Milliseconds since the kernel started (CLOCK_BOOTTIME).
        uptime_ms: u64,
    },
    /// `Configure` is done: the task has started, or the image's init is about to.
    Configured {
        /// Milliseconds since the kernel started.
        uptime_ms: u64,
    },
    /// `Configure` failed; the guest powers off after this.
    ConfigureFailed {
        /// What was being done, e.g. `mount root disk`.
        step: String,
        /// Why it failed.
        message: String,
        /// Exit code the task would have had in Docker (125 set-up, 126 not executable, 127 not found).
        exit_code: u8,
    },
    /// The guest is about to end, of its own will or as asked.
    Exiting {
        /// Why.
        cause: ExitingCause,
    },
    /// Answer to `Ping`.
    Pong {
        /// The `Ping`'s number.
        nonce: u64,
    },
    /// A line for the VM's log, at most 4 KiB.
    Log {
        /// `error`, `warn`, `info` or `debug`.
        level: String,
        /// One line of text, to be sanitised before it is printed.
        message: String,
    },
}

/// Why a guest ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ExitingCause {
    /// The task is over; its code was in the `Close` of the task's stream.
    TaskExited,
    /// `poweroff` in the guest, or asked by `Shutdown`.
    Poweroff,
    /// `reboot` in the guest.
    Reboot,
}

/// Everything a booted, nameless guest needs to become one VM.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Configure {
    /// Host name; also in `/etc/hostname` and `/etc/hosts`.
    pub hostname: String,
    /// The root file system.
    pub root: Root,
    /// Read-only disk with a `lib/modules/<release>` tree, mounted at `/lib/modules/<release>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modules: Option<Disk>,
    /// Further disks to mount below the root, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<VolumeMount>,
    /// Network interfaces in guest order (`eth0` first).
    #[serde(default)]
    pub interfaces: Vec<Interface>,
    /// Name resolution; absent: `/etc/resolv.conf` is left as the image has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<Dns>,
    /// Further lines of `/etc/hosts`: address and names.
    #[serde(default)]
    pub hosts: Vec<HostsEntry>,
    /// Names of the guest's networks as they are now; `SetPeers` replaces them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<HostsEntry>,
    /// Files to write before anything runs.
    #[serde(default)]
    pub files: Vec<FileToWrite>,
    /// Lines added to `/root/.ssh/authorized_keys`.
    #[serde(default)]
    pub ssh_authorized_keys: Vec<String>,
    /// Wall clock, nanoseconds since the Unix epoch; 0: leave the clock.
    #[serde(default)]
    pub unix_ns: i64,
    /// Host entropy, hex, mixed into the guest's pool. Never logged.
    #[serde(default)]
    pub entropy: String,
    /// What to run.
    pub role: Role,
}

/// How the guest finds a disk it was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Disk {
    /// By `/sys/block/*/serial`.
    Serial(String),
    /// By position: 0 is the first virtio disk (`vda`).
    Index(u32),
    /// By position among the persistent memories: 0 is `pmem0`. Mounted with DAX where the kernel can.
    Pmem(u32),
}

/// A disk to mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeMount {
    /// Its name, for messages.
    pub name: String,
    /// The disk; which file system it has is found out.
    pub disk: Disk,
    /// Absolute path, made when missing; symbolic links in it are resolved inside the root.
    pub path: String,
    /// Mount it read-only.
    #[serde(default)]
    pub read_only: bool,
}

/// The root file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Root {
    /// Overlayfs of a shared read-only base and a private writable ext4.
    Overlay {
        /// Read-only ext4 of the image.
        base: Disk,
        /// Writable ext4; `upper`, `work` and `direct` are made on it.
        writable: Disk,
        /// Directories put on the writable ext4 itself, because software stacks its own overlay there.
        #[serde(default)]
        direct_dirs: Vec<String>,
    },
    /// One private writable ext4.
    Private {
        /// The disk.
        disk: Disk,
    },
}

/// A network interface of the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Interface {
    /// MAC address that identifies it, `aa:bb:cc:dd:ee:ff`.
    pub mac: String,
    /// Name it gets, e.g. `eth0`.
    pub name: String,
    /// Addresses with prefix length, e.g. `10.61.0.2/16`.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// Routes in order.
    #[serde(default)]
    pub routes: Vec<Route>,
    /// Maximum transmission unit; absent: the device's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
}

/// A route out of an interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    /// Destination with prefix length; `0.0.0.0/0` or `::/0` for the default.
    pub destination: String,
    /// Next hop; absent: on-link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
}

/// Contents of `/etc/resolv.conf`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Dns {
    /// `nameserver` lines.
    #[serde(default)]
    pub servers: Vec<String>,
    /// `search` domains.
    #[serde(default)]
    pub search: Vec<String>,
    /// `options`.
    #[serde(default)]
    pub options: Vec<String>,
}

/// A line of `/etc/hosts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostsEntry {
    /// IP address.
    pub address: String,
    /// Names of it.
    pub names: Vec<String>,
}

/// A file to write into the root file system; parents are made with mode 0755.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileToWrite {
    /// Absolute path; symbolic links in it are resolved inside the root.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Contents, hex.
    pub contents_hex: String,
}

/// Task or machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// `ignite-init` stays PID 1, runs this and ends the VM with its exit code.
    Task(Process),
    /// `ignite-init` forks the agent and executes the image's init as PID 1.
    Machine {
        /// Arguments; the first is the program, e.g. `/sbin/init`.
        args: Vec<String>,
        /// Environment of init.
        #[serde(default)]
        env: BTreeMap<String, String>,
    },
    /// Only the agent: nothing runs until an `Open` asks for it.
    Idle,
}

/// A process to run in the guest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    /// Arguments; the first is searched in `PATH` of `env` when it has no slash.
    pub args: Vec<String>,
    /// The whole environment; `PATH`, `HOME` and, with a terminal, `TERM` are added when missing, as Docker does.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// `user`, `uid`, `user:group` or `uid:gid`, looked up in the guest's `/etc/passwd` and `/etc/group`; empty: root.
    #[serde(default)]
    pub user: String,
    /// Working directory, made when missing; empty: `/`.
    #[serde(default)]
    pub working_dir: String,
    /// Give it a terminal (a pty); standard error then comes on the standard output channel.
    #[serde(default)]
    pub tty: bool,
    /// The host will send standard input; otherwise it is `/dev/null` (or, with a terminal, never written to).
    #[serde(default)]
    pub stdin: bool,
    /// Initial size of the terminal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<WindowSize>,
    /// Linux signal that asks it to stop (the image's `StopSignal`); absent: SIGTERM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<u8>,
}

/// Size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Columns.
    pub cols: u16,
}

/// Asks the guest to start something on a new stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Open {
    /// Run a process in the VM's root.
    Exec(Process),
    /// Read `path` as a tar stream on STDOUT (its base name is the first member).
    CopyOut {
        /// Absolute guest path.
        path: String,
        /// Follow `path` itself when it is a symbolic link.
        #[serde(default)]
        follow: bool,
    },
    /// Extract a tar stream from STDIN into the directory `path`, never outside of it.
    CopyIn {
        /// Absolute guest path of an existing directory.
        path: String,
        /// Keep the archive's numeric owners; otherwise everything belongs to root.
        #[serde(default)]
        keep_owner: bool,
    },
    /// Connect to a TCP port on the guest's loopback; STDIN and STDOUT are the connection's two directions.
    Connect {
        /// Port.
        port: u16,
    },
    /// What `path` is; the answer is in `Opened`.
    Stat {
        /// Absolute guest path; the last component is not followed.
        path: String,
    },
    /// What the guest uses; the answer is in `Opened`.
    Usage,
}

/// Answer to an `Open` that succeeded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Opened {
    /// Guest pid of an `Exec`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Answer to a `Stat`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stat: Option<FileStat>,
    /// Answer to a `Usage`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<GuestUsage>,
}

/// What a guest uses, as its own kernel counts it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GuestUsage {
    /// Time its CPUs were not idle since boot, all together, in milliseconds.
    pub cpu_busy_ms: u64,
    /// CPUs that it has.
    pub cpus: u32,
    /// Memory its kernel manages, in bytes: somewhat less than the VM was given.
    pub memory_total: u64,
    /// What new programs could have of it, caches given up (`MemAvailable`).
    pub memory_available: u64,
    /// Bytes received on all interfaces but the loopback.
    pub net_received: u64,
    /// Bytes sent there.
    pub net_sent: u64,
    /// Bytes read from virtual disks.
    pub disk_read: u64,
    /// Bytes written to them.
    pub disk_written: u64,
    /// Processes, kernel threads included.
    pub processes: u32,
}

/// What a guest path is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileStat {
    /// `st_mode`: type and permission bits.
    pub mode: u32,
    /// Bytes.
    pub size: u64,
    /// Target, of a symbolic link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_target: Option<String>,
}

/// A request about a running stream, host to guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum StreamRequest {
    /// Send the process group this Linux signal number.
    Signal {
        /// Number, 1 to 64.
        signal: u8,
    },
    /// The terminal's new size.
    Resize(WindowSize),
}

/// How a stream ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum StreamExit {
    /// The process exited, or the copy is complete (code 0).
    Exited {
        /// Exit code.
        code: u8,
    },
    /// The process was killed by a signal (a shell would say 128 + signal).
    Signaled {
        /// Linux signal number.
        signal: u8,
    },
    /// It could not be started or done.
    Failed {
        /// Docker's code for it: 125 set-up, 126 cannot be executed, 127 not found.
        code: u8,
        /// One line saying why.
        message: String,
    },
}

impl StreamExit {
    /// The code a shell, and `docker run`, would exit with.
    pub fn exit_code(&self) -> u8 {
        match self {
            StreamExit::Exited { code } | StreamExit::Failed { code, .. } => *code,
            StreamExit::Signaled { signal } => signal.saturating_add(128),
        }
    }
}
