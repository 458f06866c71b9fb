//! The two traits every VMM implements, and what they exchange.

use crate::boot_spec::{Accelerator, BootSpec, Carrier, DriveLocator};
use crate::counters::VmmCounters;
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::path::PathBuf;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

/// A kind of VMM.
#[async_trait]
pub trait Driver: Send + Sync {
    /// Name in the driver table: `qemu`, `firecracker`, `fake`.
    fn name(&self) -> &'static str;
    /// Where its program is. An error says what to install.
    fn program(&self) -> Result<PathBuf, VmmError>;
    /// What it can do on this host; asked before the host is touched. An error says what is missing and what to do.
    fn capabilities(&self) -> Result<Capabilities, VmmError>;
    /// The program's version as it says it. Starts the program (tens of milliseconds): for `doctor`, not for a start.
    fn version(&self) -> Result<String, VmmError>;
    /// Boots a machine: returns when the VMM runs the guest, not when the guest is up. An `Err` leaves nothing running.
    ///
    /// The VMM dies with the *thread* that polls this future (`PR_SET_PDEATHSIG` follows threads): call it from the main
    /// thread's current-thread runtime, or from a thread that lives as long as the machine.
    async fn boot(&self, spec: &BootSpec, dir: &RunDir) -> Result<Box<dyn Machine>, VmmError>;
}

/// What a driver can do here.
#[derive(Debug, Clone)]
pub struct Capabilities {
    /// What will execute the guest.
    pub accelerator: Accelerator,
    /// Why it is not KVM: one line for the user; absent with KVM.
    pub accelerator_note: Option<String>,
    /// Path of the program.
    pub program: PathBuf,
    /// How guests find drives.
    pub drive_locator: DriveLocator,
    /// What may carry a NIC's frames.
    pub carriers: Vec<Carrier>,
    /// The agent's channel is a virtio socket; else it is a virtio serial port.
    pub needs_vsock: bool,
    /// Guests find devices by what the firmware's tables say; else they are named on the kernel's command line.
    pub describes_devices: bool,
    /// It keeps a NIC's traffic to its limits.
    pub limits_traffic: bool,
    /// It shows a guest read-only files as persistent memory.
    pub has_pmem: bool,
    /// It backs a guest's memory by huge pages.
    pub has_huge_pages: bool,
    /// It has templates of what a guest sees of the processor.
    pub has_cpu_templates: bool,
    /// Most virtual CPUs of a machine.
    pub max_vcpu_count: u8,
}

/// Directory for the run's own files (logs of the VMM, sockets where a descriptor cannot do); the caller makes it with
/// mode 0700 and removes it when the machine is gone.
#[derive(Debug, Clone)]
pub struct RunDir(pub PathBuf);

/// The byte stream to `ignite-init`.
pub type AgentChannel = Box<dyn AsyncReadWrite>;
/// The serial console: reads what the guest prints, writes what someone types.
pub type Console = Box<dyn AsyncReadWrite>;

/// A bidirectional byte stream.
pub trait AsyncReadWrite: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> AsyncReadWrite for T {}

/// A running machine. Dropping it kills the VMM.
#[async_trait]
pub trait Machine: Send {
    /// Pid of the VMM process; `None` once it has been reaped, and for the fake.
    fn pid(&self) -> Option<u32>;
    /// The agent's stream; `None` when it has been taken.
    fn take_agent_channel(&mut self) -> Option<AgentChannel>;
    /// The console's stream; `None` when it has been taken. Nobody reading it must never block the guest for good.
    fn take_console(&mut self) -> Option<Console>;
    /// Each isolation measure and `applied`, or why it could not be.
    fn isolation(&self) -> BTreeMap<String, String>;
    /// Presses the power button, where there is one; returns at once. The agent is asked first, this comes second.
    async fn request_shutdown(&mut self) -> Result<(), VmmError>;
    /// Ends the VMM now; idempotent.
    async fn kill(&mut self) -> Result<(), VmmError>;
    /// Waits for the end and says why. Cancel-safe, and gives the same answer again when asked again.
    async fn wait(&mut self) -> Exit;
    /// What the VMM itself counts, as it last said; `None` where it says nothing of that.
    fn counters(&self) -> Option<watch::Receiver<VmmCounters>> {
        None
    }
    /// What stops and continues the virtual CPUs; `None` where the VMM cannot.
    fn pauser(&mut self) -> Option<&mut dyn Pause> {
        None
    }
}

