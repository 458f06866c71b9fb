//! `/healthz`, `/readyz` and `/metrics` of the operator.

use anyhow::Context as _;
use axum::Router;
use axum::extract;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use ignite::report::Hinted;
use ignite_engine::metrics::{Format, Process};
use ignite_operator::run::metrics::Metrics;
use prometheus_client::registry::Registry;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::net::TcpListener;

/// What is told.
#[derive(Clone)]
pub struct State {
    ready: Arc<AtomicBool>,
    registry: Arc<Registry>,
}

impl State {
    /// Not ready yet.
    pub fn new(metrics: Metrics) -> State {
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        registry.register_collector(Box::new(Process));
        State { ready: Arc::default(), registry: Arc::new(registry) }
    }

    /// It works, or waits for its turn.
    pub fn is_ready(&self) {
        self.ready.store(true, Ordering::Relaxed);
    }
}

/// Listens where Kubernetes and Prometheus ask.
pub async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        Hinted {
            message: format!("could not listen on {address}: {error}"),
            hint: "choose another port: --listen 0.0.0.0:8081".into(),
        }
        .into()
    })
}

/// Serves until the future is dropped.
pub async fn serve(listener: TcpListener, state: State) -> anyhow::Result<()> {
    let router = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(state);
    axum::serve(listener, router).await.context("serving metrics broke")
}

async fn ready(extract::State(state): extract::State<State>) -> Response {
    match state.ready.load(Ordering::Relaxed) {
        true => "ok\n".into_response(),
        false => (StatusCode::SERVICE_UNAVAILABLE, "starting\n").into_response(),
    }
}

async fn metrics(extract::State(state): extract::State<State>, headers: HeaderMap) -> Response {
    let format = Format::accepted(&headers);
    ([(header::CONTENT_TYPE, format.media_type())], format.render(&state.registry)).into_response()
}
