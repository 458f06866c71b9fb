//! A plan as people read it: one block per VM, with why.
//!
//! ```text
//! + db     created and started                 stack.yaml:1
//! ~ web    restarted, its disk stays           stack.yaml:14
//!     spec.memory: 512MB -> 1GB
//! - old    removed with its disk
//! ```

use crate::render::text::sanitize;
use ignite_reconcile::{Action, Effect, Step};
use std::fmt::Write;

/// Every step that changes something or cannot; of one that waits for others, what will be done then.
pub fn render(steps: &[Step]) -> String {
    let rows: Vec<Row> = steps.iter().filter_map(row).collect();
    let names = rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0);
    let verbs = rows.iter().map(|row| row.what.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for Row { mark, name, what, origin, details } in rows {
        let line = format!("{mark} {name:names$}   {what:verbs$}   {origin}");
        text.push_str(line.trim_end());
        text.push('\n');
        for detail in details {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "    {}", sanitize(&detail));
        }
    }
    text
}

/// True when the plan has something to do, now or later.
pub fn is_empty(steps: &[Step]) -> bool {
    steps.iter().all(|step| row(step).is_none())
}

struct Row {
    mark: char,
    name: String,
    what: String,
    origin: String,
    details: Vec<String>,
}

fn row(step: &Step) -> Option<Row> {
    let (mark, what, details) = match &step.action {
        Action::Keep | Action::Completed => return None,
        Action::Create(_) => ('+', "created".to_owned(), Vec::new()),
        Action::Start => ('~', "started".to_owned(), Vec::new()),
        Action::Stop => ('~', "stopped".to_owned(), Vec::new()),
        Action::Heal => ('~', "started again: it is unhealthy".to_owned(), Vec::new()),
        Action::Change { effect, changes, .. } => {
            let mark = if *effect == Effect::Recreate { '!' } else { '~' };
            // What costs most comes first: it is the reason.
            let mut changes: Vec<_> = changes.iter().collect();
            changes.sort_by_key(|change| std::cmp::Reverse(change.effect));
            (mark, effect.to_string(), changes.iter().map(|change| because(change, *effect)).collect())
        }
        Action::Remove => ('-', "removed with its disk".to_owned(), Vec::new()),
        Action::Wait(on) => {
            let names: Vec<_> = on.iter().map(|dependency| dependency.name.as_str()).collect();
            ('~', format!("started once {} is ready", names.join(" and ")), Vec::new())
        }
        Action::WaitForRemoval(_) => ('-', "removed with its disk".to_owned(), Vec::new()),
        Action::Hold(reason) => ('?', "kept as it is".to_owned(), vec![reason.clone()]),
        Action::Lacks(error) => {
            let hint = error.hint.as_ref().map(|hint| format!("hint: {hint}"));
            ('?', "refused".to_owned(), std::iter::once(error.message.clone()).chain(hint).collect())
        }
        Action::Refuse(reason) => ('?', "refused".to_owned(), vec![reason.clone()]),
    };
    let origin = step.origin.as_ref().map(|origin| sanitize(&format!("{}:{}", origin.file, origin.line)));
    Some(Row { mark, name: sanitize(&step.name), what, origin: origin.unwrap_or_default(), details })
}

fn because(change: &ignite_reconcile::Change, effect: Effect) -> String {
    match (effect, change.effect) {
        (Effect::Recreate, Effect::Recreate) => format!("{change} (its disks are made from it)"),
        (_, Effect::Restart) => format!("{change} (read when it starts)"),
        (_, Effect::Recreate | Effect::Update) => change.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ignite_api::{Uid, VmSpec};
    use ignite_reconcile::{Options, Owner, load_text, plan};

    fn manifest(name: &str, spec: &str) -> String {
        format!(
            "---\napiVersion: ignite.weave.works/v1alpha4\nkind: VM\nmetadata: {{name: {name}}}\nspec: {{image: {{oci: {spec}}}\n"
        )
    }

    #[test]
    fn a_plan_says_what_is_done_and_why() {
        let read = |text: &str| load_text("stack.yaml", text.as_bytes(), &VmSpec::default());
        let before = read(&[manifest("web", "nginx}"), manifest("db", "redis:7}"), manifest("old", "x}")].concat());
        let options = Options {
            owner: Owner::apply(),
            stack: Some("s".into()),
            is_adopting: true,
            is_pruning: true,
            is_healing: false,
        };
        let mut found = Vec::new();
        for (index, step) in plan(&before, &[], &options, &Default::default()).into_iter().enumerate() {
            let Action::Create(mut vm) = step.action else { panic!("{step:?}") };
            vm.metadata.uid = Some(Uid::from_bytes([index as u8; 8]));
            vm.status.phase = ignite_api::Phase::Running;
            found.push(*vm);
        }
        let after = read(
            &[
                manifest("web", "nginx}, memory: 1GB"),
                manifest("db", "redis:8}, cpus: 2"),
                manifest("new-one", "busybox}, dependsOn: [{name: db}]"),
            ]
            .map(|text| text.replace("GB\n", "GB}\n").replace("cpus: 2\n", "cpus: 2}\n").replace("}]\n", "}]}\n"))
            .concat(),
        );
        assert!(after.problems.is_empty(), "{:?}", after.problems);
        let steps = plan(&after, &found, &options, &Default::default());
        assert_eq!(
            render(&steps),
            "\
~ web       restarted, its disk stays     stack.yaml:2
    spec.memory: 512MB -> 1GB (read when it starts)
! db        recreated, its disk is lost   stack.yaml:7
    spec.image.oci: redis:7 -> redis:8 (its disks are made from it)
    spec.cpus: 1 -> 2 (read when it starts)
+ new-one   created                       stack.yaml:12
- old       removed with its disk
"
        );
        assert!(!is_empty(&steps) && is_empty(&plan(&before, &found, &options, &Default::default())));
    }
}
