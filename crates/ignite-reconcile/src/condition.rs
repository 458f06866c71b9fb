//! What became of what is wanted, as `ignited status` and the metrics tell it.

use serde::{Deserialize, Serialize};

/// How one object stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ObjectState {
    /// It is as it is wanted.
    Ready,
    /// It is being brought there.
    Progressing,
    /// It waits for what it depends on.
    Waiting,
    /// It ended and is not started again.
    Completed,
    /// The last attempt failed; there will be another.
    Failed,
    /// Its manifest cannot be read: it stays as it is.
    Held,
    /// It cannot be done until what is wanted, or what is there, changes.
    Refused,
}

impl ObjectState {
    /// Every state.
    pub const ALL: [ObjectState; 7] = [
        ObjectState::Ready,
        ObjectState::Progressing,
        ObjectState::Waiting,
        ObjectState::Completed,
        ObjectState::Failed,
        ObjectState::Held,
        ObjectState::Refused,
    ];

    /// Nothing more will happen by itself.
    pub fn is_settled(self) -> bool {
        match self {
            ObjectState::Ready | ObjectState::Completed | ObjectState::Held | ObjectState::Refused => true,
            ObjectState::Progressing | ObjectState::Waiting | ObjectState::Failed => false,
        }
    }
}

impl std::fmt::Display for ObjectState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            ObjectState::Ready => "Ready",
            ObjectState::Progressing => "Progressing",
            ObjectState::Waiting => "Waiting",
            ObjectState::Completed => "Completed",
            ObjectState::Failed => "Failed",
            ObjectState::Held => "Held",
            ObjectState::Refused => "Refused",
        })
    }
}

/// One object of a set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectStatus {
    /// Its name.
    pub name: String,
    /// Its uid, when it is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// `FILE:LINE` where it is wanted; absent: it is not wanted any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// How it stands.
    pub state: ObjectState,
    /// Its phase, when it is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// Why it stands so; empty when that is plain.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Since when.
    pub since: jiff::Timestamp,
}

/// A set as it stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SetStatus {
    /// Who keeps it.
    pub owner: String,
    /// What of it cannot be read, as `FILE:LINE: message`.
    pub problems: Vec<String>,
    /// Its objects.
    pub objects: Vec<ObjectStatus>,
    /// When the last round ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_round: Option<jiff::Timestamp>,
}

impl SetStatus {
    /// True when everything is as it is wanted.
    pub fn is_ready(&self) -> bool {
        self.problems.is_empty()
            && self.last_round.is_some()
            && self.objects.iter().all(|o| matches!(o.state, ObjectState::Ready | ObjectState::Completed))
    }
}
