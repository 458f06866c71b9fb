//! `ignite logs`: what a task wrote, or a machine's console.

use crate::context::Context;
use crate::signals::interruptible;
use ignite_engine::{LogEntry, LogOptions, LogStream};
use std::io::{self, Write};

/// Flags of `logs`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Go on as more is written, until the VM ends
    #[arg(short, long)]
    pub follow: bool,
    /// Only the last lines: a number, or all
    #[arg(long, value_name = "N", value_parser = parse_tail, default_value = "all")]
    pub tail: Tail,
    /// Put the time before each line
    #[arg(short, long)]
    pub timestamps: bool,
    /// The serial console instead of the task's streams
    #[arg(long)]
    pub console: bool,
    /// Name or id
    pub vm: String,
}

/// `--tail`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tail(pub Option<usize>);

fn parse_tail(text: &str) -> Result<Tail, String> {
    match text {
        "all" => Ok(Tail(None)),
        _ => text.parse().map(|n| Tail(Some(n))).map_err(|_| "a number of lines, or all, is expected".to_owned()),
    }
}

/// Writes each stream where the task wrote it, raw.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    let engine = context.engine()?;
    let uid = engine.find_vm(&args.vm)?;
    let options = LogOptions { follow: args.follow, tail: args.tail.0, console: args.console };
    let copy = async {
        let mut reader = engine.logs(&uid, options).await?;
        let (mut stdout, mut stderr) = (Lines::new(args.timestamps), Lines::new(args.timestamps));
        let mut out = io::BufWriter::new(io::stdout());
        while let Some(entry) = reader.next().await? {
            match entry.stream {
                LogStream::Stdout | LogStream::Console => {
                    stdout.write(&mut out, &entry)?;
                    if args.follow {
                        out.flush()?;
                    }
                }
                LogStream::Stderr => {
                    out.flush()?;
                    stderr.write(&mut io::stderr().lock(), &entry)?;
                }
            }
        }
        out.flush()?;
        anyhow::Ok(0)
    };
    interruptible(copy).await
}

/// One stream's lines, which come in pieces.
struct Lines {
    timestamps: bool,
    is_at_start: bool,
}

impl Lines {
    fn new(timestamps: bool) -> Lines {
        Lines { timestamps, is_at_start: true }
    }

    fn write(&mut self, out: &mut impl Write, entry: &LogEntry) -> io::Result<()> {
        let Some(time) = entry.time.filter(|_| self.timestamps) else { return out.write_all(&entry.bytes) };
        for line in entry.bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.is_at_start {
                write!(out, "{time:.9} ")?;
            }
            out.write_all(line)?;
            self.is_at_start = line.ends_with(b"\n");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(bytes: &str) -> LogEntry {
        let time = Some("2026-01-02T03:04:05Z".parse().unwrap());
        LogEntry { stream: LogStream::Stdout, time, bytes: bytes.into() }
    }

    #[test]
    fn each_line_gets_its_time_once() {
        let mut out = Vec::new();
        let mut lines = Lines::new(true);
        for piece in ["a", "b\nc\n", "d"] {
            lines.write(&mut out, &entry(piece)).unwrap();
        }
        let time = "2026-01-02T03:04:05.000000000Z";
        assert_eq!(String::from_utf8(out).unwrap(), format!("{time} ab\n{time} c\n{time} d"));
    }

    #[test]
    fn tails_are_numbers_or_all() {
        assert_eq!(parse_tail("all"), Ok(Tail(None)));
        assert_eq!(parse_tail("0"), Ok(Tail(Some(0))));
        assert!(parse_tail("-1").is_err());
    }
}
