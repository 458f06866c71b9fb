//! Metrics of one VM on a Unix socket beside it, at the place where Weave Ignite's was: every path gives them.

use crate::error::SupervisorError;
use crate::metrics::{Format, Process, Sample, encode};
use crate::private_socket::{self, SocketNames};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use ignite_api::{Uid, Vm};
use ignite_store::{Objects, Paths};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Registry;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::task::JoinSet;

/// Connections served at a time; more wait in the socket's backlog.
const MAX_CONNECTIONS: usize = 8;
/// Time a client has to say what it wants, and time it has to hear it.
const REQUEST_DEADLINE: Duration = Duration::from_secs(10);
const CONNECTION_DEADLINE: Duration = Duration::from_secs(60);

/// The running server; dropping it ends it, and its socket goes.
#[derive(Debug)]
pub struct MetricsSocket {
    _serving: JoinSet<()>,
    _names: SocketNames,
}

impl MetricsSocket {
    /// Listens in the VM's run directory, for this user only, and gives that a name in the VM's own directory, which may be
    /// deeper than a socket's path can be.
    pub fn start(uid: &Uid, vms: Objects<Vm>, paths: &Paths) -> Result<MetricsSocket, SupervisorError> {
        let socket = paths.metrics_socket(uid);
        let failed = |source| SupervisorError::Listen { path: socket.clone(), source };
        let link = paths.metrics_link(uid);
        let (listener, names) = SocketNames::bind(socket.clone(), Some(link)).map_err(failed)?;
        let told = Arc::new(Told { uid: uid.clone(), vms, paths: paths.clone() });
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let handle = |stream| {
                let served = tokio::time::timeout(CONNECTION_DEADLINE, serve(stream, told.clone()));
                async { drop(served.await) }
            };
            let never = std::future::pending::<()>();
            private_socket::serve(listener, "metrics socket", MAX_CONNECTIONS, never, handle).await;
        });
        Ok(MetricsSocket { _serving: serving, _names: names })
    }
}

async fn serve(stream: UnixStream, told: Arc<Told>) {
    let answer = service_fn(move |request: Request<Incoming>| {
        let told = told.clone();
        let format = Format::accepted(request.headers());
        async move {
            let text = tokio::task::spawn_blocking(move || told.text(format)).await.unwrap_or_default();
            let mut response = Response::new(Full::new(Bytes::from(text)));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(format.media_type()));
            Ok::<_, Infallible>(response)
        }
    });
    let server = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_DEADLINE)
        .serve_connection(TokioIo::new(stream), answer)
        .await;
    if let Err(error) = server {
        tracing::debug!("metrics socket: {error}");
    }
}

/// What is told, and of whom.
struct Told {
    uid: Uid,
    vms: Objects<Vm>,
    paths: Paths,
}

impl Told {
    fn text(&self, format: Format) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Process));
        if let Ok(vm) = self.vms.read(&self.uid) {
            registry.register_collector(Box::new(One { vm, paths: self.paths.clone() }));
        }
        format.render(&registry)
    }
}

#[derive(Debug)]
struct One {
    vm: Vm,
    paths: Paths,
}

impl Collector for One {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        encode(encoder, &[Sample::take(&self.vm, &self.paths)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ignite_api::{ObjectMeta, VmSpec};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn a_scrape_of_any_path_tells_of_the_one_vm_until_it_ends() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::new(dir.path().join("data"), dir.path().join("run"));
        let vms: Objects<Vm> = Objects::new(&dir.path().join("data"));
        let uid = Uid::parse("0123456789abcdef").unwrap();
        let meta = ObjectMeta { name: "web\"x".to_owned(), uid: Some(uid.clone()), ..ObjectMeta::default() };
        std::fs::create_dir_all(paths.vm(&uid)).unwrap();
        std::fs::create_dir_all(paths.run_vm(&uid)).unwrap();
        vms.write(&Vm::new(meta, VmSpec::default())).unwrap();
        // As one that was killed leaves it.
        std::os::unix::fs::symlink("/nonexistent", paths.metrics_link(&uid)).unwrap();
        let socket = MetricsSocket::start(&uid, vms, &paths).unwrap();
        let mut stream = UnixStream::connect(paths.metrics_link(&uid)).await.unwrap();
        stream.write_all(b"GET /whatever HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains(Format::Text.media_type()), "{answer}");
        let memory = format!("ignite_vm_memory_limit_bytes{{name=\"web\\\"x\",uid=\"{uid}\"}} 536870912\n");
        assert!(answer.contains(&memory) && answer.contains("process_cpu_seconds_total "), "{answer}");
        drop(socket);
        assert!(std::fs::symlink_metadata(paths.metrics_link(&uid)).is_err());
    }
}
