//! Whether a running VM does its work: `spec.healthCheck` and `status.health`, with Docker's rules.

use serde::de::{self, Deserializer, SeqAccess};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Time between two looks, unless said otherwise (Docker: `--health-interval`).
const INTERVAL: Duration = Duration::from_secs(30);
/// Longest one look takes (Docker: `--health-timeout`).
const TIMEOUT: Duration = Duration::from_secs(30);
/// Time between two looks while the VM may still be starting (Docker: `--health-start-interval`).
const START_INTERVAL: Duration = Duration::from_secs(5);
/// Failures in a row that make a VM unhealthy (Docker: `--health-retries`).
const RETRIES: u32 = 3;
/// Shortest time of any kind: Docker's, too.
pub const MIN_TIME: Duration = Duration::from_millis(1);
/// Longest time of any kind: one day.
pub const MAX_TIME: Duration = Duration::from_secs(24 * 60 * 60);
/// Most failures that are waited for.
pub const MAX_RETRIES: u32 = 1000;
/// Most bytes of a look's output that are kept, as in Docker.
pub const MAX_OUTPUT: usize = 4096;

/// How it is found out whether a running VM does its work. What is absent is the image's `HEALTHCHECK`'s, else Docker's
/// default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HealthCheck {
    /// What is run in the guest: 0 is healthy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<HealthTest>,
    /// In place of `test`: this port on the guest's loopback accepts connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp: Option<u16>,
    /// Time between two looks (30s).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<Time>,
    /// Longest one look takes (30s).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Time>,
    /// Failures in a row that make it unhealthy (3).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    /// Time in which failures do not count yet (0s); it ends with the first success.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_period: Option<Time>,
    /// Time between two looks during the start period (5s).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_interval: Option<Time>,
}

impl HealthCheck {
    /// One that switches the image's off.
    pub fn none() -> HealthCheck {
        HealthCheck { test: Some(HealthTest::None), ..HealthCheck::default() }
    }
}

/// What is run in the guest.
///
/// Read as Docker and Compose write it (`"pg_isready || exit 1"`, `[CMD, pg_isready]`, `[CMD-SHELL, ...]`, `[NONE]`, `none`); a
/// list that begins with none of these words is a program and its arguments. Written as Docker's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HealthTest {
    /// None: the image's is switched off.
    None,
    /// A program and its arguments, at least one word.
    Command(Vec<String>),
    /// A text for the guest's `/bin/sh`.
    Shell(String),
}

impl HealthTest {
    /// From Docker's list. An empty one says nothing: `None`.
    pub fn from_words(mut words: Vec<String>) -> Result<Option<HealthTest>, HealthTestError> {
        let Some(first) = words.first() else { return Ok(None) };
        Ok(Some(match first.as_str() {
            "NONE" if words.len() == 1 => HealthTest::None,
            "NONE" => return Err(HealthTestError("NONE stands alone")),
            "CMD" if words.len() == 1 => return Err(HealthTestError("CMD is followed by a program")),
            "CMD" => HealthTest::Command(words.split_off(1)),
            "CMD-SHELL" if words.len() != 2 => return Err(HealthTestError("CMD-SHELL is followed by one text")),
            "CMD-SHELL" => HealthTest::Shell(words.swap_remove(1)),
            _ => HealthTest::Command(words),
        }))
    }

    /// From a text: `none`, or what a shell is to run.
    pub fn from_text(text: &str) -> HealthTest {
        if text.eq_ignore_ascii_case("none") { HealthTest::None } else { HealthTest::Shell(text.to_owned()) }
    }

    /// As Docker's list.
    pub fn words(&self) -> Vec<&str> {
        match self {
            HealthTest::None => vec!["NONE"],
            HealthTest::Command(words) => std::iter::once("CMD").chain(words.iter().map(String::as_str)).collect(),
            HealthTest::Shell(text) => vec!["CMD-SHELL", text],
        }
    }
}

/// A list that is no test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("invalid health check: {0}")]
pub struct HealthTestError(&'static str);

impl Serialize for HealthTest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.words().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for HealthTest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<HealthTest, D::Error> {
        deserializer.deserialize_any(HealthTestVisitor)
    }
}

struct HealthTestVisitor;

impl<'de> de::Visitor<'de> for HealthTestVisitor {
    type Value = HealthTest;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list such as [CMD, program, argument], a text for the shell, or none")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<HealthTest, E> {
        Ok(HealthTest::from_text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<HealthTest, A::Error> {
        let mut words = Vec::new();
        while let Some(word) = list.next_element::<String>()? {
            words.push(word);
        }
        match HealthTest::from_words(words).map_err(de::Error::custom)? {
            Some(test) => Ok(test),
            None => Err(de::Error::invalid_length(0, &self)),
        }
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for HealthTest {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "HealthTest".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": ["string", "array"],
            "description": "[CMD, program, argument], [CMD-SHELL, text], [NONE]; or a text for the shell"
        })
    }
}

