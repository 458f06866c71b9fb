//! The grammar: what is accepted, what it means, and the reference of it as a reviewed file.

use super::*;
use clap::error::ErrorKind;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split_whitespace())
}

fn command(line: &str) -> Command {
    match parse(line) {
        Ok(cli) => cli.command.unwrap_or_else(|| panic!("{line}: no command")),
        Err(error) => panic!("{line}: {error}"),
    }
}

#[test]
fn the_table_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn what_follows_the_image_belongs_to_the_command() {
    for (line, detach, interactive, words) in [
        ("ignite run busybox", false, false, &["busybox"][..]),
        ("ignite run -it busybox sh", false, true, &["busybox", "sh"]),
        ("ignite run -d busybox sleep -d 5 --rm", true, false, &["busybox", "sleep", "-d", "5", "--rm"]),
        ("ignite run busybox -it -- sh", false, false, &["busybox", "-it", "--", "sh"]),
        ("ignite run -- busybox sh -c true", false, false, &["busybox", "sh", "-c", "true"]),
        ("ignite vm run -i - cat -q", false, true, &["-", "cat", "-q"]),
    ] {
        let args = match command(line) {
            Command::Run(args) => args,
            Command::Vm(crate::commands::vm::Args {
                command: Some(crate::commands::vm::Command::Run(args)), ..
            }) => args,
            other => panic!("{line}: {other:?}"),
        };
        assert_eq!((args.detach, args.vm.interactive), (detach, interactive), "{line}");
        assert_eq!(args.vm.image_and_command, words, "{line}");
    }
}

#[test]
fn run_takes_dockers_and_weave_ignites_flags() {
    let line = "ignite run --rm --name n -e A=1 --env B --env-file f -w /w -u 1:2 --entrypoint e --cpus 2 --memory 1GB -s 8GB \
                -k linux --kernel-args quiet --init none --root-disk private --stop-timeout 3 -l a=b --label c=d --pull never \
                --network none -p 8080:80,1:2 --publish 3:4 --ports 5:6 --vmm qemu --hostname h redis";
    let Command::Run(args) = command(line) else { panic!() };
    let vm = args.vm;
    assert!(vm.rm && !vm.tty);
    assert_eq!(vm.env, ["A=1", "B"]);
    assert_eq!(vm.ports, ["8080:80", "1:2", "3:4", "5:6"]);
    assert_eq!(vm.label, ["a=b", "c=d"]);
    assert_eq!((vm.cpus, vm.stop_timeout), (Some(2), Some(3)));
    let Command::Create(args) = command("ignite create --kernel-image weaveworks/ignite-kernel:5.10.51 ubuntu") else {
        panic!()
    };
    assert_eq!(args.vm.kernel.as_deref(), Some("weaveworks/ignite-kernel:5.10.51"));
}

#[test]
fn global_flags_stand_before_or_after_the_command() {
    for line in ["ignite -q --data-dir /d ps -a", "ignite ps -a -q --data-dir /d", "ignite ps --quiet -a --data-dir=/d"]
    {
        let cli = parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert!(cli.global.quiet, "{line}");
        assert_eq!(cli.global.data_dir, Some("/d".into()), "{line}");
        assert!(matches!(cli.command, Some(Command::Ps(args)) if args.all), "{line}");
    }
}

