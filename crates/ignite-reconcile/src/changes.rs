//! What differs between a VM as it is wanted and as it is, and what it takes to bring it about.

use crate::ownership::SECRETS_ANNOTATION;
use ignite_api::Vm;
use serde_json::Value;
use std::fmt;

/// Longest value that is shown.
const MAX_SHOWN: usize = 120;
/// Annotations and labels of others are theirs.
const OURS: &str = "ignite.weave.works/";

/// What it takes to bring a change about, in the order of what it costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    /// The object is written; what runs goes on.
    Update,
    /// The VM is stopped, changed and started: its disk stays.
    Restart,
    /// The VM is removed with its disk and made anew.
    Recreate,
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Effect::Update => "updated in place",
            Effect::Restart => "restarted, its disk stays",
            Effect::Recreate => "recreated, its disk is lost",
        })
    }
}

/// One field that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Such as `spec.memory`.
    pub field: String,
    /// What is there, as it is written; absent: nothing.
    pub from: Option<String>,
    /// What is wanted; absent: nothing.
    pub to: Option<String>,
    /// What it takes.
    pub effect: Effect,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "unset".to_owned());
        write!(f, "{}: {} -> {}", self.field, shown(&self.from), shown(&self.to))
    }
}

/// Every field of `wanted` that `found` has not, or has otherwise. Values that may be secret are not told.
pub fn changes(found: &Vm, wanted: &Vm) -> Vec<Change> {
    let mut all = Vec::new();
    // Both have a JSON form: they come from it and go to it.
    let (from, to) = (|| serde_json::to_value(&found.spec), || serde_json::to_value(&wanted.spec));
    if found.spec != wanted.spec
        && let (Ok(from), Ok(to)) = (from(), to())
    {
        compare("spec", Some(&from), Some(&to), &mut all);
    }
    map_changes("metadata.labels", &found.metadata.labels, &wanted.metadata.labels, &mut all);
    map_changes("metadata.annotations", &found.metadata.annotations, &wanted.metadata.annotations, &mut all);
    all
}

/// A label or annotation that is there and not wanted stays, unless it is one of ours: people and tools put their own.
fn map_changes(
    path: &str,
    found: &std::collections::BTreeMap<String, String>,
    wanted: &std::collections::BTreeMap<String, String>,
    all: &mut Vec<Change>,
) {
    for (key, to) in wanted {
        if found.get(key) != Some(to) {
            let from = found.get(key).map(|text| shorten(text));
            all.push(Change {
                field: format!("{path}.{key}"),
                from,
                to: Some(shorten(to)),
                effect: effect_of_key(key),
            });
        }
    }
    for (key, from) in found.iter().filter(|(key, _)| key.starts_with(OURS) && !wanted.contains_key(*key)) {
        let from = Some(shorten(from));
        all.push(Change { field: format!("{path}.{key}"), from, to: None, effect: effect_of_key(key) });
    }
}

/// A secret is read when the VM starts; of other keys nothing knows that runs.
fn effect_of_key(key: &str) -> Effect {
    if key == SECRETS_ANNOTATION { Effect::Restart } else { Effect::Update }
}

/// Sections are compared field by field, lists as wholes.
fn compare(path: &str, from: Option<&Value>, to: Option<&Value>, all: &mut Vec<Change>) {
    match (from, to) {
        (from, to) if from == to => {}
        (Some(Value::Object(from)), Some(Value::Object(to))) => {
            let mut fields: Vec<&String> = from.keys().chain(to.keys()).collect();
            fields.sort();
            fields.dedup();
            for field in fields {
                compare(&format!("{path}.{field}"), from.get(field), to.get(field), all);
            }
        }
        (from, to) => all.push(Change {
            field: path.to_owned(),
            from: from.map(|value| shown(path, value)),
            to: to.map(|value| shown(path, value)),
            effect: effect_of(path),
        }),
    }
}

