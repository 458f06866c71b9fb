//! Of several operators one works, whatever happens to their requests.

use ignite_kubernetes_fake::{FakeServer, Trouble, Verb};
use ignite_operator::run::lease::{LeaseOptions, acquire};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

/// Pause between two attempts, with the time of an attempt.
const SOON: Duration = Duration::from_secs(3);

/// How many lead, now.
#[derive(Clone, Default)]
struct Leaders(Arc<AtomicUsize>);

/// Counted while it lives.
struct Leads(Leaders);

impl Leaders {
    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    fn join(&self) -> Leads {
        let others = self.0.fetch_add(1, Ordering::SeqCst);
        assert_eq!(others, 0, "two lead at a time");
        Leads(self.clone())
    }
}

impl Drop for Leads {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Candidate {
    task: JoinHandle<()>,
    stop: oneshot::Sender<()>,
    led: Arc<AtomicUsize>,
}

/// One that leads when it can, until it is told to end; one that has lost the lease tries anew, as a Pod that is restarted.
fn candidate(server: &FakeServer, leaders: &Leaders, name: &str) -> Candidate {
    let (client, leaders, name) = (server.client(name), leaders.clone(), name.to_owned());
    let (stop, mut stopped) = oneshot::channel::<()>();
    let led = Arc::new(AtomicUsize::new(0));
    let times = led.clone();
    let task = tokio::spawn(async move {
        loop {
            let holder = tokio::select! {
                holder = acquire(client.clone(), LeaseOptions::new("default", &name)) => holder.expect("nobody is forbidden it"),
                _ = &mut stopped => return,
            };
            times.fetch_add(1, Ordering::SeqCst);
            let leads = leaders.join();
            let work = async {
                let _leads = leads;
                drop((&mut stopped).await);
            };
            if holder.lead(work).await.is_ok() {
                return;
            }
        }
    });
    Candidate { task, stop, led }
}

impl Candidate {
    fn led(&self) -> usize {
        self.led.load(Ordering::SeqCst)
    }
}

async fn until(what: &str, within: Duration, is_so: impl Fn() -> bool) -> Duration {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < within, "{what}: not within {within:?}");
        sleep(Duration::from_millis(50)).await;
    }
    started.elapsed()
}

/// Two, of which `one` leads.
async fn two(server: &FakeServer) -> (Leaders, Candidate, Candidate) {
    let leaders = Leaders::default();
    let one = candidate(server, &leaders, "one");
    until("one leads", SOON, || one.led() == 1).await;
    let other = candidate(server, &leaders, "other");
    sleep(Duration::from_secs(120)).await;
    assert_eq!((leaders.count(), other.led()), (1, 0), "the other waits");
    (leaders, one, other)
}

#[tokio::test(start_paused = true)]
async fn one_that_ends_hands_over_at_once() {
    let server = FakeServer::new();
    let (_, one, other) = two(&server).await;
    one.stop.send(()).unwrap();
    one.task.await.unwrap();
    until("the other leads", SOON, || other.led() == 1).await;
    other.stop.send(()).unwrap();
    other.task.await.unwrap();
    let lease = server.object("leases", "ignite-operator").unwrap();
    assert_eq!((&lease["spec"]["holderIdentity"], &lease["spec"]["leaseTransitions"]), (&"".into(), &1.into()));
}

#[tokio::test(start_paused = true)]
async fn one_that_dies_is_waited_for_and_then_followed() {
    let server = FakeServer::new();
    let (leaders, one, other) = two(&server).await;
    one.task.abort();
    until("it is dead", SOON, || leaders.count() == 0).await;
    let waited = until("the other leads", Duration::from_secs(20), || other.led() == 1).await;
    assert!(waited >= Duration::from_secs(12), "only after {waited:?}: the dead one might have lived");
}

#[tokio::test(start_paused = true)]
async fn one_whose_lease_is_taken_stops_at_once() {
    let server = FakeServer::new();
    let (leaders, one, _other) = two(&server).await;
    server.edit("leases", "ignite-operator", |lease| lease["spec"]["holderIdentity"] = "somebody".into());
    until("it has stopped", SOON, || leaders.count() == 0).await;
    assert_eq!(one.led(), 1);
}

