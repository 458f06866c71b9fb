//! What a shell offers where a VM, an image or a kernel is named: those there are, each where its state makes sense.
//!
//! The completion script of [`crate::commands::completion`] asks this program itself, so that names are those of now. An
//! argument is told by its value name: `VM`, `IMAGE`, `KERNEL`.

use crate::cli::{Cli, GlobalFlags};
use crate::settings::{self, Host};
use clap::builder::StyledStr;
use clap::{Arg, Command, CommandFactory};
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter};
use clap_complete::env::CompleteEnv;
use ignite_api::{Phase, Vm};
use ignite_engine::Engine;
use std::ffi::{OsStr, OsString};

/// Variable by which a completion script asks; its value is the shell.
pub const VARIABLE: &str = "IGNITE_COMPLETE";

/// Answers a completion script and ends, where it is one that asks.
pub fn answer() {
    CompleteEnv::with_factory(|| with_candidates(Cli::command())).var(VARIABLE).complete();
}

/// What an argument names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Named {
    Vm(Wanted),
    Image,
    Kernel,
    /// A VM and a path in it, or a path here.
    Place,
}

/// VMs that a command makes sense for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Any,
    Live,
    AtRest,
    Paused,
}

impl Wanted {
    fn of(command: &str) -> Wanted {
        match command {
            "stop" | "kill" | "exec" | "attach" | "ssh" | "proxy" | "stats" | "pause" => Wanted::Live,
            "start" => Wanted::AtRest,
            "unpause" => Wanted::Paused,
            _ => Wanted::Any,
        }
    }

    fn includes(self, phase: Phase) -> bool {
        match self {
            Wanted::Any => true,
            Wanted::Live => phase.is_live(),
            Wanted::AtRest => !phase.is_live(),
            Wanted::Paused => phase == Phase::Paused,
        }
    }
}

/// The commands, with candidates for each argument that names an object.
fn with_candidates(command: Command) -> Command {
    let name = command.get_name().to_owned();
    command
        .mut_args(|argument| match named(&name, &argument) {
            Some(named) => argument.add(ArgValueCompleter::new(Completer(named))),
            None => argument,
        })
        .mut_subcommands(with_candidates)
}

fn named(command: &str, argument: &Arg) -> Option<Named> {
    let id = argument.get_id().as_str().to_uppercase();
    let value_name =
        argument.get_value_names().and_then(|names| names.first()).map_or(id.as_str(), |name| name.as_str());
    match value_name {
        "VM" | "VMS" => Some(Named::Vm(Wanted::of(command))),
        "IMAGE" | "IMAGES" => Some(Named::Image),
        "KERNEL" | "KERNELS" => Some(Named::Kernel),
        "SOURCE" | "DEST" if command == "cp" => Some(Named::Place),
        "OBJECT" if command == "inspect" => Some(Named::Vm(Wanted::Any)),
        _ => None,
    }
}

struct Completer(Named);

impl ValueCompleter for Completer {
    fn complete(&self, current: &OsStr) -> Vec<CompletionCandidate> {
        let mut found = self.objects();
        // Ids are there for whoever has begun to type one.
        found.retain(|candidate| candidate.get_value().as_encoded_bytes().starts_with(current.as_encoded_bytes()));
        if self.0 == Named::Place && !current.to_string_lossy().contains(':') {
            found.extend(PathCompleter::any().complete(current));
        }
        found
    }
}

impl Completer {
    /// None where anything fails: a shell can do nothing with an error.
    fn objects(&self) -> Vec<CompletionCandidate> {
        let Some(engine) = engine() else { return Vec::new() };
        match self.0 {
            Named::Vm(wanted) => vms(&engine)
                .iter()
                .filter(|vm| wanted.includes(vm.status.phase))
                .map(|vm| candidate(name_of(vm), vm.status.phase.to_string()))
                .collect(),
            Named::Place => vms(&engine)
                .iter()
                .filter(|vm| vm.status.phase.is_live())
                .map(|vm| candidate(format!("{}:", name_of(vm)), vm.status.phase.to_string()))
                .collect(),
            Named::Image => {
                let images = engine.list_images().unwrap_or_default();
                let size =
                    |source: Option<&ignite_api::image::OciSourceStatus>| source.map(|source| source.size.human());
                images
                    .into_iter()
                    .map(|image| {
                        candidate(image.metadata.name, size(image.status.oci_source.as_ref()).unwrap_or_default())
                    })
                    .collect()
            }
            Named::Kernel => {
                let kernels = engine.list_kernels().unwrap_or_default();
                kernels.into_iter().map(|kernel| candidate(kernel.metadata.name, kernel.status.version)).collect()
            }
        }
    }
}

