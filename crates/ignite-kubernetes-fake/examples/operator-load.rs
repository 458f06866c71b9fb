//! Measures an operator at work: so many VMs until they run, and then while nothing happens. `scripts/bench --only operator`.
//!
//! `operator-load IGNITED [--vms N] [--quiet SECONDS] [--kubeconfig FILE]`: against the API server in memory, which counts all
//! requests, or against that of a cluster for tests, where the operator's own count has to do.

use futures_util::StreamExt;
use ignite_kubernetes_fake::FakeServer;
use ignite_kubernetes_fake::http::Listening;
use ignite_kubernetes_fake::kubelet::Kubelet;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Config, ResourceExt};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::error::Error;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// As whom the operator is known to the server in memory.
const OPERATOR: &str = "operator";
/// Longest wait for all VMs.
const DEADLINE: Duration = Duration::from_secs(900);
/// So long after the last VM is ready, what the operator still had to say is said.
const LAST_WORDS: Duration = Duration::from_secs(10);

struct Arguments {
    program: PathBuf,
    vms: usize,
    quiet: Duration,
    kubeconfig: Option<PathBuf>,
}

/// Killed when it is dropped.
struct Operator(Child);

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = parse(std::env::args().skip(1))?;
    let server = FakeServer::new();
    let listening = Listening::start(server.clone(), OPERATOR).await?;
    let directory = std::env::temp_dir().join(format!("ignite-operator-load-{}", std::process::id()));
    fs::create_dir_all(&directory)?;
    let measured = measure(&arguments, &server, &listening, &directory).await;
    let log = fs::read_to_string(directory.join("operator.log")).unwrap_or_default();
    fs::remove_dir_all(&directory)?;
    match measured {
        Ok(measured) => Ok(writeln!(std::io::stdout(), "{measured}")?),
        Err(error) => {
            let lines: Vec<&str> = log.lines().collect();
            Err(format!("{error}\n{}", lines[lines.len().saturating_sub(10)..].join("\n")).into())
        }
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Arguments> {
    let mut parsed = Arguments { program: PathBuf::new(), vms: 1000, quiet: Duration::from_secs(60), kubeconfig: None };
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} takes a value"));
        match argument.as_str() {
            "--vms" => parsed.vms = value()?.parse()?,
            "--quiet" => parsed.quiet = Duration::from_secs(value()?.parse()?),
            "--kubeconfig" => parsed.kubeconfig = Some(value()?.into()),
            _ => parsed.program = argument.into(),
        }
    }
    if parsed.program.as_os_str().is_empty() { Err("which program?".into()) } else { Ok(parsed) }
}

