//! Between two runs of a VM: whether there is another one, and the wait until then.

use crate::control::Ending;
use crate::ending::BROKEN_EXIT_CODE;
use crate::run::Run;
use crate::shared::Command;
use ignite_api::Phase;
use ignite_api::lifecycle::Event;
use ignite_api::restart_policy::{Ended, RestartPolicy, STEADY_AFTER, Verdict};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// A machine that reboots itself sooner than this after its last boot, so often in a row, is broken.
const QUICK_REBOOT: Duration = Duration::from_secs(10);
const MAX_QUICK_REBOOTS: u32 = 3;

/// Who asked a VM to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AskedBy {
    /// Someone, by `stop` or `kill`: `unless-stopped` leaves it at rest.
    User,
    /// The host, which shuts down: every policy but `no` brings it back.
    Host,
}

/// What the runs of one life have in common.
#[derive(Debug)]
pub struct Restarts {
    policy: RestartPolicy,
    /// By the policy, since it was last steady.
    retries: u32,
    quick_reboots: u32,
}

impl Restarts {
    /// Nothing has happened yet.
    pub fn new(policy: RestartPolicy) -> Restarts {
        Restarts { policy, retries: 0, quick_reboots: 0 }
    }

    /// Follows another policy from now on; what was tried under the old one counts.
    pub fn follow(&mut self, policy: RestartPolicy) {
        self.policy = policy;
    }

    /// The guest has rebooted itself: `None` when it may, else how it ends.
    pub fn rebooted(&mut self, ran_for: Duration) -> Option<Ending> {
        self.quick_reboots = if ran_for < QUICK_REBOOT { self.quick_reboots + 1 } else { 0 };
        if self.quick_reboots < MAX_QUICK_REBOOTS {
            return None;
        }
        let reason =
            format!("the guest rebooted {} times within {} s each", self.quick_reboots, QUICK_REBOOT.as_secs());
        Some(Ending { phase: Phase::Failed, exit_code: BROKEN_EXIT_CODE, reason: Some(reason) })
    }

    /// What follows an end: the time to the next run, or how it stays.
    pub fn ended(&mut self, mut ending: Ending, was_asked: bool, ran_for: Duration) -> Result<Duration, Ending> {
        if ran_for >= STEADY_AFTER {
            self.retries = 0;
        }
        let has_failed = ending.phase == Phase::Failed || ending.exit_code != 0;
        match self.policy.after(Ended { has_failed, was_asked, retries: self.retries }) {
            Verdict::Stay => Err(ending),
            Verdict::GiveUp => {
                let why = ending.reason.map(|reason| format!(": {reason}")).unwrap_or_default();
                ending.reason = Some(format!("given up after {} restarts{why}", self.retries));
                Err(ending)
            }
            Verdict::Restart(delay) => {
                self.retries = self.retries.saturating_add(1);
                self.quick_reboots = 0;
                Ok(delay)
            }
        }
    }
}

impl Run<'_> {
    /// Stores that it will run again, and waits; false when it is asked to end meanwhile.
    pub async fn wait_for_restart(&mut self, ending: &Ending, delay: Duration) -> bool {
        let why = ending.reason.clone().unwrap_or_else(|| format!("it exited with {}", ending.exit_code));
        tracing::info!("restart in {} ms: {why}", delay.as_millis());
        let stored = self.life.advance(Some(Event::Restart), |status| {
            status.restarts = status.restarts.saturating_add(1);
            status.exit_code = Some(ending.exit_code);
            status.reason = Some(format!("restarting: {why}"));
            status.finish_time = Some(jiff::Timestamp::now());
            status.forget_run();
        });
        if let Err(error) = stored {
            tracing::error!("{}", error.chain());
        }
        let until = Instant::now() + delay;
        loop {
            tokio::select! {
                () = sleep_until(until) => return true,
                _ = self.terminate.recv() => {
                    self.asked_by = Some(AskedBy::Host);
                    return false;
                }
                Some(command) = self.commands.recv() => match command {
                    Command::Stop { by, reply, .. } => {
                        self.asked_by = Some(by);
                        let _ = reply.send(Ok(()));
                        return false;
                    }
                    Command::Kill { reply } => {
                        self.asked_by = Some(AskedBy::User);
                        let _ = reply.send(Ok(()));
                        return false;
                    }
                    Command::Pause { reply } | Command::Resume { reply } => {
                        let _ = reply.send(Err("it is being restarted".to_owned()));
                    }
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ending(exit_code: u8) -> Ending {
        Ending { phase: Phase::Stopped, exit_code, reason: None }
    }

    #[test]
    fn retries_are_counted_until_it_is_steady() {
        let mut restarts = Restarts::new("on-failure:2".parse().unwrap());
        let quick = Duration::from_secs(1);
        assert_eq!(restarts.ended(ending(1), false, quick), Ok(Duration::from_millis(100)));
        assert_eq!(restarts.ended(ending(1), false, STEADY_AFTER), Ok(Duration::from_millis(100)));
        assert_eq!(restarts.ended(ending(1), false, quick), Ok(Duration::from_millis(200)));
        let given_up = restarts.ended(ending(3), false, quick).unwrap_err();
        assert_eq!((given_up.exit_code, given_up.reason.as_deref()), (3, Some("given up after 2 restarts")));
    }

    #[test]
    fn another_policy_counts_from_the_next_end_on() {
        let mut restarts = Restarts::new(RestartPolicy::Always);
        assert!(restarts.ended(ending(1), false, Duration::ZERO).is_ok());
        restarts.follow(RestartPolicy::No);
        assert_eq!(restarts.ended(ending(1), false, Duration::ZERO), Err(ending(1)));
    }

    #[test]
    fn an_end_that_was_asked_for_stays() {
        let mut restarts = Restarts::new(RestartPolicy::Always);
        assert_eq!(restarts.ended(ending(137), true, Duration::ZERO), Err(ending(137)));
    }

    #[test]
    fn a_machine_that_reboots_at_once_again_and_again_is_broken() {
        let mut restarts = Restarts::new(RestartPolicy::No);
        let (quick, slow) = (Duration::from_secs(1), QUICK_REBOOT);
        assert!([quick, quick, slow, quick, quick].into_iter().all(|ran| restarts.rebooted(ran).is_none()));
        let ending = restarts.rebooted(quick).unwrap();
        assert_eq!(ending.reason.as_deref(), Some("the guest rebooted 3 times within 10 s each"));
    }
}
