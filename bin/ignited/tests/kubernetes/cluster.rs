//! The cluster that tests share.

use crate::rest::{Answer, Rest};
use crate::server::{ApiServer, client_of};
use serde_json::{Value, json};
use std::future::Future;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// How long something may take that takes milliseconds: this machine may be busy.
pub const SOON: Duration = Duration::from_secs(60);
/// What is applied by who installs the operator.
pub const BASE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/kubernetes");

/// An API server with the custom resources.
pub struct Cluster {
    kubeconfig: PathBuf,
    rest: Rest,
    namespaces: Mutex<Vec<String>>,
    server: Option<ApiServer>,
    runtime: Arc<Runtime>,
}

impl Cluster {
    /// What the environment gives to test with, and nothing where it gives nothing.
    pub fn of_environment() -> Result<Option<Cluster>, String> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let (given, program) = (variable("IGNITE_TEST_KUBECONFIG"), variable("IGNITE_TEST_KUBE_APISERVER"));
        if given.is_none() && program.is_none() {
            return Ok(None);
        }
        let runtime = Arc::new(Runtime::new().map_err(|error| error.to_string())?);
        let server = match (&given, &program) {
            (None, Some(program)) => Some(runtime.block_on(ApiServer::start(program))?),
            _ => None,
        };
        runtime.clone().block_on(Cluster::of(given, server, runtime)).map(Some)
    }

    /// Another server, for a test alone; nothing where the cluster is somebody's.
    pub async fn another(&self) -> Option<Cluster> {
        let server = ApiServer::start(self.server.as_ref()?.program()).await.expect("another server");
        Some(Cluster::of(None, Some(server), self.runtime.clone()).await.expect("another cluster"))
    }

    async fn of(given: Option<PathBuf>, server: Option<ApiServer>, runtime: Arc<Runtime>) -> Result<Cluster, String> {
        let kubeconfig = given.or_else(|| server.as_ref().map(ApiServer::admin)).unwrap_or_default();
        let rest = Rest::new(client_of(&kubeconfig).await?);
        let cluster = Cluster { kubeconfig, rest, namespaces: Mutex::default(), server, runtime };
        cluster.install().await?;
        Ok(cluster)
    }

    /// The server, if it is ours.
    pub fn server(&mut self) -> Option<&mut ApiServer> {
        self.server.as_mut()
    }

    /// The kubeconfig of the operator: a user of its own, where the server is ours.
    pub fn operator(&self) -> PathBuf {
        self.server.as_ref().map_or_else(|| self.kubeconfig.clone(), ApiServer::operator)
    }

    /// What the operator has asked the server for in a namespace, as `verb resource`, oldest first; nothing where nobody
    /// keeps a record of it.
    pub fn requests_of_operator(&self, namespace: &str) -> Option<Vec<String>> {
        self.server.as_ref().map(|server| server.requests_of_operator(namespace))
    }

    /// The same, as the audit log has it.
    pub fn audit_of_operator(&self, namespace: &str) -> Option<Vec<Value>> {
        self.server.as_ref().map(|server| server.audit_of_operator(namespace))
    }

    /// A kubeconfig of the administrator.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Runs a test.
    pub fn block_on<F: Future>(&self, test: F) -> F::Output {
        self.runtime.block_on(test)
    }

    /// Everything, as the administrator.
    pub fn rest(&self) -> &Rest {
        &self.rest
    }

    /// `kubectl`, as the administrator.
    pub fn kubectl(&self, arguments: &[&str], stdin: &str) -> Said {
        kubectl(&self.kubeconfig, arguments, stdin)
    }

    /// A namespace for a test alone, in which Pods may be made: no controller makes its service account here.
    pub async fn namespace(&self, test: &str) -> String {
        let name = format!("ignite-test-{test}-{}", std::process::id());
        let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
        self.rest.create("api/v1/namespaces", &namespace).await.expect("a namespace");
        self.namespaces.lock().expect("no test panics with it").push(name.clone());
        let account = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "default" } });
        let made = self.rest.create(&format!("api/v1/namespaces/{name}/serviceaccounts"), &account).await;
        assert!(made.as_ref().is_ok() || made.as_ref().is_err_and(|refused| refused.code == 409), "{made:?}");
        self.grant_lease(&name).await;
        name
    }

    /// Tests keep their operators' Leases apart, each in its own namespace: the rights are the same there.
    async fn grant_lease(&self, namespace: &str) {
        for kind in ["roles", "rolebindings"] {
            let path = |namespace: &str| format!("apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/{kind}");
            let installed = self.rest.get(&format!("{}/ignite-operator-lease", path("ignite-system"))).await;
            let mut object = installed.expect("it is installed");
            object["metadata"] = json!({ "name": "ignite-operator-lease" });
            self.rest.create(&path(namespace), &object).await.expect(kind);
        }
    }

    /// The custom resources and the operator's rights, as `kubectl apply` brings them, until the first are served.
    async fn install(&self) -> Result<(), String> {
        let said = self.apply_crds().await;
        if !said.succeeded {
            return Err(format!("kubectl apply -k deploy/kubernetes/crds: {}", said.text()));
        }
        for (namespace, file) in [
            ("default", "namespace.yaml"),
            ("ignite-system", "operator/service-account.yaml"),
            ("ignite-system", "operator/cluster-role.yaml"),
            ("ignite-system", "operator/lease-role.yaml"),
        ] {
            let arguments = ["apply", "--validate=false", "-n", namespace, "-f", &format!("{BASE}/{file}")];
            let said = self.kubectl(&arguments, "");
            if !said.succeeded {
                return Err(format!("kubectl apply -f {file}: {}", said.text()));
            }
        }
        for name in ["vms", "vmsets"] {
            let path = format!("apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}.ignite.weave.works");
            let started = Instant::now();
            while !self.rest.get(&path).await.is_ok_and(|crd| condition(&crd, "Established") == "True") {
                if started.elapsed() > SOON {
                    return Err(format!("{name} is not established"));
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }
}

impl Cluster {
    /// `kubectl apply -k` of the custom resources. Servers before 1.25 know no rules in schemas and publish that they do not.
    pub async fn apply_crds(&self) -> Said {
        let version = self.rest.get("version").await.unwrap_or_default();
        let minor: String =
            version["minor"].as_str().unwrap_or_default().chars().filter(char::is_ascii_digit).collect();
        let is_old = minor.parse::<u32>().is_ok_and(|minor| minor < 25);
        self.kubectl(&["apply", &format!("--validate={}", !is_old), "-k", &format!("{BASE}/crds")], "")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // A server of our own goes with its data.
        if self.server.is_none() {
            let names = self.namespaces.get_mut().map(std::mem::take).unwrap_or_default();
            for name in names {
                self.runtime.block_on(self.rest.delete(&format!("api/v1/namespaces/{name}"))).ok();
            }
        }
    }
}

/// What a program said.
pub struct Said {
    /// Whether it exited with 0.
    pub succeeded: bool,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Said {
    /// Both its streams.
    pub fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

fn kubectl(kubeconfig: &Path, arguments: &[&str], stdin: &str) -> Said {
    let mut command = Command::new("kubectl");
    command.args(arguments).env("KUBECONFIG", kubeconfig);
    // What it keeps of servers is not for the user's home.
    let cache = tempfile::tempdir().expect("a directory");
    command.env("HOME", cache.path()).env("KUBECACHEDIR", cache.path());
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("kubectl");
    child.stdin.take().expect("a pipe").write_all(stdin.as_bytes()).ok();
    let output = child.wait_with_output().expect("kubectl ends");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said { succeeded: output.status.success(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

/// Waits until an object is as it should be.
pub async fn until(
    what: &str,
    deadline: Duration,
    mut look: impl AsyncFnMut() -> Answer,
    is_so: impl Fn(&Value) -> bool,
) -> Value {
    let started = Instant::now();
    loop {
        let last = look().await;
        match last {
            Ok(value) if is_so(&value) => return value,
            _ if started.elapsed() > deadline => panic!("{what}: not within {deadline:?}; last seen: {last:?}"),
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// The status of an object's condition; empty where it has none.
pub fn condition(object: &Value, kind: &str) -> String {
    let all = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let found = all.iter().find(|condition| condition["type"] == kind);
    found.and_then(|condition| condition["status"].as_str()).unwrap_or_default().to_owned()
}
