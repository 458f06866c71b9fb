//! `ignite events`: what happens to VMs, as it happens.

use crate::commands::print_line;
use crate::context::Context;
use crate::render::text::sanitize;
use crate::report::UsageError;
use crate::signals::interruptible;
use ignite_api::event::{Action, VmEvent};
use ignite_engine::EventOptions;
use jiff::{SignedDuration, Timestamp};

/// Flags of `events`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Also what has happened since then: a time (2026-01-02T03:04:05Z), seconds since 1970, or how long ago (10m)
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub since: Option<Timestamp>,
    /// Only until then, and no longer
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub until: Option<Timestamp>,
    /// Only these: event=ACTION, vm=NAME|ID (may be repeated; the same key twice means either)
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = Term::parse)]
    pub filter: Vec<Term>,
    /// How they are shown
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub format: Format,
}

/// `--format`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// A line for people
    #[default]
    Text,
    /// A JSON object a line
    Json,
}

/// A term of `--filter`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Term {
    /// By what happens.
    Event(Action),
    /// By name or id.
    Vm(String),
}

impl Term {
    fn parse(text: &str) -> Result<Term, String> {
        match text.split_once('=') {
            Some(("event", name)) => {
                let action = Action::ALL.into_iter().find(|action| action.as_str() == name);
                let known = Action::ALL.map(Action::as_str).join(", ");
                action.map(Term::Event).ok_or_else(|| format!("no event {name:?}: there are {known}"))
            }
            Some(("vm", name)) if !name.is_empty() => Ok(Term::Vm(name.to_owned())),
            _ => Err("event=ACTION or vm=NAME|ID is expected".to_owned()),
        }
    }
}

fn parse_time(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    if let Ok(seconds) = text.parse::<f64>() {
        let time = SignedDuration::try_from_secs_f64(seconds).ok().and_then(|d| Timestamp::from_duration(d).ok());
        return time.ok_or_else(|| "it is out of range".to_owned());
    }
    let ago = text.parse::<SignedDuration>().ok().and_then(|ago| Timestamp::now().checked_sub(ago).ok());
    ago.ok_or_else(|| {
        "a time such as 2026-01-02T03:04:05Z, seconds since 1970, or a duration such as 10m is expected".to_owned()
    })
}

/// Prints each as it comes, until interrupted or until `--until`.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    if args.since.zip(args.until).is_some_and(|(since, until)| until < since) {
        return Err(UsageError("--until is before --since".into()).into());
    }
    let mut reader = context.engine()?.events(EventOptions { since: args.since, until: args.until })?;
    let print_all = async {
        while let Some(event) = reader.next().await? {
            if is_wanted(&event, &args.filter) {
                print_line(if context.is_quiet() { event.uid.to_string() } else { line(&event, args.format) })?;
            }
        }
        anyhow::Ok(0)
    };
    interruptible(print_all).await
}

fn is_wanted(event: &VmEvent, terms: &[Term]) -> bool {
    let actions: Vec<bool> = terms
        .iter()
        .filter_map(|term| match term {
            Term::Event(action) => Some(*action == event.action),
            Term::Vm(_) => None,
        })
        .collect();
    let vms: Vec<bool> = terms
        .iter()
        .filter_map(|term| match term {
            Term::Vm(name) => Some(*name == event.name || event.uid.as_str().starts_with(name.as_str())),
            Term::Event(_) => None,
        })
        .collect();
    [actions, vms].iter().all(|alternatives| alternatives.is_empty() || alternatives.contains(&true))
}

/// As `docker events`: the time, what, which, and more in brackets.
fn line(event: &VmEvent, format: Format) -> String {
    match format {
        Format::Json => serde_json::to_string(event).unwrap_or_default(),
        Format::Text => {
            let mut more = vec![format!("name={}", event.name)];
            more.extend(event.attributes.iter().map(|(name, value)| format!("{name}={value}")));
            sanitize(&format!("{:.9} vm {} {} ({})", event.time, event.action.as_str(), event.uid, more.join(", ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ignite_api::Uid;

    fn event() -> VmEvent {
        let uid = Uid::parse("00000000000000ab").unwrap();
        let event = VmEvent::now(Action::Die, &uid, "web").with("exitCode", 7).with("reason", "a\u{1b}[31m\nb");
        VmEvent { time: "2026-01-02T03:04:05.5Z".parse().unwrap(), ..event }
    }

    #[test]
    fn an_event_is_a_line_as_dockers() {
        let text = line(&event(), Format::Text);
        assert!(
            text.starts_with("2026-01-02T03:04:05.500000000Z vm die 00000000000000ab (name=web, exitCode=7, reason=a"),
            "{text}"
        );
        assert!(!text.contains(['\u{1b}', '\n']), "{text:?}");
        assert!(line(&event(), Format::Json).starts_with(r#"{"time":"2026-01-02T03:04:05.5Z","action":"die","#));
    }

    #[test]
    fn terms_of_one_key_are_alternatives() {
        let terms = |texts: &[&str]| texts.iter().map(|text| Term::parse(text).unwrap()).collect::<Vec<_>>();
        for (texts, expected) in [
            (&[][..], true),
            (&["event=die"], true),
            (&["event=start"], false),
            (&["event=start", "event=die"], true),
            (&["vm=web", "event=die"], true),
            (&["vm=0000", "event=die"], true),
            (&["vm=we"], false),
            (&["vm=web", "event=start"], false),
        ] {
            assert_eq!(is_wanted(&event(), &terms(texts)), expected, "{texts:?}");
        }
        assert!(Term::parse("event=explode").unwrap_err().contains("unpause"));
        assert!(Term::parse("image=x").is_err());
    }

    #[test]
    fn times_are_given_in_three_ways() {
        assert_eq!(parse_time("2026-01-02T03:04:05Z").unwrap(), "2026-01-02T03:04:05Z".parse().unwrap());
        assert_eq!(parse_time("1.5").unwrap().as_millisecond(), 1500);
        let ten_minutes = SignedDuration::from_mins(10);
        let earliest = Timestamp::now() - ten_minutes;
        let ago = parse_time("10m").unwrap();
        assert!(earliest <= ago && ago <= Timestamp::now() - ten_minutes, "{ago}");
        assert!(parse_time("yesterday").is_err() && parse_time("1e300").is_err());
    }
}
