//! `ignite doctor`: whether this host can run VMs, and what to do where it cannot.

use crate::commands::print;
use crate::context::Context;
use crate::render::document::{self, Format};
use crate::render::text::sanitize;
use crate::signals::interruptible;
use anstyle::{AnsiColor, Style};
use ignite_engine::{Check, CheckStatus, Installed};
use serde::Serialize;
use std::io::Write;

/// Flags of `doctor`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print the checks as an object
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    pub output: Option<Format>,
    /// Fetch what is missing and can be fetched: Firecracker's own release, verified, into the data directory
    #[arg(long)]
    pub fix: bool,
}

#[derive(Serialize)]
struct Row<'a> {
    check: &'a str,
    status: &'static str,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
}

/// Prints the checks; 1 when one of them keeps VMs from running.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    let engine = context.engine()?;
    if args.fix {
        match interruptible(async { anyhow::Ok(engine.install_firecracker().await?) }).await? {
            Installed::Before(path) => context.note(&format!("Firecracker was there before: {}", path.display())),
            Installed::Now(path) => context.note(&format!("installed Firecracker: {}", path.display())),
        }
    }
    let checks = interruptible(async { anyhow::Ok(engine.doctor().await) }).await?;
    match args.output {
        Some(format) => print(&document::render(&checks.iter().map(row).collect::<Vec<_>>(), format)?)?,
        None => write_checks(&mut anstream::stdout().lock(), &checks)?,
    }
    Ok(u8::from(checks.iter().any(|check| check.status == CheckStatus::Failure)))
}

fn row(check: &Check) -> Row<'_> {
    Row { check: check.name, status: label(check.status).0, detail: &check.detail, hint: check.hint.as_deref() }
}

fn label(status: CheckStatus) -> (&'static str, Style) {
    match status {
        CheckStatus::Ok => ("ok", AnsiColor::Green.on_default()),
        CheckStatus::Warning => ("warning", AnsiColor::Yellow.on_default()),
        CheckStatus::Failure => ("failure", AnsiColor::Red.on_default().bold()),
    }
}

fn write_checks(out: &mut impl Write, checks: &[Check]) -> std::io::Result<()> {
    let name_width = checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    for check in checks {
        let (label, style) = label(check.status);
        writeln!(out, "{style}{label:<7}{style:#}  {:<name_width$}  {}", check.name, sanitize(&check.detail))?;
        if let Some(hint) = &check.hint {
            writeln!(out, "{:9}{:name_width$}  hint: {}", "", "", sanitize(hint))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_are_understood_without_colour() {
        let check = |name, status, detail: &str, hint: Option<&str>| Check {
            name,
            status,
            detail: detail.into(),
            hint: hint.map(str::to_owned),
        };
        let checks = [
            check("kvm", CheckStatus::Warning, "/dev/kvm is PVM", Some("guests are emulated")),
            check("kernel", CheckStatus::Failure, "none imported", None),
            check("passt", CheckStatus::Ok, "found", None),
        ];
        let mut out = anstream::StripStream::new(Vec::new());
        write_checks(&mut out, &checks).unwrap();
        let expected = "warning  kvm     /dev/kvm is PVM\n                 hint: guests are emulated\nfailure  kernel  none \
                        imported\nok       passt   found\n";
        assert_eq!(String::from_utf8(out.into_inner()).unwrap(), expected);
    }
}