async fn measure(arguments: &Arguments, server: &FakeServer, listening: &Listening, directory: &Path) -> Result<Value> {
    let kubeconfig = arguments.kubeconfig.clone().unwrap_or_else(|| directory.join("kubeconfig"));
    let (users, nodes) = match &arguments.kubeconfig {
        Some(file) => {
            let (file, options) = (Kubeconfig::read_from(file)?, KubeConfigOptions::default());
            let client = Client::try_from(Config::from_custom_kubeconfig(file, &options).await?)?;
            (client.clone(), client)
        }
        None => {
            fs::write(&kubeconfig, listening.kubeconfig())?;
            (server.client("users"), server.client("node"))
        }
    };
    let namespace = format!("ignite-load-{}", std::process::id());
    if arguments.kubeconfig.is_some() {
        let account = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "default" } });
        post(&users, "/api/v1/namespaces", &json!({ "metadata": { "name": namespace } })).await?;
        // A cluster with controllers makes it by itself.
        let _ = post(&users, &format!("/api/v1/namespaces/{namespace}/serviceaccounts"), &account).await;
    }
    let _kubelet = Kubelet::start(nodes, "load-node", Duration::ZERO);
    let kind = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("ignite.weave.works", "v1alpha4", "VM"), "vms");
    let vms: Api<DynamicObject> = Api::namespaced_with(users.clone(), &namespace, &kind);
    let names = futures_util::stream::iter((0..arguments.vms).map(|number| format!("vm-{number:05}")));
    let made = names.map(|name| make(&vms, &kind, name)).buffer_unordered(16).collect::<Vec<_>>().await;
    made.into_iter().collect::<Result<Vec<()>>>()?;

    let started = Instant::now();
    let operator = start(arguments, &kubeconfig, &namespace, directory)?;
    timeout(DEADLINE, until_ready(vms, arguments.vms)).await.map_err(|_| "not all VMs are ready")??;
    let settled = started.elapsed();
    sleep(LAST_WORDS).await;
    let (peak_kib, cpu) = (peak_memory_kib(&operator)?, cpu_seconds(&operator)?);
    let (all, writes) = counts(server);
    server.forget_requests();
    sleep(arguments.quiet).await;
    let (quiet_all, quiet_writes) = counts(server);
    drop(operator);
    if arguments.kubeconfig.is_some() {
        let request = http::Request::delete(format!("/api/v1/namespaces/{namespace}")).body(Vec::new())?;
        users.request::<Value>(request).await?;
    }
    let counted = arguments.kubeconfig.is_none();
    Ok(json!({
        "vms": arguments.vms, "settled_s": settled.as_secs_f64(), "peak_mib": peak_kib / 1024.0, "cpu_s": cpu,
        "requests": counted.then_some(all), "writes": counted.then_some(writes),
        "quiet_s": arguments.quiet.as_secs(), "quiet_requests": counted.then_some(quiet_all),
        "quiet_writes": counted.then_some(quiet_writes),
    }))
}

async fn post(client: &Client, path: &str, object: &Value) -> Result<()> {
    let request = http::Request::post(path).header("content-type", "application/json");
    client.request::<Value>(request.body(object.to_string().into_bytes())?).await?;
    Ok(())
}

async fn make(vms: &Api<DynamicObject>, kind: &ApiResource, name: String) -> Result<()> {
    let spec = json!({ "spec": { "image": { "oci": "redis:7" }, "cpus": 1, "memory": "512MB" } });
    vms.create(&PostParams::default(), &DynamicObject::new(&name, kind).data(spec)).await?;
    Ok(())
}

fn start(arguments: &Arguments, kubeconfig: &Path, namespace: &str, directory: &Path) -> Result<Operator> {
    let log = fs::File::create(directory.join("operator.log"))?;
    let mut command = Command::new(&arguments.program);
    command.args(["operator", "run", "--node-image=node:1", "--leader-elect=false", "--listen=127.0.0.1:0"]);
    command.args(["--namespace", namespace]).env("KUBECONFIG", kubeconfig);
    command.env("IGNITE_DATA_DIR", directory.join("data")).env("IGNITE_RUN_DIR", directory.join("run"));
    Ok(Operator(command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?))
}

async fn until_ready(vms: Api<DynamicObject>, wanted: usize) -> Result<()> {
    let mut ready = HashSet::new();
    let mut events = std::pin::pin!(watcher(vms, watcher::Config::default()).default_backoff().applied_objects());
    while let Some(vm) = events.next().await {
        let vm = vm?;
        let conditions = vm.data["status"]["conditions"].as_array().cloned().unwrap_or_default();
        if conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True") {
            ready.insert(vm.name_any());
        }
        if ready.len() == wanted {
            return Ok(());
        }
    }
    Err("the watch has ended".into())
}

fn counts(server: &FakeServer) -> (usize, usize) {
    (server.count(OPERATOR, |_| true), server.count(OPERATOR, |record| record.verb.writes()))
}

fn peak_memory_kib(operator: &Operator) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{}/status", operator.0.id()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// User and system time, in clock ticks of a hundredth of a second (proc(5)).
fn cpu_seconds(operator: &Operator) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", operator.0.id()))?;
    let after_name = stat.rsplit(") ").next().unwrap_or_default();
    let ticks: Vec<f64> = after_name.split(' ').skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
    Ok(ticks.iter().sum::<f64>() / 100.0)
}