/// A span of time as Docker and Compose write it: `30s`, `1m30s`, `500ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(with = "String"))]
pub struct Time(pub Duration);

/// A text that is no span of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid duration {text:?}: a number with a unit is expected, such as 30s, 1m30s or 500ms")]
pub struct TimeError {
    text: String,
}

impl FromStr for Time {
    type Err = TimeError;

    fn from_str(text: &str) -> Result<Time, TimeError> {
        let bad = || TimeError { text: text.chars().take(60).collect() };
        if text == "0" {
            return Ok(Time(Duration::ZERO));
        }
        // jiff reads more than Go does; what it alone reads (`PT1H`, `1 hour ago`, `-1s`) is not taken.
        if !text.starts_with(|c: char| c.is_ascii_digit()) || !text.ends_with(|c: char| c.is_ascii_lowercase()) {
            return Err(bad());
        }
        let span: jiff::SignedDuration = text.parse().map_err(|_| bad())?;
        Duration::try_from(span).map(Time).map_err(|_| bad())
    }
}

impl TryFrom<String> for Time {
    type Error = TimeError;

    fn try_from(text: String) -> Result<Time, TimeError> {
        text.parse()
    }
}

impl From<Time> for String {
    fn from(time: Time) -> String {
        time.to_string()
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::SignedDuration::try_from(self.0) {
            Ok(span) => f.pad(&format!("{span:#}").replace(' ', "")),
            Err(_) => write!(f, "{}s", self.0.as_secs()),
        }
    }
}

/// A health check with nothing left open, as a supervisor keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthPlan {
    /// What is done.
    pub probe: Probe,
    /// Time between the end of a look and the next.
    pub interval: Duration,
    /// Longest one look takes.
    pub timeout: Duration,
    /// Failures in a row that make it unhealthy, at least 1.
    pub retries: u32,
    /// Time in which failures do not count.
    pub start_period: Duration,
    /// Time between two looks during the start period.
    pub start_interval: Duration,
}

/// What one look does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Probe {
    /// Runs a program and its arguments.
    Command(Vec<String>),
    /// Connects to a port of the guest's loopback.
    Tcp(u16),
}

impl HealthPlan {
    /// Puts VM and image together, field by field, as Docker does; `None`: there is no check.
    pub fn of(wanted: Option<&HealthCheck>, image: Option<&HealthCheck>) -> Option<HealthPlan> {
        let nothing = HealthCheck::default();
        let (wanted, image) = (wanted.unwrap_or(&nothing), image.unwrap_or(&nothing));
        let test = match wanted.tcp {
            Some(port) => return Some(HealthPlan::with(Probe::Tcp(port), wanted, image)),
            None => wanted.test.as_ref().or(image.test.as_ref())?,
        };
        let probe = match test {
            HealthTest::None => return None,
            HealthTest::Command(words) => Probe::Command(words.clone()),
            HealthTest::Shell(text) => Probe::Command(vec!["/bin/sh".to_owned(), "-c".to_owned(), text.clone()]),
        };
        Some(HealthPlan::with(probe, wanted, image))
    }

    fn with(probe: Probe, wanted: &HealthCheck, image: &HealthCheck) -> HealthPlan {
        // Docker: 0 is "as if it were not given".
        let time = |wanted: Option<Time>, image: Option<Time>, default| {
            let given = |time: &Time| !time.0.is_zero();
            wanted.filter(given).or(image.filter(given)).map_or(default, |time| time.0).min(MAX_TIME)
        };
        let retries = wanted.retries.filter(|n| *n > 0).or(image.retries.filter(|n| *n > 0)).unwrap_or(RETRIES);
        HealthPlan {
            probe,
            interval: time(wanted.interval, image.interval, INTERVAL),
            timeout: time(wanted.timeout, image.timeout, TIMEOUT),
            retries: retries.min(MAX_RETRIES),
            start_period: time(wanted.start_period, image.start_period, Duration::ZERO),
            start_interval: time(wanted.start_interval, image.start_interval, START_INTERVAL),
        }
    }
}

/// Whether a VM does its work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// It is not known yet.
    #[default]
    Starting,
    /// The last look succeeded.
    Healthy,
    /// Too many looks in a row failed.
    Unhealthy,
}

impl Health {
    /// Every one.
    pub const ALL: [Health; 3] = [Health::Starting, Health::Healthy, Health::Unhealthy];

    /// Its name, as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Health::Starting => "starting",
            Health::Healthy => "healthy",
            Health::Unhealthy => "unhealthy",
        }
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// `status.health`: what the last looks found. Written when the state or the count changes, so that a VM in a steady state
/// costs no write.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HealthStatus {
    /// Whether it does its work.
    pub state: Health,
    /// Failures in a row, counted up to the number that makes it unhealthy.
    pub failing_streak: u32,
    /// Since when the state is what it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<jiff::Timestamp>,
    /// What the look that brought the change said, at most 4096 bytes, without control characters.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub output: String,
}

#[cfg(test)]
#[path = "health_tests.rs"]
mod tests;
