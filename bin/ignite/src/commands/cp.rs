//! `ignite cp`: files into a VM and out of it.

use crate::commands::leftovers;
use crate::context::Context;
use crate::report::Hinted;
use crate::signals::interruptible;
use ignite_engine::CopyOptions;
use std::io::IsTerminal;
use std::path::PathBuf;

/// Flags of `cp`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Keep numeric owners; on the host, as root, also set-id bits and devices
    #[arg(short, long)]
    pub archive: bool,
    /// Follow SOURCE when it is a symbolic link
    #[arg(short = 'L', long)]
    pub follow_link: bool,
    /// Flags without effect.
    #[command(flatten)]
    pub leftovers: leftovers::Cp,
    /// VM:PATH, a path of this host, or - for a tar archive on standard input
    ///
    /// Of a directory, DIR/. means its contents. A host path with a colon is written with a slash before it: ./a:b.
    #[arg(value_name = "SOURCE")]
    pub source: String,
    /// VM:PATH, a path of this host, or - for a tar archive on standard output
    #[arg(value_name = "DEST")]
    pub destination: String,
}

/// One side of a copy.
#[derive(Debug, PartialEq, Eq)]
enum End<'a> {
    Stream,
    Host(&'a str),
    Vm { query: &'a str, path: &'a str },
}

/// A copy between a VM and something that is none.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Plan<'a> {
    In { source: Option<&'a str>, query: &'a str, path: &'a str },
    Out { query: &'a str, path: &'a str, destination: Option<&'a str> },
}

/// Copies.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    args.leftovers.tell(context);
    let plan = plan(&args.source, &args.destination)?;
    let engine = context.engine()?;
    let options = CopyOptions { archive: args.archive, follow: args.follow_link };
    let progress = context.progress();
    let listener = progress.listener();
    match plan {
        Plan::In { source: Some(source), query, path } => {
            let (uid, source) = (engine.find_vm(query)?, PathBuf::from(source));
            interruptible(engine.copy_in(&uid, &source, path, options, listener)).await?;
        }
        Plan::In { source: None, query, path } => {
            let uid = engine.find_vm(query)?;
            let input = Box::new(std::io::stdin());
            interruptible(engine.copy_in_archive(&uid, input, path, options, listener)).await?;
        }
        Plan::Out { query, path, destination: Some(destination) } => {
            let (uid, destination) = (engine.find_vm(query)?, PathBuf::from(destination));
            interruptible(engine.copy_out(&uid, path, &destination, options, listener)).await?;
        }
        Plan::Out { query, path, destination: None } => {
            if std::io::stdout().is_terminal() {
                let message = "an archive is not written to a terminal".to_owned();
                return Err(Hinted { message, hint: "give it to tar: ignite cp VM:PATH - | tar -x".into() }.into());
            }
            let uid = engine.find_vm(query)?;
            let output = Box::new(std::io::stdout());
            interruptible(engine.copy_out_archive(&uid, path, output, options, listener)).await?;
        }
    }
    Ok(0)
}

fn plan<'a>(source: &'a str, destination: &'a str) -> Result<Plan<'a>, Hinted> {
    let hinted = |message: &str, hint: &str| Hinted { message: message.into(), hint: hint.into() };
    match (end(source), end(destination)) {
        (End::Vm { .. }, End::Vm { .. }) => Err(hinted(
            "only one of source or destination can have VM name/ID",
            "copy over this host: ignite cp VM:PATH - | ignite cp - VM:PATH; a host path with a colon is written ./a:b",
        )),
        (End::Vm { query, path }, to) => {
            let destination = if let End::Host(path) = to { Some(path) } else { None };
            Ok(Plan::Out { query, path, destination })
        }
        (from, End::Vm { query, path }) => {
            let source = if let End::Host(path) = from { Some(path) } else { None };
            Ok(Plan::In { source, query, path })
        }
        (_, _) => Err(hinted(
            "no VM reference found in source or destination",
            "write one of them as VM:PATH, as in: ignite cp file my-vm:/root/",
        )),
    }
}

fn end(text: &str) -> End<'_> {
    if text == "-" {
        return End::Stream;
    }
    match text.split_once(':') {
        // As in Docker: what begins like a path is one.
        Some((query, path)) if !query.is_empty() && !query.contains('/') && !query.starts_with('.') => {
            End::Vm { query, path: if path.is_empty() { "/" } else { path } }
        }
        _ => End::Host(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_side_is_a_vm() {
        let into = |source, path| Ok(Plan::In { source, query: "vm", path });
        let out = |path, destination| Ok(Plan::Out { query: "vm", path, destination });
        let both = Err("only one of source or destination can have VM name/ID".to_owned());
        let none = Err("no VM reference found in source or destination".to_owned());
        for (source, destination, expected) in [
            ("f", "vm:/d", into(Some("f"), "/d")),
            ("./a:b", "vm:/d", into(Some("./a:b"), "/d")),
            ("/a:b", "vm:c:d", into(Some("/a:b"), "c:d")),
            ("a/b:c", "vm:", into(Some("a/b:c"), "/")),
            ("-", "vm:/d", into(None, "/d")),
            ("vm:/s", ".", out("/s", Some("."))),
            ("vm:/s/.", "d", out("/s/.", Some("d"))),
            ("vm:/s", "-", out("/s", None)),
            ("vm:/s", "vm:/d", both.clone()),
            ("a", "b", none.clone()),
            ("-", "-", none.clone()),
            (":a", "b", none.clone()),
        ] {
            assert_eq!(plan(source, destination).map_err(|e| e.message), expected, "{source} {destination}");
        }
    }
}
