//! One source of output, any number of listeners that come and go.

use crate::control::SessionEvent;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;

/// Events a listener may lag behind before it holds up the source (or loses events, where the source cannot wait).
const LISTENER_QUEUE: usize = 16;

/// Listeners of an output.
#[derive(Debug, Clone, Default)]
pub struct Fanout {
    listeners: Arc<Mutex<Vec<mpsc::Sender<SessionEvent>>>>,
}

impl Fanout {
    /// A new listener, from the next event on.
    pub fn listen(&self) -> mpsc::Receiver<SessionEvent> {
        let (sender, receiver) = mpsc::channel(LISTENER_QUEUE);
        self.lock().push(sender);
        receiver
    }

    /// Gives the event to every listener, waiting for each to take it: nothing is lost, and the source feels the slowest.
    pub async fn send(&self, event: &SessionEvent) {
        let listeners = self.lock().clone();
        for listener in &listeners {
            let _ = listener.send(event.clone()).await;
        }
        self.forget_closed();
    }

    /// Gives the event to every listener that has room for it.
    pub fn offer(&self, event: &SessionEvent) {
        for listener in self.lock().iter() {
            let _ = listener.try_send(event.clone());
        }
        self.forget_closed();
    }

    /// Ends the fan-out: listeners get what is queued for them, and then their end.
    pub fn close(&self) {
        self.lock().clear();
    }

    fn forget_closed(&self) {
        self.lock().retain(|listener| !listener.is_closed());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<mpsc::Sender<SessionEvent>>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn event(text: &'static str) -> SessionEvent {
        SessionEvent::Stdout(Bytes::from_static(text.as_bytes()))
    }

    #[tokio::test]
    async fn every_listener_gets_every_event_in_order() {
        let fanout = Fanout::default();
        let mut listeners = [fanout.listen(), fanout.listen()];
        fanout.send(&event("a")).await;
        fanout.send(&event("b")).await;
        fanout.close();
        for listener in &mut listeners {
            assert_eq!(listener.recv().await, Some(event("a")));
            assert_eq!(listener.recv().await, Some(event("b")));
            assert_eq!(listener.recv().await, None);
        }
    }

    #[tokio::test]
    async fn an_offer_never_waits_for_a_full_listener() {
        let fanout = Fanout::default();
        let mut listener = fanout.listen();
        for _ in 0..LISTENER_QUEUE * 2 {
            fanout.offer(&event("x"));
        }
        fanout.close();
        let mut received = 0;
        while listener.recv().await.is_some() {
            received += 1;
        }
        assert_eq!(received, LISTENER_QUEUE);
    }

    #[tokio::test]
    async fn a_listener_that_left_holds_nobody_up() {
        let fanout = Fanout::default();
        drop(fanout.listen());
        for _ in 0..LISTENER_QUEUE * 2 {
            fanout.send(&event("x")).await;
        }
    }
}
