//! Signals: their names, the ones we pass on to a task, and the ones that interrupt us.

use std::future::Future;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

/// Linux signals by name, without `SIG`.
const NAMES: [(&str, u8); 35] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("POLL", 29),
    ("PWR", 30),
    ("SYS", 31),
    ("RTMIN", RTMIN),
];
const RTMIN: u8 = 34;
const RTMAX: u8 = 64;

/// SIGKILL.
pub const SIGKILL: u8 = 9;
/// SIGPIPE.
pub const SIGPIPE: u8 = 13;
/// SIGINT.
pub const SIGINT: u8 = 2;
/// SIGTERM.
pub const SIGTERM: u8 = 15;

/// What we pass on to a task that runs in the foreground, as `docker run --sig-proxy` does.
const FORWARDED: [u8; 7] = [1, SIGINT, 3, 10, 12, 14, SIGTERM];
/// What ends us while nothing runs in the foreground.
const INTERRUPTING: [u8; 4] = [1, SIGINT, 3, SIGTERM];

/// We were asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("interrupted by signal {signal}")]
pub struct Interrupted {
    /// Linux signal number.
    pub signal: u8,
}

impl Interrupted {
    /// What a shell would say.
    pub fn exit_code(self) -> u8 {
        128_u8.saturating_add(self.signal)
    }
}

/// Reads `TERM`, `SIGTERM`, `sigterm`, `15`, `RTMIN+3`, `RTMAX-1`.
pub fn parse_signal(text: &str) -> Result<u8, String> {
    let invalid =
        || format!("invalid signal {text:?}: a name such as SIGTERM or a number from 1 to {RTMAX} is expected");
    if let Ok(number) = text.parse::<u8>() {
        return if (1..=RTMAX).contains(&number) { Ok(number) } else { Err(invalid()) };
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some((_, number)) = NAMES.iter().find(|(known, _)| *known == name) {
        return Ok(*number);
    }
    let offset = |digits: &str| digits.parse::<u8>().ok();
    let real_time = match (name.strip_prefix("RTMIN+"), name.strip_prefix("RTMAX-")) {
        (Some(digits), _) => offset(digits).and_then(|n| RTMIN.checked_add(n)),
        (None, Some(digits)) => offset(digits).and_then(|n| RTMAX.checked_sub(n)),
        (None, None) => (name == "RTMAX").then_some(RTMAX),
    };
    real_time.filter(|number| (RTMIN..=RTMAX).contains(number)).ok_or_else(invalid)
}

/// The signals that a foreground task gets, one number each time.
pub fn forwarded() -> std::io::Result<mpsc::Receiver<u8>> {
    listen(&FORWARDED)
}

/// The signals that end us.
pub fn interrupting() -> std::io::Result<mpsc::Receiver<u8>> {
    listen(&INTERRUPTING)
}

/// Changes of the terminal's size.
pub fn window_changes() -> std::io::Result<Signal> {
    signal(SignalKind::window_change())
}

fn listen(numbers: &[u8]) -> std::io::Result<mpsc::Receiver<u8>> {
    let (sender, receiver) = mpsc::channel(16);
    for &number in numbers {
        let mut signals = signal(SignalKind::from_raw(number.into()))?;
        let sender = sender.clone();
        // Ends when the receiver does: the runtime owns it until then.
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = signals.recv() => if sender.send(number).await.is_err() { return },
                    () = sender.closed() => return,
                }
            }
        });
    }
    Ok(receiver)
}

/// Does `work` until it is done or we are asked to end; then `work` is dropped and cleans up behind itself.
pub async fn interruptible<T, E>(work: impl Future<Output = Result<T, E>>) -> anyhow::Result<T>
where
    anyhow::Error: From<E>,
{
    let mut interrupts = interrupting()?;
    tokio::select! {
        result = work => Ok(result?),
        Some(signal) = interrupts.recv() => Err(Interrupted { signal }.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_read_by_name_and_number() {
        for (text, number) in [
            ("TERM", 15),
            ("SIGTERM", 15),
            ("sigkill", 9),
            ("9", 9),
            ("usr1", 10),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("RTMAX", 64),
            ("rtmax-1", 63),
            ("64", 64),
        ] {
            assert_eq!(parse_signal(text), Ok(number), "{text}");
        }
        for text in ["", "0", "65", "-1", "SIG", "FOO", "RTMIN+31", "RTMIN+300", "RTMAX-31", "RTMAX-300", "15 "] {
            assert!(parse_signal(text).is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn work_that_ends_by_itself_is_not_interrupted() {
        assert_eq!(interruptible(async { Ok::<_, std::io::Error>(7) }).await.unwrap(), 7);
        assert!(interruptible(async { Err::<(), _>(std::io::Error::other("no")) }).await.is_err());
    }
}
