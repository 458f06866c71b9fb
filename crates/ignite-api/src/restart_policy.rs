//! Whether a VM that has ended is started again: a pure decision, with Docker's rules.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// First wait before a restart; each further one is twice as long (Docker: "Restart policies").
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// Longest wait.
const MAX_DELAY: Duration = Duration::from_secs(60);
/// A VM that ran so long is healthy: waits begin anew.
pub const STEADY_AFTER: Duration = Duration::from_secs(10);

/// When a VM that has ended by itself is started again.
///
/// Written as Docker's flag has it; Kubernetes' `Never`, `OnFailure` and `Always` are read too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum RestartPolicy {
    /// Never.
    #[default]
    No,
    /// When it has failed: an exit code other than 0, a panic, a VMM that died.
    OnFailure {
        /// So many times in a row, then it is given up; absent: without end.
        max_retries: Option<u32>,
    },
    /// Always, unless someone stops it; and again when the host starts.
    Always,
    /// As `Always`, but one that was stopped stays so when the host starts.
    UnlessStopped,
}

/// How a life ended, as far as restarting goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Exit code other than 0, or `Failed`.
    pub has_failed: bool,
    /// Someone asked for the end.
    pub was_asked: bool,
    /// Restarts by the policy since it was last steady.
    pub retries: u32,
}

/// What a policy says to an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It stays as it is.
    Stay,
    /// It has failed too often.
    GiveUp,
    /// It is started again after this time.
    Restart(Duration),
}

impl RestartPolicy {
    /// True for the policy that a manifest need not name.
    pub fn is_no(&self) -> bool {
        *self == RestartPolicy::No
    }

    /// What follows the end of a VM that has been up.
    pub fn after(self, ended: Ended) -> Verdict {
        if ended.was_asked {
            return Verdict::Stay;
        }
        let delay = FIRST_DELAY.saturating_mul(1 << ended.retries.min(16)).min(MAX_DELAY);
        match self {
            RestartPolicy::No => Verdict::Stay,
            RestartPolicy::OnFailure { .. } if !ended.has_failed => Verdict::Stay,
            RestartPolicy::OnFailure { max_retries: Some(max) } if ended.retries >= max => Verdict::GiveUp,
            RestartPolicy::OnFailure { .. } | RestartPolicy::Always | RestartPolicy::UnlessStopped => {
                Verdict::Restart(delay)
            }
        }
    }

    /// Whether a VM at rest is started when its host has started, or when what supervised it has died.
    ///
    /// `was_started`: it has run before; `was_stopped`: its last end was asked for by someone.
    pub fn brings_back(self, was_started: bool, was_stopped: bool, has_failed: bool) -> bool {
        was_started
            && match self {
                RestartPolicy::No => false,
                RestartPolicy::OnFailure { .. } => has_failed && !was_stopped,
                RestartPolicy::Always => true,
                RestartPolicy::UnlessStopped => !was_stopped,
            }
    }
}

/// A text that names no policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid restart policy {text:?}: no, on-failure[:MAX-RETRIES], always and unless-stopped are known")]
pub struct RestartPolicyError {
    text: String,
}

impl FromStr for RestartPolicy {
    type Err = RestartPolicyError;

    fn from_str(text: &str) -> Result<RestartPolicy, RestartPolicyError> {
        let bad = || RestartPolicyError { text: text.chars().take(60).collect() };
        let (name, max) = match text.split_once(':') {
            None => (text, None),
            Some((name, max)) => (name, Some(max)),
        };
        match (name, max) {
            ("" | "no" | "Never", None) => Ok(RestartPolicy::No),
            ("on-failure" | "OnFailure", None) => Ok(RestartPolicy::OnFailure { max_retries: None }),
            ("on-failure" | "OnFailure", Some(max)) if max.bytes().all(|b| b.is_ascii_digit()) => {
                // Docker's 0 is "without end".
                let max = max.parse::<u32>().map_err(|_| bad())?;
                Ok(RestartPolicy::OnFailure { max_retries: (max > 0).then_some(max) })
            }
            ("always" | "Always", None) => Ok(RestartPolicy::Always),
            ("unless-stopped", None) => Ok(RestartPolicy::UnlessStopped),
            _ => Err(bad()),
        }
    }
}

