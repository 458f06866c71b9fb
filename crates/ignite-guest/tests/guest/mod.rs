//! A guest under QEMU's software emulation, started by hand: an initramfs, disks made by mke2fs, and the client.

#![allow(dead_code, reason = "each test program uses its part")]

use bytes::Bytes;
use ignite_agent_protocol::client::{Connection, ControlEvents, OpenError, Stream, StreamEvent};
use ignite_agent_protocol::message::{
    Configure, Disk, GuestMessage, HostMessage, Open, Opened, Process, Role, Root, StreamExit,
};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::process::Child;
use tokio::time::timeout;

/// Emulated guests on a busy host are slow; what hangs is told apart from what is slow by minutes.
pub const PATIENCE: Duration = Duration::from_secs(150);

const MODULES: [&str; 19] = [
    "drivers/virtio/virtio_ring.ko",
    "drivers/virtio/virtio.ko",
    "drivers/virtio/virtio_mmio.ko",
    "drivers/virtio/virtio_pci_legacy_dev.ko",
    "drivers/virtio/virtio_pci_modern_dev.ko",
    "drivers/virtio/virtio_pci.ko",
    "drivers/char/virtio_console.ko",
    "drivers/block/virtio_blk.ko",
    "fs/overlayfs/overlay.ko",
    "net/core/failover.ko",
    "drivers/net/net_failover.ko",
    "drivers/net/virtio_net.ko",
    "drivers/nvdimm/libnvdimm.ko",
    "drivers/nvdimm/nd_virtio.ko",
    "drivers/nvdimm/virtio_pmem.ko",
    "drivers/nvdimm/nd_btt.ko",
    "drivers/nvdimm/nd_pmem.ko",
    "drivers/input/evdev.ko",
    "drivers/acpi/button.ko",
];

/// The kernel that tests boot, from the environment.
pub struct Kernel {
    vmlinux: PathBuf,
    /// `…/lib/modules/<release>`.
    modules: PathBuf,
}

impl Kernel {
    /// `None`, said in the output, where there is nothing to boot with.
    pub fn from_environment(test: &str) -> Option<Kernel> {
        let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
        let kernel = variable("IGNITE_TEST_KERNEL").zip(variable("IGNITE_TEST_MODULES"));
        let has_programs = ["qemu-system-x86_64", "mke2fs", "busybox"].iter().all(|program| find(program).is_some());
        match kernel {
            Some((vmlinux, modules)) if has_programs => Some(Kernel { vmlinux, modules }),
            Some(_) => {
                eprintln!("skipped {test}: qemu-system-x86_64, mke2fs or busybox is not installed");
                None
            }
            None => {
                eprintln!("skipped {test}: IGNITE_TEST_KERNEL (vmlinux) or IGNITE_TEST_MODULES is not set");
                None
            }
        }
    }

    pub fn release(&self) -> &str {
        self.modules.file_name().unwrap().to_str().unwrap()
    }
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let places = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    places.map(|place| place.join(program)).find(|path| path.is_file())
}

/// Disks of a VM, on the host; they outlive the machine.
pub struct Disks {
    pub dir: TempDir,
}

impl Disks {
    /// A busybox base with `extra` files, an empty writable disk and a modules disk.
    pub fn make(kernel: &Kernel, extra: &[(&str, &str, u32)]) -> Disks {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        for directory in ["bin", "sbin", "etc", "root", "run", "tmp", "var/lib/docker", "usr/lib", "home/app"] {
            std::fs::create_dir_all(tree.join(directory)).unwrap();
        }
        symlink("usr/lib", tree.join("lib")).unwrap();
        std::fs::set_permissions(tree.join("tmp"), PermissionsExt::from_mode(0o1777)).unwrap();
        let busybox = find("busybox").unwrap();
        std::fs::copy(&busybox, tree.join("bin/busybox")).unwrap();
        let applets = Command::new(&busybox).arg("--list-full").output().unwrap().stdout;
        for applet in String::from_utf8(applets).unwrap().lines() {
            let name = Path::new(applet).file_name().unwrap();
            if name != "busybox" {
                let place = if applet.contains("sbin/") { "sbin" } else { "bin" };
                symlink("/bin/busybox", tree.join(place).join(name)).unwrap();
            }
        }
        let passwd = "root:x:0:0:root:/root:/bin/sh\napp:x:100:101::/home/app:/bin/sh\n";
        let files = [
            ("etc/passwd", passwd, 0o644),
            ("etc/group", "root:x:0:\napp:x:101:\nextra:x:44:app\n", 0o644),
            ("var/lib/docker/seed", "seed", 0o644),
        ];
        symlink("../run/systemd/resolve/stub-resolv.conf", tree.join("etc/resolv.conf")).unwrap();
        for (path, content, mode) in files.iter().chain(extra) {
            std::fs::create_dir_all(tree.join(path).parent().unwrap()).unwrap();
            std::fs::write(tree.join(path), content).unwrap();
            std::fs::set_permissions(tree.join(path), PermissionsExt::from_mode(*mode)).unwrap();
        }
        make_ext4(&dir.path().join("base"), Some(&tree), "64M");
        make_ext4(&dir.path().join("writable"), None, "256M");
        let modules = dir.path().join("modules-tree/lib/modules").join(kernel.release());
        std::fs::create_dir_all(&modules).unwrap();
        std::fs::write(modules.join("modules.dep"), "").unwrap();
        make_ext4(&dir.path().join("modules"), Some(&dir.path().join("modules-tree")), "8M");
        Disks { dir }
    }

