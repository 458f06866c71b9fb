//! When to try again, and after what pause.

use crate::{OciError, Progress, ProgressEvent, PullOptions};
use std::time::Duration;

/// Longest pause of our own choosing.
const MAX_PAUSE: Duration = Duration::from_secs(20);
/// Longest pause a server may ask for; beyond it the error is told instead.
const MAX_ASKED_PAUSE: Duration = Duration::from_secs(120);

/// Counts the failures of one operation since it last got ahead.
#[derive(Debug)]
pub(crate) struct Retries {
    allowed: u32,
    used: u32,
    pause: Duration,
}

impl Retries {
    pub(crate) fn new(options: &PullOptions) -> Retries {
        Retries { allowed: options.retries, used: 0, pause: options.retry_pause }
    }

    /// The operation got ahead: what failed before does not count any more.
    pub(crate) fn reset(&mut self) {
        self.used = 0;
    }

    /// Waits before the next attempt, or gives `error` back when there is none.
    pub(crate) async fn after(&mut self, error: OciError, progress: &dyn Progress) -> Result<(), OciError> {
        let pause = match decide(&error, self.used, self.allowed, self.pause, jitter()) {
            Decision::Retry(pause) => pause,
            Decision::Fail => return Err(error),
            Decision::GiveUp => return Err(OciError::GaveUp { attempts: self.used + 1, source: Box::new(error) }),
        };
        self.used += 1;
        tracing::debug!(%error, attempt = self.used, ?pause, "trying again");
        progress.event(ProgressEvent::Retrying { reason: error.to_string(), attempt: self.used, after: pause });
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Decision {
    Retry(Duration),
    /// The error is no matter of trying again.
    Fail,
    /// It is, and was tried often enough.
    GiveUp,
}

/// Exponential back-off with jitter in 0..=255, but no less than the server asked for.
fn decide(error: &OciError, used: u32, allowed: u32, pause: Duration, jitter: u8) -> Decision {
    if !error.is_transient() || error.retry_after().is_some_and(|asked| asked > MAX_ASKED_PAUSE) {
        return Decision::Fail;
    }
    if used >= allowed {
        return if used == 0 { Decision::Fail } else { Decision::GiveUp };
    }
    let full = pause.saturating_mul(1 << used.min(16)).min(MAX_PAUSE);
    // Between half and the whole: many clients cut off together do not come back together.
    let own = full / 2 + full / 2 * u32::from(jitter) / 255;
    // A server that asks for none (`Retry-After: 0`, a date that is past) is not hurried.
    Decision::Retry(own.max(error.retry_after().unwrap_or_default()))
}

fn jitter() -> u8 {
    let mut byte = [0];
    // Without randomness the pause is only less even.
    let _ = getrandom::fill(&mut byte);
    byte[0]
}

/// Parses `Retry-After`: seconds or a date (RFC 9110 §10.2.3).
pub(crate) fn parse_retry_after(value: &str, now: jiff::Timestamp) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let at = jiff::fmt::rfc2822::parse(value.trim()).ok()?.timestamp();
    Some(Duration::try_from(now.until(at).ok()?).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn limited(retry_after: Option<u64>) -> OciError {
        OciError::RateLimited {
            registry: "r".into(),
            message: "m".into(),
            retry_after: retry_after.map(Duration::from_secs),
        }
    }

    #[test]
    fn pauses_double_up_to_a_bound_and_servers_are_obeyed_within_reason() {
        let second = Duration::from_secs(1);
        let pause = |error: &OciError, used, jitter| decide(error, used, 9, second, jitter);
        assert_eq!(pause(&limited(None), 0, 255), Decision::Retry(second));
        assert_eq!(pause(&limited(None), 0, 0), Decision::Retry(second / 2));
        assert_eq!(pause(&limited(None), 3, 255), Decision::Retry(second * 8));
        assert_eq!(pause(&limited(None), 8, 255), Decision::Retry(MAX_PAUSE));
        assert_eq!(pause(&limited(Some(7)), 0, 0), Decision::Retry(second * 7));
        assert_eq!(pause(&limited(Some(7)), 4, 255), Decision::Retry(second * 16));
        assert_eq!(pause(&limited(Some(0)), 0, 255), Decision::Retry(second));
        assert_eq!(pause(&limited(Some(120)), 0, 0), Decision::Retry(second * 120));
        assert_eq!(pause(&limited(Some(3600)), 0, 0), Decision::Fail);
        assert_eq!(pause(&limited(None), 9, 0), Decision::GiveUp);
        assert_eq!(decide(&limited(None), 0, 0, second, 0), Decision::Fail);
    }

    #[test]
    fn what_trying_again_cannot_heal_is_not_tried_again() {
        for error in [
            OciError::NotFound { reference: "x".into() },
            OciError::Denied { registry: "r".into(), repository: "x".into(), message: "m".into() },
            OciError::Unauthorized {
                registry: "r".into(),
                repository: "x".into(),
                with_credentials: true,
                message: "m".into(),
            },
            OciError::DigestMismatch { what: "w".into(), expected: "e".into(), actual: "a".into() },
        ] {
            assert_eq!(decide(&error, 0, 5, Duration::from_secs(1), 0), Decision::Fail, "{error}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now: jiff::Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        for (value, expected) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("Thu, 01 Jan 2026 00:00:30 GMT", Some(30)),
            ("Wed, 31 Dec 2025 00:00:00 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
        ] {
            assert_eq!(parse_retry_after(value, now), expected.map(Duration::from_secs), "{value}");
        }
    }

    proptest! {
        #[test]
        fn foreign_headers_never_panic(value in "\\PC{0,40}") {
            let _ = parse_retry_after(&value, jiff::Timestamp::UNIX_EPOCH);
        }
    }
}