impl TryFrom<String> for RestartPolicy {
    type Error = RestartPolicyError;

    fn try_from(text: String) -> Result<RestartPolicy, RestartPolicyError> {
        text.parse()
    }
}

impl From<RestartPolicy> for String {
    fn from(policy: RestartPolicy) -> String {
        policy.to_string()
    }
}

impl fmt::Display for RestartPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RestartPolicy::No => f.write_str("no"),
            RestartPolicy::OnFailure { max_retries: None } => f.write_str("on-failure"),
            RestartPolicy::OnFailure { max_retries: Some(max) } => write!(f, "on-failure:{max}"),
            RestartPolicy::Always => f.write_str("always"),
            RestartPolicy::UnlessStopped => f.write_str("unless-stopped"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICIES: [&str; 5] = ["no", "on-failure", "on-failure:2", "always", "unless-stopped"];

    fn policy(text: &str) -> RestartPolicy {
        text.parse().unwrap()
    }

    #[test]
    fn policies_are_written_as_docker_writes_them() {
        for text in POLICIES {
            assert_eq!(policy(text).to_string(), text);
        }
        for (other, text) in [
            ("", "no"),
            ("Never", "no"),
            ("OnFailure", "on-failure"),
            ("Always", "always"),
            ("on-failure:0", "on-failure"),
        ] {
            assert_eq!(policy(other).to_string(), text, "{other}");
        }
        for bad in ["yes", "always:3", "on-failure:", "on-failure:-1", "on-failure:x", "on-failure:99999999999", "No "]
        {
            assert!(bad.parse::<RestartPolicy>().is_err(), "{bad}");
        }
    }

    #[test]
    fn every_policy_has_an_answer_to_every_end() {
        // Failed, asked for, retries; then the answer of each policy in the order of POLICIES.
        let table = [
            (false, false, 0, ["stay", "stay", "stay", "restart", "restart"]),
            (true, false, 0, ["stay", "restart", "restart", "restart", "restart"]),
            (true, false, 1, ["stay", "restart", "restart", "restart", "restart"]),
            (true, false, 2, ["stay", "restart", "give up", "restart", "restart"]),
            (true, true, 0, ["stay"; 5]),
            (false, true, 9, ["stay"; 5]),
        ];
        for (has_failed, was_asked, retries, answers) in table {
            for (text, expected) in POLICIES.iter().zip(answers) {
                let answer = match policy(text).after(Ended { has_failed, was_asked, retries }) {
                    Verdict::Stay => "stay",
                    Verdict::GiveUp => "give up",
                    Verdict::Restart(_) => "restart",
                };
                assert_eq!(answer, expected, "{text} {has_failed} {was_asked} {retries}");
            }
        }
    }

    #[test]
    fn waits_double_up_to_a_minute() {
        let wait = |retries| match RestartPolicy::Always.after(Ended { has_failed: true, was_asked: false, retries }) {
            Verdict::Restart(delay) => delay.as_millis(),
            other => panic!("{other:?}"),
        };
        assert_eq!([0, 1, 2, 9, 10, u32::MAX].map(wait), [100, 200, 400, 51_200, 60_000, 60_000]);
    }

    #[test]
    fn what_ran_is_brought_back_with_its_host() {
        // Started before, stopped by someone, failed; then the policies.
        let table = [
            (false, false, false, [false; 5]),
            (true, false, true, [false, true, true, true, true]),
            (true, false, false, [false, false, false, true, true]),
            (true, true, false, [false, false, false, true, false]),
            (true, true, true, [false, false, false, true, false]),
        ];
        for (started, stopped, failed, answers) in table {
            for (text, expected) in POLICIES.iter().zip(answers) {
                assert_eq!(
                    policy(text).brings_back(started, stopped, failed),
                    expected,
                    "{text} {started} {stopped} {failed}"
                );
            }
        }
    }
}
