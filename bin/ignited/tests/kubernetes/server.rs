//! An API server of the test's own: etcd and kube-apiserver on loopback, with certificates made here.

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a server may take to answer: this machine may be busy.
const START_DEADLINE: Duration = Duration::from_secs(120);
/// How often one is started: a port that was free may be somebody's by then.
const ATTEMPTS: usize = 3;
/// Requests with their users, verbs and resources, and nothing of their bodies.
const AUDIT_POLICY: &str =
    "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n- level: Metadata\n  omitStages: [RequestReceived]\n";
/// Who may do everything; a user's token is its name with an end.
const ADMIN: &str = "admin";
const OPERATOR: &str = "system:serviceaccount:ignite-system:ignite-operator";

/// A running server; dropped, it and its data are gone.
pub struct ApiServer {
    program: PathBuf,
    directory: tempfile::TempDir,
    ports: Ports,
    etcd: Child,
    server: Child,
}

#[derive(Clone, Copy)]
struct Ports {
    etcd: u16,
    peer: u16,
    secure: u16,
}

impl ApiServer {
    /// Starts one and waits until it is ready.
    pub async fn start(program: &Path) -> Result<ApiServer, String> {
        let mut why = String::new();
        for _ in 0..ATTEMPTS {
            match ApiServer::try_start(program).await {
                Ok(server) => return Ok(server),
                Err(error) => why = error,
            }
        }
        Err(why)
    }

    async fn try_start(program: &Path) -> Result<ApiServer, String> {
        let directory = tempfile::Builder::new().prefix("ignite-kubernetes-").tempdir().map_err(|e| e.to_string())?;
        write_identities(directory.path());
        fs::write(directory.path().join("audit.yaml"), AUDIT_POLICY).map_err(|e| e.to_string())?;
        let ports = Ports::free();
        let etcd = start_etcd(directory.path(), ports)?;
        let server = start_server(program, directory.path(), ports)?;
        for user in [ADMIN, OPERATOR] {
            write_kubeconfig(directory.path(), ports, user);
        }
        let mut server = ApiServer { program: program.to_owned(), directory, ports, etcd, server };
        server.wait_until_ready().await?;
        Ok(server)
    }

    /// A kubeconfig of who may do everything.
    pub fn admin(&self) -> PathBuf {
        kubeconfig_in(self.directory.path(), ADMIN)
    }

    /// A kubeconfig of the operator.
    pub fn operator(&self) -> PathBuf {
        kubeconfig_in(self.directory.path(), OPERATOR)
    }

    /// The program of the server.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// What the operator has asked for in a namespace, as the audit log has it, oldest first.
    pub fn audit_of_operator(&self, namespace: &str) -> Vec<Value> {
        let log = fs::read_to_string(self.directory.path().join("audit.log")).unwrap_or_default();
        let requests = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let ours = requests.filter(|one| {
            one["user"]["username"] == OPERATOR
                && one["objectRef"]["namespace"] == namespace
                && one["stage"] == "ResponseComplete"
        });
        ours.collect()
    }

    /// The same, as `verb resource`.
    pub fn requests_of_operator(&self, namespace: &str) -> Vec<String> {
        let short = |one: Value| {
            let object = &one["objectRef"];
            let parts = [&one["verb"], &object["resource"], &object["subresource"]];
            parts.iter().filter_map(|part| part.as_str()).collect::<Vec<_>>().join(" ")
        };
        self.audit_of_operator(namespace).into_iter().map(short).collect()
    }

    /// Ends the server as a crash does; etcd goes on.
    pub fn stop(&mut self) {
        end(&mut self.server);
    }

    /// Starts it again, on its port, with what etcd has kept.
    pub async fn start_again(&mut self) {
        self.server = start_server(&self.program, self.directory.path(), self.ports).expect("the server");
        self.wait_until_ready().await.expect("it is ready again");
    }

