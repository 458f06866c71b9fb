//! `ignited pod`: the steps of a Pod that runs one VM, one container each.
//!
//! Nothing of a host is assumed: the data directory is the Pod's, and the VM is the only one in it.

use anyhow::{Context as _, bail};
use clap::Subcommand;
use ignite::commands::exec;
use ignite::context::Context;
use ignite::report::{self, Caller};
use ignite::signals;
use ignite_agent_protocol::message::Process;
use ignite_api::health::Health;
use ignite_api::vm::FileMapping;
use ignite_api::{Phase, Uid, Vm, codec};
use ignite_engine::{CreateRequest, Engine, LogEntry, LogOptions, LogStream, PullPolicy, SessionEvent, StartMode};
use std::io::{IsTerminal, Read, Write};
use std::os::unix::fs::{DirBuilderExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Exit code where KVM is required and cannot be used (`EX_CONFIG`); `ignite_operator::pod` knows it, too.
const NO_KVM: u8 = 78;
const MAX_MANIFEST_BYTES: u64 = 1 << 20;
/// Parts of the node's cache, as the Pod's volumes name them.
const CACHE_PARTS: [&str; 2] = ["oci", "base"];
/// Longest an agent is waited for; the probe's own limit is above it.
const ANSWER_DEADLINE: Duration = Duration::from_secs(8);

/// Flags of `pod`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make the node's cache the VMM's user's to write
    Cache(Cache),
    /// Fetch image and kernel and make the VM's disk; what needs the network comes before it is handed over
    Prepare(Prepare),
    /// Hand eth0 over to a tap of the VMM's user
    Network(Network),
    /// Run the VM until it ends or SIGTERM comes; its output is ours, its exit code, too
    Run(Run),
    /// Exit with 0 once the guest runs, and while it is healthy where it has a health check
    Ready,
    /// Exit with 0 while the guest's agent answers
    Alive,
    /// Run a command in the guest, on a terminal where this is one
    Exec(Exec),
}

#[derive(Debug, clap::Args)]
struct Cache {
    /// User and group
    #[arg(long, value_name = "UID")]
    owner: u32,
    /// The cache
    #[arg(long, value_name = "DIR", default_value = "/ignite/cache")]
    dir: PathBuf,
}

#[derive(Debug, clap::Args)]
struct Prepare {
    /// The VM, as JSON or YAML
    #[arg(long, value_name = "FILE")]
    manifest: PathBuf,
    /// Fail where the guest would run in software
    #[arg(long)]
    require_kvm: bool,
    /// Directory with a Docker config.json of credentials; one that is not there is left out
    #[arg(long, value_name = "DIR")]
    pull_secret: Vec<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct Network {
    /// User that may open the tap; 0: root only
    #[arg(long, value_name = "UID")]
    owner: u32,
}

#[derive(Debug, clap::Args)]
struct Run {
    /// The VM, as JSON or YAML
    #[arg(long, value_name = "FILE")]
    manifest: PathBuf,
    /// Fail where the guest would run in software
    #[arg(long)]
    require_kvm: bool,
    /// Directory of a ConfigMap or Secret, and where its files are in the guest
    #[arg(long, value_name = "DIR=PATH", value_parser = parse_files)]
    files: Vec<(PathBuf, String)>,
}

#[derive(Debug, clap::Args)]
struct Exec {
    /// Command, with all that follows
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

impl Args {
    /// Whose the exit code is.
    pub fn caller(&self) -> Caller {
        if matches!(self.verb, Verb::Exec(_)) { Caller::Exec } else { Caller::Other }
    }
}

/// Answers the exit code.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    match args.verb {
        Verb::Cache(args) => cache(&args),
        Verb::Prepare(args) => prepare(args, context).await,
        Verb::Network(args) => {
            context.engine()?.prepare_pod_network(Some(args.owner).filter(|owner| *owner != 0)).await?;
            Ok(0)
        }
        Verb::Run(args) => run_vm(args, context).await,
        Verb::Ready => ready(context.engine()?).await,
        Verb::Alive => alive(context.engine()?).await,
        Verb::Exec(args) => exec(args, context).await,
    }
}

fn cache(args: &Cache) -> anyhow::Result<u8> {
    for part in CACHE_PARTS {
        let dir = args.dir.join(part);
        let shown = || format!("could not prepare {}", dir.display());
        std::fs::DirBuilder::new().recursive(true).mode(0o755).create(&dir).with_context(shown)?;
        chown(&dir, Some(args.owner), Some(args.owner)).with_context(shown)?;
    }
    Ok(0)
}

