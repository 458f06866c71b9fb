//! `ignite stack logs`: what the VMs of a stack write, each line after its VM's name.

use super::vms_of;
use crate::context::Context;
use crate::signals::interruptible;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use ignite_api::Vm;
use ignite_engine::{Engine, EngineError, LogOptions};
use std::io::{self, Write};

/// Longest piece of a line that is kept until its end comes.
const MAX_PARTIAL: usize = 64 << 10;

/// Flags of `stack logs`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Go on as more is written, until all VMs have ended
    #[arg(short, long)]
    pub follow: bool,
    /// Only the last lines of each VM
    #[arg(long, value_name = "N")]
    pub tail: Option<usize>,
    /// Name of the stack
    pub stack: String,
}

/// Writes lines as they come, those of one VM in their order.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    let engine = context.engine()?;
    let vms = vms_of(&args.stack, context).await?;
    let width = vms.iter().map(|vm| vm.metadata.name.len()).max().unwrap_or(0);
    let options = LogOptions { follow: args.follow, tail: args.tail, console: false };
    let mut work: FuturesUnordered<_> = vms.iter().map(|vm| copy(engine, vm, options.clone(), width)).collect();
    let all = async {
        while let Some(result) = work.next().await {
            result?;
        }
        anyhow::Ok(0)
    };
    interruptible(all).await
}

async fn copy(engine: &Engine, vm: &Vm, options: LogOptions, width: usize) -> anyhow::Result<()> {
    let Some(uid) = &vm.metadata.uid else { return Ok(()) };
    let mut reader = match engine.logs(uid, options).await {
        Ok(reader) => reader,
        // It has never been started, or is gone.
        Err(EngineError::File { .. } | EngineError::Store(_)) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let mut lines = Lines { name: format!("{:width$} | ", vm.metadata.name), partial: Vec::new() };
    while let Some(entry) = reader.next().await? {
        lines.write(&mut io::stdout().lock(), &entry.bytes)?;
    }
    Ok(lines.finish(&mut io::stdout().lock())?)
}

/// Whole lines, so that those of several VMs do not mix.
struct Lines {
    name: String,
    partial: Vec<u8>,
}

impl Lines {
    fn write(&mut self, out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.partial.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.partial.len() >= MAX_PARTIAL {
                self.finish(out)?;
            }
        }
        out.flush()
    }

    fn finish(&mut self, out: &mut impl Write) -> io::Result<()> {
        if self.partial.is_empty() {
            return Ok(());
        }
        out.write_all(self.name.as_bytes())?;
        out.write_all(&self.partial)?;
        if !self.partial.ends_with(b"\n") {
            out.write_all(b"\n")?;
        }
        self.partial.clear();
        out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_written_whole_after_the_name() {
        let mut out = Vec::new();
        let mut lines = Lines { name: "web | ".to_owned(), partial: Vec::new() };
        for piece in ["a", "b\nc\n", "", "d"] {
            lines.write(&mut out, piece.as_bytes()).unwrap();
        }
        lines.finish(&mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "web | ab\nweb | c\nweb | d\n");
    }
}