fn candidate(name: impl Into<OsString>, help: String) -> CompletionCandidate {
    CompletionCandidate::new(name).help((!help.is_empty()).then(|| StyledStr::from(help)))
}

fn name_of(vm: &Vm) -> String {
    match (&vm.metadata.uid, vm.metadata.name.as_str()) {
        (Some(uid), "") => uid.to_string(),
        (_, name) => name.to_owned(),
    }
}

fn vms(engine: &Engine) -> Vec<Vm> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok();
    let listing = runtime.and_then(|runtime| runtime.block_on(engine.list()).ok());
    listing.map(|listing| listing.vms).unwrap_or_default()
}

/// The engine of the data directory that the line being typed names; absent where there is none yet.
fn engine() -> Option<Engine> {
    let words: Vec<String> = std::env::args().collect();
    let settings = settings::resolve(&typed_flags(&words), &Host::observe()).ok()?;
    // Looking must not make a directory.
    settings.data_dir.is_dir().then(|| Engine::open(settings.engine()).ok()).flatten()
}

/// The directories among the words of a line that is not finished.
fn typed_flags(words: &[String]) -> GlobalFlags {
    let value = |flag: &str| {
        words.iter().enumerate().find_map(|(index, word)| match word.strip_prefix(flag) {
            Some("") => words.get(index + 1).cloned(),
            Some(rest) => rest.strip_prefix('=').map(str::to_owned),
            None => None,
        })
    };
    GlobalFlags {
        data_dir: value("--data-dir").map(Into::into),
        run_dir: value("--run-dir").map(Into::into),
        ignite_config: value("--ignite-config").map(Into::into),
        ..GlobalFlags::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_argument_that_names_an_object_has_candidates_for_its_command() {
        let root = Cli::command();
        let mut seen = Vec::new();
        collect(&root, &mut seen);
        for expected in [
            ("stop", "vms", Named::Vm(Wanted::Live)),
            ("start", "vms", Named::Vm(Wanted::AtRest)),
            ("rm", "vms", Named::Vm(Wanted::Any)),
            ("exec", "vm", Named::Vm(Wanted::Live)),
            ("ssh", "vm", Named::Vm(Wanted::Live)),
            ("logs", "vm", Named::Vm(Wanted::Any)),
            ("attach", "vm", Named::Vm(Wanted::Live)),
            ("inspect", "kind_and_object", Named::Vm(Wanted::Any)),
            ("cp", "source", Named::Place),
            ("cp", "destination", Named::Place),
            ("run", "image_and_command", Named::Image),
            ("run", "kernel", Named::Kernel),
            ("rmi", "images", Named::Image),
            ("rmk", "kernels", Named::Kernel),
        ] {
            assert!(
                seen.contains(&(expected.0.to_owned(), expected.1.to_owned(), expected.2)),
                "{expected:?}: {seen:?}"
            );
        }
    }

    fn collect(command: &Command, seen: &mut Vec<(String, String, Named)>) {
        for argument in command.get_arguments() {
            if let Some(named) = named(command.get_name(), argument) {
                seen.push((command.get_name().to_owned(), argument.get_id().to_string(), named));
            }
        }
        command.get_subcommands().for_each(|command| collect(command, seen));
    }

    #[test]
    fn directories_are_read_from_an_unfinished_line() {
        let words: Vec<String> =
            "ignite --data-dir /d stop --run-dir=/r --ignite-conf".split(' ').map(str::to_owned).collect();
        let flags = typed_flags(&words);
        assert_eq!((flags.data_dir, flags.run_dir), (Some("/d".into()), Some("/r".into())));
        assert_eq!(flags.ignite_config, None);
        assert_eq!(typed_flags(&["--data-dir".to_owned()]).data_dir, None);
    }

    #[test]
    fn states_decide_which_vms_are_offered() {
        for (command, phase, is_offered) in [
            ("stop", Phase::Running, true),
            ("stop", Phase::Stopped, false),
            ("start", Phase::Stopped, true),
            ("start", Phase::Running, false),
            ("unpause", Phase::Paused, true),
            ("unpause", Phase::Running, false),
            ("rm", Phase::Running, true),
        ] {
            assert_eq!(Wanted::of(command).includes(phase), is_offered, "{command} {phase:?}");
        }
    }
}
