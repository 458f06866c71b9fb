//! What a VM runs: the image's configuration and the VM's wishes put together as Docker does.
//!
//! Source: Docker's `runconfig.Merge` and image-spec 1.1, config.md.

use crate::image::ImageConfig;
use crate::vm::{EnvVar, InitMode, Vm, VmSpec};

/// The init that makes an image a machine.
pub const INIT_PATH: &str = "/sbin/init";

/// Programs an ENTRYPOINT names to say that the image boots its own init.
const INIT_PROGRAMS: [&str; 4] = [INIT_PATH, "/usr/sbin/init", "/lib/systemd/systemd", "/usr/lib/systemd/systemd"];

/// A process as image and VM ask for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProcessSpec {
    /// Program and arguments; empty when neither image nor VM name anything.
    pub args: Vec<String>,
    /// The image's environment overlaid with the VM's: each name once, in order of first appearance.
    pub env: Vec<EnvVar>,
    /// `user[:group]`, names or numbers; empty: root.
    pub user: String,
    /// Working directory, absolute; empty: `/`.
    pub working_dir: String,
}

/// Whether a VM is a task or a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// `ignite-init` stays PID 1 and runs one command; the VM ends with it.
    Task {
        /// Program and arguments, at least one.
        args: Vec<String>,
    },
    /// The image's init is PID 1.
    Machine {
        /// Init and its arguments, at least one.
        init: Vec<String>,
    },
}

/// Why there is nothing to run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NothingToRun {
    /// The image names no command and none was given.
    #[error("the image has neither a command nor {INIT_PATH}, and no command was given")]
    NoCommand,
    /// The image's init was asked for, and there is none.
    #[error("the image has no {INIT_PATH} to boot")]
    NoInit,
}

impl Vm {
    /// The process this VM runs when it is a task of an image with this configuration.
    pub fn process_for(&self, image: &ImageConfig) -> ProcessSpec {
        process_for(&self.spec, image)
    }
}

/// Puts image and VM together.
///
/// - `command` replaces ENTRYPOINT and drops CMD; `[]` or `[""]` leaves no ENTRYPOINT, as `--entrypoint ""` does.
/// - `args` replaces CMD.
/// - `env` is overlaid on ENV, `user` and `workingDir` replace USER and WORKDIR when they are not empty.
pub fn process_for(spec: &VmSpec, image: &ImageConfig) -> ProcessSpec {
    let non_empty = |wish: &Option<String>, image: &str| {
        wish.as_deref().filter(|wish| !wish.is_empty()).unwrap_or(image).to_owned()
    };
    ProcessSpec {
        args: args_for(spec, image),
        env: merge_env(&image.env, &spec.env),
        user: non_empty(&spec.user, &image.user),
        working_dir: non_empty(&spec.working_dir, &image.working_dir),
    }
}

/// Decides whether the VM is a task or a machine.
///
/// `auto` is a machine when the image has an init, no command was given, and the image has no ENTRYPOINT of its own: an
/// ENTRYPOINT says what the image is for even where a stray init lies about, as in every Alpine-based image. An image whose
/// ENTRYPOINT is an init is a machine as well. With `image`, a command replaces the init and `args` are its
/// arguments.
pub fn decide_role(spec: &VmSpec, image: &ImageConfig, has_init: bool) -> Result<Role, NothingToRun> {
    match spec.init {
        InitMode::None => task(spec, image),
        InitMode::Image => machine(spec, has_init),
        InitMode::Auto if has_init && !is_command_given(spec) && is_made_for_init(image) => machine(spec, has_init),
        InitMode::Auto => task(spec, image),
    }
}

fn task(spec: &VmSpec, image: &ImageConfig) -> Result<Role, NothingToRun> {
    let args = args_for(spec, image);
    if args.is_empty() { Err(NothingToRun::NoCommand) } else { Ok(Role::Task { args }) }
}

