//! The server on loopback, for programs that are not in this process.

use crate::server::FakeServer;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use std::io;
use std::net::SocketAddr;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

/// A server that listens; dropped, it is gone with its connections.
#[derive(Debug)]
pub struct Listening {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Listening {
    /// Listens on a free port of loopback; who comes is known as `user`.
    pub async fn start(server: FakeServer, user: &str) -> io::Result<Listening> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let (address, user) = (listener.local_addr()?, user.to_owned());
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            // One that breaks while it is accepted is its client's to try again.
            while let Ok((stream, _)) = listener.accept().await {
                let (server, user) = (server.clone(), user.clone());
                connections.spawn(async move {
                    let answer = service_fn(|request| server.answer(&user, request));
                    http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Listening { address, task })
    }

    /// A kubeconfig for it, as JSON.
    pub fn kubeconfig(&self) -> String {
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "fake",
            "clusters": [{ "name": "fake", "cluster": { "server": format!("http://{}", self.address) } }],
            "users": [{ "name": "fake", "user": {} }],
            "contexts": [{ "name": "fake", "context": { "cluster": "fake", "user": "fake" } }],
        })
        .to_string()
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
    }
}
