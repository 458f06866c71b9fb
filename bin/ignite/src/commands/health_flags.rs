//! Flags that say how it is found out whether a new VM does its work.

use crate::report::UsageError;
use ignite_api::VmSpec;
use ignite_api::health::{HealthCheck, HealthTest, Time};

/// Flags of `run` and `create`, with Docker's names.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct HealthFlags {
    /// Shell command in the guest that tells by 0 that it is healthy; none switches the image's HEALTHCHECK off
    #[arg(long, value_name = "COMMAND")]
    pub health_cmd: Option<String>,
    /// Time between two health checks [default: the image's, else 30s]
    #[arg(long, value_name = "TIME")]
    pub health_interval: Option<Time>,
    /// Longest a health check takes [default: the image's, else 30s]
    #[arg(long, value_name = "TIME")]
    pub health_timeout: Option<Time>,
    /// Failures in a row that make it unhealthy [default: the image's, else 3]
    #[arg(long, value_name = "N")]
    pub health_retries: Option<u32>,
    /// Time in which failures do not count yet [default: the image's, else 0s]
    #[arg(long, value_name = "TIME")]
    pub health_start_period: Option<Time>,
    /// Time between two health checks in the start period [default: the image's, else 5s]
    #[arg(long, value_name = "TIME")]
    pub health_start_interval: Option<Time>,
    /// Switch the image's HEALTHCHECK off
    #[arg(long)]
    pub no_healthcheck: bool,
}

impl HealthFlags {
    /// Puts what was given over what is there.
    pub fn apply(&self, spec: &mut VmSpec) -> Result<(), UsageError> {
        let has_any = self.health_cmd.is_some()
            || self.health_retries.is_some()
            || [self.health_interval, self.health_timeout, self.health_start_period, self.health_start_interval]
                .iter()
                .any(Option::is_some);
        if self.no_healthcheck {
            if has_any {
                return Err(UsageError("--no-healthcheck and --health-* contradict each other".into()));
            }
            spec.health_check = Some(HealthCheck::none());
            return Ok(());
        }
        if !has_any {
            return Ok(());
        }
        let check = spec.health_check.get_or_insert_default();
        if let Some(command) = &self.health_cmd {
            check.test = Some(HealthTest::from_text(command));
            check.tcp = None;
        }
        let times = [
            (&mut check.interval, self.health_interval),
            (&mut check.timeout, self.health_timeout),
            (&mut check.start_period, self.health_start_period),
            (&mut check.start_interval, self.health_start_interval),
        ];
        for (field, given) in times {
            *field = given.or(*field);
        }
        check.retries = self.health_retries.or(check.retries);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_lie_over_the_manifest_and_none_switches_off() {
        let mut spec = VmSpec {
            health_check: Some(HealthCheck { tcp: Some(80), retries: Some(5), ..HealthCheck::default() }),
            ..VmSpec::default()
        };
        HealthFlags::default().apply(&mut spec).unwrap();
        assert_eq!(spec.health_check.as_ref().unwrap().tcp, Some(80));
        let flags = HealthFlags {
            health_cmd: Some("test -e /ok".into()),
            health_interval: Some("2s".parse().unwrap()),
            ..HealthFlags::default()
        };
        flags.apply(&mut spec).unwrap();
        let check = spec.health_check.clone().unwrap();
        assert_eq!((check.test, check.tcp), (Some(HealthTest::Shell("test -e /ok".into())), None));
        assert_eq!((check.interval.unwrap().to_string().as_str(), check.retries), ("2s", Some(5)));
        HealthFlags { no_healthcheck: true, ..HealthFlags::default() }.apply(&mut spec).unwrap();
        assert_eq!(spec.health_check, Some(HealthCheck::none()));
        assert!(HealthFlags { no_healthcheck: true, ..flags }.apply(&mut spec).is_err());
    }
}
