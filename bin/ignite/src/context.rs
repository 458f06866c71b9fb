//! What every command gets: the settings, the engine, and where its output goes.

use crate::render::progress::ProgressBars;
use crate::report;
use crate::settings::Settings;
use ignite_engine::{Engine, EngineError};
use std::cell::{OnceCell, RefCell};
use std::collections::HashSet;

/// Settings and, once a command needs it, the engine.
pub struct Context {
    /// What flags, environment and configuration file say.
    pub settings: Settings,
    engine: OnceCell<Engine>,
    told: RefCell<HashSet<String>>,
}

impl Context {
    /// A context that has not opened the engine yet.
    pub fn new(settings: Settings) -> Context {
        Context { settings, engine: OnceCell::new(), told: RefCell::default() }
    }

    /// The engine, opened at the first call.
    pub fn engine(&self) -> Result<&Engine, EngineError> {
        if let Some(engine) = self.engine.get() {
            return Ok(engine);
        }
        let engine = Engine::open(self.settings.engine())?;
        Ok(self.engine.get_or_init(|| engine))
    }

    /// Leaves nothing of what this command was importing when it was interrupted; `stopped` waits for its threads.
    pub fn undo_imports(&self, stopped: impl FnOnce()) {
        let engine = self.engine.get();
        if let Some(engine) = engine {
            engine.cancel_imports();
        }
        stopped();
        if let Some(Err(error)) = engine.map(Engine::undo_imports) {
            tracing::warn!("cleaning up after the interrupted import: {error}");
        }
    }

    /// Tells the user, unless they would rather hear nothing.
    pub fn note(&self, text: &str) {
        if !self.is_quiet() {
            crate::report::note(text);
        }
    }

    /// True when only ids are wanted.
    pub fn is_quiet(&self) -> bool {
        self.settings.quiet
    }

    /// Says what is to be known about a VM that has been started; what several have in common, once.
    pub fn tell_notes(&self, notes: &[String]) {
        for note in notes {
            if !self.is_quiet() && self.told.borrow_mut().insert(note.clone()) {
                report::warning(note);
            }
        }
    }

    /// Bars on a terminal; elsewhere only what deserves a line.
    pub fn progress(&self) -> ProgressBars {
        ProgressBars::new(self.is_quiet())
    }
}
