//! A VM of a test: it has a name of its own, and is removed when the test ends.

use crate::host::Host;
use crate::invocation::Invocation;
use crate::outcome::Outcome;
use crate::processes::{self, Process};
use crate::wait::{BOOT, QUICK, until};
use std::ffi::OsStr;
use std::fs;
use std::path::Path;

/// A VM of a test.
#[derive(Debug)]
pub struct Vm<'a> {
    host: &'a Host,
    name: String,
}

impl<'a> Vm<'a> {
    pub(crate) fn named(host: &'a Host, name: String) -> Vm<'a> {
        Vm { host, name }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `ignite run --name NAME ARGS`, not started yet.
    pub fn running<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Invocation {
        self.host.ignite(["run", "--name", &self.name]).args(args)
    }

    /// `ignite run --name NAME ARGS`.
    #[track_caller]
    pub fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Outcome {
        self.running(args).finish()
    }

    /// `ignite run -d --name NAME ARGS`, which succeeds.
    #[track_caller]
    pub fn run_in_background<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> &Self {
        self.running(["-d"]).args(args).finish().succeeds();
        self
    }

    /// `ignite create --name NAME ARGS`.
    #[track_caller]
    pub fn create<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Outcome {
        self.host.ignite(["create", "--name", &self.name]).args(args).finish()
    }

    /// `ignite VERB NAME`, for verbs with no other argument.
    #[track_caller]
    pub fn does(&self, verb: &str) -> Outcome {
        self.host.does([verb, &self.name])
    }

    /// `ignite exec NAME COMMAND`.
    #[track_caller]
    pub fn exec<S: AsRef<OsStr>>(&self, command: impl IntoIterator<Item = S>) -> Outcome {
        self.exec_with::<&str, S>([], command).finish()
    }

    /// `ignite exec OPTIONS NAME COMMAND`, not started yet.
    pub fn exec_with<O: AsRef<OsStr>, S: AsRef<OsStr>>(
        &self,
        options: impl IntoIterator<Item = O>,
        command: impl IntoIterator<Item = S>,
    ) -> Invocation {
        self.host.ignite(["exec"]).args(options).args([&self.name]).args(command)
    }

    /// `ignite exec NAME sh -c SCRIPT`.
    #[track_caller]
    pub fn sh(&self, script: &str) -> Outcome {
        self.exec(["sh", "-c", script])
    }

    /// The whole object.
    #[track_caller]
    pub fn inspect(&self) -> serde_json::Value {
        let outcome = self.host.ignite(["inspect", "vm", &self.name]).within(QUICK).finish();
        outcome.succeeds().json()
    }

    /// Where it is in its life, or `gone`.
    #[track_caller]
    pub fn phase(&self) -> String {
        let outcome = self.host.ignite(["inspect", "vm", &self.name]).within(QUICK).finish();
        if outcome.code != 0 {
            return "gone".into();
        }
        outcome.json()["status"]["phase"].as_str().expect("status.phase is a string").to_string()
    }

    /// Waits until it is in a phase.
    #[track_caller]
    pub fn becomes(&self, phase: &str) -> &Self {
        until(&format!("{} to be {phase}", self.name), BOOT, || (self.phase() == phase).then_some(()));
        self
    }

    /// Its uid.
    #[track_caller]
    pub fn uid(&self) -> String {
        self.inspect()["metadata"]["uid"].as_str().expect("metadata.uid is a string").to_string()
    }

    /// Its supervisor.
    #[track_caller]
    pub fn supervisor(&self) -> Option<Process> {
        let uid = self.uid();
        let is_supervisor = |process: &Process| process.name == "ignite-spawn" && process.command_line.contains(&uid);
        let mut all: Vec<Process> = processes::all().into_iter().filter(is_supervisor).collect();
        let pids: Vec<u32> = all.iter().map(|process| process.pid).collect();
        // Between fork and exec of a child there are two of that name.
        all.retain(|process| !pids.contains(&process.parent));
        all.into_iter().next()
    }

    /// The process that executes the guest.
    #[track_caller]
    pub fn vmm(&self) -> Option<Process> {
        let supervisor = self.supervisor()?;
        let name = crate::vmm::Vmm::wanted().process_name();
        processes::descendants(supervisor.pid).into_iter().find(|process| process.name.starts_with(name))
    }
}

impl Drop for Vm<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            show_logs(&self.host.data_dir(), Some(&self.name));
        }
        let _ = std::panic::catch_unwind(|| {
            self.host.ignite(["rm", "-f", &self.name]).within(BOOT).finish();
        });
    }
}

const SHOWN_LINES: usize = 25;

/// Prints the last lines of the logs of a VM, or of all VMs, of a data directory.
#[allow(clippy::print_stderr, reason = "a failing test's own words")]
pub(crate) fn show_logs(data: &Path, name: Option<&str>) {
    for vm in fs::read_dir(data.join("vm")).into_iter().flatten().flatten() {
        let record = fs::read_to_string(vm.path().join("metadata.json")).unwrap_or_default();
        if name.is_some_and(|name| !record.contains(&format!("\"name\": \"{name}\""))) {
            continue;
        }
        for log in ["metadata.json", "supervisor.log", "console.log", "task.log"] {
            let Ok(bytes) = fs::read(vm.path().join(log)) else { continue };
            let text = String::from_utf8_lossy(&bytes);
            let lines: Vec<&str> = text.lines().collect();
            let tail =
                if log.ends_with(".json") { &lines[..] } else { &lines[lines.len().saturating_sub(SHOWN_LINES)..] };
            if !tail.is_empty() {
                eprintln!("--- {}/{log}:\n{}", vm.file_name().to_string_lossy(), tail.join("\n"));
            }
        }
    }
}
