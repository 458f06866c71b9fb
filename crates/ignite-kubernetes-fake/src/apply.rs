//! Server-side apply of one manager: what it no longer names goes, what it names is as it says, what others have put there stays.

use serde_json::{Map, Value};

/// The lists that are maps, by the key of their entries; all others are replaced whole.
const KEYED_LISTS: [(&str, &str); 1] = [("conditions", "type")];

/// `live`, after a manager that said `before` says `now`.
pub(crate) fn apply(live: &Value, before: &Value, now: &Value) -> Value {
    match now {
        Value::Object(now) => {
            let nothing = Map::new();
            let (live, before) = (live.as_object().unwrap_or(&nothing), before.as_object().unwrap_or(&nothing));
            let mut merged = live.clone();
            merged.retain(|key, _| !before.contains_key(key) || now.contains_key(key));
            for (key, value) in now {
                let (live, before) = (live.get(key).unwrap_or(&Value::Null), before.get(key).unwrap_or(&Value::Null));
                let keyed = KEYED_LISTS.iter().find(|(list, _)| list == key);
                let value = match keyed {
                    Some((_, id)) => apply_keyed(id, live, before, value),
                    None => apply(live, before, value),
                };
                merged.insert(key.clone(), value);
            }
            Value::Object(merged)
        }
        now => now.clone(),
    }
}

fn apply_keyed(id: &str, live: &Value, before: &Value, now: &Value) -> Value {
    let entries = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let find = |all: &[Value], entry: &Value| all.iter().find(|one| one[id] == entry[id]).cloned();
    let (live, before, now) = (entries(live), entries(before), entries(now));
    let others = live.iter().filter(|one| find(&before, one).is_none() && find(&now, one).is_none()).cloned();
    let ours = now.iter().map(|entry| {
        let nothing = || Value::Null;
        apply(&find(&live, entry).unwrap_or_else(nothing), &find(&before, entry).unwrap_or_else(nothing), entry)
    });
    Value::Array(ours.chain(others).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_no_longer_said_goes_and_what_others_said_stays() {
        let live = json!({ "phase": "Running", "node": "n1", "theirs": 1, "ips": ["a", "b"],
            "conditions": [{ "type": "Ready", "status": "True", "reason": "Up" }, { "type": "Theirs", "status": "True" }] });
        let before = json!({ "phase": "Running", "node": "n1", "ips": ["a", "b"],
            "conditions": [{ "type": "Ready", "status": "True", "reason": "Up" }] });
        let now = json!({ "phase": "Pending", "ips": ["c"], "conditions": [{ "type": "Ready", "status": "False" }] });
        assert_eq!(
            apply(&live, &before, &now),
            json!({ "phase": "Pending", "theirs": 1, "ips": ["c"],
                "conditions": [{ "type": "Ready", "status": "False" }, { "type": "Theirs", "status": "True" }] })
        );
    }
}