fn machine(spec: &VmSpec, has_init: bool) -> Result<Role, NothingToRun> {
    let mut init = entrypoint(spec.command.as_deref().unwrap_or_default());
    if init.is_empty() {
        if !has_init {
            return Err(NothingToRun::NoInit);
        }
        init.push(INIT_PATH.to_owned());
    }
    init.extend(spec.args.iter().flatten().cloned());
    Ok(Role::Machine { init })
}

fn is_command_given(spec: &VmSpec) -> bool {
    spec.command.is_some() || spec.args.as_ref().is_some_and(|args| !args.is_empty())
}

/// Whether words that follow the image in a command line have a program that gets them: its ENTRYPOINT, unless that is an
/// init.
pub fn takes_arguments(image: &ImageConfig) -> bool {
    !is_made_for_init(image)
}

fn is_made_for_init(image: &ImageConfig) -> bool {
    match entrypoint(&image.entrypoint).first() {
        Some(program) => INIT_PROGRAMS.contains(&program.as_str()),
        None => true,
    }
}

fn args_for(spec: &VmSpec, image: &ImageConfig) -> Vec<String> {
    let (mut args, image_cmd) = match &spec.command {
        Some(command) => (entrypoint(command), None),
        None => (entrypoint(&image.entrypoint), Some(&image.cmd)),
    };
    args.extend(spec.args.as_ref().or(image_cmd).into_iter().flatten().cloned());
    args
}

/// Docker reads `[""]` as no entrypoint.
fn entrypoint(words: &[String]) -> Vec<String> {
    match words {
        [word] if word.is_empty() => Vec::new(),
        words => words.to_vec(),
    }
}