#[test]
fn aliases_of_weave_ignite_are_kept() {
    use crate::commands::{image, kernel, vm};
    assert!(matches!(command("ignite images"), Command::Image(image::Args { command: None, .. })));
    assert!(matches!(command("ignite images -q"), Command::Image(_)));
    assert!(matches!(
        command("ignite image list"),
        Command::Image(image::Args { command: Some(image::Command::Ls(_)), .. })
    ));
    assert!(matches!(
        command("ignite kernels ls"),
        Command::Kernel(kernel::Args { command: Some(kernel::Command::Ls(_)), .. })
    ));
    assert!(matches!(command("ignite rmi -f a b"), Command::Rmi(args) if args.force && args.images.len() == 2));
    assert!(matches!(command("ignite rmk a"), Command::Rmk(_)));
    assert!(matches!(command("ignite vms"), Command::Vm(vm::Args { command: None, .. })));
    for line in ["ignite vm ls", "ignite vms list", "ignite vm ls -a"] {
        assert!(matches!(command(line), Command::Vm(vm::Args { command: Some(vm::Command::Ls(_)), .. })), "{line}");
    }
    assert!(matches!(command("ignite vm ps"), Command::Vm(vm::Args { command: Some(vm::Command::Ps(_)), .. })));
    assert!(matches!(command("ignite stop -f a"), Command::Stop(args) if args.force_kill));
    assert!(matches!(command("ignite inspect vm a"), Command::Inspect(args) if args.kind_and_object == ["vm", "a"]));
    assert!(matches!(command("ignite completion"), Command::Completion(_)));
    assert!(matches!(command("ignite version -o short"), Command::Version(_)));
}

#[test]
fn the_rest_of_the_grammar_is_accepted() {
    for line in [
        "ignite start a b",
        "ignite start -ai a",
        "ignite stop -t 5 a",
        "ignite stop --time 5 a",
        "ignite kill -s SIGUSR1 a",
        "ignite kill --signal=9 a b",
        "ignite restart -t 0 a",
        "ignite rm -f a b",
        "ignite ps -o wide",
        "ignite logs -f --tail 10 -t a",
        "ignite logs --console --tail all a",
        "ignite attach --no-stdin --detach-keys ctrl-a,d a",
        "ignite exec -it -e A=1 -u root -w / a sh -c true",
        "ignite exec a -- ls -la",
        "ignite inspect a -o yaml",
        "ignite wait a b",
        "ignite image import redis --name r",
        "ignite image import -",
        "ignite image pull redis",
        "ignite image prune",
        "ignite image inspect redis",
        "ignite image rm a",
        "ignite kernel import host --default",
        "ignite kernel import ./vmlinux --modules m --name n",
        "ignite kernel import apt:linux-image-cloud-amd64",
        "ignite kernel rm a",
        "ignite doctor",
        "ignite completion zsh",
        "ignite run --config vm.yaml",
        "ignite",
    ] {
        assert!(parse(line).is_ok(), "{line}: {}", parse(line).unwrap_err());
    }
}

#[test]
fn what_is_not_in_the_grammar_is_refused() {
    for (line, kind) in [
        ("ignite rnu busybox", ErrorKind::InvalidSubcommand),
        ("ignite run", ErrorKind::MissingRequiredArgument),
        ("ignite run --bogus busybox", ErrorKind::UnknownArgument),
        ("ignite run --cpus 0 busybox", ErrorKind::ValueValidation),
        ("ignite run --cpus 33 busybox", ErrorKind::ValueValidation),
        ("ignite run --memory 1.5GB busybox", ErrorKind::ValueValidation),
        ("ignite run --init systemd busybox", ErrorKind::InvalidValue),
        ("ignite exec", ErrorKind::MissingRequiredArgument),
        ("ignite kill -s NOPE a", ErrorKind::ValueValidation),
        ("ignite stop", ErrorKind::MissingRequiredArgument),
        ("ignite stop -f -t 5 a", ErrorKind::ArgumentConflict),
        ("ignite attach --detach-keys ctrl-1 a", ErrorKind::ValueValidation),
        ("ignite logs --tail x a", ErrorKind::ValueValidation),
        ("ignite image import UPPER", ErrorKind::ValueValidation),
        ("ignite inspect vm a b", ErrorKind::TooManyValues),
        ("ignite --version", ErrorKind::DisplayVersion),
        ("ignite run --help", ErrorKind::DisplayHelp),
    ] {
        assert_eq!(parse(line).expect_err(line).kind(), kind, "{line}");
    }
}