    /// The same with another base: an ext4 image.
    pub fn on_base(kernel: &Kernel, base: &Path) -> Disks {
        let disks = Disks::make(kernel, &[]);
        std::fs::copy(base, disks.path("base")).unwrap();
        disks
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

fn make_ext4(image: &Path, tree: Option<&Path>, size: &str) {
    let mut command = Command::new(find("mke2fs").unwrap());
    command.args(["-q", "-F", "-t", "ext4", "-b", "4096", "-E", "root_owner=0:0"]);
    if let Some(tree) = tree {
        command.arg("-d").arg(tree);
    }
    let status = command.arg(image).arg(size).status().unwrap();
    assert!(status.success());
}

/// A `newc` archive.
fn cpio(entries: &[(&str, u32, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut put = |index: usize, name: &str, mode: u32, content: &[u8]| {
        let (size, name_size) = (content.len(), name.len() + 1);
        let header = format!(
            "070701{index:08x}{mode:08x}{0:08x}{0:08x}{1:08x}{0:08x}{size:08x}{0:08x}{0:08x}{0:08x}{0:08x}{name_size:08x}{0:08x}",
            0, 1
        );
        out.extend(header.bytes().chain(name.bytes()).chain([0]));
        out.resize(out.len().next_multiple_of(4), 0);
        out.extend(content);
        out.resize(out.len().next_multiple_of(4), 0);
    };
    for (index, (name, mode, content)) in entries.iter().enumerate() {
        put(index + 1, name, *mode, content);
    }
    put(0, "TRAILER!!!", 0, &[]);
    out
}

fn initramfs(kernel: &Kernel) -> Vec<u8> {
    let mut entries = vec![("init", 0o100_755, ignite_guest::INIT.to_vec()), ("modules", 0o040_755, Vec::new())];
    let mut order = String::new();
    let mut names = Vec::new();
    for module in MODULES {
        if let Ok(content) = std::fs::read(kernel.modules.join("kernel").join(module)) {
            let name = Path::new(module).file_name().unwrap().to_str().unwrap();
            order.push_str(name);
            order.push('\n');
            names.push((format!("modules/{name}"), content));
        }
    }
    entries.push(("modules/order", 0o100_644, order.into_bytes()));
    entries.extend(names.iter().map(|(name, content)| (name.as_str(), 0o100_644, content.clone())));
    cpio(&entries)
}

/// How a guest has its base.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// As a disk of a microvm.
    Disk,
    /// As persistent memory, which QEMU has on machines with PCI only.
    Pmem,
}

/// A running guest.
pub struct Guest {
    pub qemu: Child,
    pub connection: Connection,
    pub events: ControlEvents,
    pub console: PathBuf,
    pub started: Instant,
    pub hello_uptime_ms: u64,
    listener: UnixListener,
}

impl Guest {
    /// Boots and waits for `Hello`.
    pub async fn boot(kernel: &Kernel, disks: &Disks) -> Guest {
        Self::boot_with(kernel, disks, Base::Disk).await
    }

    /// The same with its base as wanted.
    pub async fn boot_with(kernel: &Kernel, disks: &Disks, base: Base) -> Guest {
        let (machine, memory, bus) = match base {
            Base::Disk => ("microvm,rtc=on", "256", "device"),
            Base::Pmem => ("q35", "256,slots=1,maxmem=1G", "pci"),
        };
        let dir = disks.dir.path();
        std::fs::write(dir.join("initramfs"), initramfs(kernel)).unwrap();
        let (socket, console) = (dir.join("agent.sock"), dir.join("console.log"));
        let _ = std::fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).unwrap();
        let show = |path: &Path| path.display().to_string();
        let mut args = vec![
            "-M".into(),
            machine.into(),
            "-accel".into(),
            "tcg".into(),
            "-cpu".into(),
            "qemu64,+rdrand".into(),
            "-m".into(),
            memory.into(),
            "-kernel".into(),
            show(&kernel.vmlinux),
            "-initrd".into(),
            show(&dir.join("initramfs")),
            "-append".into(),
            format!(
                "console=ttyS0 quiet loglevel=4 reboot=t panic=-1 tsc=reliable tsc_early_khz={} no_timer_check nokaslr \
                 mitigations=off cryptomgr.notests 8250.nr_uarts=1 random.trust_cpu=on",
                tsc_khz()
            ),
            "-nodefaults".into(),
            "-no-user-config".into(),
            "-nographic".into(),
            "-no-reboot".into(),
            "-serial".into(),
            format!("file:{}", show(&console)),
            "-device".into(),
            format!("virtio-serial-{bus}"),
            "-chardev".into(),
            format!("socket,id=ag,path={},reconnect=1", show(&socket)),
            "-device".into(),
            "virtserialport,chardev=ag,name=org.ignite.agent.0".into(),
            "-netdev".into(),
            "user,id=n0,restrict=on".into(),
            "-device".into(),
            format!("virtio-net-{bus},netdev=n0,mac=52:54:00:00:00:02"),
        ];
        if base == Base::Pmem {
            let path = dir.join("base");
            let size = std::fs::metadata(&path).unwrap().len();
            args.push("-object".into());
            args.push(format!(
                "memory-backend-file,id=pm,share=on,readonly=on,size={size},mem-path={}",
                path.display()
            ));
            args.extend(["-device".into(), "virtio-pmem-pci,memdev=pm,id=pm0".into()]);
        }
        for (disk, options) in [("base", ",read-only=on"), ("writable", ""), ("modules", ",read-only=on")] {
            if (base, disk) == (Base::Pmem, "base") {
                continue;
            }
            let path = show(&dir.join(disk));
            args.push("-blockdev".to_owned());
            args.push(format!("driver=raw,node-name={disk},file.driver=file,file.filename={path}{options}"));
            args.push("-device".to_owned());
            args.push(format!("virtio-blk-{bus},drive={disk},serial={disk}"));
        }
        let started = Instant::now();
        let mut command = tokio::process::Command::new("qemu-system-x86_64");
        let qemu = command.args(&args).stdin(Stdio::null()).kill_on_drop(true).spawn().unwrap();
        Self::greet(listener, qemu, console, started).await
    }

    /// Drops the connection and takes the VMM's next.
    pub async fn reconnect(self) -> Guest {
        let Guest { qemu, connection, events: _, console, started, hello_uptime_ms: _, listener } = self;
        connection.close();
        Self::greet(listener, qemu, console, started).await
    }

    async fn greet(listener: UnixListener, qemu: Child, console: PathBuf, started: Instant) -> Guest {
        let (stream, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
        let (connection, events) = Connection::start(stream);
        let mut guest = Guest { qemu, connection, events, console, started, hello_uptime_ms: 0, listener };
        match guest.next_event().await {
            Some(GuestMessage::Hello { protocol, uptime_ms, .. }) => {
                assert_eq!(protocol, ignite_agent_protocol::PROTOCOL_VERSION);
                guest.hello_uptime_ms = uptime_ms;
            }
            other => panic!("instead of Hello: {other:?}; console:\n{}", guest.console_text()),
        }
        guest
    }

    /// The next control message but log lines, which are shown.
    pub async fn next_event(&mut self) -> Option<GuestMessage> {
        loop {
            let event = timeout(PATIENCE, self.events.recv()).await;
            match event.unwrap_or_else(|_| panic!("no event; console:\n{}", self.console_text())) {
                Some(GuestMessage::Log { level, message }) => eprintln!("guest {level}: {message}"),
                event => return event,
            }
        }
    }

    pub fn console_text(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.console).unwrap_or_default()).into_owned()
    }

    /// Sends `Configure` and waits for the answer; shows how long it took.
    pub async fn configure(&mut self, configure: Configure) -> GuestMessage {
        let sent = Instant::now();
        let since_start = self.started.elapsed();
        self.connection.send(&HostMessage::Configure(Box::new(configure))).unwrap();
        let answer = self.next_event().await.unwrap_or_else(|| panic!("no answer; {}", self.console_text()));
        if let GuestMessage::Configured { uptime_ms } = answer {
            eprintln!(
                "boot: qemu to Hello {since_start:.2?} (guest uptime {} ms); Configure to Configured {:.1?} (guest uptime {uptime_ms} ms)",
                self.hello_uptime_ms,
                sent.elapsed()
            );
        }
        answer
    }

    pub async fn open(&self, open: Open) -> Result<(Opened, Stream), OpenError> {
        timeout(PATIENCE, self.connection.open(&open)).await.expect("no answer to Open")
    }

    /// Runs a command and gives its output, error output and end.
    pub async fn exec(&self, process: Process) -> Outcome {
        match self.open(Open::Exec(process)).await {
            Ok((_, stream)) => {
                let ending = tokio::spawn(read_all(stream)).await;
                ending.unwrap_or_else(|e| panic!("{e}; console:\n{}", self.console_text()))
            }
            Err(OpenError::Refused(exit)) => Outcome { stdout: String::new(), stderr: String::new(), exit },
            Err(e) => panic!("{e}"),
        }
    }

    pub async fn sh(&self, script: &str) -> Outcome {
        self.exec(sh(script)).await
    }

    /// Waits for the end of the VMM.
    pub async fn wait_for_end(&mut self) {
        timeout(PATIENCE, self.qemu.wait()).await.unwrap_or_else(|_| panic!("{}", self.console_text())).unwrap();
    }
}

/// What a command did.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    pub stdout: String,
    pub stderr: String,
    pub exit: StreamExit,
}