/// A name without `=` in the image's ENV is a variable without value, which Docker leaves out.
fn merge_env(image: &[String], wishes: &[EnvVar]) -> Vec<EnvVar> {
    let from_image = image.iter().filter_map(|entry| entry.split_once('='));
    let from_spec = wishes.iter().map(|var| (var.name.as_str(), var.value.as_str()));
    let mut merged: Vec<EnvVar> = Vec::new();
    let mut position = std::collections::HashMap::new();
    for (name, value) in from_image.chain(from_spec).filter(|(name, _)| !name.is_empty()) {
        let index = *position.entry(name).or_insert(merged.len());
        match merged.get_mut(index) {
            Some(var) => value.clone_into(&mut var.value),
            None => merged.push(EnvVar { name: name.to_owned(), value: value.to_owned(), value_from: None }),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(|word| if word == "''" { String::new() } else { word.to_owned() }).collect()
    }

    fn image(entrypoint: &str, cmd: &str) -> ImageConfig {
        ImageConfig { entrypoint: words(entrypoint), cmd: words(cmd), ..ImageConfig::default() }
    }

    fn wishes(init: InitMode, command: Option<&str>, args: Option<&str>) -> VmSpec {
        VmSpec { init, command: command.map(words), args: args.map(words), ..VmSpec::default() }
    }

    #[test]
    fn entrypoint_and_cmd_combine_as_in_docker() {
        for (entrypoint, cmd, command, args, expected) in [
            ("e", "c", None, None, "e c"),
            ("e", "c", None, Some("a b"), "e a b"),
            ("e", "c", None, Some(""), "e"),
            ("e", "c", Some("x"), None, "x"),
            ("e", "c", Some("x y"), Some("a"), "x y a"),
            ("e", "c", Some("''"), None, ""),
            ("e", "c", Some(""), Some("a"), "a"),
            ("''", "c", None, None, "c"),
            ("", "c", None, None, "c"),
            ("", "", None, Some("a"), "a"),
            ("", "", None, None, ""),
        ] {
            let spec = wishes(InitMode::Auto, command, args);
            let process = process_for(&spec, &image(entrypoint, cmd));
            assert_eq!(process.args.join(" "), expected, "{entrypoint:?} {cmd:?} {command:?} {args:?}");
        }
    }

    #[test]
    fn the_vms_environment_overlays_the_images() {
        let image_config = ImageConfig {
            env: ["PATH=/bin", "A=1", "EMPTY=", "NOVALUE", "=x", "B=x=y"].map(str::to_owned).to_vec(),
            user: "redis".to_owned(),
            working_dir: "/data".to_owned(),
            ..ImageConfig::default()
        };
        let var = |name: &str, value: &str| EnvVar { name: name.to_owned(), value: value.to_owned(), value_from: None };
        let mut vm = Vm::new(crate::ObjectMeta::default(), VmSpec::default());
        vm.spec.env = vec![var("A", "2"), var("C", "3"), var("C", "4")];
        let process = vm.process_for(&image_config);
        let expected = [("PATH", "/bin"), ("A", "2"), ("EMPTY", ""), ("B", "x=y"), ("C", "4")];
        assert_eq!(process.env, expected.map(|(name, value)| var(name, value)));
        assert_eq!((process.user.as_str(), process.working_dir.as_str()), ("redis", "/data"));
        vm.spec.user = Some("0:0".to_owned());
        vm.spec.working_dir = Some("/srv".to_owned());
        let process = vm.process_for(&image_config);
        assert_eq!((process.user.as_str(), process.working_dir.as_str()), ("0:0", "/srv"));
    }

    #[test]
    fn tasks_and_machines_are_told_apart() {
        use InitMode::{Auto, Image, None as Never};
        type Row<'a> = (InitMode, bool, (&'a str, &'a str), (Option<&'a str>, Option<&'a str>), &'a str);
        let rows: [Row<'_>; 20] = [
            // A Debian image with systemd: its CMD is a shell, or the init itself.
            (Auto, true, ("", "bash"), (None, None), "machine /sbin/init"),
            (Auto, true, ("", "/sbin/init"), (None, None), "machine /sbin/init"),
            (Auto, true, ("", ""), (None, None), "machine /sbin/init"),
            (Auto, true, ("/lib/systemd/systemd", ""), (None, None), "machine /sbin/init"),
            (Auto, true, ("", "bash"), (None, Some("uname -a")), "task uname -a"),
            (Auto, true, ("", "bash"), (Some("uname"), None), "task uname"),
            (Auto, true, ("", "bash"), (None, Some("")), "machine /sbin/init"),
            // Redis on Alpine: busybox put an init there, the ENTRYPOINT says what it is for.
            (
                Auto,
                true,
                ("docker-entrypoint.sh", "redis-server"),
                (None, None),
                "task docker-entrypoint.sh redis-server",
            ),
            // No init at all.
            (Auto, false, ("", "sh"), (None, None), "task sh"),
            (Auto, false, ("", ""), (None, Some("true")), "task true"),
            (Auto, false, ("", ""), (None, None), "NoCommand"),
            (Auto, false, ("e", "c"), (Some("''"), None), "NoCommand"),
            (Image, true, ("e", "c"), (None, None), "machine /sbin/init"),
            (Image, true, ("e", "c"), (None, Some("single")), "machine /sbin/init single"),
            (Image, true, ("e", "c"), (Some("/bin/openrc"), None), "machine /bin/openrc"),
            (Image, false, ("e", "c"), (Some("/bin/openrc"), Some("x")), "machine /bin/openrc x"),
            (Image, false, ("e", "c"), (None, None), "NoInit"),
            (Never, true, ("", "bash"), (None, None), "task bash"),
            (Never, true, ("", ""), (None, None), "NoCommand"),
            (Never, true, ("e", ""), (None, Some("a")), "task e a"),
        ];
        for row in rows {
            let (init, has_init, (entrypoint, cmd), (command, args), expected) = row;
            let outcome = match decide_role(&wishes(init, command, args), &image(entrypoint, cmd), has_init) {
                Ok(Role::Task { args }) => format!("task {}", args.join(" ")),
                Ok(Role::Machine { init }) => format!("machine {}", init.join(" ")),
                Err(nothing) => format!("{nothing:?}"),
            };
            assert_eq!(outcome, expected, "{row:?}");
        }
    }
}
