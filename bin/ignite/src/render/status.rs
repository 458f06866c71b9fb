//! The STATUS column: one line of what a VM does, or how it ended.

use crate::render::duration::{seconds_between, words};
use ignite_api::health::Health;
use ignite_api::{Phase, VmStatus};
use jiff::Timestamp;

/// `Up 5 minutes`, `Exited (7) 2 minutes ago`, `Failed: no kernel`, ...
pub fn describe(status: &VmStatus, now: Timestamp) -> String {
    let since = |time: Option<Timestamp>| time.map(|time| words(seconds_between(time, now)));
    match status.phase {
        Phase::Created => "Created".to_owned(),
        Phase::Starting if status.restarts > 0 => {
            let code = status.exit_code.unwrap_or(0);
            since(status.finish_time)
                .map_or_else(|| format!("Restarting ({code})"), |age| format!("Restarting ({code}) {age} ago"))
        }
        Phase::Starting => "Starting".to_owned(),
        Phase::Stopping => "Stopping".to_owned(),
        Phase::Running => {
            let up = since(status.start_time).map_or_else(|| "Up".to_owned(), |age| format!("Up {age}"));
            match &status.health {
                None => up,
                Some(health) if health.state == Health::Starting => format!("{up} (health: starting)"),
                Some(health) => format!("{up} ({})", health.state),
            }
        }
        Phase::Paused => {
            since(status.start_time).map_or_else(|| "Up (Paused)".to_owned(), |age| format!("Up {age} (Paused)"))
        }
        Phase::Stopped => {
            let code = status.exit_code.unwrap_or(0);
            since(status.finish_time)
                .map_or_else(|| format!("Exited ({code})"), |age| format!("Exited ({code}) {age} ago"))
        }
        Phase::Failed => {
            status.reason.as_ref().map_or_else(|| "Failed".to_owned(), |reason| format!("Failed: {reason}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_phase_has_its_words() {
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let earlier: Timestamp = "2026-01-02T02:59:05Z".parse().unwrap();
        let base = VmStatus::default();
        let with = |phase| VmStatus { phase, ..base.clone() };
        let health = |state| {
            let health = Some(ignite_api::health::HealthStatus { state, ..Default::default() });
            VmStatus { health, ..with(Phase::Running) }
        };
        for (status, text) in [
            (with(Phase::Created), "Created"),
            (with(Phase::Starting), "Starting"),
            (
                VmStatus { restarts: 2, exit_code: Some(3), finish_time: Some(earlier), ..with(Phase::Starting) },
                "Restarting (3) 5 minutes ago",
            ),
            (with(Phase::Running), "Up"),
            (VmStatus { start_time: Some(earlier), ..with(Phase::Running) }, "Up 5 minutes"),
            (health(Health::Starting), "Up (health: starting)"),
            (health(Health::Healthy), "Up (healthy)"),
            (health(Health::Unhealthy), "Up (unhealthy)"),
            (with(Phase::Paused), "Up (Paused)"),
            (VmStatus { start_time: Some(earlier), ..with(Phase::Paused) }, "Up 5 minutes (Paused)"),
            (with(Phase::Stopping), "Stopping"),
            (with(Phase::Stopped), "Exited (0)"),
            (
                VmStatus { exit_code: Some(7), finish_time: Some(earlier), ..with(Phase::Stopped) },
                "Exited (7) 5 minutes ago",
            ),
            (with(Phase::Failed), "Failed"),
            (VmStatus { reason: Some("no kernel".into()), ..with(Phase::Failed) }, "Failed: no kernel"),
        ] {
            assert_eq!(describe(&status, now), text);
        }
    }
}
