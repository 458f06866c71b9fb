//! When something that failed is tried again; pure.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Longest time between two attempts.
const LONGEST: Duration = Duration::from_secs(300);
/// A VM that has run for so long is no failure when it ends.
const SETTLED: Duration = Duration::from_secs(60);

/// Attempts by name.
#[derive(Debug, Clone, Default)]
pub struct BackOff {
    entries: HashMap<String, Entry>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    attempts: u32,
    last: Instant,
}

impl BackOff {
    /// Takes note of an attempt, whether it succeeded or not: a VM that starts and ends at once is as bad as one that does
    /// not start.
    pub fn attempted(&mut self, name: &str, now: Instant) {
        let entry = self.entries.entry(name.to_owned()).or_insert(Entry { attempts: 0, last: now });
        if now.saturating_duration_since(entry.last) > SETTLED.max(delay(entry.attempts) * 2) {
            entry.attempts = 0;
        }
        entry.attempts = entry.attempts.saturating_add(1);
        entry.last = now;
    }

    /// How long the next attempt has to wait; zero: not at all.
    pub fn wait(&self, name: &str, now: Instant) -> Duration {
        let Some(entry) = self.entries.get(name) else { return Duration::ZERO };
        delay(entry.attempts).saturating_sub(now.saturating_duration_since(entry.last))
    }

    /// Forgets what was tried: what is wanted has changed, or it is as wanted for long enough.
    pub fn reset(&mut self, name: &str) {
        self.entries.remove(name);
    }

    /// Takes note that all is well; after a time that is believed.
    pub fn is_well(&mut self, name: &str, now: Instant) {
        if self.entries.get(name).is_some_and(|entry| now.saturating_duration_since(entry.last) > SETTLED) {
            self.entries.remove(name);
        }
    }

    /// Forgets every name that is not one of these.
    pub fn retain(&mut self, is_known: impl Fn(&str) -> bool) {
        self.entries.retain(|name, _| is_known(name));
    }
}

/// 1, 2, 4, ... seconds after the first, second, third attempt.
fn delay(attempts: u32) -> Duration {
    match attempts {
        0 => Duration::ZERO,
        n => Duration::from_secs(1 << (n - 1).min(12)).min(LONGEST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_get_rarer_until_all_is_well() {
        let mut back_off = BackOff::default();
        let mut now = Instant::now();
        assert_eq!(back_off.wait("a", now), Duration::ZERO);
        let (mut waits, mut last) = (Vec::new(), now);
        for _ in 0..11 {
            back_off.attempted("a", now);
            let wait = back_off.wait("a", now);
            waits.push(wait.as_secs());
            last = now;
            now += wait;
            assert_eq!(back_off.wait("a", now), Duration::ZERO);
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        back_off.is_well("a", last + Duration::from_secs(59));
        assert!(back_off.wait("a", last) > Duration::ZERO, "not believed yet");
        back_off.is_well("a", last + Duration::from_secs(61));
        assert_eq!(back_off.wait("a", last), Duration::ZERO);
    }

    #[test]
    fn a_vm_that_ran_for_long_is_started_again_soon() {
        let mut back_off = BackOff::default();
        let now = Instant::now();
        for second in 0..3 {
            back_off.attempted("a", now + Duration::from_secs(second));
        }
        let later = now + Duration::from_secs(3600);
        back_off.attempted("a", later);
        assert_eq!(back_off.wait("a", later), Duration::from_secs(1));
        back_off.retain(|name| name != "a");
        assert_eq!(back_off.wait("a", later), Duration::ZERO);
    }
}
