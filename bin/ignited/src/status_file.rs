//! What the status branch holds: how each VM stands, and of which commit. Nothing in it changes without a reason.

use crate::keeper::SetReport;
use ignite_git::{GitError, StatusFile};
use serde::Serialize;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status<'a> {
    set: &'a str,
    commit: Option<&'a str>,
    is_ready: bool,
    problems: &'a [String],
    vms: Vec<Line<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    name: &'a str,
    state: ignite_reconcile::ObjectState,
    #[serde(skip_serializing_if = "Option::is_none")]
    phase: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<&'a str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    message: &'a str,
}

/// `status.json`.
pub fn files(report: &SetReport) -> Result<Vec<StatusFile>, GitError> {
    let vms = report.status.objects.iter().map(|object| Line {
        name: &object.name,
        state: object.state,
        phase: object.phase.as_deref(),
        origin: object.origin.as_deref(),
        // When it is tried again changes all the time.
        message: object.message.split("; again in").next().unwrap_or_default(),
    });
    let status = Status {
        set: &report.name,
        commit: report.source.commit.as_deref(),
        is_ready: report.is_ready(),
        problems: &report.status.problems,
        vms: vms.collect(),
    };
    let mut content = serde_json::to_vec_pretty(&status).unwrap_or_default();
    content.push(b'\n');
    Ok(vec![StatusFile { path: "status.json".parse()?, content }])
}

/// The commit's message.
pub fn message(report: &SetReport) -> String {
    let ready = report.status.objects.iter().filter(|o| o.state == ignite_reconcile::ObjectState::Ready).count();
    let commit = report.source.commit.as_deref().map_or("no commit", |commit| &commit[..commit.len().min(12)]);
    format!("{}: {ready} of {} VMs ready at {commit}", report.name, report.status.objects.len())
}
