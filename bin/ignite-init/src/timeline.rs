//! When each step of the boot was done, told to the host in one line: a slow boot has an address.

use std::fmt::Write;
use std::time::Duration;

/// Steps with the time since the kernel's start at which each was done.
#[derive(Debug, Default)]
pub struct Timeline {
    steps: Vec<(&'static str, Duration)>,
}

impl Timeline {
    /// Notes that a step is done now.
    pub fn mark(&mut self, step: &'static str) {
        self.steps.push((step, uptime()));
    }

    /// All steps on one line, in tenths of milliseconds' precision: `init 512.0 modules 640.3 ...`.
    pub fn line(&self) -> String {
        let mut line = String::from("done at ms:");
        for (step, at) in &self.steps {
            // Writing to a string cannot fail.
            let _ = write!(line, " {step} {}.{}", at.as_millis(), at.as_micros() / 100 % 10);
        }
        line
    }
}

fn uptime() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_every_step_in_order() {
        let steps = vec![("init", Duration::from_micros(1_234_567)), ("root", Duration::from_millis(2_000))];
        assert_eq!(Timeline { steps }.line(), "done at ms: init 1234.5 root 2000.0");
    }
}
