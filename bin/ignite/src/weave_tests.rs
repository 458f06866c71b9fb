//! Every command, alias and flag of Weave Ignite is accepted, or stands among the differences. What each does is
//! asserted by `tests/e2e/tests/behaviour/weave.rs`, which goes by the same list.

use super::*;

const LIST: &str = include_str!("../tests/weave-ignite-v0.10.txt");
const DIFFERENCES: &str = include_str!("../../../docs/coming-from-weave-ignite.md");

struct Flag<'a> {
    long: &'a str,
    short: Option<char>,
    differs: bool,
}

/// A line of the list: the command's words, its aliases, its flags.
fn lines() -> impl Iterator<Item = (Vec<&'static str>, Vec<&'static str>, Vec<Flag<'static>>)> {
    LIST.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).map(|line| {
        let words: Vec<_> = line.split(' ').collect();
        let (flags, words): (Vec<_>, Vec<_>) = words.into_iter().partition(|word| word.starts_with("--"));
        let mut parts = words.split(|word| *word == "=");
        let command = parts.next().unwrap_or_default().to_vec();
        let aliases = parts.next().unwrap_or_default().to_vec();
        let flags = flags.into_iter().map(|flag| {
            let (names, differs) = flag.strip_suffix('~').map_or((flag, false), |names| (names, true));
            let (long, short) = names.split_once("/-").unwrap_or((names, ""));
            Flag { long: long.trim_start_matches("--"), short: short.chars().next(), differs }
        });
        (command, aliases, flags.collect())
    })
}

#[test]
fn every_command_alias_and_flag_of_weave_ignite_is_accepted_or_a_documented_difference() {
    let mut root = Cli::command();
    root.build();
    let mut count = 0;
    for (words, aliases, flags) in lines() {
        let name = words.join(" ");
        let path = if words == ["ignite"] { &[][..] } else { &words[..] };
        let command = path.iter().fold(&root, |command, word| {
            command.find_subcommand(word).unwrap_or_else(|| panic!("there is no command {name}"))
        });
        for alias in aliases {
            assert!(command.get_all_aliases().any(|known| known == alias), "{name} has no alias {alias}");
        }
        for Flag { long, short, differs } in flags {
            count += 1;
            let found = command.get_arguments().find(|argument| {
                argument.get_long() == Some(long) || argument.get_all_aliases().unwrap_or_default().contains(&long)
            });
            let found = found.unwrap_or_else(|| panic!("{name} has no flag --{long}"));
            if differs {
                assert!(DIFFERENCES.contains(&format!("--{long}")), "--{long} of {name} differs and is not documented");
            } else {
                let is_same = short.is_none() || found.get_short() == short;
                assert!(is_same, "{name} --{long} has another short form than {short:?}");
            }
        }
    }
    assert!(count > 100, "the list has been read: {count} flags");
}