async fn prepare(args: Prepare, context: &Context) -> anyhow::Result<u8> {
    let vm = read(&args.manifest)?;
    let mut settings = context.settings.engine();
    let secrets = args.pull_secret.iter().map(|dir| dir.join("config.json"));
    settings.pull.auth_files.extend(secrets.filter(|file| file.is_file()));
    let engine = Engine::open(settings)?;
    if let Some(code) = refuse_emulation(&engine, args.require_kvm) {
        return Ok(code);
    }
    // Containers that prepare are run again when a Pod's sandbox is made anew: what is there is good.
    if engine.find_vm(&vm.metadata.name).is_err() {
        let progress = context.progress();
        let request = CreateRequest { vm, pull: PullPolicy::Missing, platform: None, stdin: None };
        let made = signals::interruptible(engine.create(request, progress.listener())).await;
        progress.finish();
        made?;
    }
    Ok(0)
}

fn refuse_emulation(engine: &Engine, is_required: bool) -> Option<u8> {
    let reason = engine.why_no_kvm().filter(|_| is_required)?;
    let what = "this VM needs KVM; allow software emulation with spec.allowEmulation: true, or give it other nodes";
    report::print(&anyhow::anyhow!("{reason}: {what}"));
    Some(NO_KVM)
}

async fn run_vm(args: Run, context: &Context) -> anyhow::Result<u8> {
    let engine = context.engine()?;
    if let Some(code) = refuse_emulation(engine, args.require_kvm) {
        return Ok(code);
    }
    let mut terminated = signals::forwarded()?;
    let mut wanted = read(&args.manifest)?;
    let uid = engine.find_vm(&wanted.metadata.name).context("the VM has not been prepared: ignited pod prepare")?;
    for (dir, path) in &args.files {
        wanted.spec.copy_files.extend(mappings(dir, path)?);
    }
    engine.reconfigure(&uid, wanted).await?;
    let mut heard = Heard::until_now(engine, &uid).await?;
    let progress = context.progress();
    let started = tokio::select! {
        started = engine.start(&uid, StartMode::Background, progress.listener()) => started,
        signal = ending(&mut terminated) => {
            engine.kill(&uid, None).await.ok();
            return Ok(128 + signal);
        }
    };
    progress.finish();
    let started = started?;
    context.tell_notes(&started.notes);
    let console = started.vm.status.role.as_deref() == Some("machine");
    let mut logs = engine.logs(&uid, LogOptions { follow: true, tail: None, console }).await?;
    let mut is_open = true;
    let mut ended = Box::pin(engine.wait(&uid));
    loop {
        tokio::select! {
            biased;
            entry = logs.next(), if is_open => match entry? {
                Some(entry) => is_open = write(entry.stream, heard.new_part(&entry)),
                None => is_open = false,
            },
            _ = ending(&mut terminated) => {
                // The guest's own time to stop is in its spec; what it still says is to be seen.
                let stopping = engine.stop(&uid, None);
                tokio::pin!(stopping);
                loop {
                    tokio::select! {
                        stopped = &mut stopping => { stopped?; break; }
                        entry = logs.next(), if is_open => match entry? {
                            Some(entry) => is_open = write(entry.stream, heard.new_part(&entry)),
                            None => is_open = false,
                        },
                    }
                }
            }
            code = &mut ended => {
                // What was said last is in the log already.
                while is_open && let Some(entry) = logs.next().await? {
                    is_open = write(entry.stream, heard.new_part(&entry));
                }
                return Ok(code?);
            }
        }
    }
}

/// The next signal that asks us to end; others are for the task, which a Pod sends none.
async fn ending(signals: &mut tokio::sync::mpsc::Receiver<u8>) -> u8 {
    loop {
        match signals.recv().await {
            Some(signal) if signal == signals::SIGTERM || signal == signals::SIGINT => return signal,
            Some(_) => {}
            None => std::future::pending().await,
        }
    }
}

/// What earlier containers of this Pod have said already: a VM's logs go on from run to run, a container's begin anew.
struct Heard {
    until: jiff::Timestamp,
    /// The console's log has no times.
    console_bytes: usize,
}

impl Heard {
    async fn until_now(engine: &Engine, uid: &Uid) -> anyhow::Result<Heard> {
        let mut heard = Heard { until: jiff::Timestamp::now(), console_bytes: 0 };
        let mut kept = engine.logs(uid, LogOptions::default()).await?;
        while let Some(entry) = kept.next().await? {
            heard.console_bytes += if entry.time.is_none() { entry.bytes.len() } else { 0 };
        }
        Ok(heard)
    }

    fn new_part<'a>(&mut self, entry: &'a LogEntry) -> &'a [u8] {
        match entry.time {
            Some(time) if time < self.until => &[],
            Some(_) => &entry.bytes,
            None => {
                let old = self.console_bytes.min(entry.bytes.len());
                self.console_bytes -= old;
                &entry.bytes[old..]
            }
        }
    }
}

/// False when nobody reads any more.
fn write(stream: LogStream, bytes: &[u8]) -> bool {
    let written = match stream {
        LogStream::Stderr => std::io::stderr().write_all(bytes),
        LogStream::Stdout | LogStream::Console => {
            std::io::stdout().write_all(bytes).and_then(|()| std::io::stdout().flush())
        }
    };
    written.is_ok()
}

