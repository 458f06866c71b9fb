//! What the engine does, while it does it: bars on a terminal, single lines elsewhere.

use crate::render::text::sanitize;
use crate::report;
use crate::terminal::HiddenKeys;
use ignite_engine::{Progress, ProgressEvent};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::collections::HashMap;
use std::io::IsTerminal;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

/// What is over sooner is not worth a flicker.
const QUIET_TIME: Duration = Duration::from_millis(250);
const TICK: Duration = Duration::from_millis(100);
/// Layers shown at once; an image may have a hundred.
const MAX_LAYER_BARS: usize = 12;

/// Bars of one command, gone from the screen when this is dropped, whoever still reports to them.
pub struct ProgressBars(Arc<Bars>);

struct Bars {
    quiet: bool,
    multi: MultiProgress,
    state: Mutex<State>,
    finished: Condvar,
}

#[derive(Default)]
struct State {
    is_finished: bool,
    phase: Option<ProgressBar>,
    layers: HashMap<String, ProgressBar>,
    keys: Option<HiddenKeys>,
}

impl ProgressBars {
    /// Bars that appear once the work takes longer than a moment; on a terminal only, and never when `quiet`.
    pub fn new(quiet: bool) -> ProgressBars {
        let multi = MultiProgress::with_draw_target(ProgressDrawTarget::hidden());
        let bars = Arc::new(Bars { quiet, multi, state: Mutex::default(), finished: Condvar::new() });
        if !quiet && std::io::stderr().is_terminal() {
            let shown = bars.clone();
            // Without its thread there are no bars, and that is all there is to it.
            let _ = std::thread::Builder::new().name("progress".into()).spawn(move || shown.show_after(QUIET_TIME));
        }
        ProgressBars(bars)
    }

    /// Where the engine reports.
    pub fn listener(&self) -> Arc<dyn Progress> {
        self.0.clone()
    }

    /// Takes the bars off the screen; later events draw nothing.
    pub fn finish(&self) {
        let mut state = self.0.lock();
        state.is_finished = true;
        state.layers.drain().for_each(|(_, bar)| bar.finish_and_clear());
        if let Some(phase) = state.phase.take() {
            phase.finish_and_clear();
        }
        state.keys = None;
        drop(state);
        let _ = self.0.multi.clear();
        self.0.multi.set_draw_target(ProgressDrawTarget::hidden());
        self.0.finished.notify_all();
    }
}

impl Drop for ProgressBars {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Bars {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn show_after(&self, delay: Duration) {
        let waited = self.finished.wait_timeout_while(self.lock(), delay, |state| !state.is_finished);
        let (mut state, _) = waited.unwrap_or_else(std::sync::PoisonError::into_inner);
        if !state.is_finished {
            state.keys = HiddenKeys::enter();
            self.multi.set_draw_target(ProgressDrawTarget::stderr());
        }
    }

    fn line(&self, text: &str) {
        if !self.quiet {
            self.multi.suspend(|| report::note(text));
        }
    }

    fn start_phase(&self, name: &'static str) {
        let mut state = self.lock();
        if state.is_finished {
            return;
        }
        if let Some(old) = state.phase.take() {
            old.finish_and_clear();
        }
        let bar = self.multi.insert(0, ProgressBar::new_spinner());
        bar.set_style(style("{spinner} {prefix:<14} {msg}"));
        bar.set_prefix(name);
        bar.enable_steady_tick(TICK);
        state.phase = Some(bar);
    }

    fn end_phase(&self) {
        let mut state = self.lock();
        state.layers.drain().for_each(|(_, bar)| bar.finish_and_clear());
        if let Some(phase) = state.phase.take() {
            phase.finish_and_clear();
        }
    }

