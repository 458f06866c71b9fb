//! How soon what failed is tried again.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(300);

/// Counts the failures in a row of each object.
#[derive(Debug)]
pub(crate) struct Pace<K>(Mutex<HashMap<K, (u32, Instant)>>);

impl<K> Default for Pace<K> {
    fn default() -> Self {
        Pace(Mutex::default())
    }
}

impl<K: Hash + Eq> Pace<K> {
    /// It has failed once more; when to try again.
    pub(crate) fn failed(&self, key: K) -> Duration {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // What was deleted while it failed does not come again.
        failures.retain(|_, (_, last)| last.elapsed() < 2 * LONGEST);
        let (count, last) = failures.entry(key).or_insert((0, Instant::now()));
        let pause = pause(*count, jitter());
        (*count, *last) = (count.saturating_add(1), Instant::now());
        pause
    }

    /// It has gone well.
    pub(crate) fn went_well(&self, key: &K) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

/// Doubles up to a bound; a part of it (`jitter` of 0 to 1) is left to chance, so that many do not come at once.
fn pause(failures: u32, jitter: f64) -> Duration {
    let doubled = FIRST.saturating_mul(1 << failures.min(10)).min(LONGEST);
    doubled.mul_f64(0.75 + 0.25 * jitter)
}

fn jitter() -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    f64::from(now.subsec_nanos() % 1_000_003) / 1_000_003.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_up_to_a_bound_and_starts_anew_after_a_success() {
        assert_eq!(pause(0, 1.0), Duration::from_secs(1));
        assert_eq!(pause(3, 1.0), Duration::from_secs(8));
        assert_eq!(pause(3, 0.0), Duration::from_secs(6));
        assert_eq!(pause(u32::MAX, 1.0), LONGEST);
        let pace = Pace::default();
        for at_most in [1, 2, 4] {
            assert!(pace.failed("vm") <= Duration::from_secs(at_most));
        }
        assert!(pace.failed("vm") > Duration::from_secs(4));
        pace.went_well(&"vm");
        assert!(pace.failed("vm") <= Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_come_again_is_forgotten() {
        let pace = Pace::default();
        pace.failed("gone");
        tokio::time::advance(2 * LONGEST).await;
        pace.failed("here");
        assert_eq!(pace.0.lock().unwrap().len(), 1);
    }
}
