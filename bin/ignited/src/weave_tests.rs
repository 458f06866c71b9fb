//! Every command and flag of Weave Ignite's `ignited` is accepted and means what it meant, or stands among the differences.

use crate::cli::{Cli, Command};

use clap::{CommandFactory, Parser};
use ignite::commands::pull_source::Runtime;
use ignite::commands::version::Output;
use ignite::settings::{self, Host, Settings};
use std::time::Duration;

const DIFFERENCES: &str = include_str!("../../../docs/coming-from-weave-ignite.md");

/// Words of a command, and its flags with their short forms; a `~` marks one whose meaning or default differs.
const COMMANDS: [(&str, &str); 5] = [
    ("", "log-level runtime~ network-plugin~ id-prefix~ ignite-config help/h"),
    ("daemon", ""),
    ("gitops", "branch/b~ interval timeout identity-file hosts-file~ https-username https-password~"),
    ("completion", ""),
    ("version", "output/o"),
];

#[test]
fn every_command_and_flag_is_there_and_differences_are_documented() {
    let mut root = Cli::command();
    root.build();
    let section = DIFFERENCES.split("\n## `ignited`").nth(1).expect("a section on ignited");
    for (name, flags) in COMMANDS {
        let command = match name {
            "" => &root,
            name => root.find_subcommand(name).unwrap_or_else(|| panic!("there is no command {name}")),
        };
        for flag in flags.split_whitespace() {
            let (names, differs) = flag.strip_suffix('~').map_or((flag, false), |names| (names, true));
            let (long, short) = names.split_once('/').unwrap_or((names, ""));
            let found = command.get_arguments().find(|argument| {
                argument.get_long() == Some(long) || argument.get_all_aliases().unwrap_or_default().contains(&long)
            });
            let found = found.unwrap_or_else(|| panic!("{name:?} has no flag --{long}"));
            assert!(short.is_empty() || found.get_short() == short.chars().next(), "{name:?} --{long}");
            assert!(!differs || section.contains(&format!("--{long}")), "--{long} of {name:?} is not documented");
        }
    }
}

fn parse(line: &str) -> Cli {
    Cli::try_parse_from(line.split_whitespace()).unwrap_or_else(|error| panic!("{line}: {error}"))
}

fn settings_of(line: &str) -> Settings {
    let cli = parse(line);
    let host = Host { uid: 0, ..Host::default() };
    let mut settings = settings::resolve(&cli.global, &host).expect("settings");
    cli.defaults.apply(&mut settings).expect("flags");
    settings
}

#[test]
fn persistent_flags_stand_before_or_after_the_command() {
    for line in [
        "ignited --log-level debug --runtime docker --network-plugin docker-bridge --id-prefix lab daemon",
        "ignited daemon --log-level debug --runtime docker --network-plugin docker-bridge --id-prefix lab",
        "ignited gitops --runtime docker https://example.org/a.git --id-prefix lab --network docker-bridge --log-level=debug",
    ] {
        let settings = settings_of(line);
        assert_eq!(settings.runtime, Runtime::Docker, "{line}");
        assert_eq!(settings.vm_defaults.network.mode.as_deref(), Some("docker-bridge"), "{line}");
        assert_eq!(settings.id_prefix.as_deref(), Some("lab"), "{line}");
        assert_eq!(settings.log_level, tracing::level_filters::LevelFilter::DEBUG, "{line}");
    }
    assert_eq!(settings_of("ignited daemon").vm_defaults.network.mode, None);
    assert_eq!(settings_of("ignited --network auto daemon").vm_defaults.network.mode, None);
    let refused = parse("ignited --id-prefix ../x daemon").defaults.apply(&mut settings_of("ignited daemon"));
    assert!(refused.is_err_and(|error| error.to_string().contains("id prefix")));
}

#[test]
fn flags_of_gitops_mean_what_they_meant() {
    let line = "ignited gitops ssh://git@example.org/a.git -b main --interval 1m30s --timeout 10s --identity-file ~/.ssh/id \
                --hosts-file= --https-username me --https-password secret";
    let Some(Command::Gitops(args)) = parse(line).command else { panic!("gitops") };
    assert_eq!(args.urls, ["ssh://git@example.org/a.git"]);
    assert_eq!(args.branch.as_deref(), Some("main"));
    assert_eq!((args.interval, args.timeout), (Duration::from_secs(90), Duration::from_secs(10)));
    assert_eq!(args.identity_file.as_deref(), Some("~/.ssh/id"));
    assert_eq!(args.hosts_file.as_deref(), Some(""), "an empty one is none, as ever");
    assert_eq!(args.https_username.as_deref(), Some("me"));
    assert_eq!(args.https_password.as_deref(), Some("secret"));
    let Some(Command::Gitops(args)) = parse("ignited gitops file:///srv/a.git").command else { panic!("gitops") };
    assert_eq!((args.interval, args.timeout), (Duration::from_secs(30), Duration::from_secs(60)), "the old defaults");
    assert_eq!(args.branch, None, "the remote's HEAD, which was master once");
}

#[test]
fn the_rest_is_as_it_was() {
    assert!(parse("ignited").command.is_none(), "help");
    assert!(matches!(parse("ignited completion").command, Some(Command::Completion(_))));
    for (form, expected) in [("short", Output::Short), ("json", Output::Json), ("yaml", Output::Yaml)] {
        let Some(Command::Version(args)) = parse(&format!("ignited version -o {form}")).command else {
            panic!("{form}")
        };
        assert_eq!(args.output, Some(expected));
    }
}