/// Proves for ways in which a holder can be cut off that it stops before another begins, and that another begins.
#[tokio::test(start_paused = true)]
async fn one_that_is_cut_off_stops_before_another_begins() {
    let late = |seconds| Trouble::Late(Duration::from_secs(seconds));
    let ways: [(&str, Trouble, Trouble); 6] = [
        ("nothing is answered", Trouble::Silent, Trouble::Silent),
        ("nothing arrives", Trouble::Unreachable, Trouble::Unreachable),
        ("everything fails", Trouble::refused(500), Trouble::refused(500)),
        ("it can read late and not write", late(9), Trouble::Silent),
        ("it can read and not write", late(0), Trouble::refused(409)),
        ("the server asks for patience", Trouble::refused(503), Trouble::refused(503)),
    ];
    for (what, read, write) in ways {
        let server = FakeServer::new();
        let (leaders, one, other) = two(&server).await;
        let trouble = move |verb: Verb| if verb.writes() { write.clone() } else { read.clone() };
        server.meddle(move |asked| (asked.user == "one").then(|| trouble(asked.verb)));
        until(what, Duration::from_secs(40), || other.led() == 1).await;
        assert_eq!((leaders.count(), one.led()), (1, 1), "{what}");
        one.task.abort();
        other.task.abort();
    }
}

/// Proves that an answer which comes late is not taken for a lease that lasts longer: the server has counted from before.
#[tokio::test(start_paused = true)]
async fn late_answers_do_not_lengthen_a_lease() {
    let server = FakeServer::new();
    let (leaders, one, other) = two(&server).await;
    let mut writes = 0;
    server.meddle(move |asked| match (asked.user.as_str(), asked.verb.writes()) {
        ("one", true) => {
            writes += 1;
            Some(if writes == 1 { Trouble::Late(Duration::from_secs(9)) } else { Trouble::Silent })
        }
        _ => None,
    });
    until("the other leads", Duration::from_secs(40), || other.led() == 1).await;
    assert_eq!((leaders.count(), one.led()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn three_in_all_kinds_of_trouble_never_lead_together() {
    let server = FakeServer::new();
    let leaders = Leaders::default();
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    server.meddle(move |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        match state % 16 {
            0..6 => None,
            6 => Some(Trouble::refused(409)),
            7 => Some(Trouble::refused(500)),
            8 => Some(Trouble::DoneButRefused { code: 500 }),
            9 | 10 => Some(Trouble::Silent),
            11 => Some(Trouble::Unreachable),
            _ => Some(Trouble::Late(Duration::from_millis(state % 9500))),
        }
    });
    let all = ["a", "b", "c"].map(|name| candidate(&server, &leaders, name));
    sleep(Duration::from_secs(24 * 3600)).await;
    assert!(all.iter().all(|one| !one.task.is_finished()), "none has seen another lead with it");
    let led: Vec<usize> = all.iter().map(Candidate::led).collect();
    assert!(led.iter().all(|times| *times > 3), "each has led now and then: {led:?}");
    server.leave_alone();
    until("one leads", Duration::from_secs(60), || leaders.count() == 1).await;
}

#[tokio::test(start_paused = true)]
async fn who_waits_asks_every_two_seconds_and_no_more() {
    let server = FakeServer::new();
    let (_, _one, _other) = two(&server).await;
    for trouble in [None, Some(Trouble::refused(500)), Some(Trouble::Unreachable)] {
        server.forget_requests();
        server.meddle(move |asked| trouble.clone().filter(|_| asked.user == "other"));
        sleep(Duration::from_secs(3600)).await;
        let asked = server.count("other", |_| true);
        assert!((100..=1801).contains(&asked), "{asked} requests in an hour");
        // Its holder reads it and writes it.
        assert!(server.count("one", |_| true) <= 3602);
    }
}

#[tokio::test(start_paused = true)]
async fn who_may_not_have_it_says_so_at_once() {
    for code in [401, 403, 404] {
        let server = FakeServer::new();
        server.meddle(move |asked| asked.verb.writes().then(|| Trouble::refused(code)));
        let acquired = timeout(SOON, acquire(server.client("one"), LeaseOptions::new("default", "one"))).await;
        let error = acquired.expect("at once").expect_err("it may not");
        assert_eq!(error.status(), Some(code));
        assert!(error.to_string().contains("default/ignite-operator"), "{error}");
    }
}
