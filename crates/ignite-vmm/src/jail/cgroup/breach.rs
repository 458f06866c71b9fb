//! Whether a group went over a limit, read from the counters the kernel keeps: pure.

use std::fmt;

/// A limit that was reached and could not be kept without force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Breach {
    /// The kernel killed for the group's own memory limit.
    Memory {
        /// The limit.
        limit_bytes: u64,
    },
    /// The kernel killed because the host, or a group around this one, had no memory left.
    HostMemory,
    /// A process or thread was refused.
    Tasks {
        /// The limit.
        max_tasks: u32,
    },
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Breach::Memory { limit_bytes } => {
                write!(f, "it went over its memory limit of {} MiB (guest and VMM together)", limit_bytes >> 20)
            }
            Breach::HostMemory => f.write_str("the host had no memory left, and the kernel killed it"),
            Breach::Tasks { max_tasks } => write!(f, "it went over its limit of {max_tasks} processes and threads"),
        }
    }
}

/// Number after `key ` at the beginning of a line of a counter file (`memory.events`, `memory.oom_control`,
/// `pids.events`); 0 where there is none.
pub(super) fn counter(text: &str, key: &str) -> u64 {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(name, _)| *name == key)
        .and_then(|(_, value)| value.trim().parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_by_name() {
        let events = "low 0\nhigh 0\nmax 12\noom 2\noom_kill 1\noom_group_kill 0\n";
        assert_eq!((counter(events, "oom"), counter(events, "oom_kill"), counter(events, "max")), (2, 1, 12));
        assert_eq!(counter("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", "oom_kill"), 3);
        assert_eq!((counter("", "max"), counter("max many", "max"), counter("max", "max")), (0, 0, 0));
    }

    #[test]
    fn a_breach_is_one_line_that_names_the_limit() {
        let told = Breach::Memory { limit_bytes: 640 << 20 }.to_string();
        assert_eq!(told, "it went over its memory limit of 640 MiB (guest and VMM together)");
        assert_eq!(Breach::Tasks { max_tasks: 130 }.to_string(), "it went over its limit of 130 processes and threads");
    }
}
