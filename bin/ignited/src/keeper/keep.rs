//! The loop that brings about what a set wants: whenever something changes, is due, or has been left alone for long.

use super::{Around, Wanted};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use ignite_reconcile::{Controller, FleetError, Step};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch as channel};
use tokio::time::{Instant, sleep_until};

/// Changes that come together are looked at together.
const SETTLE: Duration = Duration::from_millis(50);
/// Looking takes at most one part in so many of the time.
const LOOK_SHARE: u32 = 5;
/// Time between two tries when nothing can be looked at.
const LOOK_FAILED: Duration = Duration::from_secs(5);

/// Never ends. `wanted` is empty until the set has been read once; `told` is woken when the report says something else.
pub(super) async fn run(
    mut controller: Controller,
    index: usize,
    mut wanted: channel::Receiver<Option<Wanted>>,
    mut vms: channel::Receiver<u64>,
    told: Arc<Notify>,
    around: &Around<'_>,
) {
    let Around { engine, shared, metrics, pace, .. } = around;
    let set = controller.options().stack.clone().unwrap_or_default();
    let mut running = FuturesUnordered::new();
    let mut look_at: Option<Instant> = None;
    let mut earliest = Instant::now();
    let mut revision = 0;
    loop {
        let soon = |look_at: &mut Option<Instant>, earliest: Instant| {
            let time = (Instant::now() + SETTLE).max(earliest);
            *look_at = Some(look_at.map_or(time, |planned| planned.min(time)));
        };
        tokio::select! {
            biased;
            Some((step, result)) = running.next(), if !running.is_empty() => {
                let (step, result): (Step, Result<(), FleetError>) = (step, result);
                controller.finished(&step, &result);
                metrics.step_done(&set, &step, &result);
                tell(&set, &step, &result);
                soon(&mut look_at, earliest);
            }
            Ok(()) = wanted.changed() => {
                if let Some(new) = wanted.borrow_and_update().clone() {
                    revision = new.revision;
                    controller.want(new.set);
                    soon(&mut look_at, earliest);
                }
            }
            Ok(()) = vms.changed(), if look_at.is_some() => {
                vms.borrow_and_update();
                soon(&mut look_at, earliest);
            }
            () = sleep_until(look_at.unwrap_or_else(far_away)), if look_at.is_some() => {
                let started = Instant::now();
                match controller.look(*engine).await {
                    Ok(round) => {
                        let took = started.elapsed();
                        metrics.look_done(&set, took, controller.status());
                        earliest = Instant::now() + took * LOOK_SHARE;
                        let next = round.next.map_or(pace.resync, |wait| wait.min(pace.resync));
                        look_at = Some((Instant::now() + next).max(earliest));
                        let before = shared.report(index).status;
                        let is_news = before.objects != controller.status().objects
                            || before.problems != controller.status().problems;
                        shared.update(index, |report| {
                            report.status = controller.status().clone();
                            report.error = None;
                            report.kept_revision = revision;
                            report.look_ms = took.as_secs_f64() * 1000.0;
                        });
                        shared.set_vms(round.found);
                        if is_news {
                            told.notify_one();
                        }
                        for step in round.work {
                            running.push(controller.perform(*engine, step));
                        }
                    }
                    Err(error) => {
                        tracing::error!("{set}: {error}");
                        metrics.look_failed(&set);
                        shared.update(index, |report| report.error = Some(error.to_string()));
                        look_at = Some(Instant::now() + LOOK_FAILED);
                    }
                }
            }
        }
    }
}

fn far_away() -> Instant {
    Instant::now() + Duration::from_secs(3600)
}

fn tell(set: &str, step: &Step, result: &Result<(), FleetError>) {
    let verb = step.action.verb();
    match result {
        Ok(()) => tracing::info!("{set}: {}: {verb}: done", step.name),
        Err(error) => tracing::error!("{set}: {}: {verb}: {error}", step.name),
    }
}
