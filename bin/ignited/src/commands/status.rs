//! `ignited status`: how every set stands, and where and why one does not.

use crate::keeper::SetReport;
use crate::service::socket_dir;
use anyhow::Context as _;
use ignite::context::Context;
use ignite::render::text::sanitize;
use ignite::render::{document, table};
use ignite::report::{self, Hinted};
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// Longest answer that is read.
const MAX_ANSWER: u64 = 64 << 20;
/// Longest time to wait for one daemon.
const DEADLINE: Duration = Duration::from_secs(10);
/// Not everything is as it is written.
const NOT_READY: u8 = 1;

/// Flags of `status`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes:\n  0   everything is as it is written\n  1   something is not, or no ignited runs")]
pub struct Args {
    /// How it is shown
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Output,
    /// Read every source now, before its time
    #[arg(long)]
    pub sync: bool,
}

/// `--output`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people
    #[default]
    Table,
    /// JSON
    Json,
    /// YAML
    Yaml,
}

/// Asks every daemon of this data directory.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    let mut reports: Vec<SetReport> = Vec::new();
    let mut sockets: Vec<_> = std::fs::read_dir(socket_dir(context))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "sock"))
        .collect();
    sockets.sort();
    for socket in sockets {
        let request = if args.sync { "POST /sync" } else { "GET /status" };
        let ask = async {
            if args.sync {
                ask(&socket, request).await?;
            }
            ask(&socket, "GET /status").await
        };
        match tokio::time::timeout(DEADLINE, ask).await {
            Ok(Ok(answer)) => {
                let found: Vec<SetReport> = serde_json::from_slice(&answer)
                    .with_context(|| format!("{} answers nonsense", socket.display()))?;
                reports.extend(found);
            }
            // It was killed, and its socket stayed.
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {}
            Ok(Err(error)) => report::warning(&format!("{}: {error}", socket.display())),
            Err(_) => report::warning(&format!("{} does not answer", socket.display())),
        }
    }
    if reports.is_empty() {
        let message = "no ignited runs here".to_owned();
        return Err(Hinted { message, hint: "start one: ignited daemon, or ignited gitops URL".into() }.into());
    }
    let text = match args.output {
        Output::Table => render(&reports),
        Output::Json => document::render(&reports, document::Format::Json)?,
        Output::Yaml => document::render(&reports, document::Format::Yaml)?,
    };
    ignite::commands::print(&text)?;
    Ok(if reports.iter().all(SetReport::is_ready) { 0 } else { NOT_READY })
}

/// One request, HTTP/1.0: the answer ends with the connection.
async fn ask(socket: &Path, request: &str) -> std::io::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(format!("{request} HTTP/1.0\r\nHost: ignited\r\nContent-Length: 0\r\n\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer).await?;
    let body = answer.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4);
    let is_success = answer.starts_with(b"HTTP/1.0 2") || answer.starts_with(b"HTTP/1.1 2");
    match body {
        Some(at) if is_success => Ok(answer.split_off(at)),
        _ => Err(std::io::Error::other("it answers with an error")),
    }
}

fn render(reports: &[SetReport]) -> String {
    let mut text = String::new();
    let mut line = |words: &str| {
        text.push_str(&sanitize(words));
        text.push('\n');
    };
    let mut tables = Vec::new();
    for report in reports {
        let source = &report.source;
        let state = if report.is_ready() { "ready" } else { "not ready" };
        let mut head = format!("set {}: {state}; {}", report.name, source.location);
        if !source.reference.is_empty() {
            head.push_str(&format!(" ({})", source.reference));
        }
        if let Some(commit) = &source.commit {
            let subject = source.subject.as_deref().unwrap_or_default();
            head.push_str(&format!(" at {} {subject:?}", &commit[..commit.len().min(12)]));
        }
        line(&head);
        if let Some(note) = &source.note {
            line(&format!("  note: {note}"));
        }
        for error in source.error.iter().chain(&report.error) {
            line(&format!("  error: {error}"));
        }
        if let Some(hint) = &source.hint {
            line(&format!("  hint: {hint}"));
        }
        for problem in &report.status.problems {
            line(&format!("  error: {problem}"));
        }
        for object in report.status.objects.iter().filter(|object| object.hint.is_some()) {
            let hint = object.hint.as_deref().unwrap_or_default();
            line(&format!("  hint: {}: {hint}", object.name));
        }
        for object in &report.status.objects {
            tables.push([
                report.name.clone(),
                object.name.clone(),
                object.state.to_string(),
                object.phase.clone().unwrap_or_default(),
                object.origin.clone().unwrap_or_default(),
                object.message.clone(),
            ]);
        }
    }
    if !tables.is_empty() {
        text.push('\n');
        text.push_str(&table::render(["SET", "VM", "STATE", "PHASE", "MANIFEST", "WHY"], tables));
    }
    text
}
