//! The VMM on which the tests run their VMs, and which of them ran on QEMU only, and why.

use crate::host::program;
use crate::runner::Test;
use std::ffi::OsString;
use std::process::Command;

/// Says which VMM: `qemu` (the default) or `firecracker`.
pub const WANTED: &str = "IGNITE_TEST_VMM";
/// The Firecracker that is used.
pub const FIRECRACKER: &str = "IGNITE_TEST_FIRECRACKER";

/// A VMM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vmm {
    /// QEMU, by KVM or in software.
    Qemu,
    /// Firecracker.
    Firecracker,
}

impl Vmm {
    /// The one that is asked for.
    ///
    /// # Panics
    /// When it is none that we know.
    pub fn wanted() -> Vmm {
        match std::env::var(WANTED).as_deref() {
            Err(_) | Ok("" | "qemu") => Vmm::Qemu,
            Ok("firecracker") => Vmm::Firecracker,
            Ok(other) => panic!("{WANTED} is qemu or firecracker, not {other:?}"),
        }
    }

    /// How the name of its process begins.
    pub fn process_name(self) -> &'static str {
        match self {
            Vmm::Qemu => "qemu",
            Vmm::Firecracker => "firecracker",
        }
    }

    /// Variables of every call of the programs. Firecracker has no network that works everywhere: VMs have one where a test
    /// asks for it.
    pub fn environment(self) -> Vec<(&'static str, OsString)> {
        match self {
            Vmm::Qemu => Vec::new(),
            Vmm::Firecracker => {
                let given = std::env::var_os(FIRECRACKER).map(|program| ("IGNITE_FIRECRACKER", program));
                let chosen = [("IGNITE_VMM", "firecracker".into()), ("IGNITE_NETWORK", "none".into())];
                chosen.into_iter().chain(given).collect()
            }
        }
    }

    /// Why it cannot run this test; `why_not` tells whether it runs on this host at all.
    pub fn refuses(self, test: &Test, why_not: Option<&str>) -> Option<String> {
        match (self, why_not, test.qemu_only) {
            (Vmm::Qemu, ..) | (Vmm::Firecracker, None, None) => None,
            (Vmm::Firecracker, Some(why_not), _) => Some(format!("no VM runs on Firecracker here: {why_not}")),
            (Vmm::Firecracker, None, Some(reason)) => Some(format!("QEMU only: {reason}")),
        }
    }
}

/// Why Firecracker runs no VM on this host, as `ignite doctor` says it.
pub fn why_no_firecracker() -> Option<String> {
    let mut doctor = Command::new(program("ignite"));
    let nowhere = tempfile::tempdir().expect("a directory");
    doctor.args(["--data-dir"]).arg(nowhere.path()).arg("--run-dir").arg(nowhere.path().join("run"));
    doctor.args(["doctor", "-o", "json"]).envs(Vmm::Firecracker.environment());
    let said = doctor.output().expect("run ignite doctor").stdout;
    row_of_doctor(&serde_json::from_slice(&said).unwrap_or_default())
}

fn row_of_doctor(checks: &serde_json::Value) -> Option<String> {
    let row = checks.as_array().into_iter().flatten().find(|row| row["check"] == "Firecracker");
    match row {
        Some(row) if row["status"] == "ok" => None,
        Some(row) => Some(row["detail"].as_str().unwrap_or("it does not say why").to_owned()),
        None => Some("doctor does not know it".to_owned()),
    }
}

/// What is told at the end of `ran`: which ran on QEMU only, one reason for all, or one for each.
pub fn told(vmm: Vmm, ran: &[Test], why_not: Option<&str>) -> Vec<String> {
    let mut lines = Vec::new();
    match (vmm, why_not) {
        (Vmm::Qemu, Some(why_not)) => {
            lines.push(format!("QEMU only: all {} of this run, here: {why_not}", ran.len()));
        }
        (Vmm::Qemu, None) => {
            lines.push(format!(
                "QEMU only: all {} of this run: it was not asked otherwise ({WANTED}=firecracker)",
                ran.len()
            ));
        }
        (Vmm::Firecracker, _) => {}
    }
    let declared =
        ran.iter().filter_map(|test| Some(format!("QEMU only, everywhere: {}: {}", test.name, test.qemu_only?)));
    lines.extend(declared);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: Test = Test { name: "tasks::both", run: || Ok(()), qemu_only: None };
    const QEMU: Test = Test { name: "pod::one", run: || Ok(()), qemu_only: Some("its tap is a queue") };

    #[test]
    fn a_test_runs_where_it_can_and_says_why_where_it_cannot() {
        for (vmm, test, why_not, expected) in [
            (Vmm::Qemu, BOTH, None, None),
            (Vmm::Qemu, QEMU, Some("no KVM"), None),
            (Vmm::Firecracker, BOTH, None, None),
            (Vmm::Firecracker, QEMU, None, Some("QEMU only: its tap is a queue")),
            (Vmm::Firecracker, BOTH, Some("no KVM"), Some("no VM runs on Firecracker here: no KVM")),
        ] {
            assert_eq!(vmm.refuses(&test, why_not).as_deref(), expected, "{vmm:?} {}", test.name);
        }
    }

    #[test]
    fn what_ran_on_qemu_only_is_told_with_its_reason() {
        let ran = [BOTH, QEMU];
        let declared = "QEMU only, everywhere: pod::one: its tap is a queue";
        let here = "QEMU only: all 2 of this run, here: no KVM";
        assert_eq!(told(Vmm::Qemu, &ran, Some("no KVM")), [here, declared]);
        assert_eq!(told(Vmm::Firecracker, &ran, None), [declared]);
        assert!(told(Vmm::Qemu, &ran, None)[0].contains(WANTED));
    }

    #[test]
    fn doctor_is_understood() {
        let checks = |status: &str| serde_json::json!([{"check": "Firecracker", "status": status, "detail": "no KVM"}]);
        assert_eq!(row_of_doctor(&checks("ok")), None);
        assert_eq!(row_of_doctor(&checks("warning")).as_deref(), Some("no KVM"));
        assert!(row_of_doctor(&serde_json::json!([])).is_some());
    }
}
