//! `ignite version`.

use crate::commands::{print, print_line};
use crate::render::document::{self, Format};
use serde::Serialize;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Flags of `version`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How it is shown
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    pub output: Option<Output>,
}

/// `--output`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// The version alone
    Short,
    /// JSON
    Json,
    /// YAML
    Yaml,
}

/// Names as Weave Ignite had them.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    ignite_version: Info,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Info {
    major: &'static str,
    minor: &'static str,
    git_version: String,
    platform: String,
    agent_protocol: u32,
}

/// Prints the version.
pub fn run(args: Args) -> anyhow::Result<u8> {
    match args.output {
        None => print_line(format_args!("Ignite version: v{VERSION} ({})", platform()))?,
        Some(Output::Short) => print_line(format_args!("v{VERSION}"))?,
        Some(Output::Json) => print(&document::render(&report(), Format::Json)?)?,
        Some(Output::Yaml) => print(&document::render(&report(), Format::Yaml)?)?,
    }
    Ok(0)
}

fn report() -> Report {
    Report {
        ignite_version: Info {
            major: env!("CARGO_PKG_VERSION_MAJOR"),
            minor: env!("CARGO_PKG_VERSION_MINOR"),
            git_version: format!("v{VERSION}"),
            platform: platform(),
            agent_protocol: ignite_agent_protocol::PROTOCOL_VERSION,
        },
    }
}

/// As Go, and so Weave Ignite, names it: `linux/amd64`.
fn platform() -> String {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("{}/{arch}", std::env::consts::OS)
}