/// What is built when a VM is made cannot be changed later; what is read when it starts can, by starting it again.
fn effect_of(path: &str) -> Effect {
    const RECREATE: [&str; 6] =
        ["spec.image", "spec.kernel.oci", "spec.diskSize", "spec.rootDisk", "spec.vmm", "spec.ssh"];
    // Nothing that runs knows of these, or they are looked up when they are needed.
    const UPDATE: [&str; 2] = ["spec.dependsOn", "spec.sandbox"];
    let is_in = |list: &[&str]| {
        list.iter().any(|of| path == *of || path.strip_prefix(of).is_some_and(|rest| rest.starts_with('.')))
    };
    if is_in(&RECREATE) {
        Effect::Recreate
    } else if is_in(&UPDATE) {
        Effect::Update
    } else {
        Effect::Restart
    }
}

fn shown(path: &str, value: &Value) -> String {
    // Environments hold passwords: which variables there are may be told, not what is in them.
    let key = match path {
        "spec.env" => Some("name"),
        "spec.files" => Some("path"),
        _ => None,
    };
    if let (Some(key), Value::Array(items)) = (key, value) {
        let names: Vec<_> = items.iter().filter_map(|item| item.get(key)?.as_str()).collect();
        return shorten(&format!("[{}]", names.join(", ")));
    }
    match value {
        Value::String(text) => shorten(text),
        value => shorten(&value.to_string()),
    }
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ignite_api::codec::decode_vm;

    fn vm(spec: &str) -> Vm {
        let text = format!("apiVersion: ignite.weave.works/v1alpha4\nkind: VM\nmetadata: {{name: a}}\nspec: {spec}\n");
        decode_vm(text.as_bytes()).expect(spec)
    }

    fn told(found: &str, wanted: &str) -> Vec<(String, Effect)> {
        changes(&vm(found), &vm(wanted)).into_iter().map(|change| (change.to_string(), change.effect)).collect()
    }

    #[test]
    fn each_field_has_its_cost() {
        for (found, wanted, text, effect) in [
            ("{}", "{memory: 1GB}", "spec.memory: 512.0 MB -> 1.0 GB", Effect::Restart),
            ("{cpus: 2}", "{}", "spec.cpus: 2 -> 1", Effect::Restart),
            ("{}", "{image: {oci: redis}}", "spec.image.oci: unset -> redis", Effect::Recreate),
            ("{diskSize: 1GB}", "{diskSize: 2GB}", "spec.diskSize: 1.0 GB -> 2.0 GB", Effect::Recreate),
            ("{}", "{kernel: {oci: k}}", "spec.kernel.oci: unset -> k", Effect::Recreate),
            ("{}", "{kernel: {cmdLine: quiet}}", "spec.kernel.cmdLine: unset -> quiet", Effect::Restart),
            ("{}", "{args: [a, b]}", "spec.args: unset -> [\"a\",\"b\"]", Effect::Restart),
            ("{}", "{dependsOn: [{name: b}]}", "spec.dependsOn: unset -> [{\"name\":\"b\"}]", Effect::Update),
            ("{}", "{network: {mode: none}}", "spec.network.mode: unset -> none", Effect::Restart),
        ] {
            let found = told(found, wanted);
            assert_eq!(found.len(), 1, "{wanted}: {found:?}");
            assert!(found[0].0.contains(text.split(" -> ").next().unwrap().split(':').next().unwrap()), "{found:?}");
            assert_eq!(found[0].1, effect, "{wanted}");
        }
        assert_eq!(told("{cpus: 2, env: [{name: A, value: b}]}", "{cpus: 2, env: [{name: A, value: b}]}"), []);
    }

    #[test]
    fn values_of_variables_are_not_told() {
        let found = told("{env: [{name: PASSWORD, value: old}]}", "{env: [{name: PASSWORD, value: new}, {name: B}]}");
        assert_eq!(found, [("spec.env: [PASSWORD] -> [PASSWORD, B]".to_owned(), Effect::Restart)]);
    }

    #[test]
    fn labels_of_others_stay() {
        let mut found = vm("{}");
        found.metadata.labels = [("theirs", "1"), ("shared", "old"), ("ignite.weave.works/stack", "s")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into();
        let mut wanted = vm("{}");
        wanted.metadata.labels.insert("shared".to_owned(), "new".to_owned());
        let found: Vec<_> = changes(&found, &wanted).iter().map(ToString::to_string).collect();
        let expected = ["metadata.labels.shared: old -> new", "metadata.labels.ignite.weave.works/stack: s -> unset"];
        assert_eq!(found, expected);
    }
}