#[test]
fn usage_errors_are_blamed_on_the_command_meant() {
    for (line, caller) in [
        ("ignite run --bogus", Caller::Run),
        ("ignite --data-dir exec run --bogus", Caller::Run),
        ("ignite -q vm exec", Caller::Exec),
        ("ignite ps run", Caller::Other),
        ("ignite --log-level=x exec", Caller::Exec),
        ("ignite", Caller::Other),
    ] {
        let argv: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        assert_eq!(caller_of(&argv), caller, "{line}");
    }
}

#[test]
fn the_reference_of_every_command_is_reviewed() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/cli.md");
    let mut text = REFERENCE_HEAD.to_owned();
    let mut root = Cli::command().term_width(100);
    root.build();
    write_reference(&mut root, &mut text);
    if std::env::var_os("INSTA_UPDATE").is_some_and(|mode| mode == "always") {
        std::fs::write(&path, &text).unwrap();
    }
    let reviewed = std::fs::read_to_string(&path).unwrap_or_default();
    let stale = text.lines().zip(reviewed.lines()).find(|(is, was)| is != was);
    assert!(
        text == reviewed,
        "docs/reference/cli.md is stale at {stale:?}; review what INSTA_UPDATE=always cargo test -p ignite writes"
    );
}

const REFERENCE_HEAD: &str = "\
# Command line

Written by the program itself and kept true by a test; `ignite COMMAND --help` says the same. Differences from Weave Ignite
are in [coming-from-weave-ignite.md](../coming-from-weave-ignite.md), exit codes and the environment in
[COMPATIBILITY.md](../../COMPATIBILITY.md#command-line).
";

fn write_reference(command: &mut clap::Command, text: &mut String) {
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name()).to_owned();
    let aliases: Vec<_> = command.get_all_aliases().map(|alias| format!("`{alias}`")).collect();
    let help = command.render_long_help().to_string();
    let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
    // The flags of every command are shown once.
    let global = lines.iter().position(|line| *line == "Global options:").filter(|_| name != "ignite");
    let hidden: Vec<_> = command
        .get_arguments()
        .filter(|argument| argument.is_hide_set() && !argument.is_global_set())
        .filter_map(|argument| Some(format!("`--{}`", argument.get_long()?)))
        .collect();
    *text += &format!("\n## {name}\n\n");
    if !aliases.is_empty() {
        *text += &format!("Also: {}.\n\n", aliases.join(", "));
    }
    *text += &format!("```text\n{}\n```\n", lines[..global.unwrap_or(lines.len())].join("\n").trim_end());
    if !hidden.is_empty() {
        *text += &format!("\nAlso accepted, not shown above: {}.\n", hidden.join(", "));
    }
    let is_group_of_vms = name == "ignite vm";
    for subcommand in command.get_subcommands_mut().filter(|subcommand| subcommand.get_name() != "help") {
        match subcommand.get_name() {
            // They are the same commands, which `the_group_of_vms_repeats_the_commands_above_it` sees to.
            name if is_group_of_vms && name != "ls" => {
                *text += &format!("\n- `ignite vm {name}` is [ignite {name}](#ignite-{name})\n");
            }
            _ => write_reference(subcommand, text),
        }
    }
}

#[test]
fn the_group_of_vms_repeats_the_commands_above_it() {
    let mut root = Cli::command();
    root.build();
    let flags = |command: &clap::Command| {
        let mut ids: Vec<_> = command.get_arguments().map(|argument| argument.get_id().to_string()).collect();
        ids.sort();
        ids
    };
    let group = root.find_subcommand("vm").unwrap();
    for command in group.get_subcommands().filter(|command| !matches!(command.get_name(), "ls" | "help")) {
        let above = root.find_subcommand(command.get_name());
        let above = above.unwrap_or_else(|| panic!("ignite vm {} has no command above it", command.get_name()));
        assert_eq!(flags(command), flags(above), "ignite vm {}", command.get_name());
    }
}
