//! Looks at a running guest's health, again and again, through its agent.

use crate::life::Life;
use ignite_agent_protocol::client::{Connection, StreamEvent};
use ignite_agent_protocol::message::{Open, Process, Role, StreamExit};
use ignite_api::Phase;
use ignite_api::event::Action;
use ignite_api::health::{HealthPlan, HealthStatus, MAX_OUTPUT, Probe};
use ignite_api::health_monitor::{Change, Monitor};
use tokio::time::{Instant, sleep, timeout};

/// What a look has found.
struct Look {
    is_well: bool,
    /// What it said, printable, at most [`MAX_OUTPUT`] bytes.
    output: String,
}

/// Keeps `status.health` true while the guest runs; never returns. Dropping it ends the look that is being taken. Without a
/// plan nothing is done. A paused guest is not looked at, and a look that a pause has come into does not count.
pub async fn keep(plan: Option<&HealthPlan>, role: &Role, connection: &Connection, life: &Life) {
    let Some(plan) = plan else { return std::future::pending().await };
    let started = Instant::now();
    let mut phase = life.watch();
    let mut monitor = Monitor::new(plan);
    loop {
        sleep(monitor.wait(started.elapsed())).await;
        if phase.wait_for(|phase| *phase == Phase::Running).await.is_err() {
            return std::future::pending().await;
        }
        let began = started.elapsed();
        let look = look(plan, role, connection).await;
        if phase.has_changed().unwrap_or(true) {
            continue;
        }
        let change = monitor.looked(look.is_well, began);
        if change != Change::None {
            store(&monitor, change, look.output, life);
        }
    }
}

fn store(monitor: &Monitor, change: Change, output: String, life: &Life) {
    let (health, failing_streak) = (monitor.health(), monitor.failing_streak());
    let stored = life.advance(None, |status| {
        let before = status.health.as_ref().filter(|before| before.state == health);
        let since = before.map_or_else(|| Some(jiff::Timestamp::now()), |before| before.since);
        status.health = Some(HealthStatus { state: health, failing_streak, since, output });
    });
    if let Err(error) = stored {
        tracing::error!("{}", error.chain());
    }
    if change == Change::Health {
        tracing::info!("health: {health}");
        life.tell_of_itself(Action::HealthStatus, |event| event.with("health", health));
    }
}

/// The program's process, as `exec` would run it: with the task's environment, user and directory.
fn process(words: &[String], role: &Role) -> Process {
    let args = words.to_vec();
    match role {
        Role::Task(task) => Process {
            args,
            env: task.env.clone(),
            user: task.user.clone(),
            working_dir: task.working_dir.clone(),
            ..Process::default()
        },
        Role::Machine { env, .. } => Process { args, env: env.clone(), ..Process::default() },
        Role::Idle => Process { args, ..Process::default() },
    }
}

async fn look(plan: &HealthPlan, role: &Role, connection: &Connection) -> Look {
    let open = match &plan.probe {
        Probe::Command(words) => Open::Exec(process(words, role)),
        Probe::Tcp(port) => Open::Connect { port: *port },
    };
    let mut output = Vec::new();
    let end = timeout(plan.timeout, async {
        let (_, mut stream) = connection.open(&open).await.map_err(|error| error.to_string())?;
        if matches!(open, Open::Connect { .. }) {
            return Ok(0);
        }
        stream.stdin.close();
        loop {
            match stream.output.recv().await {
                Some(StreamEvent::Stdout(bytes) | StreamEvent::Stderr(bytes)) => {
                    let room = MAX_OUTPUT.saturating_sub(output.len());
                    output.extend_from_slice(&bytes[..bytes.len().min(room)]);
                }
                Some(StreamEvent::StdoutEnd) => {}
                Some(StreamEvent::Exit(StreamExit::Failed { message, .. })) => return Err(message),
                Some(StreamEvent::Exit(exit)) => return Ok(exit.exit_code()),
                Some(StreamEvent::Lost(error)) => return Err(error.to_string()),
                None => return Err("the guest's agent is gone".to_owned()),
            }
        }
    })
    .await;
    let failure = match end {
        Ok(Ok(0)) => return Look { is_well: true, output: printable(&output) },
        Ok(Ok(code)) if output.is_empty() => format!("it exited with {code}"),
        Ok(Ok(_)) => return Look { is_well: false, output: printable(&output) },
        Ok(Err(message)) => message,
        Err(_) => format!("it did not end within {}", ignite_api::health::Time(plan.timeout)),
    };
    Look { is_well: false, output: printable(failure.as_bytes()) }
}

/// Text of the guest without control characters but ends of lines, at most [`MAX_OUTPUT`] bytes.
fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut clean = String::new();
    for c in text.trim_end().chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }) {
        if clean.len() + c.len_utf8() > MAX_OUTPUT {
            break;
        }
        clean.push(c);
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_guest_says_is_bounded_and_cannot_move_a_cursor() {
        assert_eq!(printable(b"a\x1b[2Jb\r\nc\n\n"), "a [2Jb \nc");
        assert_eq!(printable(&[0xff; 2 * MAX_OUTPUT]).len() / MAX_OUTPUT, 0);
        assert_eq!(printable(&[b'x'; 2 * MAX_OUTPUT]).len(), MAX_OUTPUT);
    }

    #[test]
    fn a_look_runs_as_the_task_does() {
        let task = Process { user: "app".into(), working_dir: "/srv".into(), ..Process::default() };
        let process = process(&["true".into()], &Role::Task(task));
        assert_eq!((process.user.as_str(), process.working_dir.as_str(), process.tty), ("app", "/srv", false));
    }
}
