//! What makes `spec.healthCheck` invalid.

use super::{Check, MAX_WORD_LEN, MAX_WORDS_LEN};
use crate::health::{HealthCheck, HealthTest, MAX_RETRIES, MAX_TIME, MIN_TIME};

impl Check {
    pub(super) fn health_check(&mut self, path: &str, check: &HealthCheck) {
        if let Some(test) = &check.test {
            let words = test.words();
            let is_command = match test {
                HealthTest::None => true,
                HealthTest::Command(words) => words.first().is_some_and(|program| !program.is_empty()),
                HealthTest::Shell(text) => !text.trim().is_empty(),
            };
            let is_short = words.iter().all(|word| word.len() <= MAX_WORD_LEN && !word.contains('\0'))
                && words.iter().map(|word| word.len() + 1).sum::<usize>() <= MAX_WORDS_LEN;
            let shown = format!("{} words", words.len());
            self.invalid_unless(
                is_command && is_short,
                format!("{path}.test"),
                shown,
                "must be a program and its arguments, or a text for the shell; at most 256 KiB",
            );
        }
        if let Some(port) = check.tcp {
            let at = format!("{path}.tcp");
            self.invalid_unless(port != 0, at.clone(), "0".to_owned(), "must be between 1 and 65535");
            self.invalid_unless(check.test.is_none(), at, port.to_string(), "stands in place of test, not beside it");
        }
        for (name, time) in [
            ("interval", check.interval),
            ("timeout", check.timeout),
            ("startPeriod", check.start_period),
            ("startInterval", check.start_interval),
        ] {
            let Some(time) = time else { continue };
            let is_good = time.0.is_zero() || (MIN_TIME..=MAX_TIME).contains(&time.0);
            self.invalid_unless(is_good, format!("{path}.{name}"), time.to_string(), "must be between 1ms and 24h");
        }
        if let Some(retries) = check.retries {
            let reason = "must be at most 1000";
            self.invalid_unless(retries <= MAX_RETRIES, format!("{path}.retries"), retries.to_string(), reason);
        }
    }
}