pub fn sh(script: &str) -> Process {
    Process { args: vec!["sh".into(), "-c".into(), script.into()], ..Process::default() }
}

/// Everything a stream gives, without any input.
pub async fn read_all(stream: Stream) -> Outcome {
    let Stream { stdin, output } = stream;
    drop(stdin);
    collect(output).await
}

pub async fn collect(mut output: ignite_agent_protocol::client::StreamOutput) -> Outcome {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    loop {
        match timeout(PATIENCE, output.recv()).await.expect("the stream does not end") {
            Some(StreamEvent::Stdout(bytes)) => stdout.extend(bytes),
            Some(StreamEvent::Stderr(bytes)) => stderr.extend(bytes),
            Some(StreamEvent::StdoutEnd) => {}
            Some(StreamEvent::Exit(exit)) => {
                let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
                return Outcome { stdout: text(stdout), stderr: text(stderr), exit };
            }
            Some(StreamEvent::Lost(e)) => panic!("{e:?}"),
            None => panic!("the stream ended without an exit"),
        }
    }
}

/// Writes all of it in the background.
pub fn feed(mut stdin: ignite_agent_protocol::client::StreamInput, bytes: Vec<u8>) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        stdin.write(Bytes::from(bytes)).await.unwrap();
        stdin.close();
    })
}