async fn ready(engine: &Engine) -> anyhow::Result<u8> {
    let vm = only(engine).await?;
    let does_its_work = vm.status.health.is_none_or(|health| health.state == Health::Healthy);
    Ok(u8::from(vm.status.phase != Phase::Running || !does_its_work))
}

async fn alive(engine: &Engine) -> anyhow::Result<u8> {
    let vm = only(engine).await?;
    let (Phase::Running, Some(uid)) = (vm.status.phase, &vm.metadata.uid) else { return Ok(1) };
    let answered = tokio::time::timeout(ANSWER_DEADLINE, answers(engine, uid)).await;
    Ok(u8::from(!matches!(answered, Ok(Ok(())))))
}

/// Whatever becomes of the command, also that there is none of that name: the agent has answered.
async fn answers(engine: &Engine, uid: &Uid) -> anyhow::Result<()> {
    let session = engine.exec(uid, Process { args: vec!["true".to_owned()], ..Process::default() }).await?;
    let (_input, mut output) = session.split();
    while !matches!(output.next().await?, SessionEvent::Exit(_)) {}
    Ok(())
}

/// `kubectl exec` gives a terminal or none; there is nothing to be said about it in its command line.
async fn exec(args: Exec, context: &Context) -> anyhow::Result<u8> {
    let vm = only(context.engine()?).await?;
    let tty = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let term = std::env::var("TERM").ok().filter(|_| tty);
    let env = term.map(|term| format!("TERM={term}")).into_iter().collect();
    exec::run(exec::Args::of(vm.metadata.name, args.command, tty, env), context).await
}

async fn only(engine: &Engine) -> anyhow::Result<Vm> {
    let mut listing = engine.list().await?;
    match listing.vms.pop() {
        Some(vm) if listing.vms.is_empty() => Ok(vm),
        _ => bail!("there is not exactly one VM in this Pod"),
    }
}

fn read(path: &Path) -> anyhow::Result<Vm> {
    let mut text = Vec::new();
    let shown = || format!("could not read {}", path.display());
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_MANIFEST_BYTES).read_to_end(&mut text))
        .with_context(shown)?;
    codec::decode_vm(&text).with_context(shown)
}

fn parse_files(text: &str) -> Result<(PathBuf, String), String> {
    let (dir, path) = text.split_once('=').ok_or("DIR=PATH is expected")?;
    Ok((PathBuf::from(dir), path.to_owned()))
}

/// The files of a mounted ConfigMap or Secret. Names that begin with `..` are how the kubelet swaps them at once.
fn mappings(dir: &Path, path: &str) -> anyhow::Result<Vec<FileMapping>> {
    let entries = std::fs::read_dir(dir).with_context(|| format!("could not list {}", dir.display()))?;
    let mut names: Vec<String> = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.retain(|name| !name.starts_with(".."));
    names.sort();
    let mapping = |name: &String| FileMapping {
        host_path: dir.join(name).to_string_lossy().into_owned(),
        vm_path: format!("{}/{name}", path.trim_end_matches('/')),
    };
    Ok(names.iter().map(mapping).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_maps_files_are_its_keys() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("..2026_01_01")).unwrap();
        std::fs::write(dir.path().join("..2026_01_01/web.conf"), "x").unwrap();
        std::os::unix::fs::symlink("..2026_01_01", dir.path().join("..data")).unwrap();
        std::os::unix::fs::symlink("..data/web.conf", dir.path().join("web.conf")).unwrap();
        let found = mappings(dir.path(), "/etc/web/").unwrap();
        let paths: Vec<_> = found.iter().map(|one| one.vm_path.as_str()).collect();
        assert_eq!(paths, ["/etc/web/web.conf"]);
        assert!(parse_files("nowhere").is_err());
    }

    #[test]
    fn what_an_earlier_container_has_said_is_not_said_again() {
        let entry = |time: Option<&str>, bytes: &str| LogEntry {
            stream: LogStream::Stdout,
            time: time.map(|time| time.parse().unwrap()),
            bytes: bytes.into(),
        };
        let mut heard = Heard { until: "2026-01-01T00:00:01Z".parse().unwrap(), console_bytes: 5 };
        for (time, bytes, new) in [
            (Some("2026-01-01T00:00:00Z"), "old", ""),
            (Some("2026-01-01T00:00:01Z"), "new", "new"),
            (None, "abc", ""),
            (None, "def", "f"),
            (None, "ghi", "ghi"),
        ] {
            assert_eq!(heard.new_part(&entry(time, bytes)), new.as_bytes());
        }
    }

    #[test]
    fn the_code_of_a_node_without_kvm_is_the_one_the_operator_knows() {
        assert_eq!(i32::from(NO_KVM), ignite_operator::pod::NO_KVM_EXIT_CODE);
    }
}
