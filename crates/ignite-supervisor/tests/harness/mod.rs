//! A VM in directories of its own over the scripted VMM, and the guest's end of the protocol.

#![allow(dead_code, reason = "each test program uses its part")]

use ignite_agent_protocol::codec::{Assembler, Decoder, put_control, put_frame};
use ignite_agent_protocol::frame::{Kind, MAX_CONTROL, TASK_STREAM};
use ignite_agent_protocol::message::*;
use ignite_api::vm::VmStatus;
use ignite_api::{API_VERSION, ObjectMeta, Phase, Uid, Vm};
use ignite_store::{FileLock, Objects, Paths};
use ignite_supervisor::control::{self, ControlReply, ControlRequest, Ending};
use ignite_supervisor::launch::{LaunchBoot, LaunchNetwork};
use ignite_supervisor::supervise::ReadyPipe;
use ignite_supervisor::{Launch, supervise};
use ignite_vmm::fake::{FakeDriver, FakeGuest};
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// Longest a whole life may take.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// A VM in `Starting`, as the engine leaves it, in directories of its own.
pub struct Host {
    dir: tempfile::TempDir,
    /// What the supervisor is told.
    pub launch: Launch,
}

pub fn task(args: &[&str]) -> Role {
    Role::Task(Process {
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        env: Default::default(),
        user: String::new(),
        working_dir: String::new(),
        tty: false,
        stdin: true,
        size: None,
        stop_signal: None,
    })
}

pub fn machine() -> Role {
    Role::Machine { args: vec!["/sbin/init".into()], env: Default::default() }
}

impl Host {
    pub fn new(role: Role) -> Host {
        let dir = tempfile::tempdir().expect("a directory");
        let uid = Uid::parse("00000000000000ab").expect("a uid");
        let vms: Objects<Vm> = Objects::new(dir.path());
        let vm = Vm {
            api_version: API_VERSION.into(),
            kind: "VM".into(),
            metadata: ObjectMeta { name: "test".into(), uid: Some(uid.clone()), ..Default::default() },
            spec: Default::default(),
            status: VmStatus { phase: Phase::Starting, ..Default::default() },
        };
        let draft = vms.draft(&uid).expect("a draft");
        vms.publish(draft, &vm).map_err(|(_, error)| error).expect("publish");
        let run_dir = dir.path().join("run");
        std::fs::create_dir_all(Paths::new(dir.path(), &run_dir).run_vm(&uid)).expect("run directory");
        let launch = Launch {
            uid,
            name: "test".into(),
            data_dir: dir.path().to_owned(),
            run_dir,
            driver: "fake".into(),
            program: "fake".into(),
            boot: LaunchBoot {
                kernel: PathBuf::from("vmlinux"),
                initramfs: PathBuf::from("initramfs"),
                cmdline: String::new(),
                vcpu_count: 1,
                mem_size_mib: 128,
                has_huge_pages: false,
                cpu_template: None,
                drives: Vec::new(),
                isolation: ignite_api::vm::Isolation::Auto,
            },
            network: LaunchNetwork { mode: "none".into(), ..LaunchNetwork::default() },
            configure: Configure {
                hostname: "test".into(),
                root: Root::Private { disk: Disk::Index(0) },
                modules: None,
                volumes: Vec::new(),
                interfaces: Vec::new(),
                dns: None,
                hosts: Vec::new(),
                peers: Vec::new(),
                files: Vec::new(),
                ssh_authorized_keys: Vec::new(),
                unix_ns: 0,
                entropy: String::new(),
                role,
            },
            is_foreground: false,
            auto_remove: false,
            health: None,
            restart_policy: Default::default(),
            stop_timeout_ms: 5_000,
            boot_timeout_ms: 10_000,
        };
        Host { dir, launch }
    }

    pub fn paths(&self) -> Paths {
        Paths::new(&self.launch.data_dir, &self.launch.run_dir)
    }

    pub fn status(&self) -> VmStatus {
        Objects::<Vm>::new(self.dir.path()).read(&self.launch.uid).expect("the VM").status
    }

    /// Runs the VM to its end; meanwhile `client` does as it likes.
    pub async fn run_with<C>(&self, driver: FakeDriver, client: impl FnOnce(PathBuf) -> C) -> (Ending, C::Output)
    where
        C: Future,
    {
        self.run_with_deadline(DEADLINE, driver, client).await
    }