    fn set_bytes(&self, done: u64, total: Option<u64>) {
        let state = self.lock();
        let Some(bar) = &state.phase else { return };
        if let Some(total) = total
            && bar.length() != Some(total)
        {
            bar.set_length(total);
            bar.set_style(style(
                "{spinner} {prefix:<14} {wide_bar} {binary_bytes:>10} / {binary_total_bytes:<10} {eta:>4}",
            ));
        } else if total.is_none() {
            bar.set_style(style("{spinner} {prefix:<14} {binary_bytes:>10}"));
        }
        bar.set_position(done);
    }

    fn set_layer(&self, digest: &str, done: u64, total: u64) {
        let mut state = self.lock();
        if state.is_finished || (!state.layers.contains_key(digest) && state.layers.len() >= MAX_LAYER_BARS) {
            return;
        }
        let bar = state.layers.entry(digest.to_owned()).or_insert_with(|| {
            let bar = self.multi.add(ProgressBar::new(total));
            bar.set_style(style(
                "  {prefix:<14} {wide_bar} {binary_bytes:>10} / {binary_total_bytes:<10} {binary_bytes_per_sec:>12}",
            ));
            bar.set_prefix(short_digest(digest));
            bar
        });
        bar.set_length(total);
        bar.set_position(done);
    }

    fn end_layer(&self, digest: &str) {
        if let Some(bar) = self.lock().layers.remove(digest) {
            bar.finish_and_clear();
        }
    }
}

impl Progress for Bars {
    fn event(&self, event: ProgressEvent) {
        match event {
            ProgressEvent::Phase(name) => self.start_phase(name),
            ProgressEvent::PhaseDone(_) => self.end_phase(),
            ProgressEvent::Bytes { done, total } => self.set_bytes(done, total),
            ProgressEvent::Layer { digest, done, total } => self.set_layer(&digest, done, total),
            ProgressEvent::LayerDone { digest } => self.end_layer(&digest),
            ProgressEvent::Retry { reason, attempt } => {
                self.line(&format!("trying again (retry {attempt}): {reason}"));
            }
            ProgressEvent::Note(text) => self.line(&text),
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    // The templates are ours and are tested below; a wrong one would only look plain.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━╸ ")
}

/// `sha256:0123456789ab...` as `0123456789ab`.
fn short_digest(digest: &str) -> String {
    let hex = digest.split_once(':').map_or(digest, |(_, hex)| hex);
    sanitize(&hex.chars().take(12).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use indicatif::InMemoryTerm;

    #[test]
    fn bars_show_phases_and_layers_and_go_away() {
        let term = InMemoryTerm::new(10, 100);
        let progress = ProgressBars::new(true);
        progress.0.multi.set_draw_target(ProgressDrawTarget::term_like(Box::new(term.clone())));
        progress.0.event(ProgressEvent::Phase("pull"));
        let digest = format!("sha256:{}", "ab".repeat(32));
        progress.0.event(ProgressEvent::Layer { digest: digest.clone(), done: 1 << 20, total: 2 << 20 });
        progress.0.lock().phase.as_ref().unwrap().force_draw();
        let shown = term.contents();
        assert!(shown.contains("pull"), "{shown}");
        assert!(shown.contains("abababababab") && shown.contains("1.00 MiB / 2.00 MiB"), "{shown}");
        progress.0.event(ProgressEvent::LayerDone { digest });
        progress.0.event(ProgressEvent::PhaseDone("pull"));
        progress.0.event(ProgressEvent::Phase("base disk"));
        progress.0.event(ProgressEvent::Bytes { done: 10, total: Some(20) });
        progress.0.lock().phase.as_ref().unwrap().force_draw();
        assert!(term.contents().contains("10 B / 20 B"), "{}", term.contents());
        progress.finish();
        assert_eq!(term.contents(), "");
    }

    #[test]
    fn digests_are_shortened() {
        assert_eq!(short_digest("sha256:0123456789abcdef"), "0123456789ab");
        assert_eq!(short_digest("\u{1b}[2J"), "\\u{1b}[2J");
    }
}