    async fn wait_until_ready(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + START_DEADLINE;
        let admin = client_of(&self.admin()).await?;
        loop {
            let request = http::Request::get("/readyz").body(Vec::new()).map_err(|e| e.to_string())?;
            let answer = admin.request_text(request).await;
            if answer.is_ok_and(|text| text == "ok") {
                return Ok(());
            }
            let has_ended = matches!(self.server.try_wait(), Ok(Some(_)));
            if has_ended || Instant::now() > deadline {
                return Err(format!("kube-apiserver is not ready: {}", self.last_words()));
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    fn last_words(&self) -> String {
        let said = fs::read_to_string(self.directory.path().join("kube-apiserver.log")).unwrap_or_default();
        let lines: Vec<&str> = said.lines().collect();
        lines[lines.len().saturating_sub(8)..].join("\n")
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        end(&mut self.server);
        end(&mut self.etcd);
    }
}

impl Ports {
    fn free() -> Ports {
        // All at once, so that they differ.
        let held: Vec<TcpListener> =
            (0..3).map(|_| TcpListener::bind(("127.0.0.1", 0)).expect("loopback has free ports")).collect();
        let port = |index: usize| held[index].local_addr().expect("a bound socket").port();
        Ports { etcd: port(0), peer: port(1), secure: port(2) }
    }
}

fn start_etcd(directory: &Path, ports: Ports) -> Result<Child, String> {
    let (client, peer) = (format!("http://127.0.0.1:{}", ports.etcd), format!("http://127.0.0.1:{}", ports.peer));
    let mut command = guarded("etcd", directory, "etcd.log")?;
    command.arg("--data-dir").arg(directory.join("etcd"));
    command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
    command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
    command.args(["--initial-cluster", &format!("default={peer}"), "--unsafe-no-fsync"]);
    command.spawn().map_err(|error| format!("could not start etcd: {error}"))
}

fn start_server(program: &Path, directory: &Path, ports: Ports) -> Result<Child, String> {
    let mut command = guarded(program, directory, "kube-apiserver.log")?;
    let at = |flag: &str, file: &str| format!("--{flag}={}", directory.join(file).display());
    command.args([
        format!("--etcd-servers=http://127.0.0.1:{}", ports.etcd),
        "--bind-address=127.0.0.1".to_owned(),
        format!("--secure-port={}", ports.secure),
        at("tls-cert-file", "server.crt"),
        at("tls-private-key-file", "server.key"),
        at("token-auth-file", "tokens.csv"),
        at("service-account-key-file", "ca.crt"),
        at("service-account-signing-key-file", "ca.key"),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        "--authorization-mode=RBAC".to_owned(),
        // Who may keep an owner from going asks for a right of its own.
        "--enable-admission-plugins=OwnerReferencesPermissionEnforcement".to_owned(),
        "--service-cluster-ip-range=10.0.0.0/24".to_owned(),
        "--endpoint-reconciler-type=none".to_owned(),
        "--allow-privileged=true".to_owned(),
        at("audit-policy-file", "audit.yaml"),
        at("audit-log-path", "audit.log"),
        at("cert-dir", "certificates"),
    ]);
    command.spawn().map_err(|error| format!("could not start {}: {error}", program.display()))
}

/// The program, which ends when we do, however we do: the shell over it waits for the end of a pipe that we hold.
fn guarded(program: impl AsRef<std::ffi::OsStr>, directory: &Path, log: &str) -> Result<Command, String> {
    const GUARD: &str = r#"exec 3<&0; "$@" </dev/null 3<&- & child=$!
        (read -r _ <&3; kill -9 $child) 2>/dev/null & guard=$!
        wait $child; code=$?; kill $guard 2>/dev/null; exit $code"#;
    let log = File::create(directory.join(log)).map_err(|error| error.to_string())?;
    let mut command = Command::new("sh");
    command.args(["-c", GUARD, "guard"]).arg(program).stdin(Stdio::piped());
    command.stdout(log.try_clone().map_err(|error| error.to_string())?).stderr(log);
    Ok(command)
}

fn end(guarded: &mut Child) {
    drop(guarded.stdin.take());
    guarded.wait().ok();
}

fn token_of(user: &str) -> String {
    format!("{user}-of-the-tests")
}

fn kubeconfig_in(directory: &Path, user: &str) -> PathBuf {
    // Colons separate the files of KUBECONFIG.
    directory.join(format!("{}.kubeconfig", user.replace(':', "-")))
}

fn write_kubeconfig(directory: &Path, ports: Ports, user: &str) {
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{ "name": "test", "cluster": {
            "server": format!("https://127.0.0.1:{}", ports.secure),
            "certificate-authority": directory.join("ca.crt"),
        } }],
        "users": [{ "name": user, "user": { "token": token_of(user) } }],
        "contexts": [{ "name": "test", "context": { "cluster": "test", "user": user } }],
    });
    fs::write(kubeconfig_in(directory, user), config.to_string()).expect("a kubeconfig is written");
}

/// A client by a kubeconfig.
pub async fn client_of(kubeconfig: &Path) -> Result<Client, String> {
    let shown = |error: &dyn std::fmt::Display| format!("{}: {error}", kubeconfig.display());
    let file = Kubeconfig::read_from(kubeconfig).map_err(|error| shown(&error))?;
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.map_err(|e| shown(&e))?;
    Client::try_from(config).map_err(|error| shown(&error))
}

/// An authority, the server's certificate, and the administrator's token.
fn write_identities(directory: &Path) {
    let write = |name: &str, text: String| fs::write(directory.join(name), text).expect("an identity is written");
    let mut authority = CertificateParams::default();
    authority.distinguished_name.push(DnType::CommonName, "tests of ignite");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().expect("a key");
    let authority_cert = authority.self_signed(&authority_key).expect("a certificate");
    let issuer = Issuer::new(authority, &authority_key);
    let names = ["127.0.0.1", "localhost", "kubernetes.default.svc"].map(str::to_owned);
    let key = KeyPair::generate().expect("a key");
    let server = CertificateParams::new(names).expect("names").signed_by(&key, &issuer).expect("a certificate");
    write("ca.crt", authority_cert.pem());
    write("ca.key", authority_key.serialize_pem());
    write("server.crt", server.pem());
    write("server.key", key.serialize_pem());
    // The operator is its service account, with the rights that are installed and no others.
    let users = [(ADMIN, "system:masters"), (OPERATOR, "system:serviceaccounts")];
    let identity = |(user, group): (&str, &str)| format!("{},{user},{user},{group}\n", token_of(user));
    write("tokens.csv", users.map(identity).concat());
}