    /// The same, of a life that takes longer.
    pub async fn run_with_deadline<C>(
        &self,
        deadline: Duration,
        driver: FakeDriver,
        client: impl FnOnce(PathBuf) -> C,
    ) -> (Ending, C::Output)
    where
        C: Future,
    {
        let socket = self.paths().control_socket(&self.launch.uid);
        let driver = Arc::new(driver);
        let liveness = self.paths().vm_liveness(&self.launch.uid);
        let liveness = FileLock::try_take(&liveness).expect("lock").expect("nobody has it");
        let supervised = supervise(self.launch.clone(), driver.clone(), liveness, ReadyPipe::new(None));
        let client = client(socket);
        let both = async { tokio::join!(supervised, client) };
        let result = tokio::time::timeout(deadline, both).await.expect("the VM ends");
        assert_eq!(driver.running(), 0, "a guest is left");
        assert!(!self.paths().run_vm(&self.launch.uid).exists(), "the run directory is left");
        result
    }

    pub async fn run(&self, driver: FakeDriver) -> Ending {
        self.run_with(driver, |_| async {}).await.0
    }
}

/// Asks as soon as the socket is there.
pub async fn ask(socket: &std::path::Path, request: &ControlRequest) -> (ControlReply, control::Channel) {
    loop {
        match control::request(socket, request).await {
            Ok(answer) => return answer,
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

/// The guest's end of the protocol.
pub struct Guest {
    agent: DuplexStream,
    decoder: Decoder,
}

pub enum Heard {
    Control(HostMessage),
    Data(Vec<u8>),
    Eof,
    Open(u32),
    Other,
    Gone,
}

impl Guest {
    pub async fn hello(guest: &mut FakeGuest) -> Guest {
        let agent = std::mem::replace(&mut guest.agent, tokio::io::duplex(1).0);
        let mut guest = Guest { agent, decoder: Decoder::default() };
        guest
            .say(&GuestMessage::Hello {
                protocol: ignite_agent_protocol::PROTOCOL_VERSION,
                agent_version: "test".into(),
                kernel_release: "6.1.0".into(),
                uptime_ms: 1,
            })
            .await;
        guest
    }

    pub async fn configured(guest: &mut FakeGuest) -> Guest {
        let mut guest = Guest::hello(guest).await;
        assert!(matches!(guest.hear().await, Heard::Control(HostMessage::Configure(_))));
        guest.say(&GuestMessage::Configured { uptime_ms: 2 }).await;
        guest
    }

    pub async fn say(&mut self, message: &GuestMessage) {
        let mut out = Vec::new();
        put_control(&mut out, message).expect("json");
        let _ = self.agent.write_all(&out).await;
    }

    pub async fn frame(&mut self, stream: u32, kind: Kind, channel: u8, payload: &[u8]) {
        let mut out = Vec::new();
        put_frame(&mut out, stream, kind, channel, payload);
        let _ = self.agent.write_all(&out).await;
    }

    /// Sends bytes as they are; `false`: nobody takes them any more.
    pub async fn raw(&mut self, bytes: &[u8]) -> bool {
        self.agent.write_all(bytes).await.is_ok()
    }

    pub async fn exit_task(&mut self, exit: StreamExit) {
        self.frame(TASK_STREAM, Kind::Close, 0, &serde_json::to_vec(&exit).expect("json")).await;
        self.say(&GuestMessage::Exiting { cause: ExitingCause::TaskExited }).await;
    }

    pub async fn hear(&mut self) -> Heard {
        let mut parts = Assembler::new(MAX_CONTROL);
        loop {
            if let Some((header, payload)) = self.decoder.next_frame().expect("a frame") {
                match header.kind {
                    Kind::Control => {
                        if let Some(message) = parts.push(header.channel, payload).expect("a message") {
                            return Heard::Control(message);
                        }
                    }
                    Kind::Data => return Heard::Data(payload.to_vec()),
                    Kind::Eof => return Heard::Eof,
                    Kind::Open => return Heard::Open(header.stream),
                    _ => return Heard::Other,
                }
                continue;
            }
            match self.agent.read(self.decoder.space()).await {
                Ok(0) | Err(_) => return Heard::Gone,
                Ok(count) => self.decoder.filled(count),
            }
        }
    }

    pub async fn hear_shutdown(&mut self) {
        while !matches!(self.hear().await, Heard::Control(HostMessage::Shutdown { .. })) {}
    }
}