/// Stops and continues the virtual CPUs of a machine; memory and devices stay. Both are idempotent.
#[async_trait]
pub trait Pause: Send {
    /// Returns when no virtual CPU runs any more.
    async fn pause(&mut self) -> Result<(), VmmError>;
    /// Returns when they run again.
    async fn resume(&mut self) -> Result<(), VmmError>;
}

/// How a machine ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// The cause.
    pub cause: ExitCause,
    /// What the VMM said last, sanitised, at most a few lines; empty when it ended as it should.
    pub detail: String,
}

impl Exit {
    /// The same end, told by the limit that the VMM went over: what a crash was for. Ends that the guest or the caller
    /// chose stay what they are.
    pub fn with_breach(self, breach: Option<crate::jail::Breach>) -> Exit {
        match (self.cause, breach) {
            (ExitCause::VmmCrash, Some(breach)) => Exit { cause: ExitCause::OverLimit, detail: breach.to_string() },
            _ => self,
        }
    }
}

/// Why a machine ended, as far as its VMM can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitCause {
    /// The guest powered off.
    GuestPoweroff,
    /// The guest reset itself: reboot, or a panic that nothing tells apart.
    GuestReset,
    /// The guest kernel panicked.
    GuestPanic,
    /// `kill` was called.
    Killed,
    /// The VMM went over a limit on memory, processes or threads and was stopped: which one in `detail`.
    OverLimit,
    /// The VMM died on its own: exit status or signal in `detail`.
    VmmCrash,
}

/// What a driver failed at.
#[derive(Debug, Error)]
pub enum VmmError {
    /// The program is not installed.
    #[error("{program} is not installed")]
    ProgramMissing {
        /// The program.
        program: String,
        /// What to type.
        hint: String,
    },
    /// The host cannot do what is needed.
    #[error("{what}")]
    Unsupported {
        /// What cannot be done.
        what: String,
        /// What to do instead.
        hint: String,
    },
    /// The VMM works here, but cannot run this VM.
    #[error("{vmm}: {why}")]
    Unfit {
        /// The driver.
        vmm: String,
        /// What it lacks.
        why: String,
        /// What to do instead.
        hint: String,
    },
    /// The [`BootSpec`] breaks a rule of its fields.
    #[error("{field}: {reason}")]
    InvalidSpec {
        /// The field.
        field: String,
        /// The rule.
        reason: String,
    },
    /// A file the machine needs cannot be opened.
    #[error("open {path}")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The process could not be started.
    #[error("start {program}")]
    Spawn {
        /// The program.
        program: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The process could not be jailed, or its jail not started.
    #[error("start {program} in its jail")]
    Jail {
        /// The program.
        program: String,
        /// Why.
        #[source]
        source: crate::jail::JailError,
    },
    /// The VMM ended, or refused, while it was being set up.
    #[error("{vmm} did not start: {detail}")]
    BootFailed {
        /// The driver.
        vmm: &'static str,
        /// What it said last.
        detail: String,
    },
    /// Talking to the VMM failed.
    #[error("{vmm}: {request}: {detail}")]
    Control {
        /// The driver.
        vmm: &'static str,
        /// What was asked.
        request: String,
        /// What came back.
        detail: String,
    },
    /// A named deadline passed.
    #[error("{what} took longer than {seconds} s")]
    Deadline {
        /// What was waited for.
        what: &'static str,
        /// The limit.
        seconds: u64,
    },
}
