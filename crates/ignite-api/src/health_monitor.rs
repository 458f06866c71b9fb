//! What a look at a VM's health changes, and when the next one is: pure, with the time handed in.
//!
//! ```text
//!  Starting --success--> Healthy <--success-- Unhealthy
//!      |                    |                     ^
//!      +---- `retries` failures in a row ---------+     (during the start period failures do not count)
//! ```

use crate::health::{Health, HealthPlan};
use std::time::Duration;

/// What is known of a VM's health, and what follows from a look.
#[derive(Debug, Clone)]
pub struct Monitor {
    interval: Duration,
    retries: u32,
    start_period: Duration,
    start_interval: Duration,
    health: Health,
    failing_streak: u32,
    has_succeeded: bool,
}

/// What a look has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// The count of failures only.
    Streak,
    /// The state.
    Health,
}

impl Monitor {
    /// Of a guest that has just come up.
    pub fn new(plan: &HealthPlan) -> Monitor {
        Monitor {
            interval: plan.interval,
            retries: plan.retries.max(1),
            start_period: plan.start_period,
            start_interval: plan.start_interval,
            health: Health::Starting,
            failing_streak: 0,
            has_succeeded: false,
        }
    }

    /// The state now.
    pub fn health(&self) -> Health {
        self.health
    }

    /// Failures in a row, counted up to the number that makes it unhealthy.
    pub fn failing_streak(&self) -> u32 {
        self.failing_streak
    }

    /// Time from now, `up_for` after the guest came up, to the next look.
    pub fn wait(&self, up_for: Duration) -> Duration {
        if self.may_be_starting(up_for) { self.start_interval.min(self.interval) } else { self.interval }
    }

    /// Takes note of a look that began `up_for` after the guest came up.
    pub fn looked(&mut self, is_well: bool, up_for: Duration) -> Change {
        let before = (self.health, self.failing_streak);
        if is_well {
            self.has_succeeded = true;
            self.failing_streak = 0;
            self.health = Health::Healthy;
        } else if !self.may_be_starting(up_for) {
            self.failing_streak = self.failing_streak.saturating_add(1).min(self.retries);
            if self.failing_streak == self.retries {
                self.health = Health::Unhealthy;
            }
        }
        match (before.0 == self.health, before.1 == self.failing_streak) {
            (false, _) => Change::Health,
            (true, false) => Change::Streak,
            (true, true) => Change::None,
        }
    }

    fn may_be_starting(&self, up_for: Duration) -> bool {
        !self.has_succeeded && up_for < self.start_period
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Probe;

    fn plan(retries: u32, start_period: u64) -> HealthPlan {
        HealthPlan {
            probe: Probe::Tcp(80),
            interval: Duration::from_secs(30),
            timeout: Duration::from_secs(30),
            retries,
            start_period: Duration::from_secs(start_period),
            start_interval: Duration::from_secs(5),
        }
    }

    #[test]
    fn every_run_of_looks_ends_as_in_docker() {
        use Change::{None as Same, Streak};
        use Health::{Healthy, Starting, Unhealthy};
        let state = Change::Health;
        // Retries and start period; then each look: when, whether it went well, and what it leaves.
        type Look = (u64, bool, Health, u32, Change);
        let table: [(&str, u32, u64, &[Look]); 6] = [
            ("well at once", 3, 0, &[(30, true, Healthy, 0, state), (60, true, Healthy, 0, Same)]),
            (
                "never well",
                3,
                0,
                &[
                    (30, false, Starting, 1, Streak),
                    (60, false, Starting, 2, Streak),
                    (90, false, Unhealthy, 3, state),
                    (120, false, Unhealthy, 3, Same),
                ],
            ),
            (
                "a failure now and then",
                2,
                0,
                &[
                    (30, true, Healthy, 0, state),
                    (60, false, Healthy, 1, Streak),
                    (90, true, Healthy, 0, Streak),
                    (120, false, Healthy, 1, Streak),
                ],
            ),
            (
                "ill and well again",
                1,
                0,
                &[(30, true, Healthy, 0, state), (60, false, Unhealthy, 1, state), (90, true, Healthy, 0, state)],
            ),
            (
                "failures of the start period do not count",
                1,
                60,
                &[(5, false, Starting, 0, Same), (59, false, Starting, 0, Same), (60, false, Unhealthy, 1, state)],
            ),
            (
                "the start period ends with a success",
                1,
                60,
                &[(5, true, Healthy, 0, state), (10, false, Unhealthy, 1, state)],
            ),
        ];
        for (what, retries, start_period, looks) in table {
            let mut monitor = Monitor::new(&plan(retries, start_period));
            for (at, is_well, health, streak, change) in looks {
                let found = monitor.looked(*is_well, Duration::from_secs(*at));
                let found = (monitor.health(), monitor.failing_streak(), found);
                assert_eq!(found, (*health, *streak, *change), "{what}, at {at} s");
            }
        }
    }

    #[test]
    fn looks_are_closer_together_in_the_start_period() {
        let wait = |monitor: &Monitor, up_for| monitor.wait(Duration::from_secs(up_for)).as_secs();
        let mut monitor = Monitor::new(&plan(3, 60));
        assert_eq!([0, 59, 60].map(|up_for| wait(&monitor, up_for)), [5, 5, 30]);
        monitor.looked(true, Duration::from_secs(5));
        assert_eq!(wait(&monitor, 6), 30);
        assert_eq!(wait(&Monitor::new(&plan(3, 0)), 0), 30);
    }
}