/// A configuration on the disks of [`Disks::make`].
pub fn configuration(role: Role) -> Configure {
    let serial = |name: &str| Disk::Serial(name.to_owned());
    Configure {
        hostname: "vm".into(),
        root: Root::Overlay {
            base: serial("base"),
            writable: serial("writable"),
            direct_dirs: vec!["/var/lib/docker".into(), "/var/lib/containerd".into()],
        },
        modules: Some(serial("modules")),
        volumes: vec![],
        interfaces: vec![],
        dns: None,
        hosts: vec![],
        peers: vec![],
        files: vec![],
        ssh_authorized_keys: vec![],
        unix_ns: 1_800_000_000_000_000_000,
        entropy: "00112233445566778899aabbccddeeff".into(),
        role,
    }
}

/// The host's time stamp counter, which an emulated guest sees as its own.
#[cfg(target_arch = "x86_64")]
fn tsc_khz() -> u64 {
    let read = || {
        // SAFETY: every x86-64 has the instruction.
        unsafe { std::arch::x86_64::_rdtsc() }
    };
    let (start, ticks) = (Instant::now(), read());
    std::thread::sleep(Duration::from_millis(50));
    (read() - ticks) * 1000 / start.elapsed().as_micros() as u64
}

#[cfg(not(target_arch = "x86_64"))]
fn tsc_khz() -> u64 {
    0
}
