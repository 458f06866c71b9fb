//! At the prompt of a shell: completion by the shells themselves, and colours.

use ignite_e2e::images::busybox;
use ignite_e2e::invocation::Invocation;
use ignite_e2e::{Host, Report, Terminal};

/// A shell that finds `ignite` and the objects of `host`.
fn shell(host: &Host, name: &str) -> Invocation {
    let programs = ignite_e2e::host::program("ignite");
    let directory = programs.parent().expect("a directory").display();
    let path = format!("{directory}:{}", std::env::var("PATH").unwrap_or_default());
    let shell = Invocation::new(name).env("PATH", path).env("HOME", host.path("")).env("PS1", "> ");
    shell.env("IGNITE_DATA_DIR", host.data_dir()).env("IGNITE_RUN_DIR", host.run_dir())
}

fn is_here(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}

pub fn bash_zsh_and_fish_offer_the_vms_that_a_command_makes_sense_for() -> Report {
    let host = Host::new();
    host.does(["create", "--name", "at-rest", busybox(), "true"]).succeeds();
    let mut missing = Vec::new();
    for (name, check) in [("bash", bash as fn(&Host)), ("zsh", zsh), ("fish", fish)] {
        if is_here(name) {
            check(&host);
        } else {
            missing.push(name);
        }
    }
    host.does(["rm", "at-rest"]).succeeds();
    host.assert_nothing_left();
    if missing.is_empty() { Ok(()) } else { Err(format!("not installed: {}", missing.join(", "))) }
}

fn bash(host: &Host) {
    let script = host.does(["completion"]).succeeds().text();
    Invocation::new("bash").args(["-n"]).stdin(script).finish().succeeds();
    let mut terminal = Terminal::open(shell(host, "bash").args(["--norc", "--noprofile", "-i"]));
    terminal.shows("> ").types("source <(ignite completion)\r").shows("> ");
    // A VM at rest can be started and removed; there is nothing to stop.
    terminal.types("ignite start at\t").shows("ignite start at-rest").types("\x03").shows("> ");
    terminal.types("ignite rm at\t").shows("ignite rm at-rest").types("\x03").shows("> ");
    terminal.types("ignite stop at\t<").shows("ignite stop at").shows("<").types("\x03").shows("> ");
    terminal.types("ignite ver\t").shows("ignite version").types("\r").shows("Ignite version: v").shows("> ");
    terminal.types("exit\r");
    terminal.finish().succeeds().does_not_say("stop at-rest");
}

fn zsh(host: &Host) {
    let mut terminal = Terminal::open(shell(host, "zsh").args(["-f", "-i"]));
    // What it draws of its line editor is of no use here.
    terminal.types("unsetopt zle_bracketed_paste prompt_cr prompt_sp 2>/dev/null; PROMPT='> '\r").shows("> ");
    terminal.types("autoload -U compinit && compinit -D -u && source <(ignite completion zsh) && echo re''ady\r");
    terminal.shows("ready").shows("> ");
    terminal.types("ignite start at\t").shows("at-rest").types("\x03").shows("> ");
    terminal.types("ignite rm at\t").shows("at-rest").types("\x03").shows("> ");
    terminal.types("ignite compl\t").shows("completion").types("\x03").shows("> ");
    terminal.types("echo none=$(ignite ps -q)\r").shows("none=").shows("> ");
    terminal.types("exit\r");
    terminal.finish();
}

/// It says itself what it would offer.
fn fish(host: &Host) {
    let offers = |line: &str| {
        let script = format!("ignite completion fish | source; complete -C {line:?}");
        let outcome = shell(host, "fish").args(["--no-config", "-c", &script]).finish();
        let text = outcome.succeeds().text();
        text.lines().map(|line| line.split('\t').next().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(offers("ignite start at"), ["at-rest"]);
    assert_eq!(offers("ignite rm at"), ["at-rest"]);
    assert!(!offers("ignite stop at").iter().any(|word| word == "at-rest"));
    assert!(offers("ignite ver").contains(&"version".to_owned()));
    let flags = offers("ignite run --mem");
    assert!(flags.contains(&"--memory".to_owned()), "{flags:?}");
}

pub fn colours_are_for_terminals() {
    const ESCAPE: &str = "\u{1b}[";
    let host = Host::new();
    let wrong = || host.ignite(["rnu"]);
    let on_a_terminal = Terminal::open(wrong()).finish();
    on_a_terminal.exits(2).says("rnu").says(ESCAPE);
    Terminal::open(wrong().env("NO_COLOR", "1")).finish().exits(2).says("rnu").does_not_say(ESCAPE);
    let in_a_pipe = wrong().finish();
    assert!(in_a_pipe.code == 2 && !in_a_pipe.errors().contains(ESCAPE), "{in_a_pipe}");
}
