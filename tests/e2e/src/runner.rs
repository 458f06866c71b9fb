//! Runs the tests of a table, with libtest's arguments and output, and checks at the end that nothing is left.

use crate::host::{Host, end_long_lived_hosts};
use crate::vmm::{self, Vmm};
use libtest_mimic::{Arguments, Completion, Trial};
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::OnceLock;

/// What a test says when it could not be done here: the reason, printed beside its name.
pub type Report = Result<(), String>;

/// A row of the table: a name and what it does.
#[derive(Debug, Clone, Copy)]
pub struct Test {
    /// `module::behaviour`.
    pub name: &'static str,
    /// Panics when the behaviour is not shown; an `Err` is the reason why it could not be tried.
    pub run: fn() -> Report,
    /// Why it runs on QEMU only.
    pub qemu_only: Option<&'static str>,
}

/// How many tests run at once, unless `--test-threads` says otherwise: a boot keeps about one CPU busy.
const DEFAULT_THREADS: usize = 2;

thread_local! {
    static PANIC_PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs `tests`, then `finish` (which ends what tests share), then looks for what is left on the shared host.
pub fn main(tests: &[Test], finish: fn()) -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(DEFAULT_THREADS);
    // The message is shown with the test's name, once, and not in the middle of other tests' lines.
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(|place| format!(" ({}:{})", place.file(), place.line())).unwrap_or_default();
        PANIC_PLACE.with_borrow_mut(|kept| *kept = place);
    }));

    let mut trials: Vec<Trial> = tests.iter().map(|test| trial(*test)).collect();
    let ran: Vec<Test> = tests.iter().filter(|test| !arguments.is_filtered_out(&trial(**test))).copied().collect();
    let is_wanted = |trial: &Trial| !arguments.is_filtered_out(trial) && !arguments.list;
    let is_any_wanted = trials.iter().any(is_wanted);
    if !is_any_wanted {
        trials.clear();
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    if !is_any_wanted {
        return conclusion.exit_code();
    }
    for line in vmm::told(Vmm::wanted(), &ran, why_no_firecracker()) {
        show(&line);
    }

    let ending = catch_unwind(AssertUnwindSafe(|| {
        finish();
        Host::shared().assert_nothing_left();
    }));
    end_long_lived_hosts();
    match ending {
        Ok(()) => conclusion.exit_code(),
        Err(panic) => {
            show(&format!("after all tests: {}", message(panic.as_ref())));
            ExitCode::FAILURE
        }
    }
}

/// Asked once; it stays as it is.
fn why_no_firecracker() -> Option<&'static str> {
    static WHY: OnceLock<Option<String>> = OnceLock::new();
    WHY.get_or_init(vmm::why_no_firecracker).as_deref()
}

/// Does a test, unless the VMM that is asked for cannot.
fn run(test: Test) -> Report {
    let vmm = Vmm::wanted();
    let why_not = if vmm == Vmm::Firecracker { why_no_firecracker() } else { None };
    vmm.refuses(&test, why_not).map_or_else(test.run, Err)
}

fn trial(test: Test) -> Trial {
    Trial::ignorable_test(test.name, move || match catch_unwind(|| run(test)) {
        Ok(Ok(())) => Ok(Completion::Completed),
        Ok(Err(reason)) => Ok(Completion::ignored_with(reason)),
        Err(panic) => {
            let place = PANIC_PLACE.with_borrow_mut(std::mem::take);
            Err(format!("{}{place}", message(panic.as_ref())).into())
        }
    })
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    if let Some(text) = panic.downcast_ref::<String>() {
        return text.clone();
    }
    panic.downcast_ref::<&str>().map_or_else(|| "a panic without a message".into(), ToString::to_string)
}

#[allow(clippy::print_stdout, reason = "the runner's own report")]
fn show(line: &str) {
    println!("{line}");
}
