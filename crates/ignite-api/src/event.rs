//! What happens to VMs, as `ignite events` tells it.

use crate::Uid;
use crate::lifecycle;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Something that has happened to a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VmEvent {
    /// When.
    pub time: jiff::Timestamp,
    /// What.
    pub action: Action,
    /// To which VM.
    pub uid: Uid,
    /// The name it had.
    pub name: String,
    /// More about it, such as `exitCode`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
}

impl VmEvent {
    /// It happens now.
    pub fn now(action: Action, uid: &Uid, name: &str) -> VmEvent {
        let (uid, name) = (uid.clone(), name.to_owned());
        VmEvent { time: jiff::Timestamp::now(), action, uid, name, attributes: BTreeMap::new() }
    }

    /// With one more attribute.
    pub fn with(mut self, name: &str, value: impl ToString) -> VmEvent {
        self.attributes.insert(name.to_owned(), value.to_string());
        self
    }
}

/// What can happen, by Docker's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It exists.
    Create,
    /// Its guest runs.
    Start,
    /// It has ended, and its restart policy starts it again.
    Restart,
    /// Its guest is not executed for a while.
    Pause,
    /// Its guest goes on.
    Unpause,
    /// It has become healthy or unhealthy.
    #[serde(rename = "health_status")]
    HealthStatus,
    /// Someone wants it to end.
    Stop,
    /// It has ended.
    Die,
    /// It has another name.
    Rename,
    /// Something of what is wanted of it has changed.
    Update,
    /// It does not exist any more.
    Destroy,
}

impl Action {
    /// Every action.
    pub const ALL: [Action; 11] = [
        Action::Create,
        Action::Start,
        Action::Restart,
        Action::Pause,
        Action::Unpause,
        Action::HealthStatus,
        Action::Stop,
        Action::Die,
        Action::Rename,
        Action::Update,
        Action::Destroy,
    ];

    /// Its name, as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Action::Create => "create",
            Action::Start => "start",
            Action::Restart => "restart",
            Action::Pause => "pause",
            Action::Unpause => "unpause",
            Action::HealthStatus => "health_status",
            Action::Stop => "stop",
            Action::Die => "die",
            Action::Rename => "rename",
            Action::Update => "update",
            Action::Destroy => "destroy",
        }
    }

    /// What a step of a life is called; an end is told when all is undone, not when it is seen.
    pub fn of(event: lifecycle::Event) -> Option<Action> {
        use lifecycle::Event;
        match event {
            Event::GuestReady => Some(Action::Start),
            Event::StopRequested => Some(Action::Stop),
            Event::Pause => Some(Action::Pause),
            Event::Resume => Some(Action::Unpause),
            Event::Restart => Some(Action::Restart),
            Event::Start | Event::Exited | Event::Crashed => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_are_written_by_their_names() {
        for action in Action::ALL {
            assert_eq!(serde_json::to_value(action).unwrap(), action.as_str());
        }
    }

    #[test]
    fn an_event_is_one_line_and_comes_back() {
        let uid = Uid::parse("00000000000000ab").unwrap();
        let event = VmEvent::now(Action::Die, &uid, "web").with("exitCode", 7).with("reason", "a\nb");
        let line = serde_json::to_string(&event).unwrap();
        assert!(!line.contains('\n'), "{line}");
        assert_eq!(serde_json::from_str::<VmEvent>(&line).unwrap(), event);
    }
}
